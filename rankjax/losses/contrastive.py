"""Contrastive losses: positives together, negatives a margin apart."""

import jax
import jax.numpy as jnp

from rankjax import similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_euclidean,
    paper="Hadsell et al., CVPR 2006",
    tuned="positive_margin / margin: CUB -.20 / .38, Cars .27 / .54, SOP .29 / .51",
)
def contrastive_loss(
    pairs: Pairs,
    *,
    margin: Number = 1.0,
    positive_margin: Number = 0.0,
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
      positive_margin: distance below which a positive costs nothing; -1 for cosine
        similarity, so that D - positive_margin is 1 - cosine.
      squared: False gives the hinges themselves, without the square and the half, as
        in pytorch-metric-learning and "A Metric Learning Reality Check" (ECCV 2020).

    Returns:
      Terms of the positives and Terms of the negatives; the loss is the sum of their
      means. The paper sums over a list of pairs; two means keep the many negatives of
      a batch from drowning its few positives. pytorch-metric-learning averages each
      over the pairs above zero: use `rankjax.mean_active`.

    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant
    Mapping", CVPR 2006.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.contrastive_loss(x, y)), 3)
        0.201
    """
    distance = -pairs.similarity
    pull = jax.nn.relu(distance - positive_margin)
    push = jax.nn.relu(margin - distance)
    if squared:
        pull, push = jnp.square(pull) / 2, jnp.square(push) / 2
    return Terms.over_references(pull, pairs.positive), Terms.over_references(
        push, pairs.negative
    )


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_snr_distance,
    paper="Yuan et al., CVPR 2019",
    tuned="positive_margin / margin: CUB .33 / .84, Cars .17 / .93, SOP .38 / 1.08",
)
def signal_to_noise_contrastive_loss(
    pairs: Pairs, *, margin: Number = 1.0, positive_margin: Number = 0.0
) -> tuple[Terms, Terms]:
    """Contrastive hinges on the inverse of a signal-to-noise ratio.

    With D(a, r) = var(r - a) / var(a), variances over the dimensions of an embedding:

        positives  [D - positive_margin]+
        negatives  [margin - D]+

    The anchor is the signal: D(a, r) and D(r, a) differ, and a pair of rows is counted
    with each of the two as the anchor.

    Args:
      pairs: similarities [anchor, reference], `similarity.negative_snr_distance` by
        default, and masks.
      margin: ratio above which a negative costs nothing. Scaling all embeddings changes
        no ratio, so that it needs no unit.
      positive_margin: ratio below which a positive costs nothing.

    Returns:
      Terms of the positives and Terms of the negatives; the loss is the sum of their
      means.

    Source: Yuan, Deng, Tang, Tang, Chen, "Signal-to-Noise Ratio: A Robust Distance
    Metric for Deep Metric Learning", CVPR 2019, who add a penalty that keeps the mean
    over an embedding's dimensions at zero: `regularizers.zero_mean`. The defaults are
    those of pytorch-metric-learning, which averages over the pairs above zero.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.signal_to_noise_contrastive_loss(x, y)), 3)
        4.22
    """
    distance = -pairs.similarity
    pull = jax.nn.relu(distance - positive_margin)
    push = jax.nn.relu(margin - distance)
    return Terms.over_references(pull, pairs.positive), Terms.over_references(
        push, pairs.negative
    )
