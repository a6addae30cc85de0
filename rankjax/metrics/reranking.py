"""Second looks at a ranking: k-reciprocal neighbours and query expansion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rankjax.metrics import checks
from rankjax.metrics.directions import unit_rows
from rankjax.metrics.neighbours import nearest

if TYPE_CHECKING:
    from scipy import sparse

_ROWS = 256  # at a time
_PAIRS = 2**16


def k_reciprocal(
    queries: Any, gallery: Any, *, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> np.ndarray:
    """Similarities re-ranked by how far the neighbours of query and gallery overlap.

    Over queries and gallery together, with d the squared distance of unit vectors over
    the row's largest, N(p, k) the k nearest rows and p itself:

        R(p, k)  = {g in N(p, k): p in N(g, k)}
        R*(p)    = R(p, k1) and all R(q, k1 / 2) of q in R(p, k1) of which more than
                   two thirds lie in R(p, k1)
        V(p, g)  = exp(-d(p, g)) on R*(p), with sum 1, then averaged over N(p, k2 - 1)
        J(p, g)  = 1 - sum min(V(p), V(g)) / sum max(V(p), V(g))
        result   = 1 - (1 - weight) J - weight d

    Source: Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with
    k-reciprocal Encoding", CVPR 2017, where weight is lambda; the scaling of d and of
    V, and a k1 / 2 that is rounded to even, are those of its code.

    Memory is O((queries + gallery) k1) and a few blocks of rows besides the result, not
    a matrix of all against all; V is sparse.

    Args:
      queries: [query, dim].
      gallery: [gallery, dim].
      k1: neighbours, at least 1 and below queries + gallery.
      k2: rows that V is averaged over, from 1, which is no averaging, to k1 + 1.
      weight: of the first distance, from 0 to 1.

    Returns:
      [query, gallery] float32 from 0 to 1, higher is closer.

    Raises:
      ValueError: embeddings not finite or of different dim, or a setting out of range.
    """
    ours, theirs = _both(queries, gallery)
    n = len(ours) + len(theirs)
    checks.check_count("k1", k1, 1, n - 1)
    checks.check_count("k2", k2, 1, k1 + 1)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be from 0 to 1, got {weight}")
    rows = np.concatenate([ours, theirs])
    neighbours = nearest(rows, k=k1).rows
    neighbours = np.concatenate([np.arange(n)[:, None], neighbours], 1)  # itself first
    farthest = np.concatenate(
        [2 - 2 * (rows[some] @ rows.T).min(1) for some in _blocks(n)]
    )
    encoding = _encode(rows, neighbours, farthest, k1)
    if k2 > 1:
        encoding = _incidence(neighbours[:, :k2]) @ encoding / k2
    return _blend(rows, encoding, farthest, len(ours), weight)


def _both(queries: Any, gallery: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the same dim."""
    ours, theirs = (
        unit_rows(checks.as_embeddings(name, rows))
        for name, rows in (("queries", queries), ("gallery", gallery))
    )
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"gallery must have the queries' dim {ours.shape[1]}, got {theirs.shape[1]}"
        )
    return ours, theirs


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _ROWS):
        yield slice(start, min(start + _ROWS, n))


def _incidence(neighbours: np.ndarray) -> sparse.csr_array:
    """A matrix of all rows with 1 at each row's neighbours."""
    from scipy import sparse

    n, k = neighbours.shape
    ones = np.ones(n * k, np.float32)
    ends = np.arange(0, n * k + 1, k)
    return sparse.csr_array((ones, neighbours.reshape(-1), ends), shape=(n, n))


def _reciprocal(neighbours: np.ndarray) -> sparse.csr_array:
    from scipy import sparse

    forward = _incidence(neighbours)
    return sparse.csr_array(forward.multiply(forward.T))


def _encode(
    rows: np.ndarray, neighbours: np.ndarray, farthest: np.ndarray, k1: int
) -> sparse.csr_array:
    """V before it is averaged."""
    from scipy import sparse

    own = _reciprocal(neighbours)
    half = _reciprocal(neighbours[:, : int(np.around(k1 / 2)) + 1])
    shared = sparse.coo_array(own.multiply(own @ half.T))
    p, q = shared.coords
    joins = 3 * shared.data > 2 * half.sum(1)[q]
    joined = sparse.csr_array(
        (np.ones(joins.sum(), np.float32), (p[joins], q[joins])), shape=own.shape
    )
    encoding = sparse.coo_array(own + joined @ half)
    p, q = encoding.coords
    products = [
        np.einsum("pd,pd->p", rows[p[i : i + _PAIRS]], rows[q[i : i + _PAIRS]])
        for i in range(0, len(p), _PAIRS)
    ]
    squared = 2 - 2 * np.concatenate(products)
    encoding.data = np.exp(-_over(squared, farthest[p]))
    encoding = sparse.csr_array(encoding)
    return sparse.csr_array(encoding.multiply(1 / encoding.sum(1)[:, None]))


