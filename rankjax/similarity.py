"""Similarities between rows of embeddings. Higher is always closer.

A distance appears negated, so that every loss and every miner reads the same way for
all of them. Results are at least float32 whatever the embeddings are, and matrix
products keep full float32 precision on accelerators that would round them by default:
next to the network they cost nothing, and a threshold decides on them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Similarity = Callable[[jax.Array, jax.Array], jax.Array]
"""Maps anchors [anchor, dim] and references [reference, dim] to [anchor, reference]."""

_TINY = 1e-6  # lengths below it have no direction and no distance in float32


def dot(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """Inner products, [anchor, reference]; unbounded and sensitive to norms."""
    return lax.dot_general(
        at_least_float32(anchors),
        at_least_float32(references),
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
    )


def cosine(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """Cosines, [anchor, reference] in [-1, 1]: 1 aligned, 0 orthogonal, -1 opposite.

    The zero vector has cosine 0 with everything and gets a finite gradient.
    """
    return dot(normalize(anchors), normalize(references))


def negative_squared_euclidean(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """-|a - r|^2, [anchor, reference], at most 0.

    It is computed from inner products about the references' mean, which loses less to
    cancellation than products about the origin; still, two points nearer to each other
    than about 3e-4 of their distance from that mean are not resolved in float32.
    """
    anchors, references = at_least_float32(anchors), at_least_float32(references)
    centre = lax.stop_gradient(references.mean(0, keepdims=True))
    anchors, references = anchors - centre, references - centre
    squared = (
        jnp.sum(anchors * anchors, -1)[:, None]
        - 2 * dot(anchors, references)
        + jnp.sum(references * references, -1)[None, :]
    )
    return -jnp.maximum(squared, 0)


def negative_euclidean(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """-|a - r|, [anchor, reference], at most 0.

    Coincident points get gradient zero, where the distance itself has none.
    """
    squared = -negative_squared_euclidean(anchors, references)
    apart = squared > _TINY**2
    return -jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)


def normalize(embeddings: jax.Array) -> jax.Array:
    """Rows scaled to unit length, [row, dim].

    The largest entry is divided out first, so that squares neither overflow nor vanish.
    A row whose entries are all below 1e-6 has no direction that float32 could trust; it
    is multiplied by 1e6 instead, which keeps the gradient finite at zero.
    """
    embeddings = at_least_float32(embeddings)
    largest = lax.stop_gradient(jnp.max(jnp.abs(embeddings), -1, keepdims=True))
    directed = largest > _TINY
    scaled = embeddings / jnp.where(directed, largest, _TINY)
    squares = jnp.sum(scaled * scaled, -1, keepdims=True)
    return scaled * lax.rsqrt(jnp.where(directed, squares, 1))


def at_least_float32(embeddings: jax.Array) -> jax.Array:
    """Half precision raised to float32; float32 and float64 as they are."""
    if embeddings.dtype == jnp.float64:
        return embeddings
    return embeddings.astype(jnp.float32)
