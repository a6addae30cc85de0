"""Smooth-NDCG: discounted gain with soft ranks."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.rows import View
from rankjax.terms import Terms


@register(
    kind=Kind.PER_POSITIVE,
    batch="large",
    paper="Ramzi et al. (SupRank), TPAMI 2025",
)
def smooth_ndcg_loss(pairs: Pairs, *, temperature: Positive = 0.01) -> Terms:
    """Smooth-NDCG, one term per anchor: 1 - NDCG with sigmoids in place of steps.

    With r the soft rank of positive i among the others j, and P positives,

        r = 1 + sum over j of sigmoid((S(a, j) - S(a, i)) / temperature)

        1 - sum over i of 1 / log2(1 + r) / sum over k = 1 .. P of 1 / log2(1 + k).

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      temperature: in units of the similarity; towards 0 the loss becomes 1 - NDCG.

    Returns:
      Terms, one per anchor with a positive, below 1.

    Source: Ramzi, Audebert, Rambour, Araujo, Bitot, Thome, "Optimization of Rank Losses
    for Image Retrieval", TPAMI 2025, for positives that are all as relevant; the
    temperature is that of Smooth-AP.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.smooth_ndcg_loss(x, y, temperature=0.2)), 3)
    0.088
    """

    def gain(view: View) -> Terms:
        ahead = jax.nn.sigmoid((view.row - view.positive) / temperature)
        others = (view.positives | view.negatives) & ~view.this
        rank = 1 + jnp.sum(ahead, where=others)
        return Terms.one_per_anchor(1 / jnp.log2(1 + rank), jnp.array(True))

    gains = rows.per_positive(pairs, gain)
    places = jnp.arange(pairs.similarity.shape[1], dtype=gains.total.dtype)[None, :]
    ideal = jnp.sum(1 / jnp.log2(2 + places), -1, where=places < gains.count[:, None])
    some = gains.count > 0
    return Terms.one_per_anchor(1 - gains.total / jnp.where(some, ideal, 1), some)
