"""What a loss hands back before anything is averaged, and the ways to average it.

Papers divide by different numbers: all anchors, those with a positive, triplets that
still violate the margin. A loss therefore returns sums and counts per anchor. They add
over anchors, row blocks and devices, and the division comes last, once.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Terms:
    """Sums of a loss per anchor.

    Attributes:
      total: [anchor] sum of the anchor's terms.
      count: [anchor] number of terms, as the paper averages them.
      active: [anchor] number of terms above zero.
    """

    total: jax.Array
    count: jax.Array
    active: jax.Array

    @classmethod
    def of(cls, values: jax.Array, where: jax.Array) -> "Terms":
        """Sums `values` over their last axis, where the mask holds."""
        values, where = jnp.broadcast_arrays(values, where)
        return cls(
            total=jnp.sum(values, -1, where=where),
            count=jnp.sum(where, -1, dtype=values.dtype),
            active=jnp.sum(where & (values > 0), -1, dtype=values.dtype),
        )

    def add(self, where: jax.Array) -> "Terms":
        """Sums over the last axis, say an anchor's positives, where the mask holds."""
        return jax.tree.map(lambda x: jnp.sum(x, -1, where=where), self)

    def weighted(self, weights: jax.Array) -> "Terms":
        """Each anchor counts `weights` times, in the sum and in the counts."""
        return jax.tree.map(lambda x: x * weights, self)


Add = Callable[[jax.Array], jax.Array]


class Reduction(Protocol):
    """Turns the terms of all anchors into the scalar that is minimised."""

    def __call__(self, terms: Terms, add: Add = jnp.sum) -> jax.Array:
        """Reduces terms; `add` sums [anchor] to a scalar, over all devices if any."""
        ...


def mean(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Sum over number of terms; 0 with gradient 0 when there is none."""
    return _divide(add(terms.total), add(terms.count))


def mean_active(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Sum over number of terms above zero, as batch-all triplets are averaged.

    The divisor changes with the embeddings and is treated as a constant in the
    gradient.
    """
    return _divide(add(terms.total), add(terms.active))


def total(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Plain sum of the terms."""
    return add(terms.total)


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    denominator = lax.stop_gradient(denominator)
    some = denominator > 0
    return jnp.where(some, numerator / jnp.where(some, denominator, 1), 0)
