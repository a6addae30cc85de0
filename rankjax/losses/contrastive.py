"""Contrastive loss: positives together, negatives a margin apart."""

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.terms import Terms


def contrastive_loss(
    pairs: Pairs,
    *,
    margin: float | jax.Array = 1.0,
    positive_margin: float | jax.Array = 0.0,
    squared: bool = True,
) -> tuple[Terms, Terms]:
    """Contrastive loss, one term per pair; positives and negatives are averaged apart.

    With D the negated similarity (the Euclidean distance by default):

        positives  [D - positive_margin]+^2 / 2
        negatives  [margin - D]+^2 / 2

    Args:
      pairs: similarities [anchor, reference] and masks.
      margin: distance beyond which a negative costs nothing. For cosine similarity,
        whose D runs from -1 to 1, the usual "penalise above s" is margin = -s.
      positive_margin: distance below which a positive costs nothing.
      squared: False gives the hinges themselves, without the square and the half, as
        in pytorch-metric-learning and "A Metric Learning Reality Check" (ECCV 2020).

    Returns:
      Terms of the positives and Terms of the negatives; the loss is the sum of their
      means. The paper sums over a list of pairs; two means keep the many negatives of
      a batch from drowning its few positives.

    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant
    Mapping", CVPR 2006.
    """
    distance = -pairs.similarity
    pull = jax.nn.relu(distance - positive_margin)
    push = jax.nn.relu(margin - distance)
    if squared:
        pull, push = jnp.square(pull) / 2, jnp.square(push) / 2
    return Terms.of(pull, pairs.positive), Terms.of(push, pairs.negative)
