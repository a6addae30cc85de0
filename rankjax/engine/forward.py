"""The value of a loss: statistics of rows, then sums over positives, then terms."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.blocks import cut, put, spread
from rankjax.engine import statistics
from rankjax.engine.both import SumsOfBoth
from rankjax.engine.seen import (
    COLUMNS,
    LANES,
    ROWS,
    Anchors,
    Seen,
    Tile,
    along,
    gather,
    grid,
    is_at_hand,
    is_float,
    is_sum,
    or_none,
)
from rankjax.pairs import Members, Rows
from rankjax.similarity import dot


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lanes:
    """What is known of some positives of each anchor; all [anchor, lane].

    Attributes:
      known: statistics that the positives have, by number.
      slopes: of those by what they look at, by its place among what is floating point.
    """

    known: dict[int, jax.Array]
    slopes: dict[int, dict[int, jax.Array]]

    def put(self, lane: jax.Array, values: "Lanes") -> "Lanes":
        """With values [anchor] in a lane, if there is such a lane."""
        return jax.tree.map(
            lambda x, y: x.at[:, lane].set(y, mode="drop"), self, values
        )

    def at(self, lane: jax.Array) -> "Lanes":
        """The values [anchor] in a lane."""
        return jax.tree.map(
            lambda x: lax.dynamic_index_in_dim(x, lane, 1, keepdims=False), self
        )


class Forward(SumsOfBoth):
    """Passes over the pairs of a batch that find its statistics."""

    def forward(
        self, *, recorded: bool
    ) -> tuple[list[jax.Array], list[Any], jax.Array | None, Lanes | None]:
        """The leaves of the result, the statistics, the products where kept, and what
        is recorded of the first positives."""
        product = None
        if self.how.keep:
            product = dot(self.anchors.embeddings, self.references.embeddings)

        def of_rows(anchors: Rows, index: Members | None, kept: Any) -> Any:
            found = [statistics.empty(s, anchors.embeddings) for s in self.statistics]
            return self._find(found, anchors, index, self._products(anchors, kept))

        def of_positives(
            anchors: Rows, index: Members | None, found: list[Any], kept: Any
        ) -> Any:
            product = kept if self.is_light else self._products(anchors, kept)
            lanes = None
            if index is not None and any(map(is_sum, self.statistics)):
                if recorded and not self.is_light:
                    lanes = self._no_lanes(anchors, index, product, found)

                def visit(slot: jax.Array, state: Any) -> Any:
                    found, lanes = state
                    at = anchors, index, product, slot
                    found, here, column = self._add_positive(*at, found, {})
                    if lanes is not None:
                        lanes = lax.cond(
                            slot < LANES,
                            lambda: lanes.put(
                                slot,
                                self._record(anchors, index, product, here, column),
                            ),
                            lambda: lanes,
                        )
                    return found, lanes

                most = jnp.max(index.number)
                found, lanes = lax.fori_loop(0, most, visit, (found, lanes))
            return self._of_anchors(anchors, found, self.smooth)[1], found, lanes

        def both(anchors: Rows, index: Members | None, kept: Any) -> Any:
            return of_positives(anchors, index, of_rows(anchors, index, kept), kept)

        rows = self.anchors, self.members
        rows_first = self.how.tiled or self.looked_up or self.how.program.of_both
        if not rows_first:
            leaves, found, lanes = self._in_blocks(both, *rows, product)
            return leaves, found, product, lanes
        found = (
            self._find_in_tiles()
            if self.how.tiled
            else self._in_blocks(of_rows, *rows, product)
        )
        self._let_look_up(found)
        if self.how.program.of_both:
            return *self._add_positives_of_both(found, product), product, None
        leaves, found, lanes = self._in_blocks(of_positives, *rows, found, product)
        return leaves, found, product, lanes

    def _add_positive(
        self,
        anchors: Rows,
        index: Members,
        product: jax.Array | None,
        slot: jax.Array,
        found: list[Any],
        given: dict[int, jax.Array],
    ) -> tuple[list[Any], list[Any], jax.Array]:
        """Adds what is summed over positives, of one of each anchor; also gives its
        statistics and its column."""
        column, exists = self._at_slot(slot, index)
        here = self._find(found, anchors, index, product, column, given)
        _, _, terms = self._of_anchors(anchors, here, self.smooth)
        total = list(found)
        for i, (value, some) in terms.items():
            value = jnp.where(some & along(exists, some), value, 0)
            total[i] = (total[i][0] + value,)
        return total, here, column

    def look_from_positives(
        self,
        anchors: Rows,
        index: Members,
        product: jax.Array,
        found: list[Any],
        first: jax.Array,
        count: jax.Array,
    ) -> Lanes:
        """Records some positives of each anchor, from a slot on."""

        def visit(lane: jax.Array, lanes: Lanes) -> Lanes:
            column, _ = self._at_slot(first + lane, index)
            here = self._find(found, anchors, index, product, column)
            return lanes.put(lane, self._record(anchors, index, product, here, column))

        lanes = self._no_lanes(anchors, index, product, found)
        return lax.fori_loop(0, count, visit, lanes)

    def _record(
        self,
        anchors: Rows,
        index: Members,
        product: jax.Array | None,
        found: list[Any],
        column: jax.Array,
    ) -> Lanes:
        """The statistics of the positive at hand, and their slopes by what they look
        at."""
        of = self._known(found, anchors, column)
        one = [jnp.ones_like(x) for x in of.known]
        of = dataclasses.replace(of, cotangent=one)
        numbers = [i for i, s in enumerate(self.statistics) if s.on_pairs]
        numbers = sorted(self._of_level(numbers, column))
        smooth = [k for k, x in enumerate(of.shared) if is_float(x)]
        slopes: dict[int, dict[int, jax.Array]] = {}
        for i in numbers:
            s = self.statistics[i]
            if s.differentiable and not is_at_hand(s):
                wanted = [j for j, k in enumerate(smooth) if k in s.looks_at]
                every = self.gradient_of_shared(
                    frozenset({i}), of, anchors, index, product
                )
                slopes[i] = {j: every[j] for j in wanted}
        return Lanes({i: of.known[i] for i in numbers}, slopes)

    def _no_lanes(
        self, anchors: Rows, index: Members, product: jax.Array | None, found: list[Any]
    ) -> Lanes:
        shapes = jax.eval_shape(
            lambda: self._record(anchors, index, product, found, anchors.index)
        )
        lanes = jax.tree.map(
            lambda x: jnp.zeros((len(x), LANES, *x.shape[1:]), x.dtype), shapes
        )
        return spread(lanes, anchors.embeddings)

    def _add_positives_of_both(
        self, found: list[Any], product: jax.Array | None
    ) -> tuple[list[jax.Array], list[Any]]:
        """The leaves and the statistics, where some are of two rows; beside those, what
        is known of the first positives."""
        index: Any = self.members
        add = functools.partial(self._add_positive, self.anchors, index, product)

        def group(first: jax.Array, count: jax.Array, state: Any) -> Any:
            found, kept = state
            sums = {i: self.sums_of_both(i, first) for i in self.how.program.of_both}

            def one(lane: jax.Array, found: Any) -> Any:
                return add(first + lane, found, self._given(sums, lane))[0]

            found = lax.fori_loop(0, count, one, found)
            kept = jax.tree.map(lambda x, y: jnp.where(first == 0, x, y), sums, kept)
            return found, kept

        shapes = jax.eval_shape(
            lambda: {
                i: self.sums_of_both(i, jnp.int32(0)) for i in self.how.program.of_both
            }
        )
        kept = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        found, kept = self._over_lanes(group, (found, kept))
        leaves = self._of_anchors(self.anchors, found, self.smooth)[1]
        return leaves, [(*x, kept[i]) if i in kept else x for i, x in enumerate(found)]

    def _let_look_up(self, found: list[Any]) -> None:
        """Tells every anchor's statistics to those whose positive it is."""
        known = [found[i][0] for i in self.looked_up]
        every = gather(known, self.how.axis_name)
        self.everyone = dict(zip(self.looked_up, every, strict=True))

    def _find(
        self,
        found: list[Any],
        anchors: Rows,
        index: Members | None,
        product: jax.Array | None,
        column: jax.Array | None = None,
        given: Mapping[int, jax.Array] = MappingProxyType({}),
    ) -> list[Any]:
        """Fills in the statistics, of anchors or of the positive at hand, but for those
        given."""
        found = [(given[i],) if i in given else x for i, x in enumerate(found)]
        for i, s in enumerate(self.statistics):
            if s.source is not None and column is not None:
                found[i] = (self.everyone[s.source][column],)
        numbers = {i for i, s in enumerate(self.statistics) if s.on_pairs}
        numbers = self._of_level(numbers, column) - given.keys()
        every = None
        if product is not None and not all(map(self._is_by_index, numbers)):
            every = self._every(anchors, product)
        for now in self._stages(numbers):
            of = self._known(found, anchors, column)
            found = self._without(now, found, anchors)
            more = functools.partial(self._look, of=of, now=now)
            found = self._over_references(
                more, found, every, anchors, index, product, now
            )
            if column is not None:
                found = more(self._at_hand(anchors, column, product), found)
        return found

    def _find_in_tiles(self) -> list[Any]:
        """Fills in the statistics of all anchors."""
        anchors = self.anchors
        found = [statistics.empty(s, anchors.embeddings) for s in self.statistics]
        numbers = self._of_level(
            {i for i, s in enumerate(self.statistics) if s.on_pairs}, None
        )
        for now in self._stages(numbers):
            of = self._known(found, anchors)
            found = self._without(now, found, anchors)
            some = frozenset(i for i in now if not self._is_by_index(i))

            def visit(
                found: Any, tile: Tile, some: frozenset[int] = some
            ) -> dict[int, Any]:
                for new, start in (
                    (self._reduce(tile.seen, tile.here, some), tile.top),
                    (self._reduce_down(tile, some), tile.left),
                ):
                    both = {
                        i: statistics.merge(self.statistics[i], x, new[i])
                        for i, x in cut(found, start, self.how.block).items()
                    }
                    found = put(found, both, start)
                return found

            if some:
                state = self._padded({i: found[i] for i in sorted(some)})
                state = self._over_tiles(visit, state, of)
                new = jax.tree.map(lambda x: x[: len(anchors.index)], state)
                found = [new.get(i, x) for i, x in enumerate(found)]

            def rest(
                anchors: Rows,
                index: Members | None,
                found: list[Any],
                of: Anchors,
                now: frozenset[int] = now,
            ) -> list[Any]:
                more = functools.partial(self._look, of=of, now=now)
                return self._over_references(
                    more, found, None, anchors, index, None, now
                )

            found = self._in_blocks(rest, anchors, self.members, found, of)
        return found

    def _stages(self, numbers: Collection[int]) -> list[frozenset[int]]:
        """Statistics in the order in which one can be computed after another."""
        stages = sorted({self.statistics[i].stage for i in numbers})
        return [
            frozenset(i for i in numbers if self.statistics[i].stage == stage)
            for stage in stages
        ]

    def _known(
        self, found: list[Any], anchors: Rows, column: jax.Array | None = None
    ) -> Anchors:
        shared = self._of_anchors(anchors, found, self.smooth)[0]
        return Anchors(shared, [x[0] for x in found], [], or_none(column, anchors))

    def _without(
        self, now: frozenset[int], found: list[Any], anchors: Rows
    ) -> list[Any]:
        return [
            statistics.empty(s, anchors.embeddings) if i in now else x
            for i, (s, x) in enumerate(zip(self.statistics, found, strict=True))
        ]

    def _look(
        self, seen: Seen, found: list[Any], of: Anchors, now: frozenset[int]
    ) -> list[Any]:
        """Adds what is seen to the statistics of a stage."""
        new = self._reduce(seen, of, now)
        return [
            statistics.merge(self.statistics[i], x, new[i]) if i in new else x
            for i, x in enumerate(found)
        ]

    def _reduce(
        self, seen: Seen, of: Anchors, numbers: frozenset[int]
    ) -> dict[int, Any]:
        """Statistics over the references that are seen."""
        numbers &= seen.numbers
        if not numbers:
            return {}
        operands = grid(self._operands, seen, of, ROWS, seen.references, seen.along)
        position = jnp.broadcast_to(seen.references.position, seen.slope.shape)
        some = {i: self.statistics[i] for i in sorted(numbers)}
        return statistics.carries(some, operands, position)

    def _reduce_down(self, tile: Tile, numbers: frozenset[int]) -> dict[int, Any]:
        """Statistics over the rows of a tile, of its columns as anchors."""
        seen, rows = tile.seen, tile.rows_as_references
        operands = grid(self._operands, seen, tile.there, COLUMNS, rows, ROWS)
        position = jnp.broadcast_to(rows.position[:, None], seen.slope.shape)
        some = {i: self.statistics[i] for i in sorted(numbers)}
        return statistics.carries(some, operands, position, axis=0)
