"""Histogram loss: similarities of positives and of negatives should not overlap."""

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.registry import Count, Kind, register
from rankjax.terms import BatchSums, Result, Terms


@register(kind=Kind.PLAIN, batch="large", paper="Ustinova et al., NIPS 2016")
def histogram_loss(pairs: Pairs, *, bins: Count = 150) -> Result:
    """Histogram loss: the probability that a negative pair is closer than a positive.

    The cosines of all positive and of all negative pairs are collected in histograms
    h+ and h-, which sum to 1, over bins + 1 nodes from -1 to 1, each value split
    between the two nodes around it:

        sum over nodes r of h-(r) (h+(1) + ... + h+(r))

    Args:
      pairs: cosines [anchor, reference] and masks; what is outside [-1, 1] counts as at
        the boundary.
      bins: number of intervals; static. The paper reports little sensitivity.

    Returns:
      Terms, one per negative pair, all in [0, 1]: the share of the batch's positive
      pairs that lie below it. Their mean is the loss. Weights of anchors weigh these
      terms; in the histogram of positives every pair counts once.

    Source: Ustinova, Lempitsky, "Learning Deep Embeddings with Histogram Loss", NIPS
    2016. The default, 151 nodes, is known code's; pytorch-metric-learning has 100 bins
    and rounds to float32 on the way. Equal distributions give 1/2 + 1/2 sum h^2, a
    little over one half.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.histogram_loss(x, y, bins=4)), 3)
    0.13
    """
    position = bins * jnp.clip((1 + pairs.similarity) / 2, 0, 1)
    node = jnp.minimum(jnp.floor(position).astype(jnp.int32), bins - 1)
    upper = position - node.astype(position.dtype)
    histogram = jnp.zeros(bins + 1, position.dtype)
    histogram = histogram.at[node].add(jnp.where(pairs.positive, 1 - upper, 0))
    histogram = histogram.at[node + 1].add(jnp.where(pairs.positive, upper, 0))
    number = jnp.sum(pairs.positive, dtype=position.dtype)

    def then(sums: tuple[jax.Array, jax.Array]) -> Terms:
        histogram, number = sums
        below = jnp.cumsum(histogram) / jnp.maximum(number, 1)
        values = (1 - upper) * below[node] + upper * below[node + 1]
        return Terms.over_references(values, pairs.negative & (number > 0))

    return BatchSums((histogram, number), then)
