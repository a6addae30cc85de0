"""Sums of exponentials over two rows, an anchor's and its positive's.

Over the references n, the sum of exp(u[a, n] + u[p, n]) is an inner product of two rows
of exp(u), which are computed once however many positives there are. They are taken
relative to the largest u of a row; where the two rows are so far apart that a product
would vanish, the exponents are added first, one positive at a time.

The sum is visited some references at a time, for the rows of the whole batch, of which
each device takes its own as references.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.blocks import apart, scan_blocks, spread, sum_rows
from rankjax.engine import statistics
from rankjax.engine.seen import (
    LANES,
    ROWS,
    Anchors,
    Seen,
    gather,
    grid,
    or_none,
)
from rankjax.engine.slopes import Slopes, to_columns, to_rows
from rankjax.pairs import Rows, members
from rankjax.rows import log_sum_exp_along
from rankjax.similarity import dot

_VANISHING = 1e-25  # of a sum of products of which each may be off by 1e-38


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """Of some positives of every row of the whole batch.

    Attributes:
      mates: [lane, reference] the positives, by column.
      exists: [lane, reference] whether the row has this one.
      level: [reference] the largest u over the negatives, -inf if there are none.
      values: [lane, reference] logarithms of the sums.
      apart: [] whether one of them vanishes as an inner product.
    """

    mates: jax.Array
    exists: jax.Array
    level: jax.Array
    values: jax.Array
    apart: jax.Array


class SumsOfBoth(Slopes):
    """Finds the statistics that are of two rows, and their gradient."""

    def sums_of_both(self, number: int, first: jax.Array) -> Sums:
        """A statistic of some positives of every row, the first one at a slot."""
        rows, axis_name = self._whole, self.how.axis_name
        index: Any = self.members
        if axis_name is not None:
            classes = members(rows, rows, itself=True)
            assert classes is not None
            index = classes[0]
        place, exists = index.places(first + jnp.arange(LANES, dtype=jnp.int32))
        mates, exists = self.by_class[place].T, exists.T
        count = jnp.minimum(jnp.max(index.number) - first, LANES)
        known, _ = self._known_of_rows()
        nothing = jnp.full(mates.shape, -jnp.inf, rows.embeddings.dtype)

        def products(carry: Any, columns: Rows) -> Any:
            level, total = carry
            values, where, _ = self._of_rows(number, columns, known)
            new = jnp.maximum(level, jnp.max(values, 1, where=where, initial=-jnp.inf))
            kept = jnp.exp(level - _finite(new))
            w = _exponentials(values - _finite(new)[:, None], where)

            def lane(j: jax.Array, total: jax.Array) -> jax.Array:
                more, _ = sum_rows(w * w[mates[j]])
                return total.at[j].set(total[j] * kept * kept[mates[j]] + more)

            return (new, lax.fori_loop(0, count, lane, total)), None

        def exponents(total: jax.Array, columns: Rows) -> Any:
            values, where, _ = self._of_rows(number, columns, known)

            def lane(j: jax.Array, total: jax.Array) -> jax.Array:
                more = log_sum_exp_along(values + values[mates[j]], where, 1)
                return total.at[j].set(jnp.logaddexp(total[j], more))

            return lax.fori_loop(0, count, lane, total), None

        def added_first() -> jax.Array:
            total, _ = self._over_columns(exponents, nothing)
            if axis_name is not None:
                most = lax.pmax(total, axis_name)
                total = jnp.exp(total - _finite(most))
                total = jnp.log(lax.psum(total, axis_name)) + most
            return spread(total, self.anchors.embeddings)

        state = nothing[0], jnp.zeros_like(nothing)
        (level, total), _ = self._over_columns(products, state)
        if axis_name is not None:
            most = lax.pmax(level, axis_name)
            kept = jnp.exp(level - _finite(most))
            total = lax.psum(total * kept[None, :] * kept[mates], axis_name)
            level = most
        vanishing = jnp.any(
            exists & (level != -jnp.inf)[None, :] & ~(total >= _VANISHING)
        )
        found = jnp.log(total) + level[None, :] + level[mates]
        found, vanishing = spread((found, vanishing), self.anchors.embeddings)
        values = lax.cond(vanishing, added_first, lambda: found)
        sums = Sums(mates, exists, level, values, vanishing)
        return spread(sums, self.anchors.embeddings)

    def gradient_of_both(
        self, number: int, sums: Sums, cotangents: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Cotangents of the anchors' vectors and of the settings.

        Args:
          sums: from `sums_of_both`.
          cotangents: [anchor, lane] of every sum, from both its ends.
        """
        rows = self._whole
        mates, values = sums.mates, sums.values
        weights = gather(cotangents, self.how.axis_name).T
        weights = jnp.where(sums.exists & (values != -jnp.inf), weights, 0)
        count = jnp.max(jnp.sum(sums.exists, 0))
        level = _finite(sums.level)
        scaled = weights * jnp.exp(
            jnp.where(weights != 0, level[None, :] + level[mates] - values, 0)
        )

        def products(values: jax.Array, where: jax.Array) -> jax.Array:
            w = _exponentials(values - level[:, None], where)

            def lane(j: jax.Array, total: jax.Array) -> jax.Array:
                return total + scaled[j][:, None] * w[mates[j]]

            return w * lax.fori_loop(0, count, lane, jnp.zeros_like(w))

        def exponents(values: jax.Array, where: jax.Array) -> jax.Array:
            def lane(j: jax.Array, total: jax.Array) -> jax.Array:
                below = values + values[mates[j]] - _finite(sums.values[j])[:, None]
                return total + weights[j][:, None] * _exponentials(below, where)

            return lax.fori_loop(0, count, lane, jnp.zeros_like(values))

        def block(part: Any, carry: Any, columns: Rows) -> Any:
            values, where, seen = self._of_rows(number, columns, known)
            fields = {**seen.fields, "weight": part(values, where)}
            seen = dataclasses.replace(seen, fields=fields)
            slope = functools.partial(self.slope_of_both, number)
            g, slopes = grid(slope, seen, known, ROWS, seen.references, seen.along)
            g = apart(g * seen.slope)
            of_rows, of_shared = carry
            ends = rows.embeddings, columns.embeddings, self.how.products.less
            of_rows += to_rows(g, *ends)
            of_shared = [
                a + sum_rows(b, axis=1)[0]
                for a, b in zip(of_shared, slopes, strict=True)
            ]
            return (of_rows, of_shared), to_columns(g, *ends)

        known, pull = self._known_of_rows()
        zeros = (
            jnp.zeros_like(rows.embeddings),
            jax.tree.map(jnp.zeros_like, known.smooth),
        )
        (of_rows, of_shared), of_columns = lax.cond(
            sums.apart,
            lambda: self._over_columns(functools.partial(block, exponents), zeros),
            lambda: self._over_columns(functools.partial(block, products), zeros),
        )
        if self.how.axis_name is not None:
            of_rows = lax.psum_scatter(of_rows, self.how.axis_name, tiled=True)
        return of_rows + of_columns, pull(of_shared)[0]

    def _given(self, sums: dict[int, Sums], lane: jax.Array) -> dict[int, jax.Array]:
        """The statistics [anchor] of the positive in a lane."""
        return {i: x.values[lane][self.anchors.index] for i, x in sums.items()}

    @property
    def _whole(self) -> Rows:
        """The rows of the whole batch."""
        return self.references

    def _over_columns(self, function: Any, state: Any) -> tuple[Any, Any]:
        """Scans over this device's rows as references."""
        state = spread(state, self.anchors.embeddings)
        return scan_blocks(function, self.how.block, state, self.anchors)

    def _of_rows(
        self, number: int, columns: Rows, known: Anchors
    ) -> tuple[jax.Array, jax.Array, Seen]:
        """u [reference, column] and its mask, of some rows as references."""
        rows = self._whole
        product = dot(rows.embeddings, columns.embeddings)
        seen = self._every(rows, product, columns)
        operands = grid(self._operands, seen, known, ROWS, seen.references, seen.along)
        return *operands[number], seen

    def _known_of_rows(self) -> tuple[Anchors, Any]:
        """What u looks at beside pairs, and how cotangents reach the settings."""
        rows = self._whole
        found = [statistics.empty(s, rows.embeddings) for s in self.statistics]

        def known(settings: Any) -> Any:
            shared = self._of_anchors(rows, found, settings)[0]
            every = Anchors(shared, [x[0] for x in found], [], or_none(None, rows))
            return every.smooth, every

        _, pull, every = jax.vjp(known, self.smooth, has_aux=True)
        return every, pull


def _finite(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, 0)


def _exponentials(below: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.where(where, jnp.exp(jnp.minimum(below, 0)), 0)
