"""The figures of an evaluation, as they go into its JSON file."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.evaluation.options import Options
from experiments.evaluation.subjects import Subject
from rankjax import metrics
from rankjax.data import Protocol
from rankjax.data.splits import LISTS
from rankjax.errors import UsageError
from rankjax.files import below_common, printable
from rankjax.metrics.directions import cosines, unit_rows
from rankjax.report import PairResult, SearchResult
from rankjax.similarity import cosine, dot

_SLOW = 2**33  # products of a restart of k-means, about ten seconds of two cores

Figures = dict[str, Any]


def measure(
    subject: Subject, options: Options, *, say: Callable[[str], None]
) -> tuple[Figures, SearchResult | PairResult | None]:
    """All figures of one subject, and what a report draws them from.

    Args:
      subject: what is measured.
      options: how.
      say: is told what is computed next.

    Raises:
      UsageError: the data lacks what the protocol needs.
      ValueError: a setting is out of range for the data.
    """
    protocol = options.protocol or subject.protocol
    figures: Figures = {
        "protocol": protocol,
        "rows": len(subject.embeddings),
        "dimensions": subject.embeddings.shape[1],
    }
    if protocol == "revisited":
        # Its labels are tags, which say nothing of what is right.
        return figures | _of_lists(subject, options), None
    if subject.labels is not None:
        figures["classes"] = len(subject.label_values)
    outcome: SearchResult | PairResult
    if protocol == "verification":
        outcome = _verify(subject, options)
        figures |= _of_verification(outcome)
    else:
        say("ranking")
        outcome = rank(subject, protocol, options)
        figures |= _of_ranking(subject, outcome, protocol, options, say)
    one_label = subject.labels is not None and not subject.label_sets
    if one_label and len(subject.embeddings) > 1:
        say("health")
        figures["health"] = metrics.health(
            subject.embeddings, subject.labels, seed=options.seed
        )
    return figures, outcome


def _of_lists(subject: Subject, options: Options) -> Figures:
    """Of the lists of each query, easy, medium and hard."""
    if subject.lists is None or subject.queries is None or subject.gallery is None:
        raise UsageError("protocol revisited needs query and lists")
    no_use = ("report", "compare", "rerank", "expand", "compress", "dims")
    for name in (*no_use, "recall_at", "map_at"):
        if getattr(options, name):
            raise UsageError(f"{name} has no use in protocol revisited")
    queries, gallery = (
        unit_rows(subject.embeddings[rows])
        for rows in (subject.queries, subject.gallery)
    )
    lists = subject.lists[subject.gallery].T
    named = {
        name: [np.flatnonzero(known == number) for known in lists]
        for number, name in enumerate(LISTS, 1)
    }
    found = metrics.revisited(
        queries @ gallery.T, **named, precision_at=options.precision_at or (1, 5, 10)
    )
    return {
        "queries": {"queries": len(queries), "gallery": len(gallery)},
        "settings": {
            name: {
                "scored": len(one.queries),
                **one.means(),
                "intervals": _intervals(one, options) if options.samples else {},
            }
            for name, one in found.items()
        },
    }


def _verify(subject: Subject, options: Options) -> PairResult:
    if subject.pairs is None:
        raise UsageError("protocol verification needs pairs")
    for name in ("compare", "rerank", "expand", "compress", "dims"):
        if getattr(options, name):
            raise UsageError(f"{name} is of a ranking; protocol verification has none")
    pairs = subject.pairs
    scores = cosines(subject.embeddings, pairs.indices)
    rarer = min(int(pairs.same.sum()), int((~pairs.same).sum()))
    folds = max(min(10, rarer), 2) if options.folds is None else options.folds
    found = metrics.verification(
        scores, pairs.same, fold=pairs.folds, folds=folds, fars=options.fars
    )
    return PairResult(pairs.indices, scores, pairs.same, found)


def _of_verification(verified: PairResult) -> Figures:
    found = verified.verification
    return {
        "pairs": {
            "same": int(verified.same.sum()),
            "different": int((~verified.same).sum()),
        },
        "accuracy": found.accuracy,
        "accuracy_standard_error": found.standard_error,
        "tar_at_far": {f"{far:g}": tar for far, tar in found.tar_at_far.items()},
        "eer": found.eer,
        "auc": found.auc,
    }


def rank(subject: Subject, protocol: Protocol, options: Options) -> SearchResult:
    """A search and its figures."""
    search, query_rows, gallery_rows = subject.search(protocol)
    levels = subject.recall_levels(protocol, options.recall_at, search.most)
    found = metrics.retrieval(
        search,
        recall_at=levels,
        precision_at=options.precision_at,
        map_at=options.map_at,
    )
    return SearchResult(search, found, query_rows, gallery_rows)


def _of_ranking(
    subject: Subject,
    ranked: SearchResult,
    protocol: Protocol,
    options: Options,
    say: Callable[[str], None],
) -> Figures:
    found = ranked.retrieval
    figures: Figures = {
        "queries": {
            "scored": len(found.queries),
            "excluded": found.excluded,
            "gallery": len(ranked.search.gallery),
            "junk": 0 if protocol == "leave-one-out" else subject.junk,
        },
        **found.means(),
        "means_over_classes": found.means_over_classes(),
        "class_means": _class_means(subject, ranked),
    }
    if subject.supers is not None:
        figures["super_means"] = _super_means(subject.supers, ranked)
    if options.samples:
        say("intervals")
        figures |= {"level": 0.95, "intervals": _intervals(found, options)}
    if options.clustering and not subject.label_sets:
        say("clustering")
        figures |= _cluster(subject, ranked, options)
    if protocol == "query-gallery" and found.excluded:
        figures["open_set"] = _open_set(ranked, options)
    say("variants")
    figures["variants"] = _variants(ranked, options)
    return figures


def _class_means(subject: Subject, ranked: SearchResult) -> Figures:
    """Columns, a row for each class that has a scored query."""
    classes, means = ranked.retrieval.class_means()
    labels = ranked.retrieval.labels
    if subject.label_sets:
        counts = labels.sum(0)[classes]
    else:
        counts = np.unique(labels, return_counts=True)[1]
    return {
        "label": subject.label_values[classes].tolist(),
        "name": [subject.class_names[code] for code in classes],
        "queries": counts.tolist(),
        **{name: values.tolist() for name, values in means.items()},
    }


def _super_means(supers: np.ndarray, ranked: SearchResult) -> Figures:
    """The same of the super-classes, each the mean over its queries."""
    names, numbers = np.unique(supers, return_inverse=True)
    rows = np.union1d(ranked.query_rows, ranked.gallery_rows)
    found = ranked.retrieval
    of_queries = numbers[ranked.query_rows[found.queries]]
    kept, means = dataclasses.replace(found, labels=of_queries).class_means()
    return {
        "name": names[kept].tolist(),
        "images": np.bincount(numbers[rows])[kept].tolist(),
        "queries": np.bincount(of_queries)[kept].tolist(),
        **{name: values.tolist() for name, values in means.items()},
    }


def _intervals(found: metrics.Retrieval, options: Options) -> Figures:
    """Bounds of each metric over queries and over classes; of what there are two of."""
    many = {"query": len(found.labels)}
    if found.labels.ndim == 1:  # else a query is in several classes
        many["class"] = len(np.unique(found.labels))
    bounds: Figures = {name: {} for name in found.values}
    for by, number in many.items():
        if number < 2:
            continue
        intervals = metrics.bootstrap(
            found.values,
            labels=found.labels,
            by=by,
            samples=options.samples,
            seed=options.seed,
        )
        for name, interval in intervals.items():
            bounds[name][f"by_{by}"] = list(interval[1:])
    return bounds


def _cluster(subject: Subject, ranked: SearchResult, options: Options) -> Figures:
    """Of queries and gallery together, on the unit sphere."""
    assert subject.labels is not None
    rows = np.union1d(ranked.query_rows, ranked.gallery_rows)
    labels = subject.labels[rows]
    k, dim = len(np.unique(labels)), subject.embeddings.shape[1]
    if len(rows) * k * dim > _SLOW:
        print(
            f"k-means of {len(rows):,} rows and {k:,} clusters takes minutes; "
            "--no-clustering leaves it out, --restarts 1 shortens it",
            file=sys.stderr,
        )
    clusters = metrics.kmeans(
        unit_rows(subject.embeddings[rows]),
        k=k,
        seed=options.seed,
        restarts=options.restarts,
    )
    return metrics.clustering_scores(labels, clusters)


def _open_set(ranked: SearchResult, options: Options) -> Figures:
    search, found = ranked.search, ranked.retrieval
    mated, correct = np.zeros((2, len(search.queries)), bool)
    mated[found.queries] = True
    # Where a right and a wrong row are equally near, the right one ranks second.
    correct[found.queries] = found.values["mrr"] == 1
    k = min(1 + (search.itself is not None), len(search.gallery))
    best = metrics.nearest(search.queries, k=k, gallery=search.gallery)
    scores = best.similarities[:, 0]
    if search.itself is not None:
        own = best.rows[:, 0] == search.itself
        scores = np.where(own, best.similarities[:, -1], scores)
    rates = metrics.open_set(scores, correct, mated, firs=options.firs)
    return {
        "gap": metrics.global_average_precision(scores, correct, mated),
        "with_mate": int(mated.sum()),
        "without_mate": int((~mated).sum()),
        "dir_at_fir": {f"{fir:g}": rate for fir, rate in rates.items()},
    }


def _variants(ranked: SearchResult, options: Options) -> list[Figures]:
    """Means of the same search with other embeddings or similarities."""
    search = ranked.search
    longest = search.gallery.shape[1]
    if options.dims and not 1 <= min(options.dims) <= max(options.dims) <= longest:
        raise UsageError(
            f"dims must be from 1 to {longest}, the numbers of an embedding, got "
            f"{' '.join(map(str, options.dims))}"
        )
    if options.dims and len({*options.dims}) < len(options.dims):
        raise UsageError(f"dims must differ, got {' '.join(map(str, options.dims))}")
    rows = [_variant("float32", ranked, bytes_per_row=4 * search.gallery.shape[1])]
    one = search.queries is search.gallery  # it stays so: ranked in half the time
    for dim in options.dims:
        cut = search.gallery[:, :dim]
        queries = cut if one else search.queries[:, :dim]
        shorter = dataclasses.replace(search, queries=queries, gallery=cut)
        name = f"first {dim} numbers"
        rows.append(_variant(name, ranked, search=shorter, bytes_per_row=4 * dim))
    for kind in options.compress:
        gallery = metrics.compress(search.gallery, kind)
        own = gallery if one else metrics.compress(search.queries, kind)
        changed = dataclasses.replace(search, queries=own.rows, gallery=gallery.rows)
        rows.append(
            _variant(
                kind,
                ranked,
                search=changed,
                similarity=dot,
                bytes_per_row=gallery.bytes_per_row,
            )
        )
    if (options.rerank or options.expand) and search.itself is not None:
        raise UsageError(
            "rerank and expand need a protocol with a gallery of which no query is part"
        )
    gallery_rows = len(search.gallery)
    if options.expand > gallery_rows:
        raise UsageError(
            f"expand must be at most {gallery_rows}, the rows of the gallery, got "
            f"{options.expand}"
        )
    if options.expand:
        queries = metrics.expand_queries(
            search.queries, search.gallery, k=options.expand
        )
        search = dataclasses.replace(search, queries=queries)
        rows.append(_variant(f"expanded by {options.expand}", ranked, search=search))
    if options.rerank:
        # The paper's 20 and 6 neighbours, or as many as there are.
        k1 = min(20, len(search.queries) + gallery_rows - 1)
        scores = metrics.k_reciprocal(
            search.queries, search.gallery, k1=k1, k2=min(6, k1 + 1)
        )
        name = "expanded and re-ranked" if options.expand else "re-ranked"
        rows.append(_variant(name, ranked, search=search, scores=scores))
    return rows if len(rows) > 1 else []


def _variant(
    name: str,
    ranked: SearchResult,
    *,
    search: metrics.Search | None = None,
    similarity: Any = cosine,
    scores: np.ndarray | None = None,
    bytes_per_row: int | None = None,
) -> Figures:
    found = ranked.retrieval
    if search is not None:
        at: dict[str, Any] = {
            name: [int(k[len(name) + 1 :]) for k in found.values if _is_at(name, k)]
            for name in ("recall_at", "precision_at", "map_at")
        }
        found = metrics.retrieval(search, **at, similarity=similarity, scores=scores)
    size = {} if bytes_per_row is None else {"bytes_per_row": bytes_per_row}
    return {"name": name, **size, **found.means()}


def _is_at(name: str, key: str) -> bool:
    return key.startswith(f"{name}_") and key[len(name) + 1 :].isdigit()


def compare(
    subject: Subject, ranked: SearchResult, other: Subject, options: Options
) -> tuple[Figures, SearchResult]:
    """Each metric of two embeddings of the same rows, and the other's search."""
    theirs = rank(other, options.protocol or subject.protocol, options)
    names = (subject.name, other.name)
    if names[0] == names[1]:
        names = str(options.source), str(options.compare)
    found = metrics.compare_models(
        ranked.retrieval.values,
        theirs.retrieval.values,
        labels=ranked.retrieval.labels,
        samples=options.samples or 5000,
        seed=options.seed,
        names=names,
    )
    verdicts = {name: _comparison(one) for name, one in found.items()}
    right, there = (each.retrieval.values["mrr"] == 1 for each in (ranked, theirs))
    first = {
        "only_here": int((right & ~there).sum()),
        "only_there": int((~right & there).sum()),
        "both": int((right & there).sum()),
        "neither": int((~right & ~there).sum()),
    }
    figures = {
        "other": str(options.compare),
        "metrics": verdicts,
        "first_row_right": first,
    }
    return figures, theirs


