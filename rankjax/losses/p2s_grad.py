"""P2SGrad: cosines to class rows drawn to 1 and 0."""

import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.registry import Kind, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, batch="proxies", paper="Zhang et al., CVPR 2019")
def p2s_grad_loss(pairs: Pairs) -> Terms:
    """P2SGrad: half the squared distance of an anchor's cosines from one-hot.

        1/2 ((S(a, y) - 1)^2 + sum_z S(a, z)^2)

    The paper designs a gradient, not a loss: where softmax has probabilities, each
    cosine gets itself less its target, 1 or 0, and there is nothing to set. This is the
    function that has it.

    Args:
      pairs: cosines [anchor, class row] and masks.

    Returns:
      Terms, one term per anchor with a positive. Negatives are drawn to a right angle,
      not beyond. pytorch-metric-learning has the mean over anchors and classes of the
      squares: this times 2 / classes.

    Source: Zhang, Zhao, Yan, Gao, Qiao, Wang, Li, "P2SGrad: Refined Gradients for
    Optimizing Deep Face Models", CVPR 2019.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.p2s_grad_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]))), 3)
        0.1
    """
    similarity = pairs.similarity
    squares = jnp.square(jnp.where(pairs.positive, 1 - similarity, similarity))
    value = jnp.sum(squares, -1, where=pairs.positive | pairs.negative) / 2
    return Terms.one_per_anchor(value, pairs.positive.any(-1))
