"""Positive-negative loss: the negative far from the anchor and from the positive."""

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.mining import Selection, all_negatives
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, register
from rankjax.rows import View
from rankjax.terms import Terms


@register(
    kind=Kind.POSITIVE_ROWS,
    similarity=similarity.negative_euclidean,
    paper="Szubert et al. (ivis), Scientific Reports 2019",
)
def positive_negative_loss(
    pairs: Pairs,
    *,
    margin: Number | None = 1.0,
    selection: Selection = all_negatives,
) -> Terms:
    """Positive-negative (PN) loss, one term per triplet.

    With D the negated similarity (the Euclidean distance by default):

        [D(a, p) - min(D(a, n), D(p, n)) + margin]+      or, without margin,
        log(1 + exp(D(a, p) - min(D(a, n), D(p, n))))

    It is the triplet loss with anchor and positive swapped wherever the negative is
    nearer to the positive.

    Args:
      pairs: similarities [anchor, reference] and masks, with `reference_similarity`.
      margin: in units of the distance; None for the soft margin.
      selection: which negatives count beside each positive, by the anchor's row; see
        `rankjax.mining`.

    Returns:
      Terms, one term per triplet.

    Source: Szubert, Cole, Monaco, Drozdov, "Structure-preserving visualisation of high
    dimensional single-cell datasets", Scientific Reports 9, 2019; its code has margin 1
    and given triplets. TensorFlow Similarity takes one triplet per anchor, its farthest
    positive with a semi-hard negative, by cosine distance.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.positive_negative_loss(x, y)), 3)
        0.478
    """

    def terms(view: View) -> Terms:
        gap = jnp.maximum(view.row, view.positive_row) - view.positive
        value = jax.nn.softplus(gap) if margin is None else jax.nn.relu(gap + margin)
        return Terms.over_references(value, selection(view, margin))

    return rows.per_positive(pairs, terms)
