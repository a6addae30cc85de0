"""At which rank each positive of a query comes, by counting instead of sorting.

The rank of a positive is one more than the number of rows that come before it: the
negatives that are at least as similar to the query, and the positives before it.
So one pass over the similarities, a tile at a time, that counts how many reach each
threshold is enough. Thresholds and counts are read off the same product of the same
tile: rounding cannot part a positive from itself, nor make a tie of two copies of a row
depend on where they are.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.inputs import check_functions
from rankjax.metrics.across import across
from rankjax.metrics.checks import check_count
from rankjax.metrics.directions import ORDERS, directions
from rankjax.metrics.protocols import Search
from rankjax.similarity import (
    PRODUCTS,
    Products,
    Similarity,
    apply,
    at_least_float32,
    dot,
    squared_lengths,
)

_PRODUCTS = PRODUCTS | {
    similarity: Products(at_least_float32, order.of)
    for similarity, order in ORDERS.items()
}
_AT_A_TIME = 8  # thresholds that a tile is compared with between two loads
_NOT_A_NUMBER = -(2**30)  # as a count
_MOST = 2**24  # thresholds that are held at once


class Ranks(NamedTuple):
    """Ranks of the positives of some queries.

    Attributes:
      queries: [q] row numbers of queries.
      ranks: int64 [q, positives], rising, from 1; those beyond `positives` are 0.
      positives: [q] how many positives each query has.
    """

    queries: np.ndarray
    ranks: np.ndarray
    positives: np.ndarray


def ranks_of_scores(
    scores: np.ndarray, masks: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Ranks:
    """Ranks of the positives of all queries in given similarities [q, n], sorted.

    Args:
      scores: [q, n].
      masks: for each query which rows are positives, and which it skips; bool [n] each.
    """
    ranks = []
    for row, (positive, skipped) in zip(scores, masks, strict=True):
        negatives = np.sort(row[~positive & ~skipped])
        own = -np.sort(-row[positive])
        before = len(negatives) - np.searchsorted(negatives, own)
        ranks.append(before + np.arange(1, len(own) + 1))
    positives = np.array([len(own) for own in ranks])
    padded = np.zeros((len(ranks), max(positives.max(), 1)), np.int64)
    for filled, own in zip(padded, ranks, strict=True):
        filled[: len(own)] = own
    return Ranks(np.arange(len(ranks)), padded, positives)


def scores_of_blocks(
    search: Search, similarity: Similarity, block: int = 512
) -> Iterator[tuple[int, np.ndarray]]:
    """Similarities of some queries and the gallery, [some, n], and the first's number.

    Of rows with several labels, whose positives are not side by side in any order.
    """
    compute = jax.jit(functools.partial(apply, similarity))
    for begin in range(0, len(search.queries), block):
        scores = compute(search.queries[begin : begin + block], search.gallery)
        _check_numbers(np.isnan(scores))
        yield begin, np.asarray(scores)


def ranks_of_positives(
    search: Search,
    *,
    similarity: Similarity,
    first_only: bool = False,
    block: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[Ranks]:
    """Ranks of the positives of all queries, many queries at a time.

    Args:
      search: the protocol.
      similarity: higher is closer.
      first_only: of the positive that is found first alone.
      block: height and width of a tile; None for what suits the platform.
      devices: they share the tiles, by default all of this process; no count depends
        on how many they are.

    Raises:
      ValueError: the similarity returns another shape, or not a number.
      TypeError: it is no similarity.
    """
    check_functions(similarity=similarity)
    devices = jax.local_devices() if devices is None else devices
    if block is None:
        block = 512 if devices[0].platform == "cpu" else 4096
    check_count("block", block, 1)
    if search.query_labels.ndim == 2:
        masks = search.masks()
        for begin, scores in scores_of_blocks(search, similarity, block):
            some = ranks_of_scores(scores, itertools.islice(masks, len(scores)))
            yield some._replace(queries=begin + some.queries)
        return
    groups = _Groups.of(search)
    widest = max(int(groups.size.max()), 1)
    # Each tile serves both its rows and its columns, where they are the same set, the
    # order of the two does not matter, and all thresholds are held at once.
    mirror = (
        search.queries is search.gallery
        and similarity in _PRODUCTS
        and len(groups.order) * widest <= _MOST
    )
    step = len(groups.order) if mirror else max(_MOST // widest, block)
    gallery = _prepare(search.gallery[groups.gallery_order], similarity, None)
    for begin in range(0, len(groups.order), step):
        part = groups.some(slice(begin, begin + step))
        queries = (
            gallery
            if mirror
            else _prepare(search.queries[part.order], similarity, gallery)
        )
        tiles = _Tiles.of(queries, gallery, part, block)
        rule = _Rule(similarity, len(search.gallery), widest, mirror)
        run = functools.partial(
            across, blocks=len(tiles.first), devices=devices, rule=rule
        )
        own = run(_own_class, tiles, combine=lax.pmax)
        own = own.reshape(-1, widest)[: len(part.order)]
        thresholds, before, positives = _thresholds(search, groups, part, own)
        width = 1 if first_only else max(int(positives.max()), 1)
        thresholds = thresholds[:, :width]
        wanted = _by_block(thresholds, positives, block)
        counts = run(_reaching, (tiles, wanted), combine=lax.psum)
        _check_numbers(counts < 0)
        counts = counts.transpose(0, 3, 1, 2).reshape(len(counts) * block, -1)
        counts = counts[: len(part.order), :width]
        yield _ranks(part.order, counts, before, positives)


def _check_numbers(wrong: np.ndarray | jax.Array) -> None:
    if wrong.any():
        raise ValueError("similarity must return numbers, got some that are none (NaN)")


def _ranks(
    queries: np.ndarray, counts: np.ndarray, before: np.ndarray, positives: np.ndarray
) -> Ranks:
    # What reaches a threshold are negatives and what of the query's own class does,
    # which is known; of those the positives up to this one rank before.
    place = np.arange(1, counts.shape[1] + 1)
    ranks = counts.astype(np.int64) - before[:, : counts.shape[1]] + place
    ranks[place > positives[:, None]] = 0
    return Ranks(queries, ranks, positives)


class _Groups(NamedTuple):
    """Queries and gallery sorted by class, so that a class is a range of the gallery.

    Large classes come first: queries side by side then have equally many positives.
    """

    order: np.ndarray  # [q] queries, as they are taken
    gallery_order: np.ndarray  # [n]
    start: np.ndarray  # [q] first row of the class in the sorted gallery
    size: np.ndarray  # [q] rows of the class in the gallery

    @staticmethod
    def of(search: Search) -> "_Groups":
        both = np.concatenate([search.query_labels, search.gallery_labels])
        if both.dtype.kind == "f":  # NumPy's common type of int64 and uint64
            both = np.concatenate(
                [search.query_labels.astype(object), search.gallery_labels]
            )
        _, code = np.unique(both, return_inverse=True)
        queries, gallery = np.split(code, [len(search.query_labels)])
        sizes = np.bincount(gallery, minlength=code.max() + 1)
        place = np.empty_like(sizes)
        place[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
        starts = np.concatenate([[0], np.cumsum(np.sort(sizes)[::-1])])
        order = np.argsort(place[queries], kind="stable")
        return _Groups(
            order,
            np.argsort(place[gallery], kind="stable"),
            starts[place[queries[order]]],
            sizes[queries[order]],
        )

    def some(self, queries: slice) -> "_Groups":
        return self._replace(
            order=self.order[queries],
            start=self.start[queries],
            size=self.size[queries],
        )


class _Rows(NamedTuple):
    vectors: np.ndarray  # [rows, dim], of which products are taken
    squares: np.ndarray  # [rows]
    centre: jax.Array | None


def _prepare(rows: np.ndarray, similarity: Similarity, gallery: _Rows | None) -> _Rows:
    products = _PRODUCTS.get(similarity)
    if products is None:
        return _Rows(rows, np.zeros(len(rows), rows.dtype), None)
    if similarity in ORDERS:
        rows = directions(rows)
    centre = _centre(products, rows) if gallery is None else gallery.centre
    vectors = products.vectors(jnp.asarray(rows), centre)
    return _Rows(np.asarray(vectors), np.asarray(squared_lengths(vectors)), centre)


def _centre(products: Products, rows: np.ndarray) -> jax.Array | None:
    """The mean of some rows, rounded so that whole numbers less it stay exact."""
    centre = products.mean(jnp.asarray(rows))
    if centre is None:
        return None
    spread = jnp.max(jnp.abs(rows - centre))
    step = jnp.where(spread > 0, jnp.ldexp(1.0, jnp.frexp(spread)[1] - 6), 1)
    return jnp.where(spread > 0, jnp.round(centre / step) * step, centre)


class _Tiles(NamedTuple):
    """Queries and gallery cut into blocks, the last one filled up."""

    queries: Any  # [blocks, block, dim] and [blocks, block]
    gallery: Any
    start: np.ndarray  # int32 [blocks, block]
    # The gallery blocks with rows of a query block's classes, int32 [blocks].
    first: np.ndarray
    end: np.ndarray

    @staticmethod
    def of(queries: _Rows, gallery: _Rows, groups: _Groups, block: int) -> "_Tiles":
        def cut(x: np.ndarray, filling: int = 0) -> np.ndarray:
            widths = [(0, -len(x) % block)] + [(0, 0)] * (x.ndim - 1)
            filled = np.pad(x, widths, constant_values=filling)
            return filled.reshape(-1, block, *x.shape[1:])

        found, far = groups.size > 0, np.iinfo(np.int32).max
        start, end = groups.start // block, -(-(groups.start + groups.size) // block)
        return _Tiles(
            (cut(queries.vectors), cut(queries.squares)),
            (cut(gallery.vectors), cut(gallery.squares)),
            cut(groups.start.astype(np.int32)),
            cut(np.where(found, start, far), far).min(1).astype(np.int32),
            cut(np.where(found, end, 0)).max(1).astype(np.int32),
        )


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What is known before compiling."""

    similarity: Similarity
    gallery: int  # rows, without those that fill up the last block
    widest: int  # rows of the largest class
    mirror: bool

    def tile(self, tiles: _Tiles, i: jax.Array, j: jax.Array) -> jax.Array:
        """Similarities [gallery row of block j, query of block i]."""
        (q, q2), (g, g2) = (
            jax.tree.map(lambda x, at=at: x[at], side)
            for side, at in ((tiles.queries, i), (tiles.gallery, j))
        )
        products = _PRODUCTS.get(self.similarity)
        if products is None:
            values = apply(self.similarity, q, g).T
        else:
            values = products.value(dot(g, q), q2[None, :], g2[:, None])
        row = j * len(g) + jnp.arange(len(g), dtype=jnp.int32)
        values = lax.cond(
            (j + 1) * len(g) > self.gallery,
            lambda x: jnp.where(row[:, None] < self.gallery, x, -jnp.inf),
            lambda x: x,
            values,
        )
        return lax.optimization_barrier(values)