def _over(squared: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Distances over the row's largest; 0 where all rows are one."""
    return np.clip(squared / np.where(largest > 0, largest, 1), 0, 1)


def _blend(
    rows: np.ndarray,
    encoding: sparse.csr_array,
    farthest: np.ndarray,
    queries: int,
    weight: float,
) -> np.ndarray:
    from scipy import sparse

    result = np.empty((queries, len(rows) - queries), np.float32)
    of_column = sparse.csc_array(encoding[queries:])
    for some in _blocks(queries):
        squared = 2 - 2 * rows[some] @ rows[queries:].T
        first = _over(squared, farthest[some, None])
        for query in range(some.start, some.stop):
            own = slice(encoding.indptr[query], encoding.indptr[query + 1])
            # Where the query's entries are, the smaller of its and each gallery row's.
            smaller = of_column[:, encoding.indices[own]]
            most = np.repeat(encoding.data[own], np.diff(smaller.indptr))
            smaller.data = np.minimum(smaller.data, most)
            shared = smaller.sum(1)
            # Both sum to 1, so the larger ones sum to 2 less the smaller ones.
            overlap = shared / (2 - shared)
            distance = (1 - weight) * (1 - overlap) + weight * first[query - some.start]
            result[query] = 1 - distance
    return result


def expand_queries(
    queries: Any, gallery: Any, *, k: int = 50, alpha: float = 3.0
) -> np.ndarray:
    """Queries averaged with their nearest gallery rows, to be searched with again.

        q' = normalised (q + sum over its k nearest g of max(q.g, 0)^alpha g)

    with unit vectors. At alpha = 0 all weights are 1: average query expansion (Chum,
    Philbin, Sivic, Isard, Zisserman, "Total Recall", ICCV 2007). Above, near rows
    weigh more (Radenovic, Tolias, Chum, "Fine-Tuning CNN Image Retrieval with No Human
    Annotation", TPAMI 2018, with alpha 3 and k 50). More neighbours than a query has
    matches do harm.

    Args:
      queries: [query, dim].
      gallery: [gallery, dim].
      k: neighbours, from 1 to the gallery's rows.
      alpha: at least 0.

    Returns:
      [query, dim] float32 unit vectors.

    Raises:
      ValueError: embeddings not finite or of different dim, or a setting out of range.
    """
    ours, theirs = _both(queries, gallery)
    checks.check_count("k", k, 1, len(theirs))
    return _expand(ours, theirs, nearest(ours, k=k, gallery=theirs).rows, alpha)


def expand_gallery(gallery: Any, *, k: int = 10, alpha: float = 3.0) -> np.ndarray:
    """Gallery rows averaged with their nearest others: database-side augmentation.

    The same as `expand_queries`, of each row among the others (Arandjelovic and
    Zisserman, "Three Things Everyone Should Know to Improve Object Retrieval", CVPR
    2012; weights as above).

    Args:
      gallery: [gallery, dim].
      k: neighbours, from 1 to the gallery's rows - 1.
      alpha: at least 0.

    Returns:
      [gallery, dim] float32 unit vectors.

    Raises:
      ValueError: embeddings not finite, or a setting out of range.
    """
    rows = unit_rows(checks.as_embeddings("gallery", gallery))
    return _expand(rows, rows, nearest(rows, k=k).rows, alpha)


def _expand(
    queries: np.ndarray, gallery: np.ndarray, neighbours: np.ndarray, alpha: float
) -> np.ndarray:
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
    sums = queries.copy()
    for some in _blocks(len(queries)):
        near = gallery[neighbours[some]]
        weight = np.maximum(np.einsum("qd,qkd->qk", queries[some], near), 0) ** alpha
        sums[some] += np.einsum("qk,qkd->qd", weight, near)
    return unit_rows(sums)
