"""Slopes of what a loss does to a pair: by its similarity, and by what it looks at."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.blocks import sum_rows, transposed_matmul
from rankjax.engine.seen import ROWS, Anchors, Batch, References, Seen, grid, is_at_hand
from rankjax.pairs import Members, Rows


class Slopes(Batch):
    """Derivatives of statistics by pairs, and by what pairs know of anchors."""

    def gradient_of_shared(
        self,
        numbers: frozenset[int],
        of: Anchors,
        anchors: Rows,
        index: Members | None,
        product: jax.Array | None,
    ) -> list[jax.Array]:
        """Cotangents of what pairs know of anchors, by way of some statistics."""

        def block(
            anchors: Rows, index: Members | None, of: Anchors, kept: Any
        ) -> list[jax.Array]:
            def more(seen: Seen, total: list[jax.Array]) -> list[jax.Array]:
                if not seen.numbers & numbers:
                    return total
                slope = self._by_shared(seen.numbers & numbers)
                slopes = grid(slope, seen, of, ROWS, seen.references, seen.along)
                return [
                    a + sum_rows(b, axis=1)[0]
                    for a, b in zip(total, slopes, strict=True)
                ]

            total = jax.tree.map(jnp.zeros_like, of.smooth)
            product, every = kept, None
            if not all(map(self._is_by_index, numbers)):
                product = self._products(anchors, kept)
                every = self._every(anchors, product)
            total = self._over_references(
                more, total, every, anchors, index, product, numbers
            )
            if any(is_at_hand(self.statistics[i]) for i in numbers):
                total = more(self._at_hand(anchors, of.positive, product), total)
            return total

        return self._in_blocks(block, anchors, index, of, product)

    def _slope(
        self,
        numbers: Collection[int],
        pair: dict[str, jax.Array],
        anchor: Anchors,
        reference: References,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Slopes of a pair's share in statistics, times their cotangents: by its
        similarity, and by what is known of the anchor."""

        def share(similarity: jax.Array, smooth: list[jax.Array]) -> jax.Array:
            pairs = {**pair, "similarity": similarity}
            operands = self._operands(pairs, anchor.with_smooth(smooth), reference)
            total = jnp.zeros_like(similarity)
            for i in sorted(numbers):
                value, *where = operands[i]
                weight = anchor.cotangent[i]
                if self.statistics[i].kind == "log_sum_exp":
                    weight = weight * _part(value, where[0], anchor.known[i])
                    value = jnp.where(where[0], value, 0)
                total += lax.stop_gradient(weight) * value
            return total

        return jax.grad(share, argnums=(0, 1))(pair["similarity"], anchor.smooth)

    def _by_similarity(self, numbers: Collection[int]) -> Callable[..., jax.Array]:
        return lambda *pair: self._slope(numbers, *pair)[0]

    def _by_shared(self, numbers: Collection[int]) -> Callable[..., list[jax.Array]]:
        return lambda *pair: self._slope(numbers, *pair)[1]

    def slope_of_both(
        self,
        number: int,
        pair: dict[str, jax.Array],
        anchor: Anchors,
        reference: References,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """The slopes of u at a pair, times a weight."""

        def u(similarity: jax.Array, smooth: list[jax.Array]) -> jax.Array:
            pairs = {**pair, "similarity": similarity}
            return self._operands(pairs, anchor.with_smooth(smooth), reference)[number][
                0
            ]

        weight = pair["weight"]
        slopes = jax.grad(u, argnums=(0, 1))(pair["similarity"], anchor.smooth)
        return jax.tree.map(lambda x: weight * x, slopes)


def to_rows(
    g: jax.Array, rows: jax.Array, columns: jax.Array, less: float
) -> jax.Array:
    """What slopes [row, column] by inner products do to the vectors of the rows; `less`
    is of the similarity's `Products`."""
    total = jnp.matmul(g, columns, precision=lax.Precision.HIGHEST)
    return total - less * jnp.sum(g, 1)[:, None] * rows if less else total


def to_columns(
    g: jax.Array, rows: jax.Array, columns: jax.Array, less: float
) -> jax.Array:
    """What they do to the vectors of the columns."""
    total = transposed_matmul(g, rows)
    return total - less * jnp.sum(g, 0)[:, None] * columns if less else total


def _part(value: jax.Array, where: jax.Array, total: jax.Array) -> jax.Array:
    """The share of an entry in a sum of exponentials, from the logarithm of the sum."""
    level = jnp.where(jnp.isfinite(total), total, 0)
    return jnp.where(where, jnp.exp(jnp.minimum(value - level, 0)), 0)
