"""Statistics of an anchor's row, and the view of a row from each of its positives.

These are the ways in which most losses look at a batch. Both are safe on empty
rows, in value and in gradient, and neither depends on how the batch was cut into blocks
or spread over devices: a maximum that occurs twice is taken at the lowest reference
index, and the gradient goes there alone. (A matrix product need not round two equal
rows alike, so that duplicates may tie in one block size and not in another.)
"""

import contextvars
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.blocks import cached, in_blocks, scan_blocks, spread, sum_rows, unspread
from rankjax.pairs import Pairs
from rankjax.terms import Terms

_LANES = 32


@jax.custom_jvp
def log_sum_exp(values: jax.Array, where: jax.Array) -> jax.Array:
    """log(sum(exp(values))) over the last axis where the mask holds; -inf if nowhere.

    The row's maximum is taken out first, so that no logit overflows.
    """
    return log_sum_exp_along(values, where, -1)


def log_sum_exp_along(values: jax.Array, where: jax.Array, axis: int) -> jax.Array:
    """`log_sum_exp` over any axis, without its derivative."""
    shift = jnp.max(values, axis, where=where, initial=-jnp.inf)
    some = shift != -jnp.inf
    shift = jnp.where(some, shift, 0)
    level = jnp.expand_dims(shift, axis)
    # A compiler may contract `scale * s - shift`, which is not 0 at the maximum then.
    below = jnp.where(values < level, jnp.minimum(values - level, 0), 0)
    sums, _ = sum_rows(jnp.where(where, jnp.exp(below), 0), axis=axis)
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
    return where & (column == first_largest(values, where)[..., None])


@jax.jit
def first_largest(values: jax.Array, where: jax.Array) -> jax.Array:
    """Column of the maximum over the last axis where the mask holds, int32.

    The lowest of several; 0 where the mask is empty. Found in two steps, for compilers
    do not spread an argmax over the lanes of a processor, but a maximum they do.
    """
    width = values.shape[-1]
    values = jnp.where(where, values, -jnp.inf)
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -width % _LANES)]
    values = jnp.pad(values, padding, constant_values=-jnp.inf)
    values = values.reshape(*values.shape[:-1], -1, _LANES)
    part = jnp.argmax(jnp.max(values, -1), -1)[..., None]
    within = jnp.take_along_axis(values, part[..., None], -2)[..., 0, :]
    column = _LANES * part[..., 0] + jnp.argmax(within, -1)
    return jnp.minimum(column, width - 1).astype(jnp.int32)


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
      terms: maps a view to Terms of scalars, or of arrays of any shape.

    Returns:
      Terms of shape [anchor], or [anchor, ...].

    Every anchor's first positive is taken, then every second one, as often as the
    anchor with most has positives: time O(anchors x references x positives), memory
    O(anchors x references). Gradients are in reverse mode only.
    """
    if being_traced.get():
        return _one_positive(pairs, terms)
    masks, key = (pairs.positive, pairs.negative), keys(pairs)
    others = pairs.reference_similarity

    def one(
        row: jax.Array,
        positive: jax.Array,
        own_row: jax.Array | None,
        masks: tuple[jax.Array, jax.Array],
        column: jax.Array,
        key: jax.Array | None,
    ) -> Terms:
        this = jnp.arange(len(row), dtype=jnp.int32) == column
        drawn = None if key is None else jax.random.fold_in(key, column)
        return terms(View(row, *masks, positive, this, own_row, drawn, pairs.dim))

    column = spread(jnp.zeros(len(pairs.similarity), jnp.int32), pairs.similarity)
    example = (pairs.similarity, *_at(column, pairs.similarity, others), masks)
    alone = jax.tree.map(lambda x: x[0], (*example, column, key))
    # What the terms close over, a margin say, becomes an operand with a gradient.
    function, settings = jax.closure_convert(one, *alone)
    operands = (pairs.similarity, others, settings)
    return _over_positives(function, operands, (masks, key))


def _one_positive(pairs: Pairs, terms: Callable[[View], Terms]) -> Terms:
    """`per_positive` as `program.trace` wants to see it: for one unnamed positive."""
    this = this_positive(pairs.positive)

    def one(row: jax.Array, masks: tuple[jax.Array, jax.Array], this: Any) -> Terms:
        positive, own = at_positive(row, this), positive_row(row, this)
        return terms(View(row, *masks, positive, this, own, dim=pairs.dim))

    found = jax.vmap(one)(pairs.similarity, (pairs.positive, pairs.negative), this)
    exists = at_positive(pairs.positive.astype(jnp.int32), this) > 0
    return jax.tree.map(
        lambda x: over_positives(
            x, jnp.broadcast_to(jnp.expand_dims(exists, range(1, x.ndim)), x.shape)
        ),
        found,
    )


being_traced: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "being_traced", default=False
)
"""Whether `engine.program.trace` runs a loss, to see of what it consists."""


@jax.jit
def this_positive(positive: jax.Array) -> jax.Array:
    """Mask [anchor, reference] of the positive at hand."""
    return positive


@jax.jit
def at_positive(values: jax.Array, this: jax.Array) -> jax.Array:
    """The entry of a row that belongs to the positive at hand."""
    return jnp.sum(values, -1, where=this, dtype=values.dtype)


@jax.jit
def log_sum_exp_of_both(
    row: jax.Array, positive_row: jax.Array, where: jax.Array
) -> jax.Array:
    """log(sum(exp(row + positive_row))) over the last axis where the mask holds.

    Of one function of an anchor's row and of its positive's, over the negatives, it is
    an inner product of two rows of exponentials, which the engine computes once.
    """
    return log_sum_exp(row + positive_row, where)


@jax.jit
def positive_row(row: jax.Array, this: jax.Array) -> jax.Array:
    """The row of the positive at hand."""
    del this
    return row


@jax.jit
def over_positives(values: jax.Array, exists: jax.Array) -> jax.Array:
    """The sum of a value over all positives, where the anchor has this one."""
    return jnp.where(exists, values, 0)


def _at(
    column: jax.Array, similarity: jax.Array, others: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """Each anchor's similarity to a column, and that column's own row."""
    column = jnp.minimum(column, similarity.shape[1] - 1)
    positive = jnp.take_along_axis(similarity, column[:, None], 1)[:, 0]
    if others is None or others.ndim == 2:
        return positive, None if others is None else others[column]
    return positive, jnp.take_along_axis(others, column[:, None, None], 1)[:, 0]


def _next(positive: jax.Array, column: jax.Array) -> jax.Array:
    """Each anchor's first positive after a column, else the number of columns."""
    every = lax.broadcasted_iota(jnp.int32, positive.shape, 1)
    later = positive & (every > column[:, None])
    return jnp.min(every, 1, where=later, initial=positive.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _over_positives(function: Any, operands: Any, fixed: Any) -> Terms:
    similarity, others, settings = operands

    def block(similarity: Any, others: Any, fixed: Any) -> Terms:
        def visit(column: jax.Array, total: Terms | None) -> Terms:
            evaluate, exists = _slot(function, column, fixed)
            found = evaluate(similarity, *_at(column, similarity, others), settings)
            if total is None:
                return found
            return jax.tree.map(jnp.add, total, exists(found))

        example = spread(jnp.zeros(len(similarity), jnp.int32), similarity)
        zeros = jax.eval_shape(lambda: visit(example, None))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros)
        return _loop(visit, spread(zeros, similarity), fixed)

    size = cached(*similarity.shape)
    shared = others is None or others.ndim == 2
    if shared:
        return in_blocks(lambda s, f: block(s, others, f), size, similarity, fixed)
    return in_blocks(block, size, similarity, others, fixed)


