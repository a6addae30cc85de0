"""Statistics of an anchor's row, and the view of a row from each of its positives.

These are the ways in which most losses look at a batch. Both are safe on empty
rows, in value and in gradient, and neither depends on how the batch was cut into blocks
or spread over devices: a maximum that occurs twice is taken at the lowest reference
index, and the gradient goes there alone. (A matrix product need not round two equal
rows alike, so that duplicates may tie in one block size and not in another.)
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.blocks import pullback, without_closure, zeros_of
from rankjax.pairs import Pairs


@jax.custom_jvp
def log_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """log(sum(exp(values))) over the last axis where the mask holds; -inf if nowhere.

    The row's maximum is taken out first, so that no logit overflows.
    """
    shift = jnp.max(values, -1, where=where, initial=-jnp.inf)
    some = shift != -jnp.inf
    shift = jnp.where(some, shift, 0)
    # A compiler may contract `scale * s - shift`, which is not 0 at the maximum then.
    level = shift[..., None]
    below = jnp.where(values < level, jnp.minimum(values - level, 0), 0)
    sums = jnp.sum(jnp.exp(below), -1, where=where)
    return jnp.where(some, jnp.log(jnp.where(some, sums, 1)) + shift, -jnp.inf)


@log_sum_exp.defjvp
def _log_sum_exp_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    values, where = primals
    total = log_sum_exp(values, where)
    level = jnp.where(where.any(-1), total, 0)[..., None]
    share = jnp.exp(jnp.minimum(jnp.where(where, values - level, -jnp.inf), 0))
    return total, jnp.sum(share * tangents[0], -1)


def log_sum_exp_over(
    values: jax.Array, where: jax.Array, axis_name: str | tuple[str, ...] | None
) -> jax.Array:
    """`log_sum_exp` of rows whose parts lie on the devices of a mapped axis, if any."""
    own = log_sum_exp(values, where)
    if axis_name is None:
        return own
    shift = lax.pmax(lax.stop_gradient(own), axis_name)
    some = shift != -jnp.inf
    shift = jnp.where(some, shift, 0)
    sums = lax.psum(jnp.exp(own - shift), axis_name)
    return jnp.where(some, jnp.log(jnp.where(some, sums, 1)) + shift, -jnp.inf)


def log_one_plus_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """log(1 + sum(exp(values))) over the last axis where the mask holds, else 0."""
    some = where.any(-1)
    total = jnp.where(some, log_sum_exp(values, where), 0)
    return jnp.where(some, jax.nn.softplus(total), 0)


@jax.custom_jvp
def largest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Maximum over the last axis where the mask holds; -inf if nowhere.

    Of equal values the one with the lowest index receives the whole gradient.
    """
    return jnp.max(values, -1, where=where, initial=-jnp.inf)


@largest.defjvp
def _largest_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    chosen = is_largest(*primals)
    return largest(*primals), jnp.sum(tangents[0], -1, where=chosen)


def smallest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Minimum over the last axis where the mask holds; +inf if nowhere."""
    return -largest(-values, where)


def is_largest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mask of the single entry that `largest` takes; empty where `where` is."""
    column = lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    best = jnp.max(values, -1, where=where, initial=-jnp.inf, keepdims=True)
    at_best = where & (values == best)
    first = jnp.min(column, -1, where=at_best, initial=2**31 - 1, keepdims=True)
    return at_best & (column == first)


def is_smallest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mask of the single entry that `smallest` takes; empty where `where` is."""
    return is_largest(-values, where)


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
      key: of random choices, another for each anchor and positive, or None.
      dim: length of the embeddings, or None.
      compute_row: computes `positive_row`.
    """

    row: jax.Array
    positives: jax.Array
    negatives: jax.Array
    positive: jax.Array
    this: jax.Array
    key: jax.Array | None = None
    dim: int | None = dataclasses.field(default=None, metadata={"static": True})
    compute_row: Callable[[], jax.Array] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )

    @property
    def positive_row(self) -> jax.Array:
        """[reference] similarities of this positive, which take a product to compute.

        Raises:
          ValueError: they are not known.
        """
        if self.compute_row is None:
            raise ValueError("this needs View.compute_row, which is None")
        return self.compute_row()


