"""Exact retrieval metrics: how often a query's neighbours are of its class."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax import inputs
from rankjax.similarity import Similarity, cosine


def nearest(
    embeddings: Any, *, k: int, similarity: Similarity = cosine, block: int = 1024
) -> np.ndarray:
    """The k nearest other rows of every row, nearest first.

    Args:
      embeddings: [n, dim].
      k: from 1 to n - 1.
      similarity: of queries and gallery; computed in full float32.
      block: queries at a time; memory is O(block x n).

    Returns:
      [n, k] int32 row numbers. A row is never its own neighbour; of equally similar
      rows the one with the lower number comes first.

    Raises:
      ValueError: k is out of range.
    """
    embeddings = inputs.as_rows("", embeddings, None, None).embeddings
    n = len(embeddings)
    if not 1 <= k < n:
        raise ValueError(f"k must be from 1 to {n - 1} for {n} embeddings, got {k}")
    return np.asarray(_nearest(embeddings, k, similarity, min(block, n)))


@jax.jit(static_argnums=(1, 2, 3))
def _nearest(
    embeddings: jax.Array, k: int, similarity: Similarity, block: int
) -> jax.Array:
    n = len(embeddings)
    rows = jnp.arange(-(-n // block) * block, dtype=jnp.int32).reshape(-1, block)

    def search(query: jax.Array) -> jax.Array:
        scores = similarity(embeddings[jnp.minimum(query, n - 1)], embeddings)
        itself = query[:, None] == jnp.arange(n, dtype=jnp.int32)[None, :]
        return lax.top_k(jnp.where(itself, -jnp.inf, scores), k)[1]

    return lax.map(search, rows).reshape(-1, k)[:n]


def retrieval_metrics(
    embeddings: Any,
    labels: Any,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    similarity: Similarity = cosine,
) -> dict[str, float]:
    """Recall@K, MAP@R and R-precision of every row against all others.

    With R the number of other rows of the query's class: Recall@K is the share of
    queries with one of them among the K nearest; R-precision the mean share of them
    among the R nearest; MAP@R the mean over the R nearest of precision at each hit
    (Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020).

    Args:
      embeddings: [n, dim].
      labels: [n] integers.
      recall_at: the values of K.
      similarity: of queries and gallery.

    Returns:
      `recall_at_K` for each K, `map_at_r` and `r_precision`, each from 0 to 1. Rows
      that are alone in their class are gallery but no queries.

    Raises:
      ValueError: no class has two rows, or a K is not from 1 to n - 1.
    """
    labels = np.asarray(labels)
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    relevant = sizes[group] - 1
    is_query = relevant > 0
    if not is_query.any():
        raise ValueError("labels must hold a class with two rows or more")
    deepest = max(*recall_at, int(relevant.max()))
    neighbours = nearest(embeddings, k=deepest, similarity=similarity)
    hits = (labels[neighbours] == labels[:, None])[is_query]
    return {
        **{f"recall_at_{k}": float(hits[:, :k].any(1).mean()) for k in recall_at},
        **_at_r(hits, relevant[is_query]),
    }


def _at_r(hits: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    rank = np.arange(1, hits.shape[1] + 1)
    hits = hits & (rank <= relevant[:, None])
    precision = np.cumsum(hits, 1) / rank
    return {
        "map_at_r": float(((precision * hits).sum(1) / relevant).mean()),
        "r_precision": float((hits.sum(1) / relevant).mean()),
    }