def _for_each_tile(
    rule: _Rule, numbers: jax.Array, first: Any, end: Any, visit: Any, result: jax.Array
) -> jax.Array:
    """Folds `visit(i, j, result)` over the tiles of some blocks of queries."""

    def queries(k: jax.Array, result: jax.Array) -> jax.Array:
        i = numbers[k]
        begin = i if rule.mirror else first[i]
        stop = jnp.where(i < 0, begin, end[i])
        return lax.fori_loop(begin, stop, functools.partial(visit, i), result)

    return lax.fori_loop(0, len(numbers), queries, result)


def _own_class(tiles: _Tiles, numbers: jax.Array, rule: _Rule) -> jax.Array:
    """Similarities [blocks, block, widest] of queries and their class's gallery rows.

    -inf where a class has fewer, and in the blocks of other devices.
    """
    blocks, block = tiles.start.shape
    member = jnp.arange(rule.widest, dtype=jnp.int32)
    column = jnp.arange(block, dtype=jnp.int32)[:, None]

    def take(values: jax.Array, start: jax.Array, other: jax.Array) -> jax.Array:
        row = start[:, None] + member[None, :] - other * block
        inside = (row >= 0) & (row < block)
        return jnp.where(inside, values[jnp.clip(row, 0, block - 1), column], -jnp.inf)

    def visit(i: jax.Array, j: jax.Array, own: jax.Array) -> jax.Array:
        values = rule.tile(tiles, i, j)
        own = own.at[i].max(take(values, tiles.start[i], j))
        if not rule.mirror:
            return own
        return own.at[j].max(
            jnp.where(j > i, take(values.T, tiles.start[j], i), -jnp.inf)
        )

    dtype = tiles.gallery[0].dtype
    empty = jnp.full((blocks, block, rule.widest), -jnp.inf, dtype)
    return _for_each_tile(rule, numbers, tiles.first, tiles.end, visit, empty)


