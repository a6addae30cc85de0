"""VICReg: two views alike, every dimension used, no two dimensions alike."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rankjax.pairs import Features
from rankjax.registry import Kind, NonNegative, Positive, register
from rankjax.similarity import dot
from rankjax.terms import BatchSums, Result, Terms


@register(kind=Kind.FEATURES, batch="views", paper="Bardes et al., ICLR 2022")
def vic_reg_loss(
    features: Features,
    *,
    invariance_weight: NonNegative = 25.0,
    variance_weight: NonNegative = 25.0,
    covariance_weight: NonNegative = 1.0,
    epsilon: Positive = 1e-4,
) -> BatchSums:
    """VICReg: views alike, a standard deviation of 1 at least, no correlation.

    With views a and b, d dimensions, and C a view's covariance over the batch (the
    divisor is n - 1):

        invariance  mean over dimensions of (a - b)^2
        variance    mean over dimensions of [1 - sqrt(C_kk + epsilon)]+, mean of a and b
        covariance  sum over k != l of C_kl^2 / d, sum of a and b

    Args:
      features: embeddings, not normalised, each with its other view.
      invariance_weight: lambda in the paper.
      variance_weight: mu.
      covariance_weight: nu.
      epsilon: above 0; keeps the slope of the root finite.

    Returns:
      Terms of the three weighted parts; the loss is the sum of their means. Invariance
      has one term per pair of views. The other two are of the whole batch, over all
      devices, and need two pairs; weights of rows do not enter their statistics.

    Source: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance
    Regularization for Self-Supervised Learning", ICLR 2022. Weights 25, 25, 1 and
    epsilon are those of the authors' code and of pytorch-metric-learning, and so is the
    mean over views in one part and the sum in another. A single pair gives NaN there.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.vic_reg_loss(x, y)), 3)
    14.356
    """
    paired = features.paired
    distance = jnp.mean(jnp.square(features.embeddings - features.partner), -1)
    invariance = Terms.one_per_anchor(distance, paired).scaled(invariance_weight)

    def spread(views: jax.Array, means: jax.Array, n: jax.Array) -> BatchSums:
        del means

        def terms(products: jax.Array) -> tuple[Terms, ...]:
            covariance = products / jnp.maximum(n - 1, 1)
            variance = jnp.diagonal(covariance, axis1=1, axis2=2)
            lack = jax.nn.relu(1 - jnp.sqrt(variance + epsilon))
            others = ~jnp.eye(variance.shape[1], dtype=bool)[None]
            alike = jnp.sum(jnp.square(covariance), where=others) / variance.shape[1]
            return (
                invariance,
                _of_the_batch(jnp.mean(lack), paired, n).scaled(variance_weight),
                _of_the_batch(alike, paired, n).scaled(covariance_weight),
            )

        return BatchSums(jnp.stack([dot(view.T, view.T) for view in views]), terms)

    return centred_views(features, spread)


def centred_views(
    features: Features, then: Callable[[jax.Array, jax.Array, jax.Array], Result]
) -> BatchSums:
    """Continues with both views less their means over the batch.

    `then` takes the views [view, anchor, dim], zero where an anchor has none, the means
    [view, dim] and the number of pairs of views, the last two of the whole batch.
    """
    where = features.paired[None, :, None]
    views = jnp.where(where, jnp.stack([features.embeddings, features.partner]), 0)

    def centre(sums: tuple[jax.Array, jax.Array]) -> Result:
        total, n = sums
        means = total / jnp.maximum(n, 1)
        return then(jnp.where(where, views - means[:, None], 0), means, n)

    number = jnp.sum(features.paired, dtype=views.dtype)
    return BatchSums((jnp.sum(views, 1), number), centre)


def _of_the_batch(value: jax.Array, paired: jax.Array, n: jax.Array) -> Terms:
    """A statistic of all pairs as the term of each, so that the mean is the value."""
    return Terms.one_per_anchor(jnp.broadcast_to(value, paired.shape), paired & (n > 1))
