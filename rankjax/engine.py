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
are visited by index. Anchors are taken in blocks, whose pairs are computed again in the
backward pass where keeping them costs more.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax import statistics
from rankjax.blocks import (
    apart,
    cut,
    in_blocks,
    matmul_transposed,
    pad,
    put,
    scan_blocks,
    spread,
    sum_rows,
    transposed_matmul,
)
from rankjax.pairs import Members, Pairs, Rows, members, relevance, sides
from rankjax.program import Program, Statistic, trace
from rankjax.similarity import PRODUCTS, Products, Similarity, dot, squared_lengths
from rankjax.statistics import EITHER_WAY

AxisName = str | tuple[str, ...]

# Which axis of a grid of pairs an array is mapped along.
_ROWS, _COLUMNS, _BOTH = (0, None), (None, 0), (0, 0)
_SLOTS = 4  # positives visited at a time
_TILE = 512  # the side of a tile on a CPU
_LANES = 16  # positives whose cotangents are kept at a time


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
    if program.rows_feel_positives and program.looks_from_positives:
        return None
    labelled = labelled or pairs.relevance is not None
    mirrored = itself and labelled
    tiled = (
        mirrored
        and axis_name is None
        and program.only_sides
        and not program.looks_from_positives
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
        often = program.looks_from_positives
        fitting, cached = 2**21, 2 ** (17 if wide > 8 else 19 if often else 21)
    keep = anchors * references <= fitting
    if tiled:
        tile = _TILE if jax.default_backend() == "cpu" else 8 * _TILE
        return (anchors, True) if keep else (tile, False)
    if anchors * references <= cached:
        return anchors, keep
    return max(cached // references, 64), keep


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Anchors:
    """What a pair needs to know of its anchor; all [anchor].

    Attributes:
      shared: see `Program.anchor`.
      known: the statistics.
      cotangent: of the statistics.
      positive: column of the positive at hand, or -1 where none is.
    """

    shared: list[jax.Array]
    known: list[jax.Array]
    cotangent: list[jax.Array]
    positive: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _References:
    """What a pair needs to know of its reference; [reference], or [anchor, reference].

    Attributes:
      fields: by the names of `Pairs`.
      position: number of its column.
      length: its squared length.
    """

    fields: dict[str, jax.Array]
    position: jax.Array
    length: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Seen:
    """Some references of some anchors.

    Attributes:
      fields: [anchor, reference] by the names of `Pairs`.
      slope: [anchor, reference] of the similarity, by the inner product.
      references: of the anchors.
      along: how the references are laid.
      numbers: the statistics that look at them.
    """

    fields: dict[str, jax.Array]
    slope: jax.Array
    references: _References
    along: tuple[int | None, int | None] = dataclasses.field(metadata={"static": True})
    numbers: frozenset[int] = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Pairs of some anchors with some others, none of them twice.

    Attributes:
      seen: the pairs, [row, column].
      here: what they need to know of the rows as anchors.
      there: the same of the columns.
      rows_as_references: what they need to know of the rows, seen from the columns.
      rows: of the anchors.
      columns: of the anchors.
      top: number of the first row.
      left: number of the first column.
    """

    seen: _Seen
    here: _Anchors
    there: _Anchors
    rows_as_references: _References
    rows: Rows
    columns: Rows
    top: jax.Array
    left: jax.Array


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
    smooth = [spread(x, vectors) for x in settings if _is_float(x)]
    fixed = [None if _is_float(x) else x for x in settings]
    nothing: Any = None
    context = [
        dataclasses.replace(x, embeddings=nothing) for x in (anchors, references)
    ]
    leaves = _evaluate(how, (vectors, others), smooth, (fixed, *context))
    return jax.tree.unflatten(how.program.structure, leaves)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _evaluate(how: Plan, vectors: Any, smooth: Any, context: Any) -> list[jax.Array]:
    return _Evaluation(how, vectors, smooth, context).forward()[0]


def _forward(how: Plan, vectors: Any, smooth: Any, context: Any) -> tuple[Any, Any]:
    leaves, *kept = _Evaluation(how, vectors, smooth, context).forward()
    return leaves, ((vectors, smooth, context), kept)


def _backward(how: Plan, residuals: Any, cotangents: Any) -> tuple[Any, Any, None]:
    given, kept = residuals
    found, product = kept
    return *_Evaluation(how, *given).backward(found, product, cotangents), None


_evaluate.defvjp(_forward, _backward)


class _Evaluation:
    """The passes over the pairs of one batch."""

    def __init__(self, how: Plan, vectors: Any, smooth: Any, context: Any):
        self.how, self.statistics = how, how.program.statistics
        self.fixed, anchors, references = context
        self.smooth = smooth
        self.anchors = dataclasses.replace(anchors, embeddings=vectors[0])
        self.references = dataclasses.replace(references, embeddings=vectors[1])
        found = None
        if how.program.only_sides:
            found = members(self.anchors, self.references, itself=how.itself)
        self.members: Members | None = found and found[0]
        self.by_class: Any = found and found[1]
        self.looked_up = sorted(
            {s.source for s in self.statistics if s.source is not None}
        )
        self.everyone: dict[int, jax.Array] = {}
        self.columns = _References(
            self._fields(self.references, "reference"),
            spread(jnp.arange(len(vectors[1]), dtype=jnp.int32), vectors[1]),
            squared_lengths(vectors[1]),
        )

    def forward(self) -> tuple[list[jax.Array], list[Any], jax.Array | None]:
        """The leaves of the result, the statistics, and the products where kept."""
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

            def add(
                column: jax.Array, exists: jax.Array, found: list[Any]
            ) -> list[Any]:
                here = self._find(found, anchors, index, product, column)
                _, _, terms = self._of_anchors(anchors, here, self.smooth)
                total = list(found)
                for i, (value, some) in terms.items():
                    value = jnp.where(some & _along(exists, some), value, 0)
                    total[i] = (total[i][0] + value,)
                return total

            found = self._each_positive(add, found, index)
            return self._of_anchors(anchors, found, self.smooth)[1], found

        def both(anchors: Rows, index: Members | None, kept: Any) -> Any:
            return of_positives(anchors, index, of_rows(anchors, index, kept), kept)

        rows = self.anchors, self.members
        if self.how.tiled or self.looked_up:
            found = (
                self._find_in_tiles()
                if self.how.tiled
                else self._in_blocks(of_rows, *rows, product)
            )
            self._let_look_up(found)
            return *self._in_blocks(of_positives, *rows, found, product), product
        return *self._in_blocks(both, *rows, product), product

    def _let_look_up(self, found: list[Any]) -> None:
        """Tells every anchor's statistics to those whose positive it is."""
        known = [found[i][0] for i in self.looked_up]
        every = _gather(known, self.how.axis_name)
        self.everyone = dict(zip(self.looked_up, every, strict=True))

    def backward(
        self, found: list[Any], product: jax.Array | None, cotangents: Any
    ) -> tuple[Any, Any]:
        """Cotangents of the vectors and of the settings."""
        self._let_look_up(found)
        totals: list[Any] = []
        of_rows: Any = None
        if self.is_light:
            of_rows, *more = self._gradient_by_positives(found, cotangents)
            totals.append(more)
        of, of_settings = self._complete(
            found, self.anchors, self.members, product, cotangents, of_rows=of_rows
        )
        vectors = self._gradient_of_vectors(of, found, product)
        totals.append([vectors, of_settings])
        if self.how.program.looks_from_positives:
            totals.append([*self._gradient_from_positives(of, found, product)])
        vectors, of_settings = functools.reduce(_add, totals)
        return vectors, of_settings

    @property
    def is_light(self) -> bool:
        """Whether what is summed over positives looks at no further references."""
        sums = any(map(_is_sum, self.statistics))
        return sums and not self.how.program.looks_from_positives

    def _gradient_by_positives(
        self, found: list[Any], cotangents: Any
    ) -> tuple[dict[int, jax.Array], tuple[jax.Array, jax.Array], Any]:
        """Cotangents of rows' statistics, of vectors and of settings, by way of sums
        over positives that look at the pair and at statistics of its two ends.

        Where the references are the anchors, a pair is looked at from both its ends, so
        that all that belongs to an anchor is found at its own positives.
        """
        anchors, vectors = self.anchors, self.references.embeddings
        less = self.how.products.less
        known, of_sums = [x[0] for x in found], self._of_sums(found, cotangents)
        every: Any = None
        if self.how.mirrored:
            every = _gather((known, of_sums), self.how.axis_name)
        numbers = [
            i
            for i, s in enumerate(self.statistics)
            if _is_at_hand(s) and s.differentiable
        ]
        slope = self._by_similarity(numbers)

        def from_one_end(
            rows: Rows, column: jax.Array, exists: jax.Array, known: Any, given: Any
        ) -> tuple[_Anchors, Any, jax.Array]:
            here = self._find([(x,) for x in known], rows, None, None, column)
            of, of_settings = self._complete(
                here, rows, None, None, given, column, exists
            )
            seen = self._at_hand(rows, column, None)
            g = _grid(slope, seen, of, _ROWS, seen.references, _BOTH) * seen.slope
            return of, of_settings, jnp.where(exists[:, None], g, 0)

        def visit(column: jax.Array, exists: jax.Array, state: Any) -> Any:
            of_rows, of_anchors, of_references, of_settings = state
            of, settings, g = from_one_end(anchors, column, exists, known, of_sums)
            of_rows = {i: x + of.cotangent[i] for i, x in of_rows.items()}
            there = vectors[column]
            if every is not None:
                ends = jax.tree.map(lambda x: x[column], (self.references, *every))
                back, _, more = from_one_end(ends[0], anchors.index, exists, *ends[1:])
                for i, s in enumerate(self.statistics):
                    if s.source in of_rows:
                        of_rows[s.source] += back.cotangent[i]
                g = g + more
            else:
                to = g * (anchors.embeddings - less * there)
                of_references = of_references.at[column].add(to)
            of_anchors = of_anchors + g * (there - less * anchors.embeddings)
            of_settings = jax.tree.map(jnp.add, of_settings, settings)
            return of_rows, of_anchors, of_references, of_settings

        state = (
            {
                i: jnp.zeros_like(known[i])
                for i, s in enumerate(self.statistics)
                if s.differentiable and not s.each_positive and s.on_pairs
            },
            jnp.zeros_like(anchors.embeddings),
            jnp.zeros_like(vectors),
            jax.tree.map(jnp.zeros_like, self.smooth),
        )
        state = self._each_positive(
            visit, spread(state, anchors.embeddings), self.members
        )
        return state[0], (state[1], state[2]), state[3]

    def _find(
        self,
        found: list[Any],
        anchors: Rows,
        index: Members | None,
        product: jax.Array | None,
        column: jax.Array | None = None,
    ) -> list[Any]:
        """Fills in the statistics, of anchors or of the positive at hand."""
        found = list(found)
        for i, s in enumerate(self.statistics):
            if s.source is not None and column is not None:
                found[i] = (self.everyone[s.source][column],)
        numbers = {i for i, s in enumerate(self.statistics) if s.on_pairs}
        numbers = self._of_level(numbers, column)
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
                found: Any, tile: _Tile, some: frozenset[int] = some
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
                of: _Anchors,
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
    ) -> _Anchors:
        shared = self._of_anchors(anchors, found, self.smooth)[0]
        return _Anchors(shared, [x[0] for x in found], [], _or_none(column, anchors))

    def _without(
        self, now: frozenset[int], found: list[Any], anchors: Rows
    ) -> list[Any]:
        return [
            statistics.empty(s, anchors.embeddings) if i in now else x
            for i, (s, x) in enumerate(zip(self.statistics, found, strict=True))
        ]

    def _look(
        self, seen: _Seen, found: list[Any], of: _Anchors, now: frozenset[int]
    ) -> list[Any]:
        """Adds what is seen to the statistics of a stage."""
        new = self._reduce(seen, of, now)
        return [
            statistics.merge(self.statistics[i], x, new[i]) if i in new else x
            for i, x in enumerate(found)
        ]

    def _over_tiles(
        self, visit: Callable[[Any, _Tile], Any], state: Any, of: _Anchors
    ) -> Any:
        """Visits the pairs above the diagonal, tile by tile.

        Args:
          visit: updates the state with a tile.
          state: at the start.
          of: what pairs need to know of anchors.
        """
        size = self.how.block
        starts = size * np.stack(np.triu_indices(self._tiles), 1).astype(np.int32)
        anchors, of = self._padded((self.anchors, of))
        order = jnp.arange(self._tiles * size, dtype=jnp.int32)

        def one(state: Any, at: jax.Array) -> tuple[Any, None]:
            rows, here, above = cut((anchors, of, order), at[0], size)
            columns, there, left = cut((anchors, of, order), at[1], size)
            product = dot(rows.embeddings, columns.embeddings)
            once = above[:, None] < left[None, :]
            seen = self._every(rows, product, columns, once)
            itself = self._as_references(rows)
            tile = _Tile(seen, here, there, itself, rows, columns, at[0], at[1])
            return visit(state, tile), None

        return lax.scan(one, state, jnp.asarray(starts))[0]

    @property
    def _tiles(self) -> int:
        """How many tiles there are along a side."""
        return -(-len(self.anchors.index) // self.how.block)

    def _padded(self, tree: Any) -> Any:
        """Arrays [anchor, ...], padded to whole tiles."""
        padding = self._tiles * self.how.block - len(self.anchors.index)
        return jax.tree.map(lambda x: pad(x, padding), tree)

    def _reduce_down(self, tile: _Tile, numbers: frozenset[int]) -> dict[int, Any]:
        """Statistics over the rows of a tile, of its columns as anchors."""
        seen, rows = tile.seen, tile.rows_as_references
        operands = _grid(self._operands, seen, tile.there, _COLUMNS, rows, _ROWS)
        position = jnp.broadcast_to(rows.position[:, None], seen.slope.shape)
        some = {i: self.statistics[i] for i in sorted(numbers)}
        return statistics.carries(some, operands, position, axis=0)

    def _gradient_in_tiles(self, of: _Anchors, numbers: frozenset[int]) -> jax.Array:
        """Cotangents of the anchors' vectors, by rows' statistics."""
        less = self.how.products.less
        some = frozenset(i for i in numbers if not self._is_by_index(i))

        def visit(state: Any, tile: _Tile) -> Any:
            slope, seen = self._by_similarity(some), tile.seen
            g = _grid(slope, seen, tile.here, _ROWS, seen.references, seen.along)
            rows = tile.rows_as_references
            g = g + _grid(slope, seen, tile.there, _COLUMNS, rows, _ROWS)
            g = apart(g * seen.slope)
            across, down, weight = state
            new = jnp.matmul(
                g, tile.columns.embeddings, precision=lax.Precision.HIGHEST
            )
            across = _add_at(across, new, tile.top)
            new = matmul_transposed(g, tile.rows.embeddings)[None]
            down = _add_at(down, new, tile.left // self.how.block)
            if less:
                weight = _add_at(weight, jnp.sum(g, 1), tile.top)
                weight = _add_at(weight, jnp.sum(g, 0), tile.left)
            return across, down, weight

        total, n = jnp.zeros_like(self.anchors.embeddings), len(self.anchors.index)
        if some:
            across, dim = self._padded(total), total.shape[1]
            down = jnp.zeros((self._tiles, dim, self.how.block), total.dtype)
            state = spread((across, down, across[:, 0]), self.anchors.embeddings)
            across, down, weight = self._over_tiles(visit, state, of)
            # Transposed once rather than in every tile.
            total = (across + jnp.moveaxis(down, 1, 2).reshape(across.shape))[:n]
            total -= less * weight[:n, None] * self.anchors.embeddings

        def rest(anchors: Rows, index: Members | None, here: _Anchors) -> jax.Array:
            itself, total = self._as_references(anchors), anchors.embeddings * 0

            def more(seen: _Seen, total: jax.Array) -> jax.Array:
                slope, column = self._by_similarity(numbers), seen.references.position
                there = jax.tree.map(lambda x: x[column], of)
                g = _grid(slope, seen, here, _ROWS, seen.references, _BOTH)
                g = (g + _grid(slope, seen, there, _BOTH, itself, _ROWS)) * seen.slope
                vectors = self.references.embeddings[column]
                total = total + jnp.sum(g[:, :, None] * vectors, 1)
                return total - less * jnp.sum(g, 1)[:, None] * anchors.embeddings

            return self._over_references(
                more, total, None, anchors, index, None, numbers
            )

        return total + self._in_blocks(rest, self.anchors, self.members, of)

    def _complete(
        self,
        found: list[Any],
        anchors: Rows,
        index: Members | None,
        product: jax.Array | None,
        cotangents: Any,
        column: jax.Array | None = None,
        exists: Any = None,
        of_rows: dict[int, jax.Array] | None = None,
    ) -> tuple[_Anchors, Any]:
        """Cotangents of statistics, of anchors or of the positive at hand.

        Args:
          cotangents: of the leaves of the result; with a positive at hand of the sums
            over positives.
          exists: [anchor] bool, where there is a positive at hand.
          of_rows: [anchor] cotangents that are known already, by statistic.

        Returns:
          What pairs need to know of anchors, and cotangents of the settings.
        """
        smooth = [i for i, s in enumerate(self.statistics) if s.differentiable]
        level = sorted(self._of_level(smooth, column))
        if column is not None and self.is_light:
            level += [i for i in self._of_level(smooth, None) if self._on_pairs(i)]

        def of_anchors(some: list[jax.Array], settings: Any) -> Any:
            every = list(found)
            for i, x in zip(level, some, strict=True):
                every[i] = (x,)
            return self._of_anchors(anchors, every, settings)

        (shared, leaves, terms), pull = jax.vjp(
            of_anchors, [found[i][0] for i in level], self.smooth
        )
        nothing = jax.tree.map(_zero_cotangent, (shared, leaves, terms))
        if column is None:
            cotangent, of_settings = pull((nothing[0], cotangents, nothing[2]))
        else:
            of_terms = {}
            for i, (value, some) in terms.items():
                here = jnp.where(some & _along(exists, some), cotangents[i], 0)
                of_terms[i] = [here.astype(value.dtype), _zero_cotangent(some)]
            cotangent, of_settings = pull((*nothing[:2], of_terms))
        for i, x in (of_rows or {}).items():
            cotangent[level.index(i)] += x

        def known() -> _Anchors:
            every = [jnp.zeros_like(x[0]) for x in found]
            for i, x in zip(level, cotangent, strict=True):
                every[i] = x
            at = _or_none(column, anchors)
            return _Anchors(shared, [x[0] for x in found], every, at)

        def through(numbers: frozenset[int]) -> tuple[list[jax.Array], Any]:
            """Further cotangents, by way of what pairs know of anchors."""
            slopes = iter(
                self._gradient_of_shared(numbers, known(), anchors, index, product)
            )
            of_shared = [
                next(slopes) if _is_float(x) else _zero_cotangent(x) for x in shared
            ]
            more = pull((of_shared, *nothing[1:]))
            return jax.tree.map(jnp.add, (cotangent, of_settings), more)

        on_pairs = {i for i in self._of_level(level, column) if self._on_pairs(i)}
        for stage in sorted({self.statistics[i].stage for i in on_pairs}, reverse=True):
            now = frozenset(i for i in on_pairs if self.statistics[i].stage == stage)
            if any(self.statistics[i].needs_gradient_of for i in now):
                cotangent, of_settings = through(now)
                on_pairs -= now
        if on_pairs and self.smooth:
            # Their cotangents are complete: this reaches the settings alone.
            _, of_settings = through(frozenset(on_pairs))
        return known(), of_settings

    def _of_sums(self, found: list[Any], cotangents: Any) -> dict[int, jax.Array]:
        """Cotangents of the sums over positives, [anchor, ...]."""
        sums = [
            i for i, s in enumerate(self.statistics) if _is_sum(s) and s.differentiable
        ]

        def leaves(some: list[jax.Array]) -> Any:
            every = list(found)
            for i, x in zip(sums, some, strict=True):
                every[i] = (x,)
            return self._of_anchors(self.anchors, every, self.smooth)[1]

        _, pull = jax.vjp(leaves, [found[i][0] for i in sums])
        of_sums = {i: jnp.zeros_like(x[0]) for i, x in enumerate(found)}
        return of_sums | dict(zip(sums, pull(cotangents)[0], strict=True))

    def _gradient_of_shared(
        self,
        numbers: frozenset[int],
        of: _Anchors,
        anchors: Rows,
        index: Members | None,
        product: jax.Array | None,
    ) -> list[jax.Array]:
        """Cotangents of what pairs know of anchors, by way of some statistics."""

        def block(
            anchors: Rows, index: Members | None, of: _Anchors, kept: Any
        ) -> list[jax.Array]:
            def more(seen: _Seen, total: list[jax.Array]) -> list[jax.Array]:
                if not seen.numbers & numbers:
                    return total
                slope = self._by_shared(seen.numbers & numbers)
                slopes = _grid(slope, seen, of, _ROWS, seen.references, seen.along)
                return [
                    a + sum_rows(b, axis=1)[0]
                    for a, b in zip(total, slopes, strict=True)
                ]

            total = [jnp.zeros_like(x) for x in of.shared if _is_float(x)]
            product, every = kept, None
            if not all(map(self._is_by_index, numbers)):
                product = self._products(anchors, kept)
                every = self._every(anchors, product)
            total = self._over_references(
                more, total, every, anchors, index, product, numbers
            )
            if any(_is_at_hand(self.statistics[i]) for i in numbers):
                total = more(self._at_hand(anchors, of.positive, product), total)
            return total

        return self._in_blocks(block, anchors, index, of, product)

    def _gradient_of_vectors(
        self, of: _Anchors, found: list[Any], product: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Cotangents of anchors' and of references' vectors, by rows' statistics."""
        smooth = [i for i, s in enumerate(self.statistics) if s.differentiable]
        level = {i for i in self._of_level(smooth, None) if self._on_pairs(i)}
        chosen = {i for i in level if self.statistics[i].kind == "largest"}
        dense = frozenset(level - chosen)
        everyone = _gather(of, self.how.axis_name) if self.how.mirrored else None

        def block(
            of_references: jax.Array,
            anchors: Rows,
            index: Members | None,
            of: _Anchors,
            kept: Any,
        ) -> Any:
            product = self._products(anchors, kept)
            g = self._slopes(
                jnp.zeros_like(product), anchors, index, product, of, everyone, dense
            )
            of_anchors, back = self._pull(g, anchors)
            return of_references + back, of_anchors

        of_anchors, of_references = (
            jnp.zeros_like(x.embeddings) for x in (self.anchors, self.references)
        )
        if self.how.tiled:
            of_anchors = self._gradient_in_tiles(of, dense)
        elif dense:
            of_references, of_anchors = scan_blocks(
                block,
                self.how.block,
                spread(of_references, self.anchors.embeddings),
                *(self.anchors, self.members, of, product),
            )
        for i in chosen:
            a, r = self._gradient_of_chosen(i, of, found[i][1])
            of_anchors, of_references = of_anchors + a, of_references + r
        if self.how.mirrored and chosen:
            of_anchors = of_anchors + of_references[self.anchors.index]
        return of_anchors, of_references

    def _slopes(
        self,
        g: jax.Array,
        anchors: Rows,
        index: Members | None,
        product: jax.Array,
        of: _Anchors,
        everyone: _Anchors | None,
        numbers: frozenset[int],
    ) -> jax.Array:
        """Adds the slopes by inner products, [anchor, reference], to others.

        Args:
          of: the anchors at hand.
          everyone: all anchors, in the order of the references, where those also look
            at the anchors at hand; otherwise None.
          numbers: the statistics.
        """
        row = jnp.arange(len(anchors.index), dtype=jnp.int32)[:, None]
        itself = self._as_references(anchors)

        def more(seen: _Seen, g: jax.Array) -> jax.Array:
            now = numbers & seen.numbers
            if not now:
                return g
            slope = self._by_similarity(now)
            new = _grid(slope, seen, of, _ROWS, seen.references, seen.along)
            column, there = seen.references.position, everyone
            if there is not None:
                if seen.along == _BOTH:
                    there = jax.tree.map(lambda x: x[column], there)
                new = new + _grid(slope, seen, there, seen.along, itself, _ROWS)
            if seen.along == _BOTH:
                return g.at[row, column].add(new * seen.slope)
            return apart(g + new * seen.slope)

        every = self._every(anchors, product)
        return self._over_references(more, g, every, anchors, index, product, numbers)

    def _pull(self, g: jax.Array, anchors: Rows) -> tuple[jax.Array, jax.Array]:
        """What slopes [anchor, reference] do to the vectors of both.

        Zeros for the references where the slopes are of both orders.
        """
        vectors, less = self.references.embeddings, self.how.products.less
        of_anchors = jnp.matmul(g, vectors, precision=lax.Precision.HIGHEST)
        of_anchors -= less * jnp.sum(g, 1)[:, None] * anchors.embeddings
        if self.how.mirrored:
            return of_anchors, jnp.zeros_like(vectors)
        back = transposed_matmul(g, anchors.embeddings)
        return of_anchors, back - less * jnp.sum(g, 0)[:, None] * vectors

    def _gradient_from_positives(
        self, of: _Anchors, found: list[Any], product: jax.Array | None
    ) -> tuple[tuple[jax.Array, jax.Array], Any]:
        """Cotangents of vectors and of settings, by statistics that positives have.

        Some positives of every anchor at a time: first their cotangents are found, and
        told to everyone, then their slopes are added up.
        """
        assert self.members is not None
        smooth = [i for i, s in enumerate(self.statistics) if s.differentiable]
        numbers = frozenset(i for i in smooth if self.statistics[i].each_positive)
        at_hand = frozenset(i for i in numbers if _is_at_hand(self.statistics[i]))
        vectors, less = self.references.embeddings, self.how.products.less
        most = jnp.max(self.members.number)
        if self.how.axis_name is not None:
            most = lax.pmax(most, self.how.axis_name)

        def one(
            slot: jax.Array,
            anchors: Rows,
            index: Members,
            of: _Anchors,
            found: list[Any],
            product: jax.Array,
        ) -> tuple[Any, Any, jax.Array]:
            """A positive of each anchor: its cotangents, the slope at it, and which
            column it is."""
            place, exists = index.places(slot[None])
            column, exists = self.by_class[place][:, 0], exists[:, 0]
            here = self._find(found, anchors, index, product, column)
            now, settings = self._complete(
                here, anchors, index, product, of.cotangent, column, exists
            )
            seen = self._at_hand(anchors, column, product)
            slope = self._by_similarity(at_hand)
            g = _grid(slope, seen, now, _ROWS, seen.references, _BOTH) * seen.slope
            return (now, jnp.where(exists, g[:, 0], 0)), settings, column

        def group(turn: jax.Array, state: Any) -> Any:
            first = _LANES * turn
            count = jnp.minimum(most - first, _LANES)

            def cotangents(
                carry: Any,
                anchors: Rows,
                index: Members,
                of: _Anchors,
                found: list[Any],
                kept: Any,
            ) -> Any:
                given = anchors, index, of, found, self._products(anchors, kept)

                def lane(i: jax.Array, state: Any) -> Any:
                    lanes, of_anchors, of_references, of_settings = state
                    now, settings, column = one(first + i, *given)
                    g = now[1][:, None]
                    of_anchors += g * (vectors[column] - less * anchors.embeddings)
                    if not self.how.mirrored:
                        to = g * (anchors.embeddings - less * vectors[column])
                        of_references = of_references.at[column].add(to)
                    lanes = jax.tree.map(
                        lambda x, y: lax.dynamic_update_index_in_dim(x, y, i, 1),
                        lanes,
                        now,
                    )
                    settings = jax.tree.map(jnp.add, of_settings, settings)
                    return lanes, of_anchors, of_references, settings

                shapes = jax.eval_shape(lambda: one(first, *given)[0])
                lanes = jax.tree.map(
                    lambda x: jnp.zeros((x.shape[0], _LANES, *x.shape[1:]), x.dtype),
                    shapes,
                )
                state = lanes, jnp.zeros_like(anchors.embeddings)
                state = *spread(state, anchors.embeddings), *carry
                lanes, of_anchors, *carry = lax.fori_loop(0, count, lane, state)
                return tuple(carry), (lanes, of_anchors)

            def slopes(
                of_references: jax.Array,
                anchors: Rows,
                index: Members,
                lanes: _Anchors,
                kept: Any,
            ) -> Any:
                product = self._products(anchors, kept)

                def lane(i: jax.Array, g: jax.Array) -> jax.Array:
                    here = jax.tree.map(lambda x: _at(x, i, 1), lanes)
                    there = jax.tree.map(lambda x: _at(x, i, 0), everyone)
                    return self._slopes(
                        g, anchors, index, product, here, there, numbers - at_hand
                    )

                g = lax.fori_loop(0, count, lane, jnp.zeros_like(product))
                of_anchors, back = self._pull(g, anchors)
                return of_references + back, of_anchors

            of_anchors, *carry = state
            rows = self.anchors, self.members
            carry, ((lanes, at_positive), more) = scan_blocks(
                cotangents, self.how.block, tuple(carry), *rows, of, found, product
            )
            of_references, of_settings = carry
            everyone: _Anchors | None = None
            if self.how.mirrored:
                everyone, at_positive = _gather(
                    (lanes, at_positive), self.how.axis_name
                )
                # Lanes first: a lane is read along the references, of every anchor.
                everyone = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), everyone)
                more = more + self._from_other_ends(at_positive, first, count)
            of_references, again = scan_blocks(
                slopes, self.how.block, of_references, *rows, lanes, product
            )
            return of_anchors + more + again, of_references, of_settings

        state = (
            jnp.zeros_like(self.anchors.embeddings),
            jnp.zeros_like(vectors),
            jax.tree.map(jnp.zeros_like, self.smooth),
        )
        of_anchors, of_references, of_settings = lax.fori_loop(
            0, -(-most // _LANES), group, spread(state, self.anchors.embeddings)
        )
        return (of_anchors, of_references), of_settings

    def _from_other_ends(
        self, slopes: jax.Array, first: jax.Array, count: jax.Array
    ) -> jax.Array:
        """Cotangents of the vectors of anchors where they are others' positives.

        Args:
          slopes: [reference, slot] at everyone's positives.
          first: the first slot.
          count: how many slots there are.
        """
        index = self.members
        assert index is not None
        vectors, here = self.references.embeddings, self.anchors.embeddings

        def lane(i: jax.Array, total: jax.Array) -> jax.Array:
            place, exists = index.sources(first + i)
            other = self.by_class[place]
            g = jnp.where(exists, slopes[other, i], 0)[:, None]
            return total + g * (vectors[other] - self.how.products.less * here)

        return lax.fori_loop(0, count, lane, jnp.zeros_like(here))

    def _gradient_of_chosen(
        self, number: int, of: _Anchors, column: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Cotangents of vectors by way of one reference of each anchor."""
        anchors, vectors = self.anchors, self.references.embeddings
        product = jnp.sum(anchors.embeddings * vectors[column], 1)[:, None]
        seen = self._some(anchors, column[:, None], product, {number})
        slope = self._by_similarity({number})
        g = _grid(slope, seen, of, _ROWS, seen.references, _BOTH) * seen.slope
        g = jnp.where(jnp.isfinite(of.known[number]), g[:, 0], 0)[:, None]
        less = self.how.products.less
        of_anchors = g * (vectors[column] - less * anchors.embeddings)
        ends = anchors.embeddings
        if self.how.mirrored:
            # Everyone's choices, of which those of own rows are to be taken.
            (g, column), ends = _gather((g, column), self.how.axis_name), vectors
        back = g * (ends - less * vectors[column])
        return of_anchors, jnp.zeros_like(vectors).at[column].add(back)

    def _in_blocks(self, function: Callable[..., Any], *trees: Any) -> Any:
        return in_blocks(function, self.how.block, *trees)

    def _of_level(self, numbers: Collection[int], column: jax.Array | None) -> set[int]:
        """Those statistics that each positive has, or those that it has not."""
        each = column is not None
        return {i for i in numbers if self.statistics[i].each_positive == each}

    def _on_pairs(self, number: int) -> bool:
        return self.statistics[number].on_pairs

    def _products(self, anchors: Rows, kept: jax.Array | None) -> jax.Array:
        if kept is not None:
            return kept
        return dot(anchors.embeddings, self.references.embeddings)

    def _is_by_index(self, number: int) -> bool:
        """Whether a statistic looks at nothing but positives by index."""
        statistic = self.statistics[number]
        by_index = self.members is not None and statistic.of_positives
        return by_index or _is_at_hand(statistic) or not statistic.on_pairs

    def _every(
        self,
        anchors: Rows,
        product: jax.Array,
        references: Rows | None = None,
        where: jax.Array | None = None,
    ) -> _Seen:
        """All references, or those given; positives are left to the index where there
        is one."""
        columns = self.columns
        if references is None:
            references = self.references
        else:
            columns = self._as_references(references)
        masks = sides(anchors, references)
        if where is not None:
            masks = masks[0] & where, masks[1] & where
        if self.members is not None:
            masks = jnp.zeros_like(masks[0]), masks[1]
        fields = dict(zip(("positive", "negative"), masks, strict=True))
        if self.how.program.uses("relevance"):
            shared: Any = relevance(anchors, references)
            fields["relevance"] = shared
        numbers = set(range(len(self.statistics)))
        numbers = {i for i in numbers if not self._is_by_index(i)}
        return self._see(anchors, product, fields, columns, _COLUMNS, numbers)

    def _as_references(self, anchors: Rows) -> _References:
        """What pairs need to know of anchors in the role of references."""
        return _References(
            self._fields(anchors, "reference"),
            anchors.index,
            squared_lengths(anchors.embeddings),
        )

    def _some(
        self,
        anchors: Rows,
        column: jax.Array,
        product: jax.Array,
        numbers: Collection[int],
    ) -> _Seen:
        """References by column, [anchor, reference]; all are called positive."""
        true = jnp.ones(column.shape, bool)
        fields = {"positive": true, "negative": ~true}
        if len(numbers) == 1 and self.statistics[min(numbers)].kind == "largest":
            fields["negative"] = true  # whichever it was, it was chosen
        references = jax.tree.map(lambda x: x[column], self.columns)
        return self._see(anchors, product, fields, references, _BOTH, numbers)

    def _at_hand(
        self, anchors: Rows, column: jax.Array, product: jax.Array | None
    ) -> _Seen:
        """The positive at hand alone, for the statistics that are its entry."""
        numbers = {i for i, s in enumerate(self.statistics) if _is_at_hand(s)}
        products = self._products_at(anchors, column[:, None], product)
        return self._some(anchors, column[:, None], products, numbers)

    def _products_at(
        self, anchors: Rows, column: jax.Array, product: jax.Array | None
    ) -> jax.Array:
        if product is not None:
            return jnp.take_along_axis(product, column, 1)
        vectors = self.references.embeddings[column]
        return jnp.sum(anchors.embeddings[:, None] * vectors, -1)

    def _see(
        self,
        anchors: Rows,
        product: jax.Array,
        fields: dict[str, jax.Array],
        references: _References,
        along: tuple[int | None, int | None],
        numbers: Collection[int],
    ) -> _Seen:
        length = references.length if along == _BOTH else references.length[None, :]
        own = squared_lengths(anchors.embeddings)[:, None]
        similarity, slope = jax.vjp(
            lambda p: self.how.products.value(p, own, length), product
        )
        (slopes,) = slope(jnp.ones_like(similarity))
        fields = spread({"similarity": similarity, **fields}, product)
        return _Seen(fields, slopes, references, along, frozenset(numbers))

    def _over_references(
        self,
        function: Callable[[_Seen, Any], Any],
        state: Any,
        every: _Seen | None,
        anchors: Rows,
        index: Members | None,
        product: jax.Array | None,
        numbers: Collection[int],
    ) -> Any:
        """Visits all references, and positives by index, a few at a time."""
        if every is not None:
            state = function(every, state)
        numbers = {
            i
            for i in numbers
            if not self.statistics[i].of_negatives
            and self._on_pairs(i)
            and not _is_at_hand(self.statistics[i])
        }
        if index is None or self.members is None or not numbers:
            return state

        def visit(turn: jax.Array, state: Any) -> Any:
            slot = _SLOTS * turn + jnp.arange(_SLOTS, dtype=jnp.int32)
            place, exists = index.places(slot)
            column = self.by_class[place]
            products = self._products_at(anchors, column, product)
            seen = self._some(anchors, column, products, numbers)
            masks = {"positive": exists, "negative": seen.fields["negative"]}
            seen = dataclasses.replace(seen, fields=seen.fields | masks)
            return function(seen, state)

        turns = -(-jnp.max(self.members.number) // _SLOTS)
        return lax.fori_loop(0, turns, visit, state)

    def _each_positive(
        self,
        function: Callable[[jax.Array, jax.Array, Any], Any],
        state: Any,
        index: Members | None,
    ) -> Any:
        """Visits every anchor's first positive, then all second ones, and so on."""
        if index is None or self.members is None:
            return state
        if not any(map(_is_sum, self.statistics)):
            return state

        def visit(slot: jax.Array, state: Any) -> Any:
            place, exists = index.places(slot[None])
            return function(self.by_class[place][:, 0], exists[:, 0], state)

        return lax.fori_loop(0, jnp.max(self.members.number), visit, state)

    def _reduce(
        self, seen: _Seen, of: _Anchors, numbers: frozenset[int]
    ) -> dict[int, Any]:
        """Statistics over the references that are seen."""
        numbers &= seen.numbers
        if not numbers:
            return {}
        operands = _grid(self._operands, seen, of, _ROWS, seen.references, seen.along)
        position = jnp.broadcast_to(seen.references.position, seen.slope.shape)
        some = {i: self.statistics[i] for i in sorted(numbers)}
        return statistics.carries(some, operands, position)

    def _operands(
        self, pair: dict[str, jax.Array], anchor: _Anchors, reference: _References
    ) -> dict[int, list[jax.Array]]:
        position = reference.position
        return self.how.program.pair(
            {**pair, **reference.fields},
            position,
            position == anchor.positive,
            anchor.shared,
        )

    def _slope(
        self,
        numbers: Collection[int],
        pair: dict[str, jax.Array],
        anchor: _Anchors,
        reference: _References,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Slopes of a pair's share in statistics, times their cotangents: by its
        similarity, and by what is known of the anchor."""

        def share(similarity: jax.Array, smooth: list[jax.Array]) -> jax.Array:
            values = iter(smooth)
            shared = [next(values) if _is_float(x) else x for x in anchor.shared]
            operands = self._operands(
                {**pair, "similarity": similarity},
                dataclasses.replace(anchor, shared=shared),
                reference,
            )
            total = jnp.zeros_like(similarity)
            for i in sorted(numbers):
                value, *where = operands[i]
                weight = anchor.cotangent[i]
                if self.statistics[i].kind == "log_sum_exp":
                    weight = weight * _part(value, where[0], anchor.known[i])
                    value = jnp.where(where[0], value, 0)
                total += lax.stop_gradient(weight) * value
            return total

        smooth = [x for x in anchor.shared if _is_float(x)]
        return jax.grad(share, argnums=(0, 1))(pair["similarity"], smooth)

    def _by_similarity(self, numbers: Collection[int]) -> Callable[..., jax.Array]:
        return lambda *pair: self._slope(numbers, *pair)[0]

    def _by_shared(self, numbers: Collection[int]) -> Callable[..., list[jax.Array]]:
        return lambda *pair: self._slope(numbers, *pair)[1]

    def _of_anchors(
        self, anchors: Rows, found: list[Any], smooth: Sequence[jax.Array]
    ) -> tuple[list[jax.Array], list[jax.Array], dict[int, list[jax.Array]]]:
        """See `Program.anchor`, for all of some anchors."""
        values = iter(smooth)
        settings = [next(values) if x is None else x for x in self.fixed]

        def of_anchor(fields: Any, known: Any) -> Any:
            return self.how.program.anchor(fields, settings, known)

        fields = {"valid": anchors.valid, **self._fields(anchors, "anchor")}
        results = jax.vmap(of_anchor)(fields, [x[0] for x in found])
        return spread(results, anchors.embeddings)

    def _fields(self, of: Rows, role: str) -> dict[str, jax.Array]:
        fields = {
            f"{role}_{k}": getattr(of, k) for k in ("label", "occurrence", "index")
        }
        return {k: v for k, v in fields.items() if self.how.program.uses(k)}


def _is_sum(statistic: Statistic) -> bool:
    return statistic.kind == "over_positives"


def _is_at_hand(statistic: Statistic) -> bool:
    return statistic.kind == "at_positive"


def _or_none(column: jax.Array | None, anchors: Rows) -> jax.Array:
    none = jnp.full_like(anchors.index, -1) if column is None else column
    return spread(none, anchors.embeddings)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _add_at(total: jax.Array, new: jax.Array, start: jax.Array) -> jax.Array:
    return put(total, cut(total, start, len(new)) + new, start)


def _at(x: jax.Array, place: jax.Array, axis: int) -> jax.Array:
    return lax.dynamic_index_in_dim(x, place, axis, keepdims=False)


def _along(mask: jax.Array, like: jax.Array) -> jax.Array:
    """A mask [anchor] with as many axes as another array."""
    return jnp.expand_dims(mask, range(1, like.ndim))


def _zero_cotangent(x: jax.Array) -> Any:
    return jnp.zeros_like(x) if _is_float(x) else np.zeros(x.shape, jax.dtypes.float0)


def _part(value: jax.Array, where: jax.Array, total: jax.Array) -> jax.Array:
    """The share of an entry in a sum of exponentials, from the logarithm of the sum."""
    level = jnp.where(jnp.isfinite(total), total, 0)
    return jnp.where(where, jnp.exp(jnp.minimum(value - level, 0)), 0)


def _is_float(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def _gather(tree: Any, axis_name: AxisName | None) -> Any:
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), tree)


def _grid(
    function: Callable[..., Any],
    seen: _Seen,
    anchors: _Anchors,
    anchors_along: tuple[int | None, int | None],
    references: _References,
    references_along: tuple[int | None, int | None],
) -> Any:
    """Applies a function of one pair, anchor and reference to a grid of them."""
    outer, inner = zip((0, 0), anchors_along, references_along, strict=True)
    return jax.vmap(jax.vmap(function, inner), outer)(seen.fields, anchors, references)