def _reaching(
    shared: tuple[_Tiles, tuple[jax.Array, jax.Array]],
    numbers: jax.Array,
    rule: _Rule,
) -> jax.Array:
    """Gallery rows that reach each threshold, int32 [blocks, chunk, some, block]."""
    tiles, (thresholds, chunks) = shared
    blocks = jnp.full(len(tiles.first), len(tiles.gallery[0]), jnp.int32)

    def visit(i: jax.Array, j: jax.Array, counts: jax.Array) -> jax.Array:
        values = rule.tile(tiles, i, j)
        if rule.similarity not in _PRODUCTS:  # which are finite where rows are
            wrong = jnp.where(jnp.isnan(values).any(), _NOT_A_NUMBER, 0)
            counts = counts.at[i].min(wrong)

        def add(counts: jax.Array, at: jax.Array, axis: int) -> jax.Array:
            def some(k: jax.Array, counts: jax.Array) -> jax.Array:
                return counts.at[at, k].add(_count(values, thresholds[at, k], axis))

            return lax.fori_loop(0, chunks[at], some, counts)

        counts = add(counts, i, 0)
        if rule.mirror:
            counts = lax.cond(j > i, lambda c: add(c, j, 1), lambda c: c, counts)
        return counts

    none = jnp.zeros(thresholds.shape, jnp.int32)
    return _for_each_tile(rule, numbers, jnp.zeros_like(blocks), blocks, visit, none)


