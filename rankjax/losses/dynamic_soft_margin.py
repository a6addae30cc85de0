"""Dynamic soft margin: triplets weighted by their place in the batch."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows, similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, Range, register
from rankjax.rows import View
from rankjax.terms import BatchSums, Terms


@register(
    kind=Kind.POSITIVE_ROWS,
    signed=True,
    similarity=similarity.negative_euclidean,
    batch="pairs",
    paper="Zhang and Rusinkiewicz, ICCV 2019",
)
def dynamic_soft_margin_loss(
    pairs: Pairs,
    *,
    limit: Positive = 2.0,
    bins: Annotated[int, Range(least=2)] = 512,
) -> BatchSums:
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
    nodes = jnp.arange(bins, dtype=pairs.similarity.dtype)

    def gap(view: View) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The gap, its place among the nodes, and whether there is a negative."""
        some = view.negatives.any()
        either = jnp.maximum(view.row, view.positive_row)
        value = jnp.where(some, rows.largest(either, view.negatives), 0) - view.positive
        place = (lax.stop_gradient(value) / limit + 1) * ((bins - 1) / 2)
        return value, jnp.clip(place, 0, bins - 1), some

    def count(view: View) -> jax.Array:
        _, place, some = gap(view)
        return jnp.where(some, jax.nn.relu(1 - jnp.abs(nodes - place)), 0)

    def then(histogram: jax.Array) -> Terms:
        below = jnp.cumsum(histogram) / jnp.maximum(jnp.sum(histogram), 1)

        def terms(view: View) -> Terms:
            value, place, some = gap(view)
            weight = jnp.interp(place, nodes, below)
            return Terms.one_per_anchor(weight * value, some)

        return rows.per_positive(pairs, terms)

    histogram = jnp.sum(rows.per_positive(pairs, count), 0)
    return BatchSums(histogram, then, constant=True)
