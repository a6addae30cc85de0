"""Losses of a few points in the plane, or of two similarities, and their gradients."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rankjax
from rankjax.registry import info_of

Loss = Callable[..., Any]


def of_points(loss: Loss, **settings: Any) -> Callable[[jax.Array], jax.Array]:
    """A loss as a function of rows: an anchor, its positive, then negatives.

    The similarity is the loss's own.
    """
    entry = info_of(loss)
    assert entry is not None

    def value(rows: jax.Array) -> jax.Array:
        pairs = rankjax.from_tuples(
            rows,
            jnp.array([0]),
            jnp.array([1]),
            jnp.arange(2, len(rows))[None],
            similarity=entry.similarity,
        )
        return total(loss(pairs, **settings))

    return value


@functools.cache
def steps(loss: Loss, **settings: Any) -> Callable[[Any], np.ndarray]:
    """Where gradient descent moves the points of tuples [tuple, point, dim]."""
    of_all = jax.jit(jax.vmap(jax.grad(of_points(loss, **settings))))
    return lambda tuples: -np.asarray(of_all(jnp.asarray(tuples, jnp.float32)))


@functools.cache
def slopes(loss: Loss, **settings: Any) -> Callable[..., tuple[np.ndarray, ...]]:
    """A loss of an anchor's similarities to a positive and to negatives.

    Returns:
      A function of similarities [n] to one positive and [n] or [n, negative], which
      returns values [n] and the slopes at both similarities.
    """

    def value(positive: jax.Array, negatives: jax.Array) -> jax.Array:
        row = jnp.concatenate([positive[None], jnp.atleast_1d(negatives)])[None]
        is_positive = jnp.arange(row.size)[None] == 0
        pairs = rankjax.Pairs(row, positive=is_positive, negative=~is_positive)
        return total(loss(pairs, **settings))

    both = jax.jit(jax.vmap(jax.value_and_grad(value, (0, 1))))

    def of_similarities(positive: Any, negatives: Any) -> tuple[np.ndarray, ...]:
        given = (jnp.asarray(s, jnp.float32) for s in (positive, negatives))
        found, (to_positive, to_negatives) = both(*given)
        return tuple(np.asarray(x) for x in (found, to_positive, to_negatives))

    return of_similarities


def total(terms: Any) -> jax.Array:
    """The sum of the terms of one anchor."""
    terms = terms if isinstance(terms, tuple) else (terms,)
    return sum((rankjax.total(part) for part in terms), jnp.float32(0))
