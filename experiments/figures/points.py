"""Losses of a few points in the plane, or of two similarities, and their gradients."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rankjax
from rankjax.entry import entry_of

Loss = Callable[..., Any]


def of_points(loss: Loss, **settings: Any) -> Callable[[jax.Array], jax.Array]:
    """A loss as a function of rows: an anchor, its positive, then negatives.

    The similarity is the loss's own.
    """
    entry = entry_of(loss)
    assert entry is not None

    def value(rows: jax.Array) -> jax.Array:
        pairs = rankjax.from_tuples(
            rows,
            np.array([0]),
            np.array([1]),
            np.arange(2, len(rows))[None],
            similarity=entry.similarity,
        )
        return mean(loss(pairs, **settings))

    return value


@functools.cache
def steps(loss: Loss, **settings: Any) -> Callable[[Any], np.ndarray]:
    """Where gradient descent moves the points of tuples [tuple, point, dim]."""
    of_all = jax.jit(jax.vmap(jax.grad(of_points(loss, **settings))))
    return lambda tuples: -np.asarray(of_all(jnp.asarray(tuples, jnp.float32)))


def of_similarities(loss: Loss, **settings: Any) -> Callable[..., jax.Array]:
    """A loss as a function of an anchor's similarities to positives and negatives."""

    def value(positives: jax.Array, negatives: jax.Array) -> jax.Array:
        row = jnp.concatenate([jnp.atleast_1d(positives), jnp.atleast_1d(negatives)])
        is_positive = jnp.arange(len(row))[None] < jnp.size(positives)
        pairs = rankjax.Pairs(
            similarity=row[None], positive=is_positive, negative=~is_positive
        )
        return mean(loss(pairs, **settings))

    return value


def mean(terms: Any) -> jax.Array:
    """The mean of one Terms, or the sum of the means of several."""
    terms = terms if isinstance(terms, tuple) else (terms,)
    return sum((rankjax.mean(part) for part in terms), jnp.float32(0))
