"""From a loss on pairs to one pure function of embeddings and labels.

    embeddings, labels -> Pairs -> mined Pairs -> Terms -> scalar

Everything that is not a loss's business happens here and only here: the pairing of
rows, validity, given masks, other devices' rows, row blocks, weights, the reduction.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import engine, inputs
from rankjax.blocks import in_blocks, pad, spread
from rankjax.entry import Kind, check_settings, default_similarity, entry_of
from rankjax.mining import Miner
from rankjax.pairs import Pairs, Rows, class_sizes, features, occurrences, pair_rows
from rankjax.similarity import Similarity, at_least_float32
from rankjax.terms import Add, Pooled, Reduction, Result, Terms, mean

Loss = Callable[..., Result]
"""`loss(pairs, *, hyper-parameters)`, or of `Features` for a loss listed as such."""

_PAIRS_AT_ONCE = 2**22

AxisName = str | tuple[str, ...]


class Objective(Protocol):
    """The function that `objective` returns."""

    def __call__(
        self,
        embeddings: Any,
        labels: Any = None,
        *,
        references: Any = None,
        reference_labels: Any = None,
        valid: Any = None,
        reference_valid: Any = None,
        reference_index: Any = None,
        positive: Any = None,
        negative: Any = None,
        weights: Any = None,
        key: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Computes the loss of a batch.

        Args:
          embeddings: [n, dim] floating point.
          labels: [n] integer, any values; equal labels are positives. Or [n, classes]
            bool, where a row has several labels; rows that share one are positives.
          references: [m, dim] to compare with instead of the batch itself: the other
            of two towers, proxies. Gradients flow into them.
          reference_labels: [m] or [m, classes], with `references`.
          valid: [n] bool; False rows are padding, whatever they hold.
          reference_valid: [m] bool, with `references`.
          reference_index: [m] int, with `references`: which row of the batch, over all
            devices, a reference is a copy of, -1 for none; no two are copies of one
            row. A row and its copy are neither a positive nor a negative pair.
          positive: [n, m] bool, positives given instead of labels (m = n, over all
            devices, without `references`). A row is never its own positive.
          negative: [n, m] bool, with `positive`.
          weights: [n] non-negative; an anchor counts that many times.
          key: from `jax.random.key`, the same on every device, for random choices. A
            draw belongs to the numbers of its rows: blocks and devices change nothing.
          params: hyper-parameters of the loss that are traced: they may change without
            compiling again, and have gradients.

        Returns:
          Scalar loss, at least float32; with `has_aux` also a dict of scalars.

        Raises:
          ValueError, TypeError: shapes, types or combinations that cannot be meant,
            before anything is compiled.
        """
        ...


