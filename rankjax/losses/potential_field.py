"""Potential field loss: attraction and repulsion that fade with distance."""

import jax.numpy as jnp

from rankjax import similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_normalized_euclidean,
    paper="Bhatnagar and Ahuja (PFML), CVPR 2025",
    signed=True,
)
def potential_field_loss(
    pairs: Pairs,
    *,
    decay: Positive = 4.0,
    radius: Positive = 0.2,
    core: Positive = 0.01,
) -> Terms:
    """Potential energy of each pair; references are the sources of the field.

    With D the negated similarity (the distance of normalised rows by default):

        positives  -1 / max(D, radius)^decay
        negatives   1 / clip(D, core, radius)^decay

    Positives attract each other until they are within the radius, negatives repel each
    other only within it, and both forces fall with distance as D^-(decay + 1), where
    the force of a contrastive or squared loss grows.

    Args:
      pairs: similarities [anchor, reference] and masks.
      decay: alpha in the paper.
      radius: delta in the paper, a distance.
      core: distance below which a repulsion grows no more, at most the radius. The
        equation has no such bound, and duplicates would have infinite energy.

    Returns:
      Terms, one per pair, of either sign. `rankjax.total` gives the paper's energy, a
      sum over ordered pairs. Its other sources, several proxies per class, come by
      adding an objective with `references=proxies`, and one of the proxies themselves.

    Source: Bhatnagar, Ahuja, "Potential Field Based Deep Metric Learning", CVPR 2025.
    There is no code of the authors; the equation and the searched ranges, decay up to 6
    and radius 0.1 to 0.3, are as two independent reproductions quote them, and the
    defaults those of one of the two. What the authors chose per data set is not known
    to us.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.potential_field_loss(x, y)), 2)
    414.58
    """
    distance = -pairs.similarity
    attraction = -1 / jnp.maximum(distance, radius) ** decay
    repulsion = 1 / jnp.minimum(jnp.maximum(distance, core), radius) ** decay
    energy = jnp.where(pairs.positive, attraction, repulsion)
    return Terms.over_references(energy, pairs.positive | pairs.negative)
