"""Statistics of an anchor's row, and the view of a row from each of its positives.

These are the only two ways in which losses look at a batch. Both are safe on empty
rows, in value and in gradient, and neither depends on how the batch was cut into blocks
or spread over devices: a maximum that occurs twice is taken at the lowest reference
index, and the gradient goes there alone. (A matrix product need not round two equal
rows alike, so that duplicates may tie in one block size and not in another.)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.terms import Terms


def log_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """log(sum(exp(values))) over the last axis where the mask holds; -inf if nowhere.

    The row's maximum is taken out first, so that no logit overflows.
    """
    some = where.any(-1)
    shift = jax.lax.stop_gradient(jnp.max(values, -1, where=where, initial=-jnp.inf))
    shift = jnp.where(some, shift, 0)
    exponent = jnp.where(where, values - shift[..., None], -jnp.inf)
    sums = jnp.sum(jnp.exp(exponent), -1)
    return jnp.where(some, jnp.log(jnp.where(some, sums, 1)) + shift, -jnp.inf)


def log_one_plus_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """log(1 + sum(exp(values))) over the last axis where the mask holds, else 0."""
    values = jnp.concatenate([jnp.zeros_like(values[..., :1]), values], -1)
    where = jnp.concatenate([jnp.ones_like(where[..., :1]), where], -1)
    return log_sum_exp(values, where)


def largest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Maximum over the last axis where the mask holds; -inf if nowhere.

    Of equal values the one with the lowest index receives the whole gradient.
    """
    index = _first_largest(values, where)[..., None]
    chosen = jnp.take_along_axis(values, index, -1)[..., 0]
    return jnp.where(where.any(-1), chosen, -jnp.inf)


def smallest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Minimum over the last axis where the mask holds; +inf if nowhere."""
    return -largest(-values, where)


def is_largest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mask of the single entry that `largest` takes; empty where `where` is."""
    index = _first_largest(values, where)
    return where & (jnp.arange(values.shape[-1]) == index[..., None])


def is_smallest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mask of the single entry that `smallest` takes; empty where `where` is."""
    return is_largest(-values, where)


def _first_largest(values: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.argmax(jnp.where(where, values, -jnp.inf), -1)


def per_positive(
    pairs: Pairs,
    terms: Callable[..., Terms],
    *,
    positive_rows: bool = False,
) -> Terms:
    """Evaluates `terms` once per anchor and positive, and adds over the positives.

    Args:
      pairs: the batch.
      terms: called with the anchor's similarities [reference], its negatives as a mask
        [reference] and the similarity of the positive (scalar), and, if asked for, the
        positive's own similarities [reference]. Returns Terms of scalars.
      positive_rows: whether `terms` takes the positive's own row as well.

    Returns:
      Terms of shape [anchor].

    Every reference is tried as a positive and the mask decides, which costs
    O(anchors x references^2) in time and memory; row blocks bound the memory.
    """
    if positive_rows and pairs.reference_similarity is None:
        raise ValueError(
            "this loss compares positives with negatives and so needs "
            "Pairs.reference_similarity, which is None"
        )
    rows = pairs.reference_similarity if positive_rows else None

    def one(
        row: jax.Array, negative: jax.Array, positive: jax.Array, own: jax.Array | None
    ) -> Terms:
        return terms(row, negative, positive, *([] if own is None else [own]))

    def anchor(
        row: jax.Array, positive: jax.Array, negative: jax.Array, rows: jax.Array | None
    ) -> Terms:
        each = jax.vmap(one, in_axes=(None, None, 0, 0))
        return each(row, negative, row, rows).add(positive)

    shared = rows is None or rows.ndim == 2
    return jax.vmap(anchor, in_axes=(0, 0, 0, None if shared else 0))(
        pairs.similarity, pairs.positive, pairs.negative, rows
    )
