"""Terms: what a loss returns before anything is averaged, and the ways to average.

Papers divide by different numbers: all anchors, those with a positive, triplets that
still violate the margin. A loss therefore returns sums and counts per anchor. They add
over anchors, row blocks and devices, and the division comes last, once.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Union

import jax
import jax.numpy as jnp
import numpy as np
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
    def over_references(cls, values: jax.Array, where: jax.Array) -> "Terms":
        """Sums `values` over the last axis, the references, where the mask holds."""
        values, where = jnp.broadcast_arrays(values, where)
        return cls(
            total=jnp.sum(values, -1, where=where),
            count=jnp.sum(where, -1, dtype=values.dtype),
            active=jnp.sum(where & (values > 0), -1, dtype=values.dtype),
        )

    @classmethod
    def one_per_anchor(cls, value: jax.Array, where: jax.Array) -> "Terms":
        """Makes one term of `value` where the mask holds, and none elsewhere.

        In a view of `rows.per_positive`, that is one term per anchor and positive.
        """
        return cls.over_references(value[..., None], where[..., None])

    def scaled(self, factor: float | jax.Array) -> "Terms":
        """Multiplies each term by a factor that is not negative."""
        return dataclasses.replace(self, total=factor * self.total)


@dataclasses.dataclass(frozen=True)
class BatchSums:
    """What a loss returns that needs sums over the whole batch before its terms.

    Attributes:
      sums: arrays without an anchor axis, what the given anchors contribute. They are
        added over row blocks and devices.
      then: maps the sums of the whole batch to Terms of the given anchors, or to
        further sums.
      constant: whether the sums are constants to the gradient, which saves a pass.
    """

    sums: Any
    then: Callable[[Any], Any]
    constant: bool = False


Result = Union[Terms, tuple[Terms, ...], BatchSums]  # noqa: UP007
"""What a loss returns; several Terms are reduced one by one and added."""


class Reduction:
    """A way to average Terms, made of a function `per_anchor` by decoration.

    `per_anchor` maps Terms to a numerator and a denominator per anchor, [anchor] each.
    The sum of the numerators over all anchors is divided by that of the denominators,
    which is a constant to the gradient; no denominator means 1. Where it is 0, so is
    the loss.
    """

    __name__: str

    def __init__(
        self, per_anchor: Callable[[Terms], tuple[jax.Array, jax.Array | None]]
    ) -> None:
        """Takes over the function's name and docstring."""

        def checked(terms: Terms) -> tuple[jax.Array, jax.Array | None]:
            found = per_anchor(terms)
            shape = terms.count.shape
            if not (
                isinstance(found, tuple | list)
                and len(found) == 2
                and np.shape(found[0]) == shape
                and (found[1] is None or np.shape(found[1]) == shape)
            ):
                shapes = jax.tree.map(np.shape, found)
                raise TypeError(
                    f"reduction must return a numerator {shape} and a denominator "
                    f"{shape} or None, got shapes {shapes}"
                )
            return found[0], found[1]

        self.per_anchor = checked
        functools.update_wrapper(self, per_anchor)

    def __reduce__(self) -> str:
        """Pickles by name, as functions are."""
        return self.__name__

    def __call__(self, terms: Terms) -> jax.Array:
        """Reduces the Terms of all anchors to a scalar."""
        numerator, denominator = self.per_anchor(terms)
        total = None if denominator is None else jnp.sum(denominator)
        return ratio(jnp.sum(numerator), total)


def ratio(numerator: jax.Array, denominator: jax.Array | None) -> jax.Array:
    """Divides by a constant to the gradient, None for 1; a ratio to 0 is 0.

    A denominator beyond the largest number makes it not a number, instead of 0.
    """
    if denominator is None:
        return numerator
    denominator = lax.stop_gradient(denominator)
    some = denominator != 0  # also where it is not a number
    quotient = numerator / jnp.where(some, denominator, 1)
    return jnp.where(some, jnp.where(jnp.isinf(denominator), jnp.nan, quotient), 0)


@Reduction
def mean(terms: Terms) -> tuple[jax.Array, jax.Array]:
    """Averages over terms; 0 with gradient 0 when there is none."""
    return _weigh(terms, terms.total), _weigh(terms, terms.count)


@Reduction
def mean_active(terms: Terms) -> tuple[jax.Array, jax.Array]:
    """Averages over terms above zero, as batch-all triplets are averaged.

    The divisor changes with the embeddings and is a constant to the gradient. Losses
    whose terms may be negative (`info.signed`) are refused, but for a loss of one's
    own: terms below zero would be added and not counted.
    """
    return _weigh(terms, terms.total), _weigh(terms, terms.active)


@Reduction
def mean_per_anchor(terms: Terms) -> tuple[jax.Array, jax.Array]:
    """Averages each anchor's own mean over the anchors that have terms.

    Where class sizes differ, `mean` lets large classes dominate, for their anchors have
    more pairs; here every anchor counts the same.
    """
    some = (terms.count > 0).astype(terms.count.dtype)
    means = terms.total / jnp.where(terms.count > 0, terms.count, 1)
    return _weigh(terms, means * some), _weigh(terms, some)


@Reduction
def class_balanced_mean(terms: Terms) -> tuple[jax.Array, jax.Array | None]:
    """Averages each anchor's own mean, weighted by one over the size of its class.

    Every class counts the same, whatever the number of its rows in the batch.

    Raises:
      ValueError: the batch came without a class per row.
    """
    if terms.class_size is None:
        raise ValueError("class_balanced_mean needs labels [n], one class per row")
    share = 1 / jnp.maximum(terms.class_size, 1).astype(terms.total.dtype)
    weight = share if terms.weight is None else share * terms.weight
    return mean_per_anchor.per_anchor(dataclasses.replace(terms, weight=weight))


@Reduction
def total(terms: Terms) -> tuple[jax.Array, None]:
    """Sums the terms."""
    return _weigh(terms, terms.total), None


def _weigh(terms: Terms, values: jax.Array) -> jax.Array:
    return values if terms.weight is None else values * terms.weight