def per_positive(pairs: Pairs, terms: Callable[[View], Any]) -> Any:
    """Evaluates `terms` once per anchor and positive, and adds over the positives.

    Every anchor's first positive is taken, then every second one, as often as the
    anchor with most has positives: time O(anchors x references x positives), memory
    O(anchors x references).

    Args:
      pairs: the batch.
      terms: maps a view to Terms of scalars, or to any tree of arrays.

    Returns:
      The sums, with a leading axis of anchors.
    """
    known = pairs.reference_similarity, pairs.reference_embeddings
    own = known[0] is not None and known[0].ndim == 3  # references of each anchor's own
    axes = (0, 0, 0, 0, (0 if own else None, None), 0)

    def one(
        row: jax.Array,
        positives: jax.Array,
        negatives: jax.Array,
        key: jax.Array | None,
        known: Any,
        column: jax.Array,
    ) -> Any:
        column = jnp.minimum(column, len(row) - 1)
        view = View(
            row=row,
            positives=positives,
            negatives=negatives,
            positive=_entry(row, column),
            this=jnp.arange(len(row), dtype=jnp.int32) == column,
            key=None if key is None else jax.random.fold_in(key, column),
            dim=pairs.dim,
            compute_row=lambda: _row(pairs, known, column),
        )
        return terms(view)

    def slot(column: jax.Array, operands: Any) -> Any:
        """The terms of one positive of every anchor, 0 where there is none."""
        arguments: tuple[Any, ...] = (*operands, column)
        found = jax.vmap(one, axes)(*arguments)
        some = column < pairs.positive.shape[1]
        return jax.tree.map(
            lambda x: jnp.where(jnp.expand_dims(some, range(1, x.ndim)), x, 0), found
        )

    operands = pairs.similarity, pairs.positive, pairs.negative, keys(pairs), known
    if pairs.forward_mode:
        return _sum_slots_plainly(slot, pairs.positive, operands)
    function, closure = without_closure(slot, _first(pairs.positive), operands)
    return _sum_slots(
        lambda column, operands: function(operands[0], column, operands[1]),
        pairs.positive,
        (closure, operands),
    )


def _row(pairs: Pairs, known: Any, column: jax.Array) -> jax.Array:
    """The row of similarities of a reference."""
    similarity, embeddings = known
    if similarity is not None:
        return similarity[column]
    pairs.need("reference_embeddings")
    assert pairs.measure is not None
    return pairs.measure(embeddings[column][None, :], embeddings)[0]


@jax.custom_jvp
def _entry(row: jax.Array, column: jax.Array) -> jax.Array:
    """An entry of a row, whose gradient is a masked row rather than a scatter."""
    return row[column]


@_entry.defjvp
def _entry_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    row, column = primals
    this = jnp.arange(len(row), dtype=jnp.int32) == column
    return _entry(row, column), jnp.sum(jnp.where(this, tangents[0], 0))


def _first(positive: jax.Array) -> jax.Array:
    """Each anchor's first positive."""
    return _next(positive, jnp.full(len(positive), -1, jnp.int32))


def _next(positive: jax.Array, column: jax.Array) -> jax.Array:
    """Each anchor's first positive after a column, else the number of columns."""
    every = lax.broadcasted_iota(jnp.int32, positive.shape, 1)
    later = positive & (every > column[:, None])
    return jnp.min(every, 1, where=later, initial=positive.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_slots(function: Any, positive: jax.Array, operands: Any) -> Any:
    """Adds function(columns [anchor], operands) over all anchors' first positives,
    their second ones, and so on."""
    start, more, turn = _slots(function, positive, operands)
    return lax.while_loop(more, turn, start)[1]


def _slots(function: Any, positive: jax.Array, operands: Any) -> Any:
    """Prepares the loop over slots.

    Returns:
      The state (columns of the positives at hand [anchor], sums so far), a test
      whether an anchor has one at hand, and a function that adds these and goes on.
    """

    def turn(state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        column, total = state
        total = jax.tree.map(jnp.add, total, function(column, operands))
        return _next(positive, column), total

    first = _first(positive)
    zeros = zeros_of(jax.eval_shape(function, first, operands))
    return (first, zeros), lambda state: jnp.any(state[0] < positive.shape[1]), turn


def _forward(function: Any, positive: jax.Array, operands: Any) -> tuple[Any, Any]:
    return _sum_slots(function, positive, operands), (positive, operands)


def _backward(function: Any, kept: Any, cotangents: Any) -> tuple[None, Any]:
    """The gradient is a sum over the same positives, so it has a gradient as well."""
    positive, operands = kept

    def pull(column: jax.Array, given: Any) -> Any:
        operands, cotangents = given
        return pullback(lambda x: function(column, x), operands)(cotangents)[0]

    return None, _sum_slots(pull, positive, (operands, cotangents))


_sum_slots.defvjp(_forward, _backward)


def _sum_slots_plainly(function: Any, positive: jax.Array, operands: Any) -> Any:
    """The same for both modes of differentiation, which no unbounded loop has.

    A scan over as many slots as there are references skips those that no anchor has; it
    goes by chunks, because skipping costs an addition of zeros in reverse mode.
    """
    start, more, turn = _slots(function, positive, operands)
    chunk = math.isqrt(positive.shape[1]) + 1

    def times(count: int, step: Any, state: Any) -> Any:
        @jax.checkpoint
        def one(state: Any, _: None) -> tuple[Any, None]:
            return lax.cond(more(state), step, lambda s: s, state), None

        return lax.scan(one, state, length=count)[0]

    return times(chunk, functools.partial(times, chunk, turn), start)[1]


def keys(pairs: Pairs) -> jax.Array | None:
    """A key per anchor, the same however the batch is cut; None without a key."""
    if pairs.key is None or pairs.anchor_index is None:
        return None
    return jax.vmap(jax.random.fold_in, (None, 0))(pairs.key, pairs.anchor_index)
