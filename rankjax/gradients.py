"""Reductions over blocks of anchors: value and gradient in one pass over the pairs.

A reduction is a sum of numerators over anchors, divided by a sum of denominators that
the gradient takes for a constant. The gradient of a block's numerators is therefore
known up to one number before the rest of the batch is computed. A block of anchors
gives its share of the value and of the gradient at once, and its pairs are forgotten:

    for rows in blocks(anchors):
        share, pull = vjp(numerators of rows, rows, references and parameters)
        value, of_operands = value + share, of_operands + pull(1)
        of_rows[block] = pull(1)
    divide by the sum of the denominators

That takes three matrix products; no pair is kept and none is computed twice. Two kinds
of sums must be known first, and take a pass each: those that a loss asks for
(`BatchSums`), and the denominators of losses that average several Terms apart.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.blocks import floating, pullback, sum_blocks, varying_axes, without_closure
from rankjax.terms import BatchSums, Reduction, Terms, ratio

Add = Callable[[Any], Any]
"""Adds a tree over devices, if there are several."""


@dataclasses.dataclass(frozen=True)
class Contribution:
    """What some anchors contribute to the loss of the batch.

    Attributes:
      numerator: scalar.
      denominator: scalar, or None where the numerators have been divided.
      extra: scalars that are added beside the loss, without a gradient.
    """

    numerator: jax.Array
    denominator: jax.Array | None
    extra: Any


def evaluate(
    function: Callable[[Any, Any], Any],
    anchors: Any,
    operands: Any,
    *,
    block: int | None,
    add: Add,
) -> tuple[jax.Array, Any]:
    """Evaluates a loss over all anchors, and what is added beside it.

    Args:
      function: maps rows of anchors and the operands to their `Contribution`, or to
        `BatchSums` that lead to one.
      anchors: a tree of arrays with a leading axis of anchors.
      operands: a tree of what all anchors see: references, parameters.
      block: number of anchors at a time; None for all, by plain differentiation.
      add: adds over devices.

    Returns:
      The loss, and the sums of `Contribution.extra`.
    """
    known: list[Any] = []

    def stage(rows: Any, given: Any) -> Any:
        operands, known = given
        result = function(rows, operands)
        for sums in known:
            result = result.then(sums)
        return result

    while True:
        kinds: list[str] = []
        found = _sum(stage, anchors, (operands, known), block, kinds)
        if kinds[0] == "contribution":
            numerator, (denominator, extra) = add(found)
            return ratio(numerator, denominator), extra
        known.append(add(found))


def contribution(
    terms: list[Terms], reduction: Reduction, extra: Any
) -> Contribution | BatchSums:
    """Reduces the Terms of some anchors; those of several are divided apart."""
    ratios = [reduction.per_anchor(t) for t in terms]
    sums = [(jnp.sum(a), None if b is None else jnp.sum(b)) for a, b in ratios]
    if len(sums) == 1:
        return Contribution(*sums[0], extra)

    def divide(denominators: list[jax.Array | None]) -> Contribution:
        parts = [ratio(a, b) for (a, _), b in zip(sums, denominators, strict=True)]
        return Contribution(functools.reduce(jnp.add, parts), None, extra)

    return BatchSums([b for _, b in sums], divide, constant=True)


def _sum(
    stage: Callable[[Any, Any], Contribution | BatchSums],
    anchors: Any,
    operands: Any,
    block: int | None,
    kinds: list[str],
) -> Any:
    """Adds what a stage returns over blocks; puts into `kinds` what that is: a
    contribution, sums, or constants."""

    def function(rows: Any, operands: Any) -> Any:
        result = stage(rows, operands)
        if isinstance(result, BatchSums):
            kinds.append("constants" if result.constant else "sums")
            return lax.stop_gradient(result.sums) if result.constant else result.sums
        kinds.append("contribution")
        beside = lax.stop_gradient((result.denominator, result.extra))
        return result.numerator, beside

    if block is None:
        return function(anchors, operands)
    some = jax.tree.map(lambda x: x[:block], anchors)
    program, closure = without_closure(function, some, operands)
    given = (anchors, (closure, operands))
    if kinds[0] == "constants":
        given = lax.stop_gradient(given)
    return _sum_over_blocks(
        lambda rows, operands: program(operands[0], rows, operands[1]),
        block,
        kinds[0] == "contribution",
        *given,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _sum_over_blocks(
    function: Any, block: int, one_pass: bool, anchors: Any, operands: Any
) -> Any:
    """Adds function(rows, operands) over blocks.

    In one pass, the function returns a scalar and what has no gradient.
    """
    return sum_blocks(lambda rows: (function(rows, operands), None), block, anchors)[0]


def _forward(
    function: Any, block: int, one_pass: bool, anchors: Any, operands: Any
) -> tuple[Any, Any]:
    if not one_pass:
        found = _sum_over_blocks(function, block, one_pass, anchors, operands)
        return found, (anchors, operands)

    def one(rows: Any) -> tuple[Any, Any]:
        value, pull, beside = jax.vjp(function, rows, operands, has_aux=True)
        of_rows, of_operands = floating(pull(jnp.ones_like(value)))
        return ((value, beside), of_operands), of_rows

    # Second derivatives compute the pairs of a block again rather than keep them.
    (found, of_operands), of_anchors = sum_blocks(jax.checkpoint(one), block, anchors)
    return found, (of_anchors, of_operands)


def _backward(
    function: Any, block: int, one_pass: bool, kept: Any, cotangents: Any
) -> tuple[Any, Any]:
    if one_pass:
        return jax.tree.map(functools.partial(_scale, cotangents[0]), kept)
    anchors, operands = kept

    def one(rows: Any) -> tuple[Any, Any]:
        of_rows, of_operands = pullback(function, rows, operands)(cotangents)
        return of_operands, of_rows

    of_operands, of_anchors = sum_blocks(one, block, anchors)
    return of_anchors, of_operands


def _scale(factor: jax.Array, gradient: jax.Array) -> jax.Array:
    # What a loss closes over may be the same on all devices, and so is its gradient.
    more = tuple(varying_axes(factor) - varying_axes(gradient))
    factor = lax.pmean(factor, more) if more else factor
    return gradient * factor.astype(gradient.dtype)


_sum_over_blocks.defvjp(_forward, _backward)
