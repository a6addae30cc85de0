"""Intra-pair variance: positives alike among themselves, and so the negatives."""

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, register
from rankjax.terms import BatchSums, Terms


@register(kind=Kind.PLAIN, paper="Yu and Tao, ICCV 2019")
def intra_pair_variance_loss(
    pairs: Pairs,
    *,
    positive_epsilon: NonNegative = 0.01,
    negative_epsilon: NonNegative = 0.01,
) -> BatchSums:
    """Intra-pair variance loss, added to the tuplet margin loss.

    With S the cosine, and M+ and M- its means over all positive and over all negative
    pairs of the batch:

        positives  [(1 - positive_epsilon) M+ - S]+^2
        negatives  [S - (1 + negative_epsilon) M-]+^2

    Gradients flow through the means: a positive that comes closer raises M+, and with
    it what the others are asked for. Where a mean is negative its epsilon widens the
    penalised side instead of narrowing it, as in the published form.

    Args:
      pairs: similarities [anchor, reference] and masks.
      positive_epsilon: share of M+ by which a positive may fall short; at least 0.
      negative_epsilon: share of M- by which a negative may exceed it; at least 0.

    Returns:
      Terms of the positives and Terms of the negatives, one per pair; the loss is the
      sum of their means. Weights of anchors weigh the terms but not M+ and M-.

    Source: Yu, Tao, "Deep Metric Learning with Tuplet Margin Loss", ICCV 2019. The
    epsilons are the paper's according to pytorch-metric-learning, whose example adds
    half of this loss to the tuplet margin loss.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.intra_pair_variance_loss(x, y)), 3)
        0.09
    """
    s = pairs.similarity
    positives, negatives = (
        Terms.over_references(s, pairs.positive),
        Terms.over_references(s, pairs.negative),
    )
    sums = [(jnp.sum(t.total), jnp.sum(t.count)) for t in (positives, negatives)]

    def then(sums: list[tuple[jax.Array, jax.Array]]) -> tuple[Terms, Terms]:
        positive_mean, negative_mean = (x / jnp.maximum(n, 1) for x, n in sums)
        pull = jax.nn.relu((1 - positive_epsilon) * positive_mean - s)
        push = jax.nn.relu(s - (1 + negative_epsilon) * negative_mean)
        return (
            Terms.over_references(jnp.square(pull), pairs.positive),
            Terms.over_references(jnp.square(push), pairs.negative),
        )

    return BatchSums(sums, then)
