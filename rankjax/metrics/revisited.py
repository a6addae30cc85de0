"""The protocol of Revisited Oxford and Paris: each query has lists of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankjax.metrics import checks
from rankjax.metrics.ranking import ranks_of_scores
from rankjax.metrics.retrieval import Retrieval, of_queries, trapezoid

SETTINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""Which lists are positives and which nobody meets, by difficulty."""

Lists = Sequence[Any]


def revisited(
    scores: Any,
    *,
    easy: Lists,
    hard: Lists,
    junk: Lists,
    precision_at: int | Sequence[int] = (1, 5, 10),
) -> dict[str, Retrieval]:
    """The protocol of Revisited Oxford and Paris, easy, medium and hard.

    Radenovic, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris: Large-Scale
    Image Retrieval Benchmarking", CVPR 2018. Each query has its own lists. What is junk
    to it in a setting leaves its ranking, and what is on no list is a negative. With
    ranks r_1 < ... < r_R of the positives:

        map_trapezoid   mean_i ((i - 1) / (r_i - 1) + i / r_i) / 2, where the first term
                        is 1 for r_i = 1: what these benchmarks quote as mAP
        precision_at_K  sum_i [r_i <= k] / k, where k = min(K, r_R)

    Ties count against the query. Queries without a positive in a setting are excluded
    from it and counted.

    Args:
      scores: similarities [q, n] of queries and gallery.
      easy: for each query the gallery rows [any] that are easy positives of it,
      hard: those that are hard ones, and
      junk: those that are neither right nor wrong.
      precision_at: values of K.

    Returns:
      'easy', 'medium' and 'hard'; the label of a query is its number.

    Raises:
      ValueError: a wrong shape, scores that are not finite, a row out of range, a row
        on two lists of a query, a K below 1, or a setting in which no
        query has a positive.
      TypeError: rows that are no integers.
    """
    scores = checks.as_scores("scores", scores)
    precision_at = checks.as_cutoffs("precision_at", precision_at)
    masks = {
        name: _masks(name, lists, scores.shape)
        for name, lists in (("easy", easy), ("hard", hard), ("junk", junk))
    }
    twice = np.argwhere(sum(mask.astype(int) for mask in masks.values()) > 1)
    if len(twice):
        query, row = twice[0]
        raise ValueError(
            "easy, hard and junk must have no row in common, got row "
            f"{row} twice for query {query}"
        )

    def figures(ranks: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
        found = {"map_trapezoid": trapezoid(ranks, positives)}
        for k in precision_at:
            within = np.minimum(k, ranks.max(1))[:, None]
            hits = ((ranks > 0) & (ranks <= within)).sum(1)
            found[f"precision_at_{k}"] = hits / within[:, 0]
        return found

    found = {}
    for setting, sides in SETTINGS.items():
        positive, skipped = (
            np.any([masks[name] for name in names], axis=0) for names in sides
        )
        ranks = ranks_of_scores(scores, zip(positive, skipped, strict=True))
        found[setting] = of_queries([ranks], np.arange(len(scores)), figures)
        if not len(found[setting].queries):
            raise ValueError(
                f"{' and '.join(sides[0])} must have a row for some query, got none"
            )
    return found


def _masks(name: str, lists: Lists, shape: tuple[int, ...]) -> np.ndarray:
    """The rows of each query's list, bool [q, n]."""
    if len(lists) != shape[0]:
        raise ValueError(
            f"{name} must have a list for each of {shape[0]} queries, got {len(lists)}"
        )
    masks = np.zeros(shape, bool)
    for mask, rows in zip(masks, lists, strict=True):
        if len(rows):
            mask[checks.within(name, np.asarray(rows), shape[1])] = True
    return masks
