"""Margin loss: a learned boundary between near and far."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rankjax import similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_euclidean,
    paper="Wu et al., ICCV 2017",
    arrays=("beta",),
    tuned="margin / first beta: CUB .088 / .78, Cars .078 / 1.32, SOP .092 / 1.11",
)
def margin_loss(
    pairs: Pairs, *, margin: Number = 0.2, beta: Number = 1.2, nu: NonNegative = 0.0
) -> Terms:
    """Margin-based loss, one term per pair.

    With D the negated similarity (the Euclidean distance by default):

        positives  [margin + D - beta]+
        negatives  [margin - D + beta]+

    Args:
      pairs: similarities [anchor, reference] and masks.
      margin: alpha in the paper, half of the gap between positives and negatives.
      beta: distance of the boundary: a number, or [class] a table that holds one for
        each class of the anchor; labels are then rows of the table, 0 to classes - 1,
        and others make the loss not a number. Learn it: hand it over in `params` and
        it has a gradient.
      nu: at least 0; nu * beta is added once per pair, against boundaries that grow
        with the embeddings.

    Returns:
      Terms, positives and negatives together. The paper divides by the number of
      terms above zero: use `rankjax.mean_active`. Then the gradient of beta is (active
      negatives - active positives) / active pairs, plus nu's. With plain means over
      all pairs of a batch the many negatives outweigh the positives; the paper draws
      one distance-weighted negative for each positive.

    Raises:
      ValueError: a table of beta where rows have no single label, or of more than
        one dimension.

    Source: Wu, Manmatha, Smola, Kraehenbuehl, "Sampling Matters in Deep Embedding
    Learning", ICCV 2017, on unit-length embeddings; margin 0.2, beta 1.2 and nu 0 as
    known code has them. pytorch-metric-learning adds the two hinges of every triplet,
    so that a pair counts as often as it is in a triplet.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.margin_loss(x, y)), 3)
        0.084
    """
    boundary = jnp.asarray(beta, pairs.similarity.dtype)
    strange: Any = False
    if boundary.ndim > 1:
        raise ValueError(f"beta must be a number or [class], got {boundary.shape}")
    if boundary.ndim:
        pairs.need("anchor_label")
        assert pairs.anchor_label is not None
        strange = (pairs.anchor_label < 0) | (pairs.anchor_label >= len(boundary))
        boundary = jnp.take(boundary, pairs.anchor_label, mode="clip")
    boundary = jnp.broadcast_to(boundary, pairs.similarity.shape[:1])
    beyond = -pairs.similarity - boundary[:, None]
    hinge = jax.nn.relu(margin + jnp.where(pairs.positive, beyond, -beyond))
    terms = Terms.over_references(hinge, pairs.positive | pairs.negative)
    total = terms.total + nu * boundary * terms.count
    total = jnp.where(strange & (terms.count > 0), jnp.nan, total)
    return dataclasses.replace(terms, total=total)