def _forward(function: Any, operands: Any, fixed: Any) -> tuple[Terms, Any]:
    return _over_positives(function, operands, fixed), (operands, fixed)


def _backward(function: Any, residuals: Any, cotangents: Any) -> tuple[Any, None]:
    (similarity, others, settings), fixed = residuals
    shared = others is None or others.ndim == 2

    def block(
        carry: Any, similarity: Any, own: Any, fixed: Any, cotangents: Any
    ) -> tuple[Any, Any]:
        known = others if shared else own

        def visit(column: jax.Array, total: Any) -> Any:
            evaluate, exists = _slot(function, column, fixed)
            at = _at(column, similarity, known)
            _, pull = jax.vjp(evaluate, similarity, *at, settings)
            of_row, of_positive, of_own, of_settings = pull(exists(cotangents))
            of_similarity, of_others, so_far = total
            row = jnp.arange(len(column), dtype=jnp.int32)
            of_similarity = of_similarity + of_row
            of_similarity = of_similarity.at[row, column].add(of_positive, mode="drop")
            if known is not None:
                index = column if shared else (row, column)
                of_others = of_others.at[index].add(of_own, mode="drop")
            return of_similarity, of_others, jax.tree.map(jnp.add, so_far, of_settings)

        of_shared, of_settings = carry
        of_own = of_shared if shared else jnp.zeros_like(known)
        state = (jnp.zeros_like(similarity), of_own, of_settings)
        of_similarity, of_own, of_settings = _loop(
            visit, spread(state, similarity), fixed
        )
        if shared:
            return (of_own, of_settings), (of_similarity, None)
        return (None, of_settings), (of_similarity, of_own)

    zeros = jax.tree.map(jnp.zeros_like, (others if shared else None, settings))
    (of_shared, of_settings), (of_similarity, of_own) = scan_blocks(
        block,
        cached(*similarity.shape),
        spread(zeros, similarity),
        *(similarity, None if shared else others, fixed, cotangents),
    )
    of_others = unspread(of_shared if shared else of_own, others)
    return (of_similarity, of_others, of_settings), None


_over_positives.defvjp(_forward, _backward)


def _slot(
    function: Any, column: jax.Array, fixed: Any
) -> tuple[Callable[..., Terms], Callable[[Terms], Terms]]:
    """The terms of a positive of every anchor, and zeros where there is none."""
    masks, key = fixed

    def evaluate(similarity: Any, positive: Any, own: Any, settings: Any) -> Terms:
        def one(*anchor: Any) -> Terms:
            return function(*anchor, *settings)

        terms = jax.vmap(one)(similarity, positive, own, masks, column, key)
        return spread(terms, similarity)

    def exists(terms: Terms) -> Terms:
        some = column < masks[0].shape[1]
        return jax.tree.map(
            lambda x: jnp.where(jnp.expand_dims(some, range(1, x.ndim)), x, 0), terms
        )

    return evaluate, exists


def _loop(visit: Callable[[jax.Array, Any], Any], state: Any, fixed: Any) -> Any:
    """Visits all anchors' first positives, then all second ones, and so on."""
    positive = fixed[0][0]

    def turn(state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        column, total = state
        return _next(positive, column), visit(column, total)

    first = _next(positive, jnp.full(len(positive), -1, jnp.int32))
    width = positive.shape[1]
    return lax.while_loop(lambda s: jnp.any(s[0] < width), turn, (first, state))[1]


def keys(pairs: Pairs) -> jax.Array | None:
    """A key per anchor, the same however the batch is cut; None without a key."""
    if pairs.key is None or pairs.anchor_index is None:
        return None
    return jax.vmap(jax.random.fold_in, (None, 0))(pairs.key, pairs.anchor_index)
