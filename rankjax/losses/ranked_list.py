"""Ranked list loss: classes in balls, apart from all others."""

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows, similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Share, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_euclidean,
    paper="Wang et al., CVPR 2019",
)
def ranked_list_loss(
    pairs: Pairs,
    *,
    margin: Number = 0.4,
    threshold: Number = 1.2,
    negative_temperature: NonNegative = 10.0,
    positive_temperature: NonNegative = 0.0,
    imbalance: Share = 0.5,
) -> Terms:
    """Ranked list loss, one term per anchor.

    With D the negated similarity (the Euclidean distance by default), positives
    farther than threshold - margin and negatives nearer than threshold are active:

        (1 - imbalance) * weighted mean of D - (threshold - margin), active positives
      +      imbalance  * weighted mean of threshold - D, active negatives

    A pair's weight is exp(temperature * its own violation), a constant to the
    gradient. A class within a ball of diameter threshold - margin costs nothing: it is
    not drawn together to a point.

    Args:
      pairs: similarities [anchor, reference] and masks.
      margin: m in the paper, the gap between positives and negatives.
      threshold: alpha in the paper, the least distance of negatives.
      negative_temperature: T in the paper, at least 0; it multiplies: 0 weighs active
        negatives alike, and the larger it is, the more the hardest one counts.
      positive_temperature: the same for positives; 0 in the paper's plain variant.
      imbalance: share of the negatives, 0 to 1. At 0.5 this is half of the plain sum
        of the two sides.

    Returns:
      Terms, one per anchor with a positive or a negative, as the paper averages over
      all queries; a side without active pairs adds 0. `rankjax.mean_active` leaves out
      anchors that have no active pair at all.

    Source: Wang, Hua, Kodirov, Hu, Garnier, Robertson, "Ranked List Loss for Deep
    Metric Learning", CVPR 2019, on unit-length embeddings; threshold 1.2, margin 0.4
    and temperature 10 are not confirmed from its text. The paper moves only the anchor
    of each list and holds the others constant; here gradients flow into both rows of a
    pair. pytorch-metric-learning up to 2.9.0 adds 1e-5 to each weight of a
    denominator, and overflows for large temperatures; these are the exact means.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.ranked_list_loss(x, y)), 3)
        0.076
    """
    distance = -pairs.similarity
    pull = _weighted_mean(
        distance - (threshold - margin), pairs.positive, positive_temperature
    )
    push = _weighted_mean(threshold - distance, pairs.negative, negative_temperature)
    value = (1 - imbalance) * pull + imbalance * push
    return Terms.one_per_anchor(value, (pairs.positive | pairs.negative).any(-1))


def _weighted_mean(
    violation: jax.Array, where: jax.Array, temperature: NonNegative
) -> jax.Array:
    """Mean of what is above zero, [anchor], by exp(temperature * violation)."""
    active = where & (violation > 0)
    exponent = temperature * violation
    total = jnp.where(active.any(-1), rows.log_sum_exp(exponent, active), 0)
    exponent = jnp.where(active, exponent - total[:, None], -jnp.inf)
    return jnp.sum(lax.stop_gradient(jnp.exp(exponent)) * violation, -1, where=active)
