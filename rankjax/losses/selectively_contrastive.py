"""Selectively contrastive triplet loss: a hard negative is pushed, nothing else."""

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    similarity=similarity.cosine,
    paper="Xuan et al., ECCV 2020",
    signed=True,
)
def selectively_contrastive_triplet_loss(
    pairs: Pairs,
    *,
    hard_weight: NonNegative = 1.0,
    temperature: Positive = 0.1,
    hard_above: Number = jnp.inf,
) -> Terms:
    """Triplet loss that only pushes the negative where it is the nearer one.

    With p the anchor's nearest positive and n its nearest negative:

        hard_weight S(a, n)                              if S(a, n) > S(a, p), else
        log(1 + exp((S(a, n) - S(a, p)) / temperature))

    A hard triplet does not pull its positive: only its negative is pushed.

    Args:
      pairs: cosines [anchor, reference] and masks.
      hard_weight: lambda in the paper; 1 in the authors' runs.
      temperature: of the smooth triplet loss; 0.1 in the authors' code.
      hard_above: a negative more similar than this is hard whatever the positive. The
        authors' code has 0.8; by default only the comparison decides.

    Returns:
      Terms, one term per anchor that has a positive and a negative. Of ties the lowest
      reference index is taken. The value jumps where S(a, n) passes S(a, p), and a hard
      term is below zero where its cosine is. Mining that leaves one positive decides
      which: `mining.hardest` gives the farthest.

    Source: Xuan, Stylianou, Liu, Pless, "Hard Negative Examples are Hard, but Useful",
    ECCV 2020. The authors' code leaves out positives with cosine above 0.9999, as
    duplicates; here they count.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.selectively_contrastive_triplet_loss(x, y)), 3)
    0.064
    """
    complete = pairs.positive.any(-1) & pairs.negative.any(-1)
    positive, negative = (
        jnp.where(complete, rows.largest(pairs.similarity, mask), 0)
        for mask in (pairs.positive, pairs.negative)
    )
    hard = (negative > positive) | (negative > hard_above)
    smooth = jax.nn.softplus((negative - positive) / temperature)
    return Terms.one_per_anchor(
        jnp.where(hard, hard_weight * negative, smooth), complete
    )
