"""Blackbox AP: exact average precision, with the gradient of an interpolation."""

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, batch="large", paper="Rolinek et al., CVPR 2020")
def blackbox_ap_loss(
    pairs: Pairs, *, interpolation: Positive = 4.0, margin: Number = 0.02
) -> Terms:
    """Blackbox AP, one term per anchor: 1 - AP itself.

    AP is constant almost everywhere. Its gradient is replaced by that of a continuous
    interpolation, for which two rankings suffice: with r the ranks of the scores S and
    g = dL/dr, the gradient of S is

        (ranks of (S + interpolation g) - r) / interpolation.

    Before they are ranked, positives lose and negatives gain half the margin. Ranks are
    sorted, which takes a CPU far longer than the other losses: some thirty times as
    long as `sup_con_loss` at 1,024 rows.

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      interpolation: lambda in the paper; the larger, the farther the interpolation
        reaches and the less it follows the AP.
      margin: in units of the similarity; alpha in the paper. At 0 the value is 1 - AP.

    Returns:
      Terms, one per anchor with a positive, in [0, 1]. A tie counts against the anchor:
      whatever is as similar as a positive is ahead of it. The settings have no
      gradient.

    Source: Rolinek, Musil, Paulus, Vlastelica, Michaelis, Martius, "Optimizing
    Rank-Based Metrics with Blackbox Differentiation", CVPR 2020, algorithm 1, eq. 14
    and 22; defaults of the ROADMAP authors. Known code multiplies the margin by noise,
    as the paper does not, breaks ties by the order of rows and ranks the anchor among
    its own positives.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.blackbox_ap_loss(x, y, margin=0.3)), 3)
    0.25
    """
    positive, every = pairs.positive, pairs.positive | pairs.negative
    similarity = lax.stop_gradient(pairs.similarity)
    half = lax.stop_gradient(jnp.asarray(margin, similarity.dtype)) / 2
    reach = lax.stop_gradient(jnp.asarray(interpolation, similarity.dtype))
    scores = similarity + jnp.where(positive, -half, half)
    rank, among_positives = _ranks(scores, every), _ranks(scores, positive)
    number = jnp.sum(positive, -1, keepdims=True, dtype=scores.dtype)
    share = jnp.where(positive, 1 / jnp.maximum(number, 1), 0)
    values = jnp.sum(share * (rank - among_positives) / jnp.maximum(rank, 1), -1)
    slope = share * among_positives / jnp.square(jnp.maximum(rank, 1))
    slope = (_ranks(scores + reach * slope, every) - rank) / reach
    zero = jnp.sum(slope * (pairs.similarity - similarity), -1, where=every)
    return Terms.one_per_anchor(values + zero, number[:, 0] > 0)


def _ranks(scores: jax.Array, among: jax.Array) -> jax.Array:
    """How many of a row's masked scores are at least as large, [anchor, reference]."""
    ascending = jnp.sort(jnp.where(among, -scores, jnp.inf), -1)
    find = jax.vmap(lambda row, x: jnp.searchsorted(row, x, side="right"))
    return find(ascending, -scores).astype(scores.dtype)
