"""Exact retrieval metrics: how well a query's ranking puts its class first."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from rankjax.metrics.checks import as_cutoffs, as_scores, check_count
from rankjax.metrics.protocols import Search, leave_one_out
from rankjax.metrics.ranking import (
    Ranks,
    ranks_of_positives,
    ranks_of_scores,
    scores_of_blocks,
)
from rankjax.similarity import Similarity, cosine


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Metrics of single queries, and their means.

    Attributes:
      values: each metric by name, float64 [scored], from 0 to 1.
      queries: [scored] row numbers of the queries that have a positive, rising.
      labels: [scored] their labels; or [scored, classes].
      excluded: how many queries have none. They are in no mean.
    """

    values: dict[str, np.ndarray]
    queries: np.ndarray
    labels: np.ndarray
    excluded: int

    def means(self) -> dict[str, float]:
        """Each metric's mean over queries."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    def class_means(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The classes [classes], and each metric's mean over each one's queries."""
        if self.labels.ndim == 2:  # a query counts for each of its classes
            classes = np.flatnonzero(self.labels.any(0))
            shares = self.labels[:, classes] / self.labels[:, classes].sum(0)
            return classes, {k: values @ shares for k, values in self.values.items()}
        classes, group, counts = np.unique(
            self.labels, return_inverse=True, return_counts=True
        )
        return classes, {
            name: np.bincount(group, values) / counts
            for name, values in self.values.items()
        }

    def means_over_classes(self) -> dict[str, float]:
        """Each metric's mean over classes, where each class counts the same."""
        _, means = self.class_means()
        return {name: float(values.mean()) for name, values in means.items()}


