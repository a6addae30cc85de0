"""Triplet losses: a positive nearer than a negative, by a margin."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.mining import Selection, all_negatives
from rankjax.pairs import Pairs
from rankjax.terms import Terms


def triplet_loss(
    pairs: Pairs,
    *,
    margin: float | jax.Array | None = 0.2,
    selection: Selection = all_negatives,
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
        (batch-all), `mining.semi_hard` or `mining.semi_hard_or_easiest`.

    Returns:
      Terms, one term per triplet. Hermans et al. average batch-all triplets over those
      above zero: use `rankjax.mean_active`.

    Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, eq. 3 (unit-length
    embeddings, squared distances, margin 0.2); soft margin and unsquared distances:
    Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017.
    """

    def terms(row: jax.Array, negative: jax.Array, positive: jax.Array) -> Terms:
        chosen = selection(row, negative, positive, margin)
        return Terms.of(_violation(row - positive, margin), chosen)

    return rows.per_positive(pairs, terms)


def batch_hard_triplet_loss(
    pairs: Pairs, *, margin: float | jax.Array | None = None
) -> Terms:
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
    """
    complete = pairs.positive.any(-1) & pairs.negative.any(-1)
    nearest_negative = rows.largest(pairs.similarity, pairs.negative)
    farthest_positive = rows.smallest(pairs.similarity, pairs.positive)
    gap = jnp.where(complete, nearest_negative, 0) - jnp.where(
        complete, farthest_positive, 0
    )
    return Terms.of(_violation(gap, margin)[:, None], complete[:, None])


def _violation(gap: jax.Array, margin: float | jax.Array | None) -> jax.Array:
    return jax.nn.softplus(gap) if margin is None else jax.nn.relu(gap + margin)
