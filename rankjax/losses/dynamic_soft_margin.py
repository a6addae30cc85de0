"""Dynamic soft margin: triplets weighted by their place in the batch."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows, similarity
from rankjax.entry import Kind, Positive, Range, listed
from rankjax.pairs import Pairs
from rankjax.terms import Pooled, Terms


@listed(
    kind=Kind.PLAIN,
    similarity=similarity.negative_euclidean,
    batch="pairs",
    paper="Zhang and Rusinkiewicz, ICCV 2019",
)
def dynamic_soft_margin_loss(
    pairs: Pairs,
    *,
    limit: Positive = 2.0,
    bins: Annotated[int, Range(least=2)] = 512,
) -> Pooled:
    """Dynamic soft margin loss, one term per anchor and positive.

    With D the negated similarity (the Euclidean distance by default), and the negative
    nearest to either of the two:

        gap(a, p) = D(a, p) - min over n of min(D(a, n), D(p, n))
        term = F(gap) * gap

    F is the cumulative distribution of all gaps of the batch, a constant to the
    gradient: the hardest triplet has weight 1, and no margin is to be chosen.

    Args:
      pairs: similarities [anchor, reference] and masks, with `reference_similarity`.
      limit: gaps are binned from -limit to limit, and those outside count at the ends;
        2 holds every gap of unit-length embeddings.
      bins: nodes of the histogram, at least 2. A gap is shared by the two nodes about
        it, and F is interpolated between nodes, so that no weight jumps.

    Returns:
      Terms, one per anchor and positive where the anchor has a negative; they are
      negative where the triplet is well ordered. Weights of anchors weigh the terms but
      not F.

    Source: Zhang, Rusinkiewicz, "Learning Local Descriptors with a CDF-Based Dynamic
    Soft Margin", ICCV 2019. Their code averages the histogram over steps, with momentum
    0.01 for 512 bins, and looks F up without interpolation. Here it is that of the
    batch, momentum 1, without a state; small batches make it coarse.
    pytorch-metric-learning weighs all triplets rather than the hardest, with 10 bins,
    and does not save its histogram in checkpoints.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.dynamic_soft_margin_loss(x, y)), 2)
        -0.25
    """
    gap, valid = _gaps(pairs)
    place = (lax.stop_gradient(gap) / limit + 1) * ((bins - 1) / 2)
    place = jnp.clip(place, 0, bins - 1)
    node = jnp.clip(jnp.floor(place), 0, bins - 2)
    above, node = place - node, node.astype(jnp.int32)
    histogram = jnp.zeros(bins, gap.dtype)
    histogram = histogram.at[node].add(jnp.where(valid, 1 - above, 0))
    histogram = histogram.at[node + 1].add(jnp.where(valid, above, 0))

    def then(histogram: jax.Array) -> Terms:
        share = histogram / jnp.maximum(jnp.sum(histogram), 1)
        weight = jnp.cumsum(share)[node] + above * share[node + 1]
        return Terms.of(weight * gap, valid)

    return Pooled(histogram, then)


def _gaps(pairs: Pairs) -> tuple[jax.Array, jax.Array]:
    """Gaps [anchor, positive], and where there are any."""
    others = pairs.reference_similarity
    if others is None:
        raise ValueError(
            "this needs Pairs.reference_similarity, which is None: it compares "
            "positives with negatives"
        )
    of_positive = jax.vmap(
        lambda of_all, negative: rows.largest(of_all, negative[None]),
        in_axes=(None if others.ndim == 2 else 0, 0),
    )(others, pairs.negative)
    of_anchor = rows.largest(pairs.similarity, pairs.negative)
    nearest = jnp.maximum(of_anchor[:, None], of_positive)
    valid = pairs.positive & pairs.negative.any(-1, keepdims=True)
    return jnp.where(valid, nearest, 0) - jnp.where(valid, pairs.similarity, 0), valid
