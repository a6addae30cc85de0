"""Circle loss: each similarity paced by its distance from the optimum."""

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, paper="Sun et al., CVPR 2020")
def circle_loss(pairs: Pairs, *, margin: Number = 0.4, gamma: Positive = 80.0) -> Terms:
    """Circle loss, one term per anchor.

    With S the cosine, over the anchor's positives P and negatives N:

        log(1 + sum_N exp(gamma [S + margin]+ (S - margin))
              * sum_P exp(-gamma [1 + margin - S]+ (S - 1 + margin)))

    The factors in []+ say how far a similarity is from its optimum; they are constants
    to the gradient. The boundary of one positive p and one negative n is the circle
    S(n)^2 + (1 - S(p))^2 = 2 margin^2.

    Args:
      pairs: similarities [anchor, reference] and masks. The optima 1 + margin and
        -margin suppose cosines.
      margin: m in the paper, the circle's radius over the square root of 2.
      gamma: above 0; scale of the logits.

    Returns:
      Terms, one per anchor with both a positive and a negative; no other has a term.
      pytorch-metric-learning averages over the anchors above zero: use
      `rankjax.mean_active`.

    Source: Sun, Cheng, Zhang, Zhang, Zheng, Wang, Wei, "Circle Loss: A Unified
    Perspective of Pair Similarity Optimization", CVPR 2020: margin 0.4 and gamma 80
    for fine-grained retrieval, 0.25 and 256 for faces. TensorFlow Similarity lets
    gradients through the factors and adds the two logarithms without the joint one.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.circle_loss(x, y)), 3)
        3.201
    """
    s = pairs.similarity
    to_positive = lax.stop_gradient(jax.nn.relu(1 + margin - s))
    to_negative = lax.stop_gradient(jax.nn.relu(s + margin))
    pull = rows.log_sum_exp(-gamma * to_positive * (s - (1 - margin)), pairs.positive)
    push = rows.log_sum_exp(gamma * to_negative * (s - margin), pairs.negative)
    complete = pairs.positive.any(-1) & pairs.negative.any(-1)
    logit = jnp.where(complete, pull, 0) + jnp.where(complete, push, 0)
    return Terms.one_per_anchor(jax.nn.softplus(logit), complete)