def retrieval(
    search: Search,
    *,
    recall_at: int | Sequence[int] | None = None,
    precision_at: int | Sequence[int] = (),
    map_at: int | Sequence[int] = (),
    first_only: bool = False,
    similarity: Similarity = cosine,
    scores: np.ndarray | None = None,
    block: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Retrieval:
    """Exact metrics of every query's ranking of the gallery.

    With R the number of a query's positives, and r_1 < r_2 < ... < r_R their ranks:

        recall_at_K   1 if r_1 <= K                  (Recall@K; CMC at rank K)
        mrr           1 / r_1
        map_at_r      sum_i [r_i <= R] i / r_i / R   (Musgrave et al., ECCV 2020)
        r_precision   sum_i [r_i <= R] / R
        map           mean_i i / r_i                 (average precision)
        ndcg          sum_i 1 / log2(1 + r_i) over that of the best ranking
        precision_at_K  sum_i [r_i <= K] / K
        modified_precision_at_K  sum_i [r_i <= min(R, K)] / min(R, K)   (its mean is mMP
                      of UnED: Ypsilantis et al., "Towards Universal Image Embeddings",
                      ICCV 2023); with `precision_at`
        map_at_K      sum_i [r_i <= K] i / r_i / min(R, K)   (Weyand, Araujo, Cao, Sim,
                      "Google Landmarks Dataset v2", CVPR 2020; ILIAS)
        map_trapezoid mean_i ((i - 1) / (r_i - 1) + i / r_i) / 2, where the first term
                      is 1 for r_i = 1; of searches with cameras. Average precision as
                      the code of Market-1501 (Zheng et al., ICCV 2015) has it, the
                      area under straight lines; later code has `map`
        graded_ndcg   where rows have several labels, which positives share in part: the
                      nDCG of the Jaccard index of their labels (`metrics.graded_ndcg`)

    of which each figure that is quoted is the mean over queries.

    Ties count against the query: a negative that is as similar as a positive is ranked
    before it. Unlike a rule by row numbers this does not depend on the order of rows,
    and an embedding that maps everything to one point scores no better than it should.
    Similarities are compared as float32 has them. Of signs and bits at any scale, and
    of whole numbers whose products (for cosines their squares) stay below 2^24, they
    are exact; two others that should be equal may differ by rounding, about 1e-7, and
    then either may come first. Query rows that have no positive are excluded and
    counted, never scored as 0.

    Memory is O(block x rows) and at most 2^24 thresholds at a time; time is that of
    the products and of one comparison per pair and positive of the largest classes. A
    process returns the same figures, bit for bit, on any number of devices.

    Args:
      search: the protocol, from `leave_one_out` or `query_gallery`.
      recall_at: values of K, each from 1 to what a query can meet; by default those of
        1, 2, 4 and 8 that are.
      precision_at, map_at: values of K.
      first_only: compute `recall_at_K` and `mrr` alone, which takes one comparison per
        pair however large classes are.
      similarity: of queries and gallery, in full float32.
      scores: [q, n] similarities to rank by instead, such as re-ranked ones, of
        `search.queries` and `search.gallery`, which is without junk.
      block: height and width of the tiles of similarities; by default 512 on CPU and
        4,096 elsewhere.
      devices: they share the tiles; by default all of this process. Devices of several
        processes must be given to the same call in each.

    Raises:
      ValueError: no query has a positive, a K is out of range, scores do not fit, or
        the similarity returns another shape or not a number.
      TypeError: `similarity` is none.
    """
    most = search.most
    if recall_at is None:
        recall_at = [k for k in (1, 2, 4, 8) if k <= most]
    recall_at = as_cutoffs("recall_at", recall_at, most)
    precision_at = as_cutoffs("precision_at", precision_at, most)
    map_at = as_cutoffs("map_at", map_at, most)
    for name, chosen in (("precision_at", precision_at), ("map_at", map_at)):
        if first_only and chosen:
            raise ValueError(f"{name} needs all positives, got first_only=True")
    if scores is not None:
        shape = len(search.queries), len(search.gallery)
        of_search = "scores of search.queries and search.gallery"
        scores = as_scores(of_search, scores, shape)
    parts: Iterable[Ranks] = (
        [ranks_of_scores(scores, search.masks())]
        if scores is not None
        else ranks_of_positives(
            search,
            similarity=similarity,
            first_only=first_only,
            block=block,
            devices=devices,
        )
    )

    def figures(ranks: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {
            f"recall_at_{k}": ranks[:, 0] <= k for k in recall_at
        }
        found["mrr"] = 1 / ranks[:, 0]
        if not first_only:
            found |= _of_all_positives(ranks, positives, precision_at, map_at)
            if search.query_cameras is not None:
                found["map_trapezoid"] = trapezoid(ranks, positives)
        return found

    found = of_queries(parts, search.query_labels, figures)
    if search.query_labels.ndim == 2 and not first_only:
        found.values["graded_ndcg"] = _graded(search, similarity, scores)[found.queries]
    if not len(found.queries):
        raise ValueError(
            "labels must hold a class with two rows or more"
            if search.itself is not None
            else "gallery_labels must hold a query's label, on another camera if any"
        )
    return found


def _graded(
    search: Search, similarity: Similarity, scores: np.ndarray | None
) -> np.ndarray:
    """The nDCG [q] of the Jaccard index; rows that a query skips come last, as 0."""
    relevance = search.relevance()
    found = []
    blocks = scores_of_blocks(search, similarity) if scores is None else [(0, scores)]
    for _, some in blocks:
        wanted = np.stack(list(itertools.islice(relevance, len(some))))
        lowest = np.finfo(some.dtype).min
        some = np.where(wanted < 0, lowest, some)
        found.append(graded_ndcg(some, np.maximum(wanted, 0)))
    return np.concatenate(found)


def of_queries(
    parts: Iterable[Ranks],
    labels: np.ndarray,
    figures: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]],
) -> Retrieval:
    """Figures of the queries that have positives.

    Args:
      parts: ranks of all queries.
      labels: [q] of the queries.
      figures: ranks [some, positives] and how many -> metrics [some] by name.
    """
    values: dict[str, np.ndarray] = {}
    scored = np.zeros(len(labels), bool)
    for part in parts:
        queries, ranks, positives = (x[part.positives > 0] for x in part)
        scored[queries] = True
        for name, metric in figures(ranks, positives).items():
            values.setdefault(name, np.zeros(len(labels)))[queries] = metric
    return Retrieval(
        {name: metric[scored] for name, metric in values.items()},
        np.flatnonzero(scored),
        labels[scored],
        int(len(labels) - scored.sum()),
    )