def check_same_rows(subject: Subject, other: Subject, protocol: Protocol) -> None:
    """Raises a UsageError, which names the first row that differs.

    Classes are told by their names or, where one of the two has only numbers, by which
    rows they put together, as cameras are.
    """
    if protocol in ("verification", "revisited"):
        raise UsageError(f"compare needs another protocol than {protocol}")
    if subject.label_sets or other.label_sets:
        raise UsageError("compare needs one label for each row, got masks")
    here, there = (each.search(protocol)[1:] for each in (subject, other))
    must = "compare must have the same rows in the same order"
    for name, ours, theirs in zip(("queries", "gallery"), here, there, strict=True):
        if len(ours) != len(theirs):
            raise UsageError(
                f"{must}, {name} are {len(ours):,} here and {len(theirs):,} there"
            )
    rows = np.concatenate(here), np.concatenate(there)
    columns: dict[str, list[np.ndarray]] = {}
    for each, row in zip((subject, other), rows, strict=True):
        assert each.labels is not None
        names = np.array([*map(printable, each.class_names)])[each.labels[row]]
        names = names if subject.named == other.named else _first_alike(names)
        columns.setdefault("class", []).append(names)
        if protocol == "reid":
            assert each.cameras is not None
            columns.setdefault("camera", []).append(_first_alike(each.cameras[row]))
        if each.paths is not None:
            # Those of the same images may begin with other folders.
            paths = [*map(printable, below_common(each.paths[row])[1])]
            columns.setdefault("path", []).append(np.array(paths))
    if subject.paths is None or other.paths is None:
        columns.pop("path", None)
    for what, (ours, theirs) in columns.items():
        differ = np.flatnonzero(ours != theirs)
        if len(differ):
            at = differ[0]
            pair = f", {ours[at]} and {theirs[at]}"
            hint = "; a file without paths is compared by its classes alone"
            raise UsageError(
                f"{must}, row {rows[0][at]} here has another {what} than row "
                f"{rows[1][at]} there{pair * (ours.dtype.kind == 'U')}"
                f"{hint * (what == 'path')}"
            )


def _first_alike(column: np.ndarray) -> np.ndarray:
    """For each entry where its value comes first: equal for equal partitions."""
    _, first, codes = np.unique(column, return_index=True, return_inverse=True)
    return first[codes]


def _comparison(found: metrics.Comparison) -> Figures:
    return {
        "difference": found.difference.mean,
        "by_class": list(found.difference[1:]),
        "by_query": list(found.by_query[1:]),
        "p_value": found.p_value,
        "test": found.test,
        "verdict": found.verdict,
        "sentence": found.sentence,
    }


def without_nan(figures: Any) -> Any:
    """The same with null for what is not known; JSON has no NaN."""
    if isinstance(figures, Mapping):
        return {key: without_nan(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [without_nan(value) for value in figures]
    if isinstance(figures, float) and not np.isfinite(figures):
        return None
    return figures
