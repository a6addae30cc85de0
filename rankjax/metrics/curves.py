"""Precision over recall."""

from collections.abc import Sequence

import jax
import numpy as np

from rankjax.metrics.protocols import Search
from rankjax.metrics.ranking import ranks_of_positives
from rankjax.similarity import Similarity, cosine


def precision_recall(
    search: Search,
    *,
    levels: int = 101,
    similarity: Similarity = cosine,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision at levels of recall, the mean over queries.

    A query with R positives at ranks r_1 < ... < r_R has at recall x the precision

        max of i / r_i over i >= x R

    the best of any cut-off that finds so many (Manning, Raghavan, Schuetze,
    "Introduction to Information Retrieval", 2008, section 8.4). Ties, the query itself
    and queries without a positive are as in `retrieval`.

    Args:
      search: the protocol, from `leave_one_out` or `query_gallery`.
      levels: of recall, evenly from 0 to 1; at least 2.
      similarity: of queries and gallery.
      devices: they share the work; by default all of this process.

    Returns:
      Recall and precision, [levels] each.

    Raises:
      ValueError: no query has a positive, or fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    recall = np.arange(levels) / (levels - 1)
    total, scored = np.zeros(levels), 0
    for part in ranks_of_positives(
        search,
        similarity=similarity,
        first_only=False,
        block=None,
        devices=jax.local_devices() if devices is None else devices,
    ):
        place = np.arange(1, part.ranks.shape[1] + 1)
        precision = np.where(part.ranks > 0, place / np.maximum(part.ranks, 1), 0)
        best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        some = part.positives > 0
        # In integers: 0.07 x 100 must not round up to the eighth positive.
        needed = -(-np.arange(levels) * part.positives[some, None] // (levels - 1))
        at = np.maximum(needed, 1) - 1
        total += np.take_along_axis(best[some], at, 1).sum(0)
        scored += int(some.sum())
    if not scored:
        raise ValueError("search must hold a query that has a positive, got none")
    return recall, total / scored