def retrieval_metrics(
    embeddings: Any,
    labels: Any,
    *,
    recall_at: int | Sequence[int] | None = None,
    similarity: Similarity = cosine,
) -> dict[str, float]:
    """The means of `retrieval` of every row against all others, in one call.

    Args:
      embeddings: [n, dim].
      labels: [n] integers or strings; or [n, classes] bool, where a row has several.
      recall_at: as of `retrieval`.
      similarity: of queries and gallery.

    Raises:
      ValueError: no class has two rows, or a K is not from 1 to n - 1.
    """
    search = leave_one_out(embeddings, labels)
    return retrieval(search, recall_at=recall_at, similarity=similarity).means()


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
    check_count("levels", levels, 2)
    recall = np.arange(levels) / (levels - 1)
    total, scored = np.zeros(levels), 0
    for part in ranks_of_positives(search, similarity=similarity, devices=devices):
        best = np.maximum.accumulate(_precisions(part.ranks)[:, ::-1], 1)[:, ::-1]
        some = part.positives > 0
        # In integers: 0.07 x 100 must not round up to the eighth positive.
        needed = -(-np.arange(levels) * part.positives[some, None] // (levels - 1))
        at = np.maximum(needed, 1) - 1
        total += np.take_along_axis(best[some], at, 1).sum(0)
        scored += int(some.sum())
    if not scored:
        raise ValueError("search must hold a query that has a positive, got none")
    return recall, total / scored


def _precisions(ranks: np.ndarray) -> np.ndarray:
    """i / r_i, and 0 where there is no i-th positive."""
    place = np.arange(1, ranks.shape[1] + 1)
    return np.where(ranks > 0, place / np.maximum(ranks, 1), 0)


def _of_all_positives(
    ranks: np.ndarray,
    positives: np.ndarray,
    precision_at: Sequence[int],
    map_at: Sequence[int],
) -> dict[str, np.ndarray]:
    """Metrics [q] of ranks [q, positives], 0 where there is none, and of how many."""
    precisions, real = _precisions(ranks), ranks > 0
    within = real & (ranks <= positives[:, None])
    gains = np.where(real, 1 / np.log2(1 + np.maximum(ranks, 1)), 0)
    best = np.cumsum(1 / np.log2(2 + np.arange(ranks.shape[1])))
    found = {
        "map_at_r": (precisions * within).sum(1) / positives,
        "r_precision": within.sum(1) / positives,
        "map": precisions.sum(1) / positives,
        "ndcg": gains.sum(1) / best[positives - 1],
    }
    for k in precision_at:
        found[f"precision_at_{k}"] = (real & (ranks <= k)).sum(1) / k
        most = np.minimum(positives, k)
        first = real & (ranks <= most[:, None])
        found[f"modified_precision_at_{k}"] = first.sum(1) / most
    for k in map_at:
        first = (precisions * (ranks <= k)).sum(1)
        found[f"map_at_{k}"] = first / np.minimum(positives, k)
    return found


def trapezoid(ranks: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """The area under straight lines through precision and recall, `map_trapezoid`."""
    place = np.arange(ranks.shape[1])
    before = np.where(ranks > 1, place / np.maximum(ranks - 1, 1), ranks == 1)
    return (before + _precisions(ranks)).sum(1) / 2 / positives


def graded_ndcg(scores: Any, relevance: Any, *, k: int | None = None) -> np.ndarray:
    """Normalised discounted cumulative gain of graded relevance, for each query.

    With g_j the relevance of the row at rank j:

        sum_{j <= k} g_j / log2(1 + j)

    over that of the best ranking (Jaervelin, Kekaelaeinen, "Cumulated Gain-Based
    Evaluation of IR Techniques", TOIS 2002, with the logarithm from the first rank on).
    For gains 2^g - 1 hand over those. Ties count against the query: of equal scores the
    least relevant comes first.

    Args:
      scores: similarities [q, n].
      relevance: [q, n], at least 0; 0 for none.
      k: ranks that count; None for all.

    Returns:
      [q] float64 from 0 to 1; NaN for a query of which no row is relevant.

    Raises:
      ValueError: a wrong shape, an entry that is not finite or negative relevance, or a
        k that is not from 1 to n.
    """
    scores = as_scores("scores", scores)
    relevance = as_scores("relevance", relevance, scores.shape).astype(np.float64)
    if (relevance < 0).any():
        raise ValueError(f"relevance must be at least 0, got {relevance.min()}")
    n = scores.shape[1]
    if k is not None:
        check_count("k", k, 1, n)
    discounts = (1 / np.log2(2 + np.arange(n)))[:k]
    ranked = np.take_along_axis(relevance, np.lexsort((relevance, -scores)), 1)[:, :k]
    best = -np.sort(-relevance, axis=1)[:, :k]
    with np.errstate(invalid="ignore"):
        return (ranked @ discounts) / (best @ discounts)
