"""Two embeddings of the same rows."""

from typing import Any

import numpy as np

from experiments.evaluation.measures import Figures, rank
from experiments.evaluation.options import Options
from experiments.evaluation.subjects import Subject
from rankjax import metrics
from rankjax.errors import UsageError
from rankjax.report import Ranked


def compare(
    subject: Subject, ranked: Ranked, other: Subject, options: Options
) -> Figures:
    """Each metric of two embeddings of the same rows.

    Raises:
      UsageError: the rows are others.
    """
    protocol = options.protocol or subject.protocol
    theirs = rank(other, protocol, options)
    for side in ("query_labels", "gallery_labels", "query_cameras", "gallery_cameras"):
        ours = _given(subject, ranked.search, side)
        if not np.array_equal(ours, _given(other, theirs.search, side)):
            raise UsageError(
                f"compare must have the same rows in the same order, its {side} differ"
            )
    names = (subject.name, other.name)
    if names[0] == names[1]:
        names = str(options.source), str(options.compare)
    return {
        "other": str(options.compare),
        "metrics": {
            name: _comparison(
                metrics.compare_models(
                    values,
                    theirs.retrieval.values[name],
                    labels=ranked.retrieval.labels,
                    samples=options.samples or 5000,
                    seed=options.seed,
                    names=names,
                )
            )
            for name, values in ranked.retrieval.values.items()
            if name in theirs.retrieval.values
        },
    }


def _given(subject: Subject, search: metrics.Search, side: str) -> Any:
    column = getattr(search, side)
    return subject.label_values[column] if side.endswith("labels") else column


def _comparison(found: metrics.Comparison) -> Figures:
    by_query = found.by_query
    assert by_query is not None
    return {
        "difference": found.difference.mean,
        "by_class": list(found.difference[1:]),
        "by_query": list(by_query[1:]),
        "p_value": found.p_value,
        "test": found.test,
        "verdict": found.verdict,
        "sentence": found.sentence,
    }
