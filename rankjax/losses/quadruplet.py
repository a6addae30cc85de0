"""Quadruplet loss: triplets, and two negatives that must be apart as well."""

import dataclasses

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.losses.triplet import triplet_loss
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, register
from rankjax.terms import Terms


@register(
    kind=Kind.PLAIN,
    similarity=similarity.negative_squared_euclidean,
    paper="Chen et al., CVPR 2017",
)
def quadruplet_loss(
    pairs: Pairs, *, margin: Number = 0.2, pair_margin: Number = 0.2
) -> tuple[Terms, Terms]:
    """Triplet loss, plus the same of negative pairs that do not hold the anchor.

    For every anchor a, positive p and negative n, with m the nearest to n of the rows
    whose class is neither the anchor's nor n's (D^2 is the negated similarity):

        [D^2(a, p) - D^2(a, n) + margin]+      and
        [D^2(a, p) - D^2(n, m) + pair_margin]+

    Args:
      pairs: similarities [anchor, reference] and masks, with labels and
        `reference_embeddings`.
      margin: alpha_1 in the paper, in units of the similarity.
      pair_margin: alpha_2. The paper adapts both to the distances in the batch; 0.2 and
        0.2 are those of "Revisiting Training Strategies" (ICML 2020), for distances
        that are not squared.

    Returns:
      Terms of the triplets and Terms of the quadruplets, one per triplet for which
      there is such an m; the loss is the sum of their means. With fewer than three
      classes there are no quadruplets.

    Raises:
      ValueError: no class per reference, as when masks are given: whether two negatives
        are of one class is then not known.

    Source: Chen, Chen, Zhang, Huang, "Beyond Triplet Loss: A Deep Quadruplet Network
    for Person Re-identification", CVPR 2017, which sums over every m as well, n^4
    terms. Taking the nearest is its largest term. The code of "Revisiting Training
    Strategies" draws m at random and may draw a row of any class, the anchor's or n's
    among them.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8], [-1.0, 0.0]]
    >>> y = [0, 0, 1, 1, 2]
    >>> round(float(rankjax.quadruplet_loss(x, y, margin=0.5, pair_margin=0.5)), 3)
    0.058
    """
    pairs.need("anchor_label", "reference_label", "reference_embeddings")
    nearest = _nearest_of_third_class(pairs)
    some = nearest > -jnp.inf
    among_negatives = dataclasses.replace(
        pairs.narrow(positive=pairs.positive, negative=some),
        similarity=jnp.where(pairs.positive | ~some, pairs.similarity, nearest),
    )
    return (
        triplet_loss(pairs, margin=margin),
        triplet_loss(among_negatives, margin=pair_margin),
    )


def _nearest_of_third_class(pairs: Pairs) -> jax.Array:
    """Similarity of a reference and the nearest row whose class is neither its own nor
    the anchor's, [anchor, reference]; -inf where there is none.

    That is the nearest row of another class than the reference's, or, where this is of
    the anchor's class, the nearest that is of neither.
    """
    between, label = pairs.reference_rows(), jnp.asarray(pairs.reference_label)
    others = label[:, None] != label[None, :]
    if pairs.reference_valid is not None:
        others &= pairs.reference_valid[None, :]
    first = rows.largest(between, others)
    its_class = label[jnp.argmax(rows.is_largest(between, others), -1)]
    second = rows.largest(between, others & (label[None, :] != its_class[:, None]))
    of_anchor = jnp.asarray(pairs.anchor_label)[:, None] == its_class[None, :]
    return jnp.where(of_anchor, second[None, :], first[None, :])
