"""How a loss is evaluated: on which plan, and with what size of blocks."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rankjax.engine.program import Program, trace
from rankjax.engine.statistics import EITHER_WAY
from rankjax.pairs import Pairs
from rankjax.similarity import PRODUCTS, Products, Similarity

AxisName = str | tuple[str, ...]
_TILE = 512  # the side of a tile on a CPU


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How a loss is evaluated; static.

    Attributes:
      program: the loss, taken apart.
      products: its similarity.
      itself: the references are the anchors, of all devices.
      mirrored: the gradient is symmetrised, where `itself` holds.
      block: anchors at a time.
      tiled: whether pairs are visited once for both their ends, in tiles above the
        diagonal.
      keep: whether the products are kept for the backward pass.
      axis_name: over which anchors are spread where `mirrored`.
    """

    program: Program
    products: Products
    itself: bool
    mirrored: bool
    block: int
    tiled: bool
    keep: bool
    axis_name: AxisName | None


def plan(
    function: Callable[[Pairs, Any], Any],
    pairs: Pairs,
    settings: Any,
    *,
    similarity: Similarity,
    itself: bool,
    block: int | Literal["auto"],
    axis_name: AxisName | None,
) -> tuple[Plan, list[jax.Array]] | None:
    """A plan for a function of pairs and settings, and its settings; None if none is.

    Args:
      function: see `program.trace`.
      pairs: see `program.trace`.
      settings: see `program.trace`.
      similarity: of the pairs.
      itself: see `Plan`.
      block: anchors at a time, or 'auto'.
      axis_name: see `Plan`.
    """
    if similarity not in PRODUCTS:
        return None
    found = trace(function, pairs, settings)
    if found is None:
        return None
    program, operands = found[0], [jnp.asarray(x) for x in found[1]]
    kinds = {s.kind for s in program.statistics}
    if program.uses("relevance") and "largest" in kinds:
        return None
    labelled = pairs.anchor_label is not None
    if "over_positives" in kinds and not (program.only_sides and labelled):
        return None
    if "of_positive" in kinds and not itself:
        return None
    if program.of_both and not (itself and pairs.relevance is None):
        return None
    if program.looks_from_positives and (
        program.rows_feel_positives or program.of_both
    ):
        return None
    labelled = labelled or pairs.relevance is not None
    mirrored = itself and labelled
    tiled = (
        mirrored
        and axis_name is None
        and program.only_sides
        and not program.looks_from_positives
        and not program.of_both
        and all(s.kind in EITHER_WAY for s in program.statistics if s.is_of_row)
    )
    keep, (rows, columns) = False, pairs.similarity.shape
    if block == "auto":
        block, keep = _block(rows, columns, program, tiled)
    tiled &= block < rows
    products = PRODUCTS[similarity]
    how = Plan(program, products, itself, mirrored, block, tiled, keep, axis_name)
    return how, operands


def _block(
    anchors: int, references: int, program: Program, tiled: bool
) -> tuple[int, bool]:
    """Anchors at a time, and whether to keep their products."""
    if jax.default_backend() != "cpu":
        fitting = cached = 2**27
    else:
        # What statistics are computed from should stay in the cache.
        wide = sum(not s.of_positives for s in program.statistics)
        fitting, cached = 2**21, 2**21
        if wide > 8:
            cached = 2**17
        elif program.looks_from_positives:
            cached = 2**19
        elif program.of_both:
            cached = 2**20
    # Sums over two rows are of other products.
    keep = anchors * references <= fitting and not program.of_both
    if tiled:
        tile = _TILE if jax.default_backend() == "cpu" else 8 * _TILE
        return (anchors, True) if keep else (tile, False)
    if anchors * references <= cached:
        return anchors, keep
    return max(cached // references, 64), keep
