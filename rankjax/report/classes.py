"""Tables of all classes: how each is found, and what two searches make of each."""

import numpy as np
from scipy.stats import t as student_t

from rankjax.report.inputs import SearchResult, Table
from rankjax.report.thumbnails import Shown


def first_ranks(ranked: SearchResult) -> np.ndarray:
    """The rank of the first right match of each scored query."""
    return np.rint(1 / ranked.retrieval.values["mrr"]).astype(np.int64)


def class_table(
    ranked: SearchResult, failed: np.ndarray, found: np.ndarray, shown: Shown
) -> Table:
    """All classes, the worst first.

    Args:
      ranked: a search.
      failed: its queries whose first row is of another class, and
      found: that row of the gallery.
      shown: names of classes.
    """
    codes, group, counts = np.unique(
        ranked.retrieval.labels, return_inverse=True, return_counts=True
    )
    right = np.bincount(group, first_ranks(ranked) == 1)
    precision = np.bincount(group, ranked.retrieval.values["map_at_r"]) / counts
    low, high = _wilson(right / counts, counts)
    search = ranked.search
    pairs, often = np.unique(
        np.stack([search.query_labels[failed], search.gallery_labels[found]]),
        axis=1,
        return_counts=True,
    )
    rising = np.argsort(often, kind="stable")
    # Where the two are equally near, the first row may be a right one after all.
    confused = {
        int(pairs[0, i]): (pairs[1, i], often[i])
        for i in rising
        if pairs[0, i] != pairs[1, i]
    }
    rows = []
    for i in np.lexsort((-counts, precision)):
        other = ""
        if int(codes[i]) in confused:
            label, times = confused[int(codes[i])]
            other = f"{shown.class_name(label)} ({times:,})"
        rows.append(
            (
                shown.class_name(codes[i]),
                f"{counts[i]:,}",
                f"{right[i] / counts[i]:.3f}",
                f"{low[i]:.3f} to {high[i]:.3f}",
                f"{precision[i]:.3f}",
                other,
            )
        )
    head = ("class", "queries", "Recall@1", "95% of it", "MAP@R", "most confused with")
    note = (
        f"All {len(codes):,} classes, those with the lowest MAP@R first. The interval "
        "of Recall@1 is Wilson's, of queries that count alike; in brackets, how many "
        "queries find a row of that class first."
    )
    return Table("", note, head, rows, words=[5])


def difference_table(ours: SearchResult, theirs: SearchResult, shown: Shown) -> Table:
    """All classes of two searches for the same queries, the largest loss first."""
    here, there = first_ranks(ours), first_ranks(theirs)
    labels = ours.retrieval.labels
    codes, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    gain = ours.retrieval.values["map_at_r"] - theirs.retrieval.values["map_at_r"]
    mean = np.bincount(group, gain) / counts
    known = np.maximum(counts - 1, 1)
    variance = np.bincount(group, (gain - mean[group]) ** 2) / known
    half = student_t.ppf(0.975, known) * np.sqrt(variance / counts)
    won, lost = (np.bincount(group, one) for one in ((here < there), (here > there)))
    rows = [
        (
            shown.class_name(codes[i]),
            f"{counts[i]:,}",
            f"{won[i]:,.0f}",
            f"{lost[i]:,.0f}",
            f"{mean[i]:+.3f}",
            f"{mean[i] - half[i]:+.3f} to {mean[i] + half[i]:+.3f}"
            if counts[i] > 1
            else "",
        )
        for i in np.argsort(mean, kind="stable")
    ]
    head = ("class", "queries", "better", "worse", "MAP@R difference", "95% of it")
    note = (
        "All classes, the largest loss first: how many queries find their first right "
        "match earlier or later than there, and the mean difference of MAP@R with "
        "Student's interval over the class's queries."
    )
    return Table("", note, head, rows)


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95% score interval of a binomial proportion, Wilson, JASA 1927."""
    z = 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)
