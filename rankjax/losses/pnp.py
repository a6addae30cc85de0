"""PNP: negatives ahead of a positive, penalised by their number."""

from typing import Literal

import jax
import jax.numpy as jnp

from rankjax.losses.smooth_ap import mean_over_positives
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.rows import View
from rankjax.terms import Terms


@register(kind=Kind.PER_POSITIVE, batch="large", paper="Li et al., AAAI 2022")
def pnp_loss(
    pairs: Pairs,
    *,
    variant: Literal["O", "Iu", "Ib", "Ds", "Dq"] = "O",
    b: Positive = 2.0,
    alpha: Positive = 1.0,
    temperature: Positive = 0.01,
) -> Terms:
    """PNP, one term per anchor: the mean over its positives of a penalty on n.

    Positive i has n negatives ahead, softly:

        n = sum over negatives j of sigmoid((S(a, j) - S(a, i)) / temperature)

        O   n                                 all violations weigh the same
        Iu  (1 + n) log(1 + n)                the more negatives, the more weight
        Ib  (b n - log(1 + b n)) / b^2        likewise, but bounded
        Ds  log(1 + n)                        the more negatives, the less weight
        Dq  1 - (1 + n)^-alpha                likewise, falling faster

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      variant: the penalty, by the paper's name. The paper finds the D variants best:
        they leave classes of several clusters as they are.
      b: of Ib.
      alpha: of Dq.
      temperature: in units of the similarity.

    Returns:
      Terms, one per anchor with a positive.

    Source: Li, Min, Song, Zhu, Kang, Wei, Wei, Jiang, "Rethinking the Optimization of
    Average Precision: Only Penalizing Negative Instances before Positive Ones is
    Enough", AAAI 2022; defaults of pytorch-metric-learning. It and the authors' code
    count the anchor as a positive of its own, with nothing ahead, which makes the loss
    smaller by K / (K + 1) for K positives, and lets anchors without any count as 0.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.pnp_loss(x, y, temperature=0.2)), 3)
    0.153
    """

    def penalty(view: View) -> jax.Array:
        ahead = jax.nn.sigmoid((view.row - view.positive) / temperature)
        n = jnp.sum(ahead, where=view.negatives)
        if variant == "Iu":
            return (1 + n) * jnp.log1p(n)
        if variant == "Ib":
            return (b * n - jnp.log1p(b * n)) / b**2
        if variant == "Ds":
            return jnp.log1p(n)
        return 1 - (1 + n) ** -alpha if variant == "Dq" else n

    return mean_over_positives(pairs, penalty)
