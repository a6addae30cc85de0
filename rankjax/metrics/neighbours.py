"""The nearest rows of a gallery."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.inputs import check_functions
from rankjax.metrics.across import across
from rankjax.metrics.checks import as_embeddings, check_count
from rankjax.metrics.directions import ORDERS, directions
from rankjax.similarity import Similarity, apply, cosine, dot, squared_lengths

_MOST = 2**25  # similarities that are held at once


class Neighbours(NamedTuple):
    """The k nearest rows of each query, nearest first.

    Attributes:
      rows: int32 [queries, k].
      similarities: [queries, k], falling.
    """

    rows: np.ndarray
    similarities: np.ndarray


def nearest(
    embeddings: Any,
    *,
    k: int,
    gallery: Any = None,
    similarity: Similarity = cosine,
    block: int = 1024,
    devices: Sequence[jax.Device] | None = None,
) -> Neighbours:
    """The k nearest rows of a gallery, or the k nearest others of the same rows.

    Args:
      embeddings: queries [n, dim].
      k: from 1 to the rows of the gallery, to n - 1 without one.
      gallery: [rows, dim]; without it a row looks among all others, never at itself.
      similarity: of queries and gallery; computed in full float32.
      block: queries at a time, fewer where the gallery is large; memory is
        O(block x rows).
      devices: they share the queries; by default all of this process. Devices of
        several processes must be given to the same call in each.

    Returns:
      Row numbers in the gallery and similarities. Of equally similar rows the one with
      the lower number comes first.

    Raises:
      ValueError: k is out of range, shapes do not fit, or a similarity is infinite or
        not a number.
      TypeError: `similarity` is none.
    """
    check_functions(similarity=similarity)
    queries = as_embeddings("embeddings", embeddings)
    others = queries if gallery is None else as_embeddings("gallery", gallery)
    if queries.shape[1] != others.shape[1]:
        raise ValueError(
            f"gallery must have {queries.shape[1]} dimensions as the queries, got "
            f"{others.shape[1]}"
        )
    if similarity in ORDERS:
        same = others is queries
        queries = directions(queries)
        others = queries if same else directions(others)
    n, most = len(queries), len(others) - (gallery is None)
    check_count("k", k, 1, most)
    check_count("block", block, 1)
    block = max(min(block, n, _MOST // len(others)), 1)
    blocks = -(-n // block)
    padded = np.pad(queries, [(0, blocks * block - n), (0, 0)])
    found = across(
        _search,
        (padded.reshape(blocks, block, -1), others),
        blocks=blocks,
        devices=jax.local_devices() if devices is None else devices,
        combine=lax.pmax,
        rule=_Rule(k, similarity, itself=gallery is None),
    )
    rows, similarities = (x.reshape(-1, k)[:n] for x in found)
    wrong = np.flatnonzero(np.isposinf(similarities).any(1))
    if len(wrong):
        raise ValueError(
            f"similarity must be finite, got infinity or NaN for row {wrong[0]}"
        )
    return Neighbours(rows, similarities)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What is known before compiling."""

    k: int
    similarity: Similarity
    itself: bool  # queries are the gallery's rows

    def order(self, queries: jax.Array, gallery: jax.Array) -> jax.Array:
        """What rises with the similarity, and is equal where that is."""
        rule = ORDERS.get(self.similarity)
        if rule is None:
            values = apply(self.similarity, queries, gallery)
            return jnp.where(jnp.isnan(values), jnp.inf, values)  # to be found
        return rule.of(
            dot(queries, gallery),
            squared_lengths(queries)[:, None],
            squared_lengths(gallery)[None, :],
        )

    def value(self, order: jax.Array) -> jax.Array:
        """The similarity of its order."""
        rule = ORDERS.get(self.similarity)
        return order if rule is None else rule.value(order)


def _search(
    shared: tuple[jax.Array, jax.Array], numbers: jax.Array, rule: _Rule
) -> tuple[jax.Array, jax.Array]:
    """Rows and similarities [blocks, block, k]; the least in other devices' blocks."""
    queries, gallery = shared
    blocks, block, _ = queries.shape
    column = jnp.arange(len(gallery), dtype=jnp.int32)
    row = jnp.arange(block, dtype=jnp.int32)

    def one(at: jax.Array, found: Any) -> Any:
        i = numbers[at]
        values = rule.order(queries[i], gallery)
        if rule.itself:
            values = jnp.where(
                (i * block + row)[:, None] == column[None, :], -jnp.inf, values
            )
        best, which = lax.top_k(values, rule.k)
        best = rule.value(best)
        # Numbers are filled up with -1, which would be the last block.
        at = jnp.where(i < 0, blocks, i)
        return found[0].at[at].set(which), found[1].at[at].set(best)

    shape = blocks, block, rule.k
    dtype = jnp.result_type(gallery.dtype, jnp.float32)
    none = jnp.full(shape, -1, jnp.int32), jnp.full(shape, -jnp.inf, dtype)
    return lax.fori_loop(0, len(numbers), one, none)