def _count(values: jax.Array, thresholds: jax.Array, axis: int) -> jax.Array:
    """How many values reach each threshold [some, n], along an axis; int32 [some, n].

    Counted in float32, exactly for less than 2^24: sums of floats XLA vectorises.
    """
    if axis == 0 and jax.default_backend() == "cpu":

        def row(counts: jax.Array, values: jax.Array) -> tuple[jax.Array, None]:
            return counts + jnp.where(values[None, :] >= thresholds, 1.0, 0.0), None

        zeros = jnp.zeros(thresholds.shape, jnp.float32)
        return lax.scan(row, zeros, values)[0].astype(jnp.int32)
    counts = [
        jnp.sum(jnp.where(values >= jnp.expand_dims(t, axis), 1.0, 0.0), axis)
        for t in thresholds
    ]
    return jnp.stack(counts).astype(jnp.int32)


def _thresholds(
    search: Search, groups: _Groups, part: _Groups, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities of positives, falling; what of the class reaches each; how many."""
    member = np.arange(own.shape[1])
    listed = member < part.size[:, None]
    rows = groups.gallery_order[
        np.minimum(part.start[:, None] + member, len(groups.gallery_order) - 1)
    ]
    positive = listed & ~search.skipped(part.order[:, None], rows)
    own = np.where(listed, own, -np.inf)
    falling = np.argsort(-own, axis=1, kind="stable")
    own, positive = (np.take_along_axis(x, falling, 1) for x in (own, positive))
    # The last of equals has as many at or above it as its place says.
    last = np.ones_like(positive)
    last[:, :-1] = own[:, :-1] > own[:, 1:]
    place = np.where(last, member + 1, own.shape[1] + 1)
    reach = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    front = np.argsort(~positive, axis=1, kind="stable")
    own, reach = (np.take_along_axis(x, front, 1) for x in (own, reach))
    positives = positive.sum(1)
    own[member >= positives[:, None]] = np.inf
    return own, reach, positives


def _by_block(
    thresholds: np.ndarray, positives: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds [blocks, chunk, some, block], and how many chunks each block needs."""
    n, width = thresholds.shape
    some = min(width, _AT_A_TIME)
    filling = (0, -n % block), (0, -width % some)
    filled = np.pad(thresholds, filling, constant_values=np.inf)
    needed = np.pad(np.minimum(positives, width), filling[0]).reshape(-1, block).max(1)
    return (
        filled.reshape(-1, block, filled.shape[1] // some, some).transpose(0, 2, 3, 1),
        (-(-needed // some)).astype(np.int32),
    )
