"""What a loss hands back before anything is averaged, and the ways to average it.

Papers divide by different numbers: all anchors, those with a positive, triplets that
still violate the margin. A loss therefore returns sums and counts per anchor. They add
over anchors, row blocks and devices, and the division comes last, once.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, Union

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
      weight: [anchor] how often the anchor counts, or None for once; set by the
        objective.
      class_size: [anchor] valid rows of the anchor's class in the whole batch, or None
        where there are no classes; set by the objective.
    """

    total: jax.Array
    count: jax.Array
    active: jax.Array
    weight: jax.Array | None = None
    class_size: jax.Array | None = None

    @classmethod
    def of(cls, values: jax.Array, where: jax.Array) -> "Terms":
        """Sums `values` over their last axis, where the mask holds."""
        values, where = jnp.broadcast_arrays(values, where)
        return cls(
            total=jnp.sum(values, -1, where=where),
            count=jnp.sum(where, -1, dtype=values.dtype),
            active=jnp.sum(where & (values > 0), -1, dtype=values.dtype),
        )

    @classmethod
    def each(cls, values: jax.Array, where: jax.Array) -> "Terms":
        """One term per anchor: `values` where the mask holds, none elsewhere."""
        return cls.of(values[..., None], where[..., None])

    def add(self, where: jax.Array) -> "Terms":
        """Sums over the last axis, say an anchor's positives, where the mask holds."""
        return jax.tree.map(lambda x: jnp.sum(x, -1, where=where), self)

    def scaled(self, factor: float | jax.Array) -> "Terms":
        """The same terms, each multiplied by a factor that is not negative."""
        return dataclasses.replace(self, total=factor * self.total)


@dataclasses.dataclass(frozen=True)
class Pooled:
    """What a loss returns that needs sums over the whole batch before its terms.

    Attributes:
      sums: arrays without an anchor axis, what the given anchors contribute. They are
        added over row blocks and devices.
      then: maps the sums of the whole batch to Terms of the given anchors, or to
        further sums.
    """

    sums: Any
    then: Callable[[Any], "Result"]


Result = Union[Terms, tuple[Terms, ...], Pooled]  # noqa: UP007
"""What a loss returns; several Terms are reduced one by one and added."""

Add = Callable[[jax.Array], jax.Array]


class Reduction(Protocol):
    """Turns the terms of all anchors into the scalar that is minimised."""

    def __call__(self, terms: Terms, add: Add = jnp.sum) -> jax.Array:
        """Reduces terms; `add` sums [anchor] to a scalar, over all devices if any."""
        ...


def mean(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Sum over number of terms; 0 with gradient 0 when there is none."""
    return _ratio(add(_weigh(terms, terms.total)), add(_weigh(terms, terms.count)))


def mean_active(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Sum over number of terms above zero, as batch-all triplets are averaged.

    The divisor changes with the embeddings and is treated as a constant in the
    gradient.
    """
    return _ratio(add(_weigh(terms, terms.total)), add(_weigh(terms, terms.active)))


def mean_per_anchor(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Mean over anchors of each anchor's own mean; anchors without terms are left out.

    Where class sizes differ, `mean` lets large classes dominate, for their anchors have
    more pairs; here every anchor counts the same.
    """
    some = (terms.count > 0).astype(terms.count.dtype)
    means = _ratio(terms.total, terms.count)
    return _ratio(add(_weigh(terms, means)), add(_weigh(terms, some)))


def class_balanced_mean(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Mean over anchors of each anchor's own mean, each divided by its class's size.

    Every class counts the same, whatever the number of its rows in the batch.

    Raises:
      ValueError: the batch came without a class per row.
    """
    if terms.class_size is None:
        raise ValueError("class_balanced_mean needs labels [n], one class per row")
    share = 1 / jnp.maximum(terms.class_size, 1).astype(terms.total.dtype)
    weight = share if terms.weight is None else share * terms.weight
    return mean_per_anchor(dataclasses.replace(terms, weight=weight), add)


def total(terms: Terms, add: Add = jnp.sum) -> jax.Array:
    """Plain sum of the terms."""
    return add(_weigh(terms, terms.total))


def _weigh(terms: Terms, values: jax.Array) -> jax.Array:
    return values if terms.weight is None else values * terms.weight


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    denominator = lax.stop_gradient(denominator)
    some = denominator > 0
    return jnp.where(some, numerator / jnp.where(some, denominator, 1), 0)
