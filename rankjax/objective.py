"""From a loss on pairs to one pure function of embeddings and labels.

    embeddings, labels -> Pairs -> mined Pairs -> Terms -> scalar

Everything that is not a loss's business happens here and only here: the pairing of
rows, validity, given masks, other devices' rows, row blocks, weights, the reduction.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax import gradients, inputs
from rankjax.blocks import cast_varying, on_any_mesh, pad, varying_axes
from rankjax.inputs import Positives, References
from rankjax.mining import Miner
from rankjax.pairs import (
    Relevance,
    Rows,
    class_sizes,
    features,
    not_finite,
    occurrences,
    pair_rows,
    prefix,
)
from rankjax.registry import (
    Kind,
    bound,
    check_settings,
    default_similarity,
    info_of,
    name_of,
    split_numbers,
)
from rankjax.similarity import SIMILARITIES, Similarity, at_least_float32
from rankjax.terms import BatchSums, Reduction, Result, Terms, mean, mean_active, ratio

Loss = Callable[..., Result]
"""`loss(pairs, *, hyper-parameters)`, or of `Features` where it is registered so."""
Aux = dict[str, jax.Array]
Value = TypeVar("Value")
AxisName = str | tuple[str, ...]
Block = int | Literal["auto"] | None
Where = Literal["spread", "replicated", "sharded"]
"""Whether references are gathered, held by every device, or stay where they are."""

_PAIRS_AT_ONCE = {"cpu": 2**20}
"""Pairs in a block: on a CPU what its cache holds, elsewhere a share of the memory."""


@dataclasses.dataclass(frozen=True, repr=False)
class Objective(Generic[Value]):
    """A pure function of a batch, made by `objective`, that says what it computes.

    Equal objectives share one compiled program. Numbers (`params`, weights of
    regularisers) are operands of it: another margin compiles nothing.

    Attributes:
      loss: with the settings bound that shape the computation.
      params: numbers bound to the loss, as pairs of name and value.
      others: see `objective`; `similarity` is the loss's own if none was given.
    """

    loss: Loss
    params: tuple[tuple[str, Any], ...]
    mining: Miner | None
    similarity: Similarity
    reduction: Reduction
    regularizers: tuple[tuple[Any, Loss], ...]
    axis_name: AxisName | None
    block: Block
    has_aux: bool
    dims: tuple[int, ...] | None
    dim_weights: tuple[Any, ...]
    relevance: Relevance | None
    symmetric: bool

    def __call__(
        self,
        embeddings: Any,
        labels: Any = None,
        *,
        references: References | Positives | None = None,
        valid: Any = None,
        positive: Any = None,
        negative: Any = None,
        weights: Any = None,
        guide: Any = None,
        key: jax.Array | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Value:
        """Computes the loss of a batch.

        Args:
          embeddings: [n, dim] floating point.
          labels: [n] integer, any values; equal labels are positives. Or [n, classes]
            bool, where a row has several labels; rows that share one are positives.
          references: rows to compare with instead of the batch itself, with gradient:
            proxies, a memory, the other of two towers. Or `Positives`: one for each
            row, which then need no labels, and negatives that were mined for it.
          valid: [n] bool; False rows are padding, whatever they hold.
          positive: [n, m] bool, positives given instead of labels (m = n, over all
            devices, without `references`). A row is never its own positive.
          negative: [n, m] bool, with `positive`.
          weights: [n] at least 0; an anchor counts that many times. Their sum, which
            the loss is divided by, is a constant to the gradient; where it is beyond
            the largest number, the loss is not a number.
          guide: [n, any] floating point, embeddings by another model (a teacher, or
            one that knows false negatives): `Pairs.guide` holds their cosines, for
            losses and miners that need them. Constants; `References` have theirs.
          key: from `jax.random.key`, the same on every device, for random choices. A
            draw belongs to the numbers of its rows: blocks and devices change nothing.
          params: hyper-parameters of the loss that are traced: they may change without
            compiling again, and have gradients.

        Returns:
          The loss, a scalar of at least float32, which is not a number if a valid row
          or its weight is not finite, the weight is negative, or for two rows the
          user's own similarity is not a number or their relevance not in [0, 1]; with
          `has_aux` also a dict of scalars.

        Raises:
          ValueError, TypeError: shapes, types or combinations that are not allowed,
            before anything is compiled.
        """
        inputs.check_positives(references, positive, negative, symmetric=self.symmetric)
        inputs.check_key(key)
        if self.symmetric:
            there = dataclasses.replace(self, symmetric=False)
            assert isinstance(references, Positives)
            back = Positives(embeddings, guide=guide)
            given = {"valid": valid, "weights": weights, "key": key, "params": params}
            both: Any = (
                there(embeddings, labels, references=references, guide=guide, **given),
                there(
                    references.embeddings,
                    labels,
                    references=back,
                    guide=references.guide,
                    **given,
                ),
            )
            mean_of_both: Any = jax.tree.map(lambda x, y: (x + y) / 2, *both)
            return mean_of_both
        batch = inputs.as_rows("", embeddings, labels, valid, guide)
        inputs.check_dims(self.dims, batch.embeddings.shape[1])
        others = None
        if isinstance(references, Positives):
            first = 0 if self.axis_name is None else lax.axis_index(self.axis_name)
            batch, others = inputs.with_positives(
                batch, references, first * len(batch.embeddings)
            )
        elif references is not None:
            others = inputs.reference_rows(
                references, batch, spread=self.axis_name is not None
            )
            if references.sharded and self.axis_name is not None:
                inputs.check_sharded(
                    references, info_of(self.loss), self.mining, self.reduction
                )
        batch = inputs.with_masks(batch, others, positive, negative)
        weights = inputs.as_weights(weights, len(batch.embeddings))
        if not isinstance(params or {}, Mapping):
            raise TypeError(f"params must be a dict of settings, got {params!r}")
        numbers = dict(self.params) | dict(params or {})
        info = info_of(self.loss)
        if info is not None:
            # A number per class may be a list; what a user's loss takes is its own.
            listed = {*info.arrays} & numbers.keys()
            numbers |= {name: jnp.asarray(numbers[name]) for name in listed}
            check_settings(self.loss, params or {})
            inputs.check_params(self.loss, params or {})
            inputs.check_references(info, others, weights)
            if self.mining is None and batch.guide is not None and not info.guided:
                raise ValueError(
                    "guide is given, and neither this loss nor mining reads it"
                )
        penalties = tuple((0.0, penalty) for _, penalty in self.regularizers)
        value, aux = _compiled(
            dataclasses.replace(
                self, params=(), regularizers=penalties, dim_weights=()
            ),
            _where(references),
            (batch, others, weights, key),
            numbers,
            [strength for strength, _ in self.regularizers],
            list(self.dim_weights),
        )
        result: Any = (value, aux) if self.has_aux else value
        return result

    def __repr__(self) -> str:
        """Prints all settings, functions by their names."""
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        numbers = dict(shown.pop("params"))
        if numbers:
            shown["loss"] = bound(functools.partial(self.loss, **numbers))
        shown["regularizers"] = [(s, name_of(p)) for s, p in self.regularizers]
        settings = [f"{name}={name_of(value)}" for name, value in shown.items()]
        return f"objective({', '.join(settings)})"


@overload
def objective(
    loss: Loss,
    *,
    mining: Miner | None = ...,
    similarity: Similarity | None = ...,
    reduction: Reduction = ...,
    regularizers: Sequence[tuple[Any, Loss]] = ...,
    axis_name: AxisName | None = ...,
    block: Block = ...,
    dims: Sequence[int] | None = ...,
    dim_weights: Sequence[Any] | None = ...,
    relevance: Relevance | None = ...,
    symmetric: bool = ...,
    has_aux: Literal[False] = ...,
) -> Objective[jax.Array]: ...
@overload
def objective(
    loss: Loss,
    *,
    mining: Miner | None = ...,
    similarity: Similarity | None = ...,
    reduction: Reduction = ...,
    regularizers: Sequence[tuple[Any, Loss]] = ...,
    axis_name: AxisName | None = ...,
    block: Block = ...,
    dims: Sequence[int] | None = ...,
    dim_weights: Sequence[Any] | None = ...,
    relevance: Relevance | None = ...,
    symmetric: bool = ...,
    has_aux: Literal[True],
) -> Objective[tuple[jax.Array, Aux]]: ...
def objective(
    loss: Loss,
    *,
    mining: Miner | None = None,
    similarity: Similarity | None = None,
    reduction: Reduction = mean,
    regularizers: Sequence[tuple[Any, Loss]] = (),
    axis_name: AxisName | None = None,
    block: Block = "auto",
    dims: Sequence[int] | None = None,
    dim_weights: Sequence[Any] | None = None,
    relevance: Relevance | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Objective[Any]:
    """Composes a loss, its mining and its averaging into one pure function.

    The result can be differentiated, jitted, vmapped, and called inside `pmap` and
    `shard_map`.

    Args:
      loss: from `rankjax.losses`, or any pure `Pairs -> Terms`; bind settings with
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
        the gradients of parameters with `lax.pmean`. `references` are spread likewise
        unless they are `replicated`; they are gathered unless they are `sharded`.
      block: number of anchors at a time: memory for block x references instead of the
        whole matrix, value and gradient in one pass, reverse mode. 'auto' chooses the
        number by platform and batch. None is the plain whole matrix, differentiable in
        both modes, which `jax.disable_jit` shows step by step.
      dims: lengths of an embedding that shall each serve by itself, such as (64, 128,
        256): the loss is the weighted sum of the losses of these prefixes, mined apart
        (Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022). The whole
        length counts where it is among them. Regularisers see the whole embedding.
      dim_weights: one number per length; by default 1 each, as in the paper.
      relevance: maps labels [anchor] and [reference] to how well rows match, [anchor,
        reference] in [0, 1], for losses that take grades, such as `soft_target_loss`:
        `lambda a, r: table[a][:, r]` for a jax array [class, class] of one's own. By
        default the Jaccard index of labels; of one label per row, their equality.
      symmetric: the mean of both directions, rows against their `Positives` and these
        against the rows. What was mined for rows is in the first.
      has_aux: also return the share of terms above zero (`active_share`) and the mean
        similarity of all positive and of all negative pairs before mining, for the
        longest of dims.

    Raises:
      ValueError: block is below 1, or a setting bound to the loss is out of range, or
        dims are no different lengths with a weight each, or relevance for a loss of
        `rankjax.losses` without grades.
      TypeError: mining for a loss of features, or something else than functions.
    """
    if (
        block is not None
        and block != "auto"
        and not (isinstance(block, int | np.integer) and block > 0)
    ):
        raise ValueError(f"block must be 'auto', None or at least 1, got {block!r}")
    inputs.check_functions(
        mining=mining, similarity=similarity, reduction=reduction, relevance=relevance
    )
    inputs.check_regularizers(regularizers)
    inputs.check_functions(loss=loss)
    for part in (loss, *(penalty for _, penalty in regularizers)):
        if isinstance(part, functools.partial) and info_of(part) is not None:
            check_settings(part, part.keywords)
            inputs.check_functions(selection=part.keywords.get("selection"))
    info = info_of(loss)
    if mining is not None and info is not None and info.kind is Kind.FEATURES:
        raise TypeError("mining chooses pairs, and this loss looks at features")
    if (
        relevance is not None
        and info is not None
        and not info.graded
        and mining is None
    ):
        raise ValueError(
            "relevance is given, and this loss does not read it; soft_target_loss, "
            "cosent_loss and multi_sup_con_loss do"
        )
    if reduction is mean_active and info is not None and info.signed:
        raise ValueError(
            "reduction=mean_active divides by the terms above zero, and this loss has "
            "terms below; use mean"
        )
    loss, params = split_numbers(loss)
    lengths = inputs.as_dims(dims, dim_weights)
    return Objective(
        loss=loss,
        params=params,
        mining=bound(mining),
        similarity=bound(
            default_similarity(loss) if similarity is None else similarity
        ),
        reduction=bound(reduction),
        regularizers=tuple((strength, bound(p)) for strength, p in regularizers),
        axis_name=bound(axis_name),
        block=block,
        has_aux=has_aux,
        dims=None if lengths is None else tuple(lengths),
        dim_weights=() if lengths is None else tuple(lengths.values()),
        relevance=bound(relevance),
        symmetric=symmetric,
    )


def _where(references: References | Positives | None) -> Where:
    if isinstance(references, References) and references.replicated:
        return "replicated"
    if isinstance(references, References) and references.sharded:
        return "sharded"
    return "spread"


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(self: Objective[Any], where: Where, *operands: Any) -> Any:
    """Computes an objective whose numbers are operands."""
    return on_any_mesh(functools.partial(_compute, self, where), *operands)


def _compute(
    self: Objective[Any],
    where: Where,
    given: tuple[Rows, Rows | None, jax.Array | None, jax.Array | None],
    params: dict[str, Any],
    strengths: list[Any],
    dim_weights: list[Any],
) -> tuple[jax.Array, Aux]:
    batch, others, weights, key = given
    wrong = not_finite(batch)
    if weights is not None:  # padding may have any weight
        weights = jnp.where(batch.valid, weights, 0)
        allowed = (weights >= 0) & jnp.isfinite(weights)
        wrong += jnp.sum(~allowed, dtype=jnp.int32)
    info, axis_name = info_of(self.loss), self.axis_name
    first: Any = 0
    if axis_name is not None:  # rows are numbered over all devices
        first = lax.axis_index(axis_name) * len(batch.index)
    batch = dataclasses.replace(_prepare(batch), index=first + batch.index)
    own = _within(batch, axis_name)
    anchors, references = own
    if others is not None:
        swapped = info is not None and info.anchors == "references"
        anchors, references = _between(
            batch, _prepare(others), axis_name, where, swapped=swapped
        )
    reference_axis = axis_name if where == "sharded" else None
    if reference_axis is not None and weights is not None:
        weights = lax.all_gather(weights, axis_name, tiled=True)
    inputs.check_masks(anchors, references)
    varying = varying_axes(batch.embeddings)

    def add(tree: Any) -> Any:
        tree = cast_varying(tree, varying)
        return tree if axis_name is None else lax.psum(tree, axis_name)

    def function(rows: Any, operands: Any) -> Any:
        (anchors, weights), (references, batch, key, params) = rows, operands
        others = anchors if whole else references
        pairs = pair_rows(anchors, others, self.similarity, key, self.relevance)
        # The rows of positives are those of anchors, where all of these are here.
        known = pairs.similarity if whole else None
        pairs = dataclasses.replace(
            pairs,
            reference_similarity=known,
            forward_mode=block is None,
            reference_axis=reference_axis,
        )
        if info is not None and info.kind is Kind.FEATURES:
            result = self.loss(features(anchors, others), **params)
        else:
            mined = pairs if self.mining is None else self.mining(pairs)
            inputs.check_mined(mined, pairs)
            result = self.loss(mined, **params)
        sizes = class_sizes(anchors, *batch)
        beside: dict[str, Any] | None = None
        if self.has_aux:
            beside = {}
            for name in ("positive", "negative"):
                of = Terms.over_references(pairs.similarity, getattr(pairs, name))
                beside[name] = jnp.sum(of.total), jnp.sum(of.count)

        # What a user's function gives is known only now, too late to refuse.
        wrong = []
        if self.relevance is not None and pairs.relevance is not None:
            wrong.append(~((pairs.relevance >= 0) & (pairs.relevance <= 1)))
        if self.similarity not in SIMILARITIES.values():
            wrong.append(jnp.isnan(pairs.similarity))
        if wrong:
            lost = functools.reduce(jnp.logical_or, wrong)
            lost &= pairs.positive | pairs.negative
            beside = (beside or {}) | {"wrong": jnp.sum(lost, dtype=jnp.int32)}

        def place(terms: Terms) -> Terms:
            given = None if weights is None else weights.astype(terms.total.dtype)
            return dataclasses.replace(terms, weight=given, class_size=sizes)

        return _reduced(result, anchors, self.reduction, place, beside)

    n = len(anchors.embeddings)
    block = _block(self.block, anchors, references)
    whole = others is None and axis_name is None and (block or n) >= n
    everyone = own[1].label, own[1].valid
    value: Any = 0.0
    dims = self.dims or (anchors.embeddings.shape[1],)
    for dim, scale in zip(dims, dim_weights or [1], strict=True):
        some, all_rows = prefix(anchors, dim), prefix(references, dim)
        found, sums = gradients.evaluate(
            function,
            (some, weights),
            cast_varying((None if whole else all_rows, everyone, key, params), varying),
            block=block,
            add=add,
        )
        value += jnp.asarray(scale, found.dtype) * found
    for strength, penalty in zip(strengths, self.regularizers, strict=True):
        value += strength * _penalize(penalty[1], own, self.block, add)
    finite = add(wrong + not_finite(references)) + sums.get("wrong", 0) == 0
    value = value * jnp.where(finite, 1, jnp.nan).astype(value.dtype)
    if not self.has_aux:
        return value, {}
    return value, {
        "active_share": ratio(*sums["active"]),
        "positive_similarity": ratio(*sums["positive"]),
        "negative_similarity": ratio(*sums["negative"]),
    }


def _reduced(
    result: Result,
    anchors: Rows,
    reduction: Reduction,
    place: Callable[[Terms], Terms] = lambda terms: terms,
    beside: Mapping[str, Any] | None = None,
    *,
    name: str = "a loss",
) -> gradients.Contribution | BatchSums:
    """Reduces the Terms of a loss, once all sums of the batch are known."""
    if isinstance(result, BatchSums):
        then, more = result.then, (anchors, reduction, place, beside)
        return dataclasses.replace(
            result, then=lambda sums: _reduced(then(sums), *more, name=name)
        )
    terms = inputs.as_terms(name, result, len(anchors.embeddings))
    active = sum(jnp.sum(t.active) for t in terms), sum(jnp.sum(t.count) for t in terms)
    extra = {} if beside is None else {**beside, "active": active}
    return gradients.contribution([place(t) for t in terms], reduction, extra)


def _penalize(
    penalty: Loss, own: tuple[Rows, Rows], block: Block, add: gradients.Add
) -> jax.Array:
    """Averages a penalty over the batch; one that is not registered takes features."""
    info = info_of(penalty)
    measure = default_similarity(penalty)

    def function(anchors: Rows, references: Rows) -> Any:
        given: Any = features(anchors, references)
        if info is not None and info.kind is not Kind.FEATURES:
            given = pair_rows(anchors, references, measure)
        return _reduced(penalty(given), anchors, mean, name="a penalty")

    anchors, references = own
    references = cast_varying(references, varying_axes(anchors.embeddings))
    size = _block(block, anchors, references)
    return gradients.evaluate(function, anchors, references, block=size, add=add)[0]


def _block(block: Block, anchors: Rows, references: Rows) -> int | None:
    """Number of anchors at a time."""
    if block != "auto":
        return block
    pairs = _PAIRS_AT_ONCE.get(jax.default_backend(), 2**24)
    return min(max(pairs // len(references.embeddings), 32), len(anchors.embeddings))


def _within(batch: Rows, axis_name: AxisName | None) -> tuple[Rows, Rows]:
    """Takes the device's own rows as anchors, everyone's as references."""
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
    where: Where,
    *,
    swapped: bool,
) -> tuple[Rows, Rows]:
    """Takes the batch as anchors and other rows as references; or swaps them."""
    if where == "sharded":
        batch = _gather(batch, axis_name)
    if where == "spread":
        references = _gather(references, axis_name)
    # Where they are not copies, two batches share no rows: numbers that no anchor has.
    index = references.index
    others = jnp.arange(len(index), dtype=jnp.int32)
    index = jnp.where(index >= 0, index, -1 - others)
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
        _part(anchors, axis_name),
        dataclasses.replace(batch, positive=None, negative=None),
    )


def _part(rows: Rows, axis_name: AxisName | None) -> Rows:
    """Takes this device's part of rows that every device holds, the last one padded."""
    if axis_name is None:
        return rows
    devices = lax.axis_size(axis_name)
    size = -(-len(rows.embeddings) // devices)
    padding = size * devices - len(rows.embeddings)
    first = lax.axis_index(axis_name) * size
    return jax.tree.map(
        lambda x: lax.dynamic_slice_in_dim(x, first, size), pad(rows, padding)
    )


def _prepare(rows: Rows) -> Rows:
    """Zeroes padding, which may hold anything, and raises half precision.

    Both come before anything else: what padding holds must reach neither value nor
    gradient, and the gradient of a row, a sum over its roles, is rounded once.
    """

    def clean(embeddings: jax.Array) -> jax.Array:
        return jnp.where(rows.valid[:, None], at_least_float32(embeddings), 0)

    guide = None if rows.guide is None else lax.stop_gradient(clean(rows.guide))
    return dataclasses.replace(rows, embeddings=clean(rows.embeddings), guide=guide)


def _gather(rows: Rows, axis_name: AxisName | None) -> Rows:
    if axis_name is None:
        return rows
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), rows)
