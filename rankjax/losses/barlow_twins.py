"""Barlow Twins: the views' dimensions correlate as the identity matrix says."""

import jax
import jax.numpy as jnp

from rankjax.losses.vic_reg import centred_views
from rankjax.pairs import Features
from rankjax.registry import Kind, NonNegative, register
from rankjax.similarity import dot
from rankjax.terms import BatchSums, Terms


@register(kind=Kind.FEATURES, batch="views", paper="Zbontar et al., ICML 2021")
def barlow_twins_loss(
    features: Features, *, redundancy_weight: NonNegative = 5e-3
) -> BatchSums:
    """Barlow Twins, one value of the whole batch.

    With C_kl the correlation, over pairs of views a and b, of dimension k of a and
    dimension l of b:

        sum over k of (1 - C_kk)^2 + redundancy_weight sum over k != l of C_kl^2

    Args:
      features: embeddings, not normalised, each with its other view.
      redundancy_weight: lambda in the paper.

    Returns:
      Terms; every pair of views has the value of the batch, so that the mean is the
      value. Two pairs are needed. A dimension that does not vary, next to its mean, as
      far as float32 could tell, correlates with nothing; in float32 numbers must differ
      by about 1e-18 to 1e18, as their squares are added. Correlations are of the batch
      on all devices; weights of rows do not enter them.

    Source: Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning
    via Redundancy Reduction", ICML 2021; lambda 0.005. Known code takes correlations by
    batch normalization, which adds 1e-5 to variances.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.barlow_twins_loss(x, y)), 3)
    0.01
    """

    def correlate(views: jax.Array, means: jax.Array, n: jax.Array) -> BatchSums:
        first, second = views

        def terms(sums: tuple[jax.Array, jax.Array]) -> Terms:
            products, squares = sums
            varies = squares > 1e-12 * n * jnp.square(means)
            scale = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, squares, 1)), 0)
            correlation = products * scale[0][:, None] * scale[1][None, :]
            same = jnp.eye(len(correlation), dtype=bool)
            unlike = jnp.sum(jnp.square(1 - correlation), where=same)
            redundant = jnp.sum(jnp.square(correlation), where=~same)
            value = unlike + redundancy_weight * redundant
            valid = features.paired & (n > 1)
            return Terms.one_per_anchor(jnp.broadcast_to(value, valid.shape), valid)

        return BatchSums((dot(first.T, second.T), jnp.sum(views * views, 1)), terms)

    return centred_views(features, correlate)
