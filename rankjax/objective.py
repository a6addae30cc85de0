"""From a loss on pairs to one pure function of embeddings and labels.

    embeddings, labels -> Pairs -> mined Pairs -> Terms -> scalar

Everything that is not a loss's business happens here and only here: the pairing of
rows, validity, given masks, other devices' rows, row blocks, weights, the reduction.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import inputs
from rankjax.losses import Loss, default_similarity
from rankjax.mining import Miner
from rankjax.pairs import Pairs, Rows, occurrences, pair_rows
from rankjax.regularizers import Regularizer
from rankjax.similarity import Similarity, at_least_float32
from rankjax.terms import Reduction, Terms, mean

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
        positive: Any = None,
        negative: Any = None,
        weights: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Computes the loss of a batch.

        Args:
          embeddings: [n, dim] floating point.
          labels: [n] integer, any values; equal labels are positives.
          references: [m, dim] to compare with instead of the batch itself: the other
            of two towers, proxies. Gradients flow into them.
          reference_labels: [m], with `references`.
          valid: [n] bool; False rows are padding, whatever they hold.
          reference_valid: [m] bool, with `references`.
          positive: [n, m] bool, positives given instead of labels (m = n, over all
            devices, without `references`). A row is never its own positive.
          negative: [n, m] bool, with `positive`.
          weights: [n] non-negative; an anchor counts that many times.
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
    regularizers: Sequence[tuple[float, Regularizer]] = (),
    axis_name: AxisName | None = None,
    block: int | None = None,
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
      reduction: `mean`, `mean_active` or `total`. Several Terms are reduced one by one
        and added.
      regularizers: pairs of weight and penalty; each penalty is averaged over the valid
        rows of the batch (not of the references) and added.
      axis_name: the mapped axis over which the batch is spread. Anchors are the
        device's own rows, references everyone's, and the result is the loss of the
        whole batch, the same on every device. Differentiate inside the map and combine
        gradients with `lax.pmean`, nothing else. `references` are spread likewise.
      block: number of anchors at a time, recomputed in the backward pass: memory for
        block x references instead of the whole matrix. None takes all at once.
      has_aux: also return the share of terms above zero (`active_share`) and the mean
        similarity of all positive and of all negative pairs before mining.

    Raises:
      ValueError: block is below 1.
    """
    if block is not None and block < 1:
        raise ValueError(f"block must be None or at least 1, got {block}")
    measure = default_similarity(loss) if similarity is None else similarity

    def add(x: jax.Array) -> jax.Array:
        return jnp.sum(x) if axis_name is None else lax.psum(jnp.sum(x), axis_name)

    @jax.jit
    def compute(
        batch: Rows,
        references: Rows | None,
        weights: jax.Array | None,
        params: dict[str, Any],
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        anchors, others = _anchors_and_references(batch, references, axis_name)
        inputs.check_masks(anchors, others)

        def per_anchor(rows: Rows) -> tuple[list[Terms], tuple[Terms, Terms]]:
            pairs = pair_rows(rows, others, measure)
            terms = loss(pairs if mining is None else mining(pairs), **params)
            return [terms] if isinstance(terms, Terms) else [*terms], _compare(pairs)

        evaluate = per_anchor if block is None else _in_blocks(per_anchor, block)
        terms, (positives, negatives) = evaluate(anchors)
        if weights is not None:
            terms = [t.weighted(weights.astype(t.total.dtype)) for t in terms]
        value = functools.reduce(operator.add, [reduction(t, add) for t in terms])
        for strength, penalty in regularizers:
            value += strength * mean(_penalize(penalty, anchors), add)
        aux = {
            "active_share": sum(add(t.active) for t in terms)
            / jnp.maximum(sum(add(t.count) for t in terms), 1),
            "positive_similarity": mean(positives, add),
            "negative_similarity": mean(negatives, add),
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
        positive: Any = None,
        negative: Any = None,
        weights: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        batch = inputs.as_rows("", embeddings, labels, valid)
        others = None
        if references is not None:
            others = inputs.as_rows(
                "reference_", references, reference_labels, reference_valid
            )
            inputs.check_same_space(batch, others)
        elif reference_labels is not None or reference_valid is not None:
            raise ValueError(
                "reference_labels and reference_valid need references, which is None"
            )
        batch = inputs.with_masks(batch, others, positive, negative)
        weights = inputs.as_weights(weights, len(batch.embeddings))
        value, aux = compute(batch, others, weights, dict(params or {}))
        return (value, aux) if has_aux else value

    return call


def _anchors_and_references(
    batch: Rows, references: Rows | None, axis_name: AxisName | None
) -> tuple[Rows, Rows]:
    """Numbers the rows over all devices and collects everyone's references."""
    n = len(batch.embeddings)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * n
    batch = _prepare(dataclasses.replace(batch, index=first + batch.index))
    if references is not None:
        # Two batches share no rows: an index that no anchor has.
        apart = dataclasses.replace(
            references, index=jnp.full_like(references.index, -1)
        )
        return batch, _gather(_prepare(apart), axis_name)
    own = dataclasses.replace(batch, positive=None, negative=None)
    others = _gather(own, axis_name)
    if others.label is None:
        return batch, others
    occurrence = occurrences(others.label, others.valid)
    return (
        dataclasses.replace(
            batch, occurrence=lax.dynamic_slice_in_dim(occurrence, first, n)
        ),
        dataclasses.replace(others, occurrence=occurrence),
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


def _in_blocks(function: Callable[[Rows], Any], block: int) -> Callable[[Rows], Any]:
    """Applies a function of anchors to `block` of them at a time."""

    def in_blocks(anchors: Rows) -> Any:
        n = len(anchors.embeddings)
        padding = -n % block

        def split(x: jax.Array) -> jax.Array:
            width = [(0, padding)] + [(0, 0)] * (x.ndim - 1)
            return jnp.pad(x, width).reshape(-1, block, *x.shape[1:])

        results = lax.map(jax.checkpoint(function), jax.tree.map(split, anchors))
        return jax.tree.map(lambda x: x.reshape(-1)[:n], results)

    return in_blocks


def _compare(pairs: Pairs) -> tuple[Terms, Terms]:
    return (
        Terms.of(pairs.similarity, pairs.positive),
        Terms.of(pairs.similarity, pairs.negative),
    )


def _penalize(penalty: Regularizer, anchors: Rows) -> Terms:
    values = penalty(anchors.embeddings)
    return Terms.of(values[:, None], anchors.valid[:, None])
