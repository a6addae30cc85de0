"""Tuplet margin loss: a softmax over angles, with slack for the positive."""

from typing import Annotated

import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, Range, register
from rankjax.rows import View
from rankjax.terms import Terms

Slack = Annotated[Number, Range(least=0, below=90)]


@register(
    kind=Kind.PER_POSITIVE,
    similarity=similarity.cosine,
    paper="Yu and Tao, ICCV 2019",
)
def tuplet_margin_loss(
    pairs: Pairs, *, slack: Slack = 5.73, scale: Positive = 64.0
) -> Terms:
    """Tuplet margin loss, one term per anchor and positive.

    With angles theta between embeddings:

        log(1 + sum_n exp(scale (cos(theta_an) - cos(theta_ap - slack))))

    Args:
      pairs: cosines [anchor, reference] and masks.
      slack: beta in the paper, in degrees; 5.73 (0.1 radians) in
        pytorch-metric-learning. A positive nearer than this is pushed back to it. 0
        gives the N-pair loss of scaled cosines.
      scale: s in the paper; 64 in pytorch-metric-learning.

    Returns:
      Terms, one per anchor and positive where the anchor has a negative.

    Source: Yu, Tao, "Deep Metric Learning with Tuplet Margin Loss", ICCV 2019, which
    adds an intra-pair variance loss. The cosine of the difference is expanded, for
    the arccosine of pytorch-metric-learning 2.9 has no finite gradient at duplicates:
    below about 0.06 degrees (in float32) the angle counts as 0, and the gradient is
    that of cos(slack) cos(theta).

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.tuplet_margin_loss(x, y, scale=4.0)), 3)
    0.183
    """
    beta = jnp.deg2rad(jnp.asarray(slack, pairs.similarity.dtype))
    tiny = 8 * jnp.finfo(pairs.similarity.dtype).eps

    def terms(view: View) -> Terms:
        squared_sine = (1 - view.positive) * (1 + view.positive)
        apart = squared_sine > tiny
        sine = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared_sine, 1)), 0)
        target = view.positive * jnp.cos(beta) + sine * jnp.sin(beta)
        exponent = scale * (view.row - target)
        value = rows.log_one_plus_sum_exp(exponent, view.negatives)
        return Terms.one_per_anchor(value, view.negatives.any())

    return rows.per_positive(pairs, terms)
