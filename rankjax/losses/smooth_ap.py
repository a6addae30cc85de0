"""Smooth-AP: average precision with sigmoids in place of steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.rows import View
from rankjax.terms import Terms


@register(kind=Kind.PER_POSITIVE, batch="large", paper="Brown et al., ECCV 2020")
def smooth_ap_loss(pairs: Pairs, *, temperature: Positive = 0.01) -> Terms:
    """Smooth-AP, one term per anchor: 1 - AP with sigmoids in place of steps.

    With p and n the soft numbers of positives and negatives ahead of positive i,

        p = sum over other positives j of sigmoid((S(a, j) - S(a, i)) / temperature)
        n = sum over negatives j of the same

        1 - mean over positives i of (1 + p) / (1 + p + n).

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      temperature: in units of the similarity; towards 0 the loss becomes 1 - AP.

    Returns:
      Terms, one per anchor with a positive, in [0, 1]. Every anchor counts the same,
      whatever the size of its class.

    Source: Brown, Xie, Kalogeiton, Zisserman, "Smooth-AP: Smoothing the Path Towards
    Large-Scale Image Retrieval", ECCV 2020; the temperature is the authors'. Their code
    takes the anchor as a positive of its own, always the first, which lowers the loss,
    and wants classes of one size, in order; pytorch-metric-learning 2.9.0 is right only
    where there are as many classes as rows per class. Here any labels will do.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.smooth_ap_loss(x, y, temperature=0.2)), 3)
    0.121
    """

    def imprecision(view: View) -> jax.Array:
        ahead = jax.nn.sigmoid((view.row - view.positive) / temperature)
        positives = 1 + jnp.sum(ahead, where=view.positives & ~view.this)
        negatives = jnp.sum(ahead, where=view.negatives)
        return negatives / (positives + negatives)

    return mean_over_positives(pairs, imprecision)


def mean_over_positives(pairs: Pairs, value: Callable[[View], jax.Array]) -> Terms:
    """One term per anchor with a positive: the mean of `value` over its positives."""
    sums = rows.per_positive(
        pairs, lambda v: Terms.one_per_anchor(value(v), jnp.array(True))
    )
    return Terms.one_per_anchor(sums.total / jnp.maximum(sums.count, 1), sums.count > 0)
