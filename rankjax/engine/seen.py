"""The pairs of a batch as a loss looks at them.

All references of a block of anchors; a few positives by index; tiles, in which pairs
are seen from both their ends.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.blocks import (
    cut,
    in_blocks,
    pad,
    spread,
)
from rankjax.engine.plans import AxisName, Plan
from rankjax.engine.program import Statistic
from rankjax.pairs import Members, Rows, relevance, sides
from rankjax.similarity import dot, squared_lengths

# Which axis of a grid of pairs an array is mapped along.
ROWS, COLUMNS, BOTH = (0, None), (None, 0), (0, 0)
_SLOTS = 4  # positives visited at a time
LANES = 16  # positives that are known of everyone at a time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Anchors:
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

    @property
    def smooth(self) -> list[jax.Array]:
        """Those that are shared and floating point."""
        return [x for x in self.shared if is_float(x)]

    def with_smooth(self, values: list[jax.Array]) -> "Anchors":
        """With others in their place."""
        some = iter(values)
        shared = [next(some) if is_float(x) else x for x in self.shared]
        return dataclasses.replace(self, shared=shared)

    def padded(self, rows: int) -> "Anchors":
        """With more anchors, which have no cotangent."""
        cotangent = [
            jnp.pad(x, [(0, rows)] + [(0, 0)] * (x.ndim - 1)) for x in self.cotangent
        ]
        shared, known, positive = pad((self.shared, self.known, self.positive), rows)
        return Anchors(shared, known, cotangent, positive)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class References:
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
class Seen:
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
    references: References
    along: tuple[int | None, int | None] = dataclasses.field(metadata={"static": True})
    numbers: frozenset[int] = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Tile:
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

    seen: Seen
    here: Anchors
    there: Anchors
    rows_as_references: References
    rows: Rows
    columns: Rows
    top: jax.Array
    left: jax.Array


class Batch:
    """The pairs of one batch, and the program that looks at them."""

    def __init__(self, how: Plan, vectors: Any, smooth: Any, context: Any):
        self.how, self.statistics = how, how.program.statistics
        self.fixed, anchors, references, found = context
        self.smooth = smooth
        self.anchors = dataclasses.replace(anchors, embeddings=vectors[0])
        self.references = dataclasses.replace(references, embeddings=vectors[1])
        self.members: Members | None = found and found[0]
        self.by_class: Any = found and found[1]
        self.looked_up = sorted(
            {s.source for s in self.statistics if s.source is not None}
        )
        self.everyone: dict[int, jax.Array] = {}
        self.columns = References(
            self._fields(self.references, "reference"),
            spread(jnp.arange(len(vectors[1]), dtype=jnp.int32), vectors[1]),
            squared_lengths(vectors[1]),
        )

    @property
    def is_light(self) -> bool:
        """Whether what is summed over positives looks at no further references."""
        sums = any(map(is_sum, self.statistics))
        return sums and not self.how.program.looks_from_positives

    def _of_level(self, numbers: Collection[int], column: jax.Array | None) -> set[int]:
        """Those statistics that each positive has, or those that it has not."""
        each = column is not None
        return {i for i in numbers if self.statistics[i].each_positive == each}

    def _on_pairs(self, number: int) -> bool:
        return self.statistics[number].on_pairs

    def _is_by_index(self, number: int) -> bool:
        """Whether a statistic looks at nothing but positives by index."""
        statistic = self.statistics[number]
        by_index = self.members is not None and statistic.of_positives
        return by_index or is_at_hand(statistic) or not statistic.on_pairs

    def _products(self, anchors: Rows, kept: jax.Array | None) -> jax.Array:
        if kept is not None:
            return kept
        return dot(anchors.embeddings, self.references.embeddings)

    def _every(
        self,
        anchors: Rows,
        product: jax.Array,
        references: Rows | None = None,
        where: jax.Array | None = None,
    ) -> Seen:
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
        return self._see(anchors, product, fields, columns, COLUMNS, numbers)

    def _as_references(self, anchors: Rows) -> References:
        """What pairs need to know of anchors in the role of references."""
        return References(
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
    ) -> Seen:
        """References by column, [anchor, reference]; all are called positive."""
        true = jnp.ones(column.shape, bool)
        fields = {"positive": true, "negative": ~true}
        if len(numbers) == 1 and self.statistics[min(numbers)].kind == "largest":
            fields["negative"] = true  # whichever it was, it was chosen
        references = jax.tree.map(lambda x: x[column], self.columns)
        return self._see(anchors, product, fields, references, BOTH, numbers)

    def _at_hand(
        self, anchors: Rows, column: jax.Array, product: jax.Array | None
    ) -> Seen:
        """The positive at hand alone, for the statistics that are its entry."""
        numbers = {i for i, s in enumerate(self.statistics) if is_at_hand(s)}
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
        references: References,
        along: tuple[int | None, int | None],
        numbers: Collection[int],
    ) -> Seen:
        length = references.length if along == BOTH else references.length[None, :]
        own = squared_lengths(anchors.embeddings)[:, None]
        similarity, slope = jax.vjp(
            lambda p: self.how.products.value(p, own, length), product
        )
        (slopes,) = slope(jnp.ones_like(similarity))
        fields = spread({"similarity": similarity, **fields}, product)
        return Seen(fields, slopes, references, along, frozenset(numbers))

    def _over_references(
        self,
        function: Callable[[Seen, Any], Any],
        state: Any,
        every: Seen | None,
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
            and not is_at_hand(self.statistics[i])
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

    def _at_slot(self, slot: jax.Array, index: Any) -> tuple[jax.Array, jax.Array]:
        """Columns [anchor] of the positives at a slot, and which of them exist."""
        place, exists = index.places(slot[None])
        return self.by_class[place][:, 0], exists[:, 0]

    def _over_lanes(
        self, function: Callable[[jax.Array, jax.Array, Any], Any], state: Any
    ) -> Any:
        """Visits some positives of all anchors at a time: from a slot, a number."""
        assert self.members is not None
        most = jnp.max(self.members.number)
        if self.how.axis_name is not None:
            most = lax.pmax(most, self.how.axis_name)

        def visit(turn: jax.Array, state: Any) -> Any:
            first = LANES * turn
            return function(first, jnp.minimum(most - first, LANES), state)

        state = spread(state, self.anchors.embeddings)
        return lax.fori_loop(0, -(-most // LANES), visit, state)

    def _over_tiles(
        self, visit: Callable[[Any, Tile], Any], state: Any, of: Anchors
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
            tile = Tile(seen, here, there, itself, rows, columns, at[0], at[1])
            return visit(state, tile), None

        return lax.scan(one, state, jnp.asarray(starts))[0]

    @property
    def _tiles(self) -> int:
        """How many tiles there are along a side."""
        return -(-len(self.anchors.index) // self.how.block)

    def _padded(self, tree: Any) -> Any:
        """Arrays [anchor, ...], padded to whole tiles."""
        padding = self._tiles * self.how.block - len(self.anchors.index)
        return pad(tree, padding)

    def _in_blocks(self, function: Callable[..., Any], *trees: Any) -> Any:
        return in_blocks(function, self.how.block, *trees)

    def _operands(
        self, pair: dict[str, jax.Array], anchor: Anchors, reference: References
    ) -> dict[int, list[jax.Array]]:
        position = reference.position
        return self.how.program.pair(
            {**pair, **reference.fields},
            position,
            position == anchor.positive,
            anchor.shared,
        )

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


def is_sum(statistic: Statistic) -> bool:
    """Whether a statistic is a sum over positives."""
    return statistic.kind == "over_positives"


def is_at_hand(statistic: Statistic) -> bool:
    """Whether a statistic is an entry at the positive at hand."""
    return statistic.kind == "at_positive"


def or_none(column: jax.Array | None, anchors: Rows) -> jax.Array:
    """Columns [anchor] of the positives at hand; -1 where there are none."""
    none = jnp.full_like(anchors.index, -1) if column is None else column
    return spread(none, anchors.embeddings)


def along(mask: jax.Array, like: jax.Array) -> jax.Array:
    """A mask [anchor] with as many axes as another array."""
    return jnp.expand_dims(mask, range(1, like.ndim))


def is_float(x: jax.Array) -> bool:
    """Whether gradients may flow to an array."""
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def gather(tree: Any, axis_name: AxisName | None) -> Any:
    """Arrays [anchor, ...] of all devices."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), tree)


def grid(
    function: Callable[..., Any],
    seen: Seen,
    anchors: Anchors,
    anchors_along: tuple[int | None, int | None],
    references: References,
    references_along: tuple[int | None, int | None],
) -> Any:
    """Applies a function of one pair, anchor and reference to a grid of them."""
    outer, inner = zip((0, 0), anchors_along, references_along, strict=True)
    return jax.vmap(jax.vmap(function, inner), outer)(seen.fields, anchors, references)
