"""Triplet losses: a positive nearer than a negative, by a margin."""

import dataclasses

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.mining import Selection, all_negatives
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, register
from rankjax.rows import View
from rankjax.terms import Terms


@register(
    kind=Kind.PER_POSITIVE,
    similarity=similarity.negative_squared_euclidean,
    paper="Schroff et al. (FaceNet), CVPR 2015",
    tuned="margin: CUB .096, Cars .119, SOP .045, unsquared distances",
)
def triplet_loss(
    pairs: Pairs,
    *,
    margin: Number | None = 0.2,
    selection: Selection = all_negatives,
    swap: bool = False,
) -> Terms:
    """Triplet loss over all triplets of the batch, or a selection of them.

    For anchor a, positive p, negative n, with S the similarity (minus the squared
    Euclidean distance by default):

        [S(a, n) - S(a, p) + margin]+      or, without margin,
        log(1 + exp(S(a, n) - S(a, p)))

    Args:
      pairs: similarities [anchor, reference] and masks.
      margin: in units of the similarity; None for the soft margin.
      selection: which negatives count beside each positive: `mining.all_negatives`
        (batch-all), `mining.semi_hard`, or another of `rankjax.mining`.
      swap: takes the larger of S(a, n) and S(p, n) for S(a, n), here and in the
        selection, so that either end of the positive pair repels the negative. Needs
        `reference_similarity`.

    Returns:
      Terms, one term per triplet. Hermans et al. average batch-all triplets over those
      above zero, as pytorch-metric-learning does: use `rankjax.mean_active`.

    Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, eq. 3 (unit-length
    embeddings, squared distances, margin 0.2); soft margin and unsquared distances:
    Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017; swap: Balntas, Riba,
    Ponsa, Mikolajczyk, "Learning Local Feature Descriptors with Triplets and Shallow
    Convolutional Neural Networks", BMVC 2016. pytorch-metric-learning and PyTorch do
    not square by default; their smooth margin keeps the margin inside.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.triplet_loss(x, y, margin=1.0)), 3)
    0.15
    """

    def terms(view: View) -> Terms:
        if swap:
            harder = jnp.maximum(view.row, view.positive_row)
            view = dataclasses.replace(view, row=harder)
        violation = _violation(view.row - view.positive, margin)
        return Terms.over_references(violation, selection(view, margin))

    return rows.per_positive(pairs, terms)


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_euclidean,
    paper="Hermans et al., 2017",
)
def batch_hard_triplet_loss(pairs: Pairs, *, margin: Number | None = None) -> Terms:
    """Triplet loss of each anchor's farthest positive and nearest negative.

        softplus(D(a, farthest p) - D(a, nearest n)), or [... + margin]+

    Args:
      pairs: similarities [anchor, reference] and masks; D is the negated similarity
        (Euclidean and not squared by default).
      margin: in units of the distance; None for the soft margin, the paper's choice.

    Returns:
      Terms, one term per anchor that has a positive and a negative. Of ties the lowest
      reference index is taken. At collapse the loss is log 2, or the margin.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017, eq. 5. Their
    code takes the farthest positive of an anchor without one as 0; here such an anchor
    has no term.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.batch_hard_triplet_loss(x, y)), 3)
    0.474
    """
    complete = pairs.positive.any(-1) & pairs.negative.any(-1)
    nearest_negative = rows.largest(pairs.similarity, pairs.negative)
    farthest_positive = rows.smallest(pairs.similarity, pairs.positive)
    gap = jnp.where(complete, nearest_negative, 0) - jnp.where(
        complete, farthest_positive, 0
    )
    return Terms.one_per_anchor(_violation(gap, margin), complete)


def _violation(gap: jax.Array, margin: Number | None) -> jax.Array:
    return jax.nn.softplus(gap) if margin is None else jax.nn.relu(gap + margin)
