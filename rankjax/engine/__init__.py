"""Losses at the speed of their matrix products.

A loss that `program.trace` can take apart is evaluated here without autodiff through
the matrix. With a[i] the cotangents of an anchor's statistics and f the slope of what
the loss does to a pair, the gradient at the inner product of two rows is

    G[i, j] = f(s[i, j]; a[i]).

Where the references are the anchors, s[j, i] = s[i, j] turns the whole gradient into
one product with the embeddings, of

    H[i, j] = f(s[i, j]; a[i]) + f(s[i, j]; a[j]).

Both terms are the same arithmetic, laid along rows and along columns: no transpose is
formed, and no gradient comes from other devices, only their a. Positives are few and
are visited by index.

What the whole matrix costs is then two products and a pass or two over the pairs:

    plans      which losses, and what is kept or visited in blocks
    program    a loss as arithmetic on pairs and on anchors
    seen       references of a block of anchors, positives by index, tiles
    both       sums of exponentials over an anchor's and its positive's row
    slopes     of what is done to a pair, by what it looks at
    forward    statistics of rows, and of their union from those of parts
    backward   their cotangents, and the product with H

Where the products are not kept, they are computed again in the backward pass: for
blocks of anchors, or, where a loss is of rows alone, in tiles above the diagonal, each
seen from both its ends. Statistics that every positive has are found for some positives
of all anchors at a time, for H needs those of both ends.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from rankjax.blocks import spread
from rankjax.engine.backward import Backward
from rankjax.engine.plans import Plan, plan
from rankjax.engine.seen import is_float
from rankjax.pairs import Rows, members

__all__ = ["evaluate", "plan"]


def evaluate(
    how: Plan, settings: Sequence[jax.Array], anchors: Rows, references: Rows
) -> Any:
    """The result of the loss, differentiable in reverse mode.

    Args:
      how: see `Plan`.
      settings: from `plan`; gradients flow to those that are floating point.
      anchors: the device's own rows.
      references: everyone's. Where `how.mirrored` holds, their embeddings get no
        gradient: all of it goes to the anchors'.
    """
    centre = how.products.mean(references.embeddings)
    vectors, others = (
        how.products.vectors(x.embeddings, centre) for x in (anchors, references)
    )
    others = spread(lax.stop_gradient(others) if how.mirrored else others, vectors)
    smooth = [spread(x, vectors) for x in settings if is_float(x)]
    fixed = [None if is_float(x) else x for x in settings]
    found = None
    if how.program.only_sides:
        found = members(anchors, references, itself=how.itself)
    nothing: Any = None
    rows = [dataclasses.replace(x, embeddings=nothing) for x in (anchors, references)]
    leaves = _evaluate(how, (vectors, others), smooth, (fixed, *rows, found))
    return jax.tree.unflatten(how.program.structure, leaves)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _evaluate(how: Plan, vectors: Any, smooth: Any, context: Any) -> list[jax.Array]:
    return Backward(how, vectors, smooth, context).forward(recorded=False)[0]


def _forward(how: Plan, vectors: Any, smooth: Any, context: Any) -> tuple[Any, Any]:
    batch = Backward(how, vectors, smooth, context)
    leaves, *kept = batch.forward(recorded=True)
    return leaves, ((vectors, smooth, context), kept)


def _backward(how: Plan, residuals: Any, cotangents: Any) -> tuple[Any, Any, None]:
    given, kept = residuals
    found, product, lanes = kept
    batch = Backward(how, *given)
    return *batch.backward(found, product, lanes, cotangents), None


_evaluate.defvjp(_forward, _backward)