def objective(
    loss: Loss,
    *,
    mining: Miner | None = None,
    similarity: Similarity | None = None,
    reduction: Reduction = mean,
    regularizers: Sequence[tuple[float, Loss]] = (),
    axis_name: AxisName | None = None,
    replicated_references: bool = False,
    block: int | Literal["auto"] | None = "auto",
    has_aux: bool = False,
) -> Objective:
    """Composes a loss, its mining and its averaging into one pure function.

    The result can be differentiated, jitted, vmapped, and called inside `pmap` and
    `shard_map`.

    Args:
      loss: from `rankjax.losses`, or any `Pairs -> Terms`; bind settings with
        `functools.partial`, or pass numbers as `params` at the call.
      mining: narrows the pairs, see `rankjax.mining`.
      similarity: see `rankjax.similarity`; by default the paper's for a loss of
        `rankjax.losses`, the cosine for any other.
      reduction: `mean`, `mean_active`, `mean_per_anchor`, `class_balanced_mean` or
        `total`. Several Terms are reduced one by one and added.
      regularizers: pairs of weight and penalty from `rankjax.regularizers`, or any
        `Features -> Terms`; each is averaged over the batch (not the references) and
        added.
      axis_name: the mapped axis over which the batch is spread. Anchors are the
        device's own rows, references everyone's, and the result is the loss of the
        whole batch, the same on every device. Differentiate inside the map and combine
        gradients with `lax.pmean`, nothing else. `references` are spread likewise.
      replicated_references: every device holds all the references, as with proxies,
        rather than its share of them.
      block: number of anchors at a time: memory for block x references instead of the
        whole matrix. 'auto' chooses it by platform and batch. None is the plain
        reference: the whole matrix and autodiff, forward mode and Hessians included;
        otherwise losses that `rankjax.engine` can take apart have their gradients
        derived, in reverse mode alone. Under `jax.disable_jit` the loss is called as
        it is, once, to be looked into.
      has_aux: also return the share of terms above zero (`active_share`) and the mean
        similarity of all positive and of all negative pairs before mining.

    Raises:
      ValueError: block is below 1, or a setting bound to the loss is out of range.
      TypeError: mining for a loss that looks at features.
    """
    if (isinstance(block, str) and block != "auto") or (
        isinstance(block, int) and block < 1
    ):
        raise ValueError(f"block must be 'auto', None or at least 1, got {block!r}")
    of_features = _kind(loss) is Kind.FEATURES
    if mining is not None and of_features:
        raise TypeError("mining chooses pairs, and this loss looks at features")
    for part in (loss, *(penalty for _, penalty in regularizers)):
        if isinstance(part, functools.partial) and entry_of(part) is not None:
            check_settings(part, part.keywords)
    measure = default_similarity(loss) if similarity is None else similarity

    def add(x: Any) -> Any:
        return x if axis_name is None else lax.psum(x, axis_name)

    @jax.jit
    def compute(
        batch: Rows,
        references: Rows | None,
        weights: jax.Array | None,
        key: jax.Array | None,
        params: dict[str, Any],
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch = _number(_prepare(batch), axis_name)
        if references is None:
            anchors, others = _within(batch, axis_name)
        else:
            entry = entry_of(loss)
            anchors, others = _between(
                batch,
                _prepare(references),
                axis_name,
                replicated_references,
                swapped=entry is not None and entry.anchors == "references",
            )
        inputs.check_masks(anchors, others)
        params = spread(params, anchors.embeddings)

        def beside(terms: Result, pairs: Pairs) -> Result:
            # Beside the terms, so that blocks compute their similarities once.
            seen = (pairs.positive, pairs.negative) if has_aux else ()
            return _join(terms, *(Terms.of(pairs.similarity, mask) for mask in seen))

        def of_pairs(pairs: Pairs, params: dict[str, Any]) -> Result:
            mined = pairs if mining is None else mining(pairs)
            return beside(loss(mined, **params), pairs)

        def of_rows(rows: Rows) -> Result:
            pairs = pair_rows(rows, others, measure, key)
            if of_features:
                return beside(loss(features(rows, others), **params), pairs)
            return of_pairs(pairs, params)

        def total(x: jax.Array) -> jax.Array:
            return add(jnp.sum(x))

        own = _within(batch, axis_name)
        plan = None
        as_it_is = jax.config.jax_disable_jit  # type: ignore[attr-defined]
        if not (block is None or of_features or as_it_is):
            plan = engine.plan(
                of_pairs,
                pair_rows(anchors, others, measure, key),
                params,
                similarity=measure,
                itself=references is None,
                block=block,
                axis_name=axis_name,
            )
        if plan is None:
            size = _rows_at_once(anchors, others) if block == "auto" else block
            terms = _evaluate(of_rows, anchors, size, add)
        else:
            terms = [*engine.evaluate(*plan, anchors, others)]
        seen = [terms.pop() for _ in range(2)] if has_aux else []
        terms = [_with_context(t, anchors, own[1], weights) for t in terms]
        value = functools.reduce(operator.add, [reduction(t, total) for t in terms])
        for strength, penalty in regularizers:
            size = _rows_at_once(*own) if block == "auto" else block
            for t in _evaluate(_penalize(penalty, own[1]), own[0], size, add):
                value += strength * mean(t, total)
        if not has_aux:
            return value, {}
        negatives, positives = seen
        aux = {
            "active_share": sum(total(t.active) for t in terms)
            / jnp.maximum(sum(total(t.count) for t in terms), 1),
            "positive_similarity": mean(positives, total),
            "negative_similarity": mean(negatives, total),
        }
        return value, lax.stop_gradient(aux)

    def call(
        embeddings: Any,
        labels: Any = None,
        *,
        references: Any = None,
        reference_labels: Any = None,
        valid: Any = None,
        reference_valid: Any = None,
        reference_index: Any = None,
        positive: Any = None,
        negative: Any = None,
        weights: Any = None,
        key: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        batch = inputs.as_rows("", embeddings, labels, valid)
        others = None
        if references is not None:
            others = inputs.as_rows(
                "reference_", references, reference_labels, reference_valid
            )
            inputs.check_same_space(batch, others)
            others = inputs.with_copies(others, reference_index)
        elif not (reference_labels is reference_valid is reference_index is None):
            raise ValueError(
                "reference_labels, reference_valid and reference_index need "
                "references, which is None"
            )
        batch = inputs.with_masks(batch, others, positive, negative)
        weights = inputs.as_weights(weights, len(batch.embeddings))
        entry = entry_of(loss)
        if entry is not None:
            check_settings(loss, params or {})
            inputs.check_references(entry, others, weights)
        value, aux = compute(batch, others, weights, key, dict(params or {}))
        return (value, aux) if has_aux else value

    return call


def _kind(loss: Loss) -> Kind | None:
    entry = entry_of(loss)
    return None if entry is None else entry.kind


def _number(batch: Rows, axis_name: AxisName | None) -> Rows:
    """Numbers the rows over all devices."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * len(batch.index)
    return dataclasses.replace(batch, index=first + batch.index)


def _within(batch: Rows, axis_name: AxisName | None) -> tuple[Rows, Rows]:
    """The device's own rows as anchors, everyone's as references."""
    own = dataclasses.replace(batch, positive=None, negative=None)
    others = _gather(own, axis_name)
    if others.label is None or others.label.ndim == 2:
        return batch, others
    occurrence = occurrences(others.label, others.valid)
    return (
        dataclasses.replace(batch, occurrence=occurrence[batch.index]),
        dataclasses.replace(others, occurrence=occurrence),
    )


def _between(
    batch: Rows,
    references: Rows,
    axis_name: AxisName | None,
    replicated: bool,
    *,
    swapped: bool,
) -> tuple[Rows, Rows]:
    """The batch as anchors and other rows as references; or swapped."""
    if not replicated:
        references = _gather(references, axis_name)
    # Where they are not copies, two batches share no rows: numbers that no anchor has.
    index = references.index
    index = jnp.where(index >= 0, index, -1 - _count(references))
    references = dataclasses.replace(references, index=index)
    if not swapped:
        return batch, references
    batch = _gather(batch, axis_name)
    anchors = references
    if batch.positive is not None and batch.negative is not None:
        anchors = dataclasses.replace(
            anchors, positive=batch.positive.T, negative=batch.negative.T
        )
    return (
        _share(anchors, axis_name),
        dataclasses.replace(batch, positive=None, negative=None),
    )


def _count(rows: Rows) -> jax.Array:
    return jnp.arange(len(rows.embeddings), dtype=jnp.int32)


def _share(rows: Rows, axis_name: AxisName | None) -> Rows:
    """This device's part of rows that every device holds, the last part padded."""
    if axis_name is None:
        return rows
    devices = lax.axis_size(axis_name)
    size = -(-len(rows.embeddings) // devices)
    padding = size * devices - len(rows.embeddings)
    first = lax.axis_index(axis_name) * size
    return jax.tree.map(
        lambda x: lax.dynamic_slice_in_dim(pad(x, padding), first, size), rows
    )


def _prepare(rows: Rows) -> Rows:
    """Zeroes padding, which may hold anything, and raises half precision.

    Both come before anything else: NaN must reach neither value nor gradient, and the
    gradient of a row, a sum over its roles, is rounded once.
    """
    full = at_least_float32(rows.embeddings)
    return dataclasses.replace(rows, embeddings=jnp.where(rows.valid[:, None], full, 0))


def _gather(rows: Rows, axis_name: AxisName | None) -> Rows:
    if axis_name is None:
        return rows
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), rows)


def _evaluate(
    function: Callable[[Rows], Result], anchors: Rows, block: int | None, add: Add
) -> list[Terms]:
    """Terms [anchor] of a function of anchors, whatever the batch-wide sums it needs.

    A function that asks for sums is run again once they are known, so that row blocks
    never hold more than one block's pairs; without blocks the compiler sees that both
    runs are the same.
    """
    known: list[Any] = []
    while True:
        pooled = False

        def stage(rows: Rows) -> Any:
            nonlocal pooled
            result = function(rows)
            for sums in known:
                assert isinstance(result, Pooled)
                result = result.then(sums)
            pooled = isinstance(result, Pooled)
            if isinstance(result, Pooled):
                return jax.tree.map(lambda x: x[None], result.sums)
            return [result] if isinstance(result, Terms) else [*result]

        if block is None:
            results = stage(anchors)
        else:
            results = in_blocks(jax.checkpoint(stage), block, anchors)
        if not pooled:
            return jax.tree.map(lambda x: x[: len(anchors.embeddings)], results)
        known.append(jax.tree.map(lambda x: add(jnp.sum(x, 0)), results))


def _rows_at_once(anchors: Rows, references: Rows) -> int | None:
    """Anchors at a time where the whole matrix is evaluated by autodiff."""
    fitting = _PAIRS_AT_ONCE // len(references.embeddings)
    return None if fitting >= len(anchors.embeddings) else max(fitting, 1)


def _join(result: Result, *more: Terms) -> Result:
    if isinstance(result, Pooled):
        then = result.then
        return Pooled(result.sums, lambda sums: _join(then(sums), *more))
    return (result, *more) if isinstance(result, Terms) else (*result, *more)


def _with_context(
    terms: Terms, anchors: Rows, batch: Rows, weights: jax.Array | None
) -> Terms:
    """What a reduction wants to know of anchors, besides the loss's own sums."""
    sizes = None
    single = anchors.label is not None and anchors.label.ndim == 1
    if single and anchors.label is not None and batch.label is not None:
        sizes = class_sizes(anchors.label, batch.label, batch.valid)
    if weights is not None:
        weights = weights.astype(terms.total.dtype)
    return dataclasses.replace(terms, weight=weights, class_size=sizes)


def _penalize(penalty: Loss, references: Rows) -> Callable[[Rows], Result]:
    """A penalty as a function of anchors; one that is not listed takes features."""
    if _kind(penalty) in (None, Kind.FEATURES):
        return lambda rows: penalty(features(rows, references))
    measure = default_similarity(penalty)
    return lambda rows: penalty(pair_rows(rows, references, measure))
