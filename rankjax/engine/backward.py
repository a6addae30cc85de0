"""The gradient of a loss, derived from what it does to a pair."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.blocks import (
    apart,
    cut,
    matmul_transposed,
    put,
    scan_blocks,
    spread,
)
from rankjax.engine.forward import Forward, Lanes
from rankjax.engine.seen import (
    BOTH,
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
from rankjax.engine.slopes import to_columns, to_rows
from rankjax.pairs import Members, Rows


class Backward(Forward):
    """Passes over the pairs of a batch that find its gradient."""

    def backward(
        self,
        found: list[Any],
        product: jax.Array | None,
        lanes: Lanes | None,
        cotangents: Any,
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
            assert lanes is not None
            totals.append([*self._gradient_from_positives(of, found, product, lanes)])
        vectors, of_settings = functools.reduce(_add, totals)
        return vectors, of_settings

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
            every = gather((known, of_sums), self.how.axis_name)
        numbers = [
            i
            for i, s in enumerate(self.statistics)
            if is_at_hand(s) and s.differentiable
        ]
        slope = self._by_similarity(numbers)

        def from_one_end(
            rows: Rows,
            column: jax.Array,
            exists: jax.Array,
            known: Any,
            of_sums: Any,
            given: dict[int, jax.Array],
        ) -> tuple[Anchors, Any, jax.Array]:
            here = self._find([(x,) for x in known], rows, None, None, column, given)
            of, of_settings = self._complete(
                here, rows, None, None, of_sums, column, exists
            )
            seen = self._at_hand(rows, column, None)
            g = grid(slope, seen, of, ROWS, seen.references, BOTH) * seen.slope
            return of, of_settings, jnp.where(exists[:, None], g, 0)

        def visit(slot: jax.Array, given: Any, state: Any) -> Any:
            of_rows, of_anchors, of_references, of_settings = state
            column, exists = self._at_slot(slot, self.members)
            of, settings, g = from_one_end(
                anchors, column, exists, known, of_sums, given
            )
            cotangents = [of.cotangent[i] for i in given]
            of_rows = {i: x + of.cotangent[i] for i, x in of_rows.items()}
            there = vectors[column]
            if every is not None:
                rows, known_there, sums_there = jax.tree.map(
                    lambda x: x[column], (self.references, *every)
                )
                back, _, more = from_one_end(
                    rows, anchors.index, exists, known_there, sums_there, given
                )
                cotangents = [
                    x + back.cotangent[i]
                    for i, x in zip(given, cotangents, strict=True)
                ]
                for i, s in enumerate(self.statistics):
                    if s.source in of_rows:
                        of_rows[s.source] += back.cotangent[i]
                g = g + more
            else:
                to = g * (anchors.embeddings - less * there)
                of_references = of_references.at[column].add(to)
            of_anchors = of_anchors + g * (there - less * anchors.embeddings)
            of_settings = _add(of_settings, settings)
            return (of_rows, of_anchors, of_references, of_settings), cotangents

        def group(first: jax.Array, count: jax.Array, state: Any) -> Any:
            sums = {
                i: lax.cond(
                    first == 0,
                    lambda i=i: found[i][1],
                    lambda i=i: self.sums_of_both(i, first),
                )
                for i in self.how.program.of_both
            }

            def one(lane: jax.Array, state: Any) -> Any:
                state, lanes = state
                given = self._given(sums, lane)
                state, cotangents = visit(first + lane, given, state)
                return state, [
                    x.at[:, lane].set(y) for x, y in zip(lanes, cotangents, strict=True)
                ]

            lanes = [
                jnp.zeros((len(anchors.index), LANES), vectors.dtype) for _ in sums
            ]
            state = spread((state, lanes), anchors.embeddings)
            state, lanes = lax.fori_loop(0, count, one, state)
            of_rows, of_anchors, of_references, of_settings = state
            for (i, x), lane in zip(sums.items(), lanes, strict=True):
                more, settings = self.gradient_of_both(i, x, lane)
                of_anchors, of_settings = _add(
                    (of_anchors, of_settings), (more, settings)
                )
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
        state = self._over_lanes(group, state)
        return state[0], (state[1], state[2]), state[3]

    def _gradient_in_tiles(self, of: Anchors, numbers: frozenset[int]) -> jax.Array:
        """Cotangents of the anchors' vectors, by rows' statistics."""
        less = self.how.products.less
        some = frozenset(i for i in numbers if not self._is_by_index(i))

        def visit(state: Any, tile: Tile) -> Any:
            slope, seen = self._by_similarity(some), tile.seen
            g = grid(slope, seen, tile.here, ROWS, seen.references, seen.along)
            rows = tile.rows_as_references
            g = g + grid(slope, seen, tile.there, COLUMNS, rows, ROWS)
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

        def rest(anchors: Rows, index: Members | None, here: Anchors) -> jax.Array:
            itself, total = self._as_references(anchors), anchors.embeddings * 0

            def more(seen: Seen, total: jax.Array) -> jax.Array:
                slope, column = self._by_similarity(numbers), seen.references.position
                there = jax.tree.map(lambda x: x[column], of)
                g = grid(slope, seen, here, ROWS, seen.references, BOTH)
                g = (g + grid(slope, seen, there, BOTH, itself, ROWS)) * seen.slope
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
        slopes: dict[int, dict[int, jax.Array]] | None = None,
    ) -> tuple[Anchors, Any]:
        """Cotangents of statistics, of anchors or of the positive at hand.

        Args:
          cotangents: of the leaves of the result; with a positive at hand of the sums
            over positives.
          exists: [anchor] bool, where there is a positive at hand.
          of_rows: [anchor] cotangents that are known already, by statistic.
          slopes: [anchor] of statistics by what they look at; see `Lanes`.

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
                here = jnp.where(some & along(exists, some), cotangents[i], 0)
                of_terms[i] = [here.astype(value.dtype), _zero_cotangent(some)]
            cotangent, of_settings = pull((*nothing[:2], of_terms))
        for i, x in (of_rows or {}).items():
            cotangent[level.index(i)] += x

        def known() -> Anchors:
            every = [jnp.zeros_like(x[0]) for x in found]
            for i, x in zip(level, cotangent, strict=True):
                every[i] = x
            at = or_none(column, anchors)
            return Anchors(shared, [x[0] for x in found], every, at)

        def through(numbers: frozenset[int]) -> tuple[list[jax.Array], Any]:
            """Further cotangents, by way of what pairs know of anchors."""
            recorded = slopes or {}
            of = known()
            total = [jnp.zeros_like(x) for x in of.smooth]
            if unknown := numbers - recorded.keys():
                total = self.gradient_of_shared(unknown, of, anchors, index, product)
            for i in numbers & recorded.keys():
                for j, x in recorded[i].items():
                    total[j] += along(of.cotangent[i], x) * x
            some = iter(total)
            of_shared = [
                next(some) if is_float(x) else _zero_cotangent(x) for x in shared
            ]
            more = pull((of_shared, *nothing[1:]))
            return _add((cotangent, of_settings), more)

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
            i for i, s in enumerate(self.statistics) if is_sum(s) and s.differentiable
        ]

        def leaves(some: list[jax.Array]) -> Any:
            every = list(found)
            for i, x in zip(sums, some, strict=True):
                every[i] = (x,)
            return self._of_anchors(self.anchors, every, self.smooth)[1]

        _, pull = jax.vjp(leaves, [found[i][0] for i in sums])
        of_sums = {i: jnp.zeros_like(x[0]) for i, x in enumerate(found)}
        return of_sums | dict(zip(sums, pull(cotangents)[0], strict=True))

    def _gradient_of_vectors(
        self, of: Anchors, found: list[Any], product: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Cotangents of anchors' and of references' vectors, by rows' statistics."""
        smooth = [i for i, s in enumerate(self.statistics) if s.differentiable]
        level = {i for i in self._of_level(smooth, None) if self._on_pairs(i)}
        chosen = {i for i in level if self.statistics[i].kind == "largest"}
        dense = frozenset(level - chosen)
        everyone = gather(of, self.how.axis_name) if self.how.mirrored else None

        def block(
            of_references: jax.Array,
            anchors: Rows,
            index: Members | None,
            of: Anchors,
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
        of: Anchors,
        everyone: Anchors | None,
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

        def more(seen: Seen, g: jax.Array) -> jax.Array:
            now = numbers & seen.numbers
            if not now:
                return g
            slope = self._by_similarity(now)
            new = grid(slope, seen, of, ROWS, seen.references, seen.along)
            column, there = seen.references.position, everyone
            if there is not None:
                if seen.along == BOTH:
                    there = jax.tree.map(lambda x: x[column], there)
                new = new + grid(slope, seen, there, seen.along, itself, ROWS)
            if seen.along == BOTH:
                return g.at[row, column].add(new * seen.slope)
            return apart(g + new * seen.slope)

        every = self._every(anchors, product)
        return self._over_references(more, g, every, anchors, index, product, numbers)

    def _pull(self, g: jax.Array, anchors: Rows) -> tuple[jax.Array, jax.Array]:
        """What slopes [anchor, reference] do to the vectors of both.

        Zeros for the references where the slopes are of both orders.
        """
        vectors, less = self.references.embeddings, self.how.products.less
        ends = anchors.embeddings, vectors, less
        if self.how.mirrored:
            return to_rows(g, *ends), jnp.zeros_like(vectors)
        return to_rows(g, *ends), to_columns(g, *ends)

    def _gradient_from_positives(
        self,
        of: Anchors,
        found: list[Any],
        product: jax.Array | None,
        recorded: Lanes,
    ) -> tuple[tuple[jax.Array, jax.Array], Any]:
        """Cotangents of vectors and of settings, by statistics that positives have.

        Some positives of every anchor at a time: first their cotangents are found, and
        told to everyone, then their slopes are added up.
        """
        anchors, index = self.anchors, self.members
        assert index is not None
        smooth = [i for i, s in enumerate(self.statistics) if s.differentiable]
        numbers = frozenset(i for i in smooth if self.statistics[i].each_positive)
        at_hand = frozenset(i for i in numbers if is_at_hand(self.statistics[i]))
        vectors, less = self.references.embeddings, self.how.products.less

        def one(slot: jax.Array, lane: Lanes) -> tuple[Any, Any, jax.Array]:
            """A positive of each anchor: its cotangents, the slope at it, and which
            column it is."""
            column, exists = self._at_slot(slot, index)
            here = self._find(found, anchors, index, product, column, lane.known)
            now, settings = self._complete(
                *(here, anchors, index, product, of.cotangent, column, exists),
                slopes=lane.slopes,
            )
            seen = self._at_hand(anchors, column, product)
            slope = self._by_similarity(at_hand)
            g = grid(slope, seen, now, ROWS, seen.references, BOTH) * seen.slope
            return (now, jnp.where(exists, g[:, 0], 0)), settings, column

        def group(first: jax.Array, count: jax.Array, state: Any) -> Any:
            def again(anchors: Rows, index: Members, found: Any, kept: Any) -> Lanes:
                product = self._products(anchors, kept)
                return self.look_from_positives(
                    anchors, index, product, found, first, count
                )

            rows = anchors, index
            known = lax.cond(
                first == 0,
                lambda: recorded,
                lambda: self._in_blocks(again, *rows, found, product),
            )

            def cotangents(i: jax.Array, state: Any) -> Any:
                lanes, of_anchors, of_references, of_settings = state
                now, settings, column = one(first + i, known.at(i))
                g = now[1][:, None]
                of_anchors += g * (vectors[column] - less * anchors.embeddings)
                if not self.how.mirrored:
                    to = g * (anchors.embeddings - less * vectors[column])
                    of_references = of_references.at[column].add(to)
                lanes = jax.tree.map(
                    lambda x, y: lax.dynamic_update_index_in_dim(x, y, i, 1), lanes, now
                )
                return lanes, of_anchors, of_references, _add(of_settings, settings)

            def slopes(
                of_references: jax.Array,
                anchors: Rows,
                index: Members,
                lanes: Anchors,
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

            shapes = jax.eval_shape(lambda: one(first, known.at(first))[0])
            lanes = jax.tree.map(
                lambda x: jnp.zeros((x.shape[0], LANES, *x.shape[1:]), x.dtype), shapes
            )
            lanes = spread(lanes, anchors.embeddings)
            (lanes, at_positive), of_anchors, of_references, of_settings = (
                lax.fori_loop(0, count, cotangents, (lanes, *state))
            )
            everyone: Anchors | None = None
            if self.how.mirrored:
                everyone, at_positive = gather((lanes, at_positive), self.how.axis_name)
                # Lanes first: a lane is read along the references, of every anchor.
                everyone = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), everyone)
                of_anchors += self._from_other_ends(at_positive, first, count)
            of_references, more = scan_blocks(
                slopes, self.how.block, of_references, *rows, lanes, product
            )
            return of_anchors + more, of_references, of_settings

        state = (
            jnp.zeros_like(self.anchors.embeddings),
            jnp.zeros_like(vectors),
            jax.tree.map(jnp.zeros_like, self.smooth),
        )
        of_anchors, of_references, of_settings = self._over_lanes(group, state)
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
        self, number: int, of: Anchors, column: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Cotangents of vectors by way of one reference of each anchor."""
        anchors, vectors = self.anchors, self.references.embeddings
        product = jnp.sum(anchors.embeddings * vectors[column], 1)[:, None]
        seen = self._some(anchors, column[:, None], product, {number})
        slope = self._by_similarity({number})
        g = grid(slope, seen, of, ROWS, seen.references, BOTH) * seen.slope
        g = jnp.where(jnp.isfinite(of.known[number]), g[:, 0], 0)[:, None]
        less = self.how.products.less
        of_anchors = g * (vectors[column] - less * anchors.embeddings)
        ends = anchors.embeddings
        if self.how.mirrored:
            # Everyone's choices, of which those of own rows are to be taken.
            (g, column), ends = gather((g, column), self.how.axis_name), vectors
        back = g * (ends - less * vectors[column])
        return of_anchors, jnp.zeros_like(vectors).at[column].add(back)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _add_at(total: jax.Array, new: jax.Array, start: jax.Array) -> jax.Array:
    return put(total, cut(total, start, len(new)) + new, start)


def _at(x: jax.Array, place: jax.Array, axis: int) -> jax.Array:
    return lax.dynamic_index_in_dim(x, place, axis, keepdims=False)


def _zero_cotangent(x: jax.Array) -> Any:
    return jnp.zeros_like(x) if is_float(x) else np.zeros(x.shape, jax.dtypes.float0)
