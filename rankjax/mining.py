"""Choosing which pairs and triplets a loss sees.

A *miner* is a function `Pairs -> Pairs` that narrows the masks, one anchor's row at a
time. A *selection* picks the negatives of one anchor and one positive, for rules whose
band depends on the positive; the triplet loss takes it as an argument. Neither changes
a shape, and no gradient flows through a choice.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs

Miner = Callable[[Pairs], Pairs]
Selection = Callable[
    [jax.Array, jax.Array, jax.Array, jax.Array | float | None], jax.Array
]
"""Maps (similarities [reference], negatives [reference], similarity of the positive,
margin) to the mask [reference] of chosen negatives."""


def hardest(pairs: Pairs) -> Pairs:
    """Each anchor's least similar positive and most similar negative.

    Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017. Of ties the lowest
    reference index is taken.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (
            rows.is_smallest(row, positive),
            rows.is_largest(row, negative),
        ),
    )


def easy_positive(pairs: Pairs) -> Pairs:
    """Each anchor's most similar positive, with all of its negatives.

    Xuan, Stylianou, Pless, "Improved Embeddings with Easy Positive Triplet Mining",
    2020: classes may keep several modes.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (rows.is_largest(row, positive), negative),
    )


def thresholds(
    pairs: Pairs,
    *,
    positive_below: float = jnp.inf,
    negative_above: float = -jnp.inf,
) -> Pairs:
    """Positives less similar than one threshold, negatives more similar than another.

    Both are in units of the similarity: for distances, minus the distance.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (
            positive & (row < positive_below),
            negative & (row > negative_above),
        ),
    )


def all_negatives(
    row: jax.Array,
    negative: jax.Array,
    positive: jax.Array,
    margin: jax.Array | float | None,
) -> jax.Array:
    """Selects every negative."""
    del row, positive, margin
    return negative


def semi_hard(
    row: jax.Array,
    negative: jax.Array,
    positive: jax.Array,
    margin: jax.Array | float | None,
) -> jax.Array:
    """Selects the negatives beyond the positive, but within the margin.

    Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015: with D the negated
    similarity, D(a, p) < D(a, n) < D(a, p) + margin. All negatives of the band count;
    pytorch-metric-learning does the same, TensorFlow does not (see
    `semi_hard_or_easiest`).

    Raises:
      ValueError: margin is None; a soft margin has no band.
    """
    if margin is None:
        raise ValueError("semi_hard needs a margin, got None (the soft margin)")
    row, positive = lax.stop_gradient((row, positive))
    return negative & (row < positive) & (row > positive - margin)


def semi_hard_or_easiest(
    row: jax.Array,
    negative: jax.Array,
    positive: jax.Array,
    margin: jax.Array | float | None,
) -> jax.Array:
    """Selects the nearest negative beyond the positive, else the farthest negative.

    The rule of TensorFlow's `triplet_semihard_loss`: one negative for every pair of
    anchor and positive. It may lie beyond the margin, where the hinge makes it 0, and
    when no negative is beyond the positive the easiest of the others is taken.
    """
    del margin
    row, positive = lax.stop_gradient((row, positive))
    beyond = negative & (row < positive)
    return jnp.where(
        beyond.any(), rows.is_largest(row, beyond), rows.is_smallest(row, negative)
    )


def _per_anchor(
    pairs: Pairs,
    rule: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> Pairs:
    row = lax.stop_gradient(pairs.similarity)
    return pairs.narrow(*jax.vmap(rule)(row, pairs.positive, pairs.negative))
