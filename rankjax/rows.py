"""Statistics of an anchor's row, and the view of a row from each of its positives.

These are the ways in which most losses look at a batch. Both are safe on empty
rows, in value and in gradient, and neither depends on how the batch was cut into blocks
or spread over devices: a maximum that occurs twice is taken at the lowest reference
index, and the gradient goes there alone. (A matrix product need not round two equal
rows alike, so that duplicates may tie in one block size and not in another.)
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.terms import Terms


@jax.custom_jvp
def log_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """log(sum(exp(values))) over the last axis where the mask holds; -inf if nowhere.

    The row's maximum is taken out first, so that no logit overflows.
    """
    some = where.any(-1)
    shift = jnp.max(values, -1, where=where, initial=-jnp.inf)
    shift = jnp.where(some, shift, 0)[..., None]
    # A compiler may contract `scale * s - shift`, which is not 0 at the maximum then.
    below = jnp.where(values < shift, jnp.minimum(values - shift, 0), 0)
    sums = jnp.sum(jnp.exp(below), -1, where=where)
    return jnp.where(some, jnp.log(jnp.where(some, sums, 1)) + shift[..., 0], -jnp.inf)


@log_sum_exp.defjvp
def _log_sum_exp_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    values, where = primals
    total = log_sum_exp(values, where)
    level = jnp.where(where.any(-1), total, 0)[..., None]
    share = jnp.exp(jnp.minimum(jnp.where(where, values - level, -jnp.inf), 0))
    return total, jnp.sum(share * tangents[0], -1)


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class View:
    """An anchor's row, seen from one of its positives.

    Attributes:
      row: [reference] similarities of the anchor.
      positives: [reference] bool, the anchor's positives, this one among them.
      negatives: [reference] bool, the anchor's negatives.
      positive: [] similarity of this positive.
      this: [reference] bool, this positive alone.
      own_row: [reference] similarities of this positive, or None.
      key: of random choices, another for each anchor and positive, or None.
      dim: length of the embeddings, or None.
    """

    row: jax.Array
    positives: jax.Array
    negatives: jax.Array
    positive: jax.Array
    this: jax.Array
    own_row: jax.Array | None = None
    key: jax.Array | None = None
    dim: int | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def positive_row(self) -> jax.Array:
        """[reference] similarities of this positive.

        Raises:
          ValueError: they are not known.
        """
        if self.own_row is None:
            raise ValueError(
                "this needs Pairs.reference_similarity, which is None: it compares "
                "positives with negatives"
            )
        return self.own_row


def per_positive(pairs: Pairs, terms: Callable[[View], Terms]) -> Terms:
    """Evaluates `terms` once per anchor and positive, and adds over the positives.

    Args:
      pairs: the batch.
      terms: maps a view to Terms of scalars.

    Returns:
      Terms of shape [anchor].

    Every reference is tried as a positive and the mask decides, which costs
    O(anchors x references^2) in time and memory; row blocks bound the memory.
    """
    rows = pairs.reference_similarity
    every = jnp.arange(pairs.similarity.shape[1])

    def anchor(
        row: jax.Array,
        positive: jax.Array,
        negative: jax.Array,
        rows: jax.Array | None,
        key: jax.Array | None,
    ) -> Terms:
        def one(
            similarity: jax.Array, index: jax.Array, own: jax.Array | None
        ) -> Terms:
            drawn = None if key is None else jax.random.fold_in(key, index)
            this = every == index
            view = View(
                row, positive, negative, similarity, this, own, drawn, pairs.dim
            )
            return terms(view)

        return jax.vmap(one)(row, every, rows).add(positive)

    shared = rows is None or rows.ndim == 2
    return jax.vmap(anchor, in_axes=(0, 0, 0, None if shared else 0, 0))(
        pairs.similarity, pairs.positive, pairs.negative, rows, keys(pairs)
    )


def keys(pairs: Pairs) -> jax.Array | None:
    """A key per anchor, the same however the batch is cut; None without a key."""
    if pairs.key is None or pairs.anchor_index is None:
        return None
    return jax.vmap(jax.random.fold_in, (None, 0))(pairs.key, pairs.anchor_index)
