"""The figures of an evaluation, as they go into its JSON file."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.evaluation.options import Options
from experiments.evaluation.subjects import Subject
from experiments.evaluation.variants import variants
from rankjax import metrics
from rankjax.data import Protocol
from rankjax.errors import UsageError
from rankjax.metrics.directions import cosines, unit_rows
from rankjax.report import Judged, Ranked

_SLOW = 2**33  # products of a restart of k-means, about ten seconds of two cores

Figures = dict[str, Any]


def measure(subject: Subject, options: Options) -> tuple[Figures, Ranked | Judged]:
    """All figures of one subject, and what a report draws them from.

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
    if subject.labels is not None:
        figures["classes"] = len(subject.label_values)
    outcome: Ranked | Judged
    if protocol == "verification":
        outcome = _verify(subject, options)
        figures |= _of_verification(outcome)
    else:
        outcome = rank(subject, protocol, options)
        figures |= _of_ranking(subject, outcome, protocol, options)
    if subject.labels is not None and len(subject.embeddings) > 1:
        figures["health"] = metrics.health(
            subject.embeddings, subject.labels, seed=options.seed
        )
    return figures, outcome


def _verify(subject: Subject, options: Options) -> Judged:
    if subject.pairs is None:
        raise UsageError("protocol verification needs pairs")
    for name in ("compare", "rerank", "expand", "compress"):
        if getattr(options, name):
            raise UsageError(f"{name} is of a ranking; protocol verification has none")
    pairs = subject.pairs
    scores = cosines(subject.embeddings, pairs.indices)
    found = metrics.verification(
        scores, pairs.same, fold=pairs.folds, folds=options.folds, fars=options.fars
    )
    return Judged(pairs.indices, scores, pairs.same, found)


def _of_verification(judged: Judged) -> Figures:
    found = judged.verification
    return {
        "pairs": {
            "same": int(judged.same.sum()),
            "different": int((~judged.same).sum()),
        },
        "accuracy": found.accuracy,
        "accuracy_standard_error": found.standard_error,
        "tar_at_far": {f"{far:g}": tar for far, tar in found.tar_at_far.items()},
        "eer": found.eer,
        "auc": found.auc,
    }


def rank(subject: Subject, protocol: Protocol, options: Options) -> Ranked:
    """A search and its figures."""
    search, query_rows, gallery_rows = subject.search(protocol)
    most = len(search.gallery) - (search.itself is not None)
    found = metrics.retrieval(
        search, recall_at=subject.recall_levels(protocol, options.recall_at, most)
    )
    return Ranked(search, found, query_rows, gallery_rows)


def _of_ranking(
    subject: Subject, ranked: Ranked, protocol: Protocol, options: Options
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
    if options.samples:
        figures |= {
            "level": 0.95,
            "intervals": {
                name: _intervals(values, found.labels, options)
                for name, values in found.values.items()
            },
        }
    if options.clustering:
        figures |= _cluster(subject, ranked, options)
    if protocol == "query-gallery" and found.excluded:
        figures["open_set"] = _open_set(ranked, options)
    figures["variants"] = variants(ranked, options)
    return figures


def _class_means(subject: Subject, ranked: Ranked) -> Figures:
    """Columns, a row for each class that has a scored query."""
    classes, means = ranked.retrieval.class_means()
    counts = np.unique(ranked.retrieval.labels, return_counts=True)[1]
    return {
        "label": subject.label_values[classes].tolist(),
        "name": [subject.class_names[code] for code in classes],
        "queries": counts.tolist(),
        **{name: values.tolist() for name, values in means.items()},
    }


def _intervals(values: np.ndarray, labels: np.ndarray, options: Options) -> Figures:
    """Bounds over queries and over classes; of what there are two of."""
    many = {"by_query": len(values), "by_class": len(np.unique(labels))}
    return {
        by: list(
            metrics.bootstrap(
                values,
                labels=labels,
                by=by.removeprefix("by_"),
                samples=options.samples,
                seed=options.seed,
            )[1:]
        )
        for by, number in many.items()
        if number > 1
    }


def _cluster(subject: Subject, ranked: Ranked, options: Options) -> Figures:
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


def _open_set(ranked: Ranked, options: Options) -> Figures:
    search, found = ranked.search, ranked.retrieval
    mated, correct = np.zeros((2, len(search.queries)), bool)
    mated[found.queries] = True
    # Where a right and a wrong row are equally near, the right one ranks second.
    correct[found.queries] = found.values["mrr"] == 1
    scores = metrics.nearest(search.queries, k=1, gallery=search.gallery).similarities
    rates = metrics.open_set(scores[:, 0], correct, mated, firs=options.firs)
    return {
        "with_mate": int(mated.sum()),
        "without_mate": int((~mated).sum()),
        "dir_at_fir": {f"{fir:g}": rate for fir, rate in rates.items()},
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
