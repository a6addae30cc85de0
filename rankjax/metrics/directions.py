"""Directions of embeddings, which are all that cosines depend on."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rankjax.similarity import (
    Similarity,
    cosine,
    negative_normalized_euclidean,
    normalize,
)


def directions(rows: np.ndarray) -> np.ndarray:
    """Rows scaled so that no product of two overflows or vanishes; zero stays zero.

    The factor is a power of two, which changes no digit of an entry. A row whose
    entries are 0, c and -c becomes 0, 1 and -1, of which products are exact.
    """
    rows = np.asarray(rows)
    size = np.abs(rows)
    largest = size.max(1, keepdims=True)
    alike = ((size == largest) | (size == 0)).all(1)
    scaled = np.ldexp(rows, -np.frexp(largest)[1])
    scaled[alike] = np.sign(rows[alike])
    return scaled


class Order(NamedTuple):
    """How a similarity of directions is ranked, so that equal ones stay equal.

    Inner products and squared lengths of signs, bits and small whole numbers are exact,
    and what follows here is rounded but once.

    Attributes:
      of: maps an inner product and two squared lengths to what rises as the similarity.
      value: maps that to the similarity.
    """

    of: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    value: Callable[[jax.Array], jax.Array]


def _signed_square(product: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    lengths = a * b
    return product * jnp.abs(product) / jnp.where(lengths > 0, lengths, 1)


def _signed_root(square: jax.Array) -> jax.Array:
    return jnp.sign(square) * jnp.sqrt(jnp.minimum(jnp.abs(square), 1))


def _minus_squared_chord(product: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return 2 * _signed_root(_signed_square(product, a, b)) - jnp.sign(a) - jnp.sign(b)


ORDERS: Mapping[Similarity, Order] = {
    cosine: Order(_signed_square, _signed_root),
    negative_normalized_euclidean: Order(
        _minus_squared_chord, lambda order: -jnp.sqrt(jnp.maximum(-order, 0))
    ),
}
"""The similarities that do not depend on lengths."""


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float32, whatever their length was; zero stays zero."""
    return np.asarray(normalize(jnp.asarray(directions(rows))))


def cosines(
    rows: np.ndarray, pairs: np.ndarray, others: np.ndarray | None = None
) -> np.ndarray:
    """Cosine similarity of pairs of a row and another (of `others`): float [pairs]."""
    rows = directions(rows)
    others = rows if others is None else directions(others)
    scale = np.prod(
        [
            np.linalg.norm(side, axis=1)[column]
            for side, column in zip((rows, others), pairs.T, strict=True)
        ],
        axis=0,
    )
    dots = np.empty(len(pairs), rows.dtype)
    # Raw pixels are wide: gather about 16 MB of them at a time.
    block = max(1, 2**22 // rows.shape[1])
    for start in range(0, len(pairs), block):
        first, second = pairs[start : start + block].T
        dots[start : start + block] = np.vecdot(rows[first], others[second])
    return dots / np.maximum(scale, np.finfo(rows.dtype).tiny)
