"""Choosing which pairs and triplets a loss sees.

A *miner* is a function `Pairs -> Pairs` that narrows the masks, one anchor's row at a
time; settings are bound by `functools.partial`, and miners follow each other as
functions do. A *selection* (see `rankjax.selections`) picks the negatives of one anchor
and one positive. Neither changes a shape, and no gradient flows through a choice. Of
ties the lowest reference index is taken. Random miners need the objective's `key`, and
draw for each anchor by its number, so that blocks and devices cannot change the draw.

    >>> import functools, rankjax
    >>> from rankjax import losses, mining
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> nearest = functools.partial(mining.top_k, negatives=1)
    >>> compute = rankjax.objective(losses.contrastive_loss, mining=nearest)
    >>> round(float(compute(x, y)), 3)
    0.203
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Count, NonNegative, Number, Range
from rankjax.selections import SELECTIONS as SELECTIONS
from rankjax.selections import Selection as Selection
from rankjax.selections import all_negatives as all_negatives
from rankjax.selections import angular as angular
from rankjax.selections import distance_weighted as distance_weighted
from rankjax.selections import easy as easy
from rankjax.selections import hard as hard
from rankjax.selections import hardest_negative as hardest_negative
from rankjax.selections import lowest, recorded
from rankjax.selections import random_negatives as random_negatives
from rankjax.selections import semi_hard as semi_hard
from rankjax.selections import semi_hard_or_easiest as semi_hard_or_easiest

Miner = Callable[[Pairs], Pairs]
Choice = Literal["all", "easiest", "semi_hard", "hardest"]
Part = Annotated[Number, Range(above=0, most=1)]

MINERS: dict[str, Callable[..., Pairs]] = {}
"""Every miner by its name."""


@recorded(MINERS)
def all_pairs(pairs: Pairs) -> Pairs:
    """Every pair: the same as no mining."""
    return pairs


@recorded(MINERS)
def hardest(
    pairs: Pairs, *, side: Literal["both", "positive", "negative"] = "both"
) -> Pairs:
    """Each anchor's least similar positive and most similar negative.

    Args:
      pairs: the batch.
      side: which of the two is narrowed; the other keeps all of its pairs.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (
            positive if side == "negative" else rows.is_smallest(row, positive),
            negative if side == "positive" else rows.is_largest(row, negative),
        ),
    )


@recorded(MINERS)
def easy_positive(pairs: Pairs) -> Pairs:
    """Each anchor's most similar positive, with all of its negatives.

    Classes may keep several modes.

    Source: Xuan, Stylianou, Pless, "Improved Embeddings with Easy Positive Triplet
    Mining", WACV 2020.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (rows.is_largest(row, positive), negative),
    )


@recorded(MINERS)
def easy_hard(
    pairs: Pairs, *, positive: Choice = "easiest", negative: Choice = "semi_hard"
) -> Pairs:
    """One positive and one negative of each anchor, by a rule for each.

    Args:
      pairs: the batch.
      positive: 'easiest', the most similar; 'hardest', the least similar; 'semi_hard',
        the least similar of those more similar than the chosen negative; or 'all'.
      negative: 'easiest', the least similar; 'hardest', the most similar; 'semi_hard',
        the most similar of those less similar than the chosen positive; or 'all'.

    Returns:
      Pairs of the anchors that find both; the others keep none.

    Raises:
      ValueError: 'semi_hard' without a single pair on the other side to compare with.

    Source: the grid of pytorch-metric-learning's `BatchEasyHardMiner`, which keeps
    incomplete anchors where one of the rules is 'all'. An easy positive with a
    semi-hard negative: Xuan, Stylianou, Pless, "Improved Embeddings with Easy Positive
    Triplet Mining", WACV 2020.
    """
    choices = (positive, negative)
    if choices in [("semi_hard",) * 2, ("semi_hard", "all"), ("all", "semi_hard")]:
        raise ValueError(
            f"semi_hard compares with a single pair, got {positive=}, {negative=}"
        )

    def rule(
        row: jax.Array, positives: jax.Array, negatives: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        if positive == "semi_hard":
            chosen = _choose(-row, negatives, negative)
            positives &= row > rows.largest(row, chosen)
        if negative == "semi_hard":
            chosen = _choose(row, positives, positive)
            negatives &= row < rows.largest(row, chosen)
        positives = _choose(row, positives, positive)
        negatives = _choose(-row, negatives, negative)
        complete = positives.any() & negatives.any()
        return positives & complete, negatives & complete

    return _per_anchor(pairs, rule)


@recorded(MINERS)
def multi_similarity(pairs: Pairs, *, epsilon: NonNegative = 0.1) -> Pairs:
    """Pairs that are out of order with one of the other side, or nearly so.

        negatives with S(a, n) > min over P of S(a, p) - epsilon
        positives with S(a, p) < max over N of S(a, n) + epsilon

    Args:
      pairs: the batch. An anchor without positives, or without negatives, keeps none.
      epsilon: in units of the similarity, 0 or more.

    Source: Wang, Han, Huang, Dong, Scott, "Multi-Similarity Loss with General Pair
    Weighting for Deep Metric Learning", CVPR 2019. pytorch-metric-learning does the
    same; the authors' code also drops positives of cosine 1, here they stay.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (
            positive & (row < rows.largest(row, negative) + epsilon),
            negative & (row > rows.smallest(row, positive) - epsilon),
        ),
    )


@recorded(MINERS)
def thresholds(
    pairs: Pairs,
    *,
    positive_below: Number = jnp.inf,
    negative_above: Number = -jnp.inf,
) -> Pairs:
    """Positives less similar than one threshold, negatives more similar than another.

    Both are in units of the similarity: for distances, minus the distance.
    pytorch-metric-learning's `PairMarginMiner` is `positive_below=-0.2` and
    `negative_above=-0.8` on distances between unit vectors.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (
            positive & (row < positive_below),
            negative & (row > negative_above),
        ),
    )


@recorded(MINERS)
def likely_true_negatives(
    pairs: Pairs,
    *,
    by: Literal["similarity", "guide"] = "similarity",
    margin: Number = 0.0,
    relative: bool = False,
) -> Pairs:
    """All positives, and negatives less similar than the anchor's nearest positive.

        absolute  S(a, n) <= S(a, p) - margin
        relative  S(a, n) <= S(a, p) (1 - margin)

    What is nearer than a known positive may well be a positive that nobody labelled.

    Args:
      pairs: the batch. An anchor without positives keeps all negatives.
      by: the embeddings' own similarity, or that of the objective's `guide`.
      margin: in units of the similarity, or a share of it.
      relative: which of the two; meant for similarities above 0.

    Raises:
      ValueError: there is no guide.

    Source: Solatorio, "GISTEmbed: Guided In-sample Selection of Training Negatives for
    Text Embedding Fine-tuning", 2024, which has one positive and no margin; margins as
    in sentence-transformers.
    """
    if by == "guide":
        pairs.need("guide")
    judged = pairs.similarity if by == "similarity" else jnp.asarray(pairs.guide)

    def rule(
        row: jax.Array, positive: jax.Array, negative: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        nearest = rows.largest(row, positive)
        limit = nearest * (1 - margin) if relative else nearest - margin
        return positive, negative & ((row <= limit) | ~positive.any())

    row = lax.stop_gradient(judged)
    return pairs.narrow(*jax.vmap(rule)(row, pairs.positive, pairs.negative))


@recorded(MINERS)
def top_k(
    pairs: Pairs, *, positives: Count | None = None, negatives: Count | None = None
) -> Pairs:
    """Each anchor's `positives` least similar and `negatives` most similar pairs.

    None keeps all of a side; an anchor that has fewer keeps those it has.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative: (
            _at_most(row, positive, positives),
            _at_most(-row, negative, negatives),
        ),
    )


@recorded(MINERS)
def hard_aware_cascade(pairs: Pairs, *, share: Part = 0.5) -> Pairs:
    """The hardest share of each anchor's positives and of its negatives.

    Args:
      pairs: the batch.
      share: above 0, at most 1. Numbers of pairs are rounded up.

    Source: Yuan, Yang, Zhang, "Hard-Aware Deeply Cascaded Embedding", ICCV 2017, whose
    cascade takes a smaller share at each stage. pytorch-metric-learning ranks the pairs
    of the whole batch, so that easy anchors lose all of theirs; here every anchor keeps
    its hardest.
    """

    def part(values: jax.Array, where: jax.Array) -> jax.Array:
        # Rounding must not lift a whole number, say .3 of 10, to the next.
        size = jnp.sum(where, dtype=values.dtype)
        count = jnp.ceil(share * size - 1e-3).astype(jnp.int32)
        last = jnp.sort(jnp.where(where, values, jnp.inf))[count - 1]
        before, tied = where & (values < last), where & (values == last)
        spare = count - jnp.sum(before, dtype=jnp.int32)
        return before | (tied & (jnp.cumsum(tied, dtype=jnp.int32) <= spare))

    return _per_anchor(
        pairs,
        lambda row, positive, negative: (part(row, positive), part(-row, negative)),
    )


@recorded(MINERS)
def hierarchical(pairs: Pairs, *, super_class: Any) -> Pairs:
    """Positives, and the negatives of the anchor's own super-class.

    Classes of one super-class (bicycles, birds of a family) are the ones that are hard
    to tell apart. It goes with batches drawn from few super-classes.

    Args:
      pairs: the batch, made from labels.
      super_class: [class] int, the super-class of each label. A label that is not one
        of 0 .. len(super_class) - 1 has no super-class, and no negatives.

    Raises:
      ValueError: the batch came without a class per row, or super_class is no [class].
      TypeError: super_class is not of integers.
    """
    pairs.need("anchor_label", "reference_label")
    assert pairs.anchor_label is not None
    assert pairs.reference_label is not None
    if not isinstance(super_class, jax.Array):
        super_class = np.asarray(super_class)
    if super_class.ndim != 1 or not len(super_class):
        raise ValueError(
            f"super_class must have shape [class], not 0, got {super_class.shape}"
        )
    if not jnp.issubdtype(super_class.dtype, jnp.integer):
        raise TypeError(f"super_class must be integers, got {super_class.dtype}")
    table = jnp.asarray(super_class)
    anchor, reference = pairs.anchor_label[:, None], pairs.reference_label[None, :]
    known = (anchor >= 0) & (anchor < len(table))
    known &= (reference >= 0) & (reference < len(table))
    return pairs.narrow(pairs.positive, known & (table[anchor] == table[reference]))


@recorded(MINERS)
def random_pairs(
    pairs: Pairs, *, positives: Count | None = None, negatives: Count | None = None
) -> Pairs:
    """At most so many positives and negatives of each anchor, at random.

    Each set of that size is as likely as any other. None keeps all of a side.

    Raises:
      ValueError: the objective was called without a key.
    """
    return _per_anchor(
        pairs,
        lambda row, positive, negative, draw: (
            _at_most(draw, positive, positives),
            _at_most(draw, negative, negatives),
        ),
        _draws(pairs),
    )


@recorded(MINERS)
def uniform_histogram(
    pairs: Pairs, *, bins: Count = 10, positives: Count = 1, negatives: Count = 1
) -> Pairs:
    """Pairs at random, spread evenly over the range of each anchor's similarities.

    Args:
      pairs: the batch.
      bins: equal parts of the range from the anchor's least to its most similar
        positive, and likewise of its negatives.
      positives: at most so many of each bin, at random without replacement.
      negatives: the same for negatives.

    Raises:
      ValueError: the objective was called without a key.

    Source: the idea is pytorch-metric-learning's `UniformHistogramMiner`, a stand-in
    for `distance_weighted` that asks nothing of similarity or dimension. It has 100
    bins over the whole batch and draws 10 of each with replacement.
    """

    def spread(
        row: jax.Array, where: jax.Array, draw: jax.Array, count: int
    ) -> jax.Array:
        low = jnp.where(where.any(), rows.smallest(row, where), 0)
        high = jnp.where(where.any(), rows.largest(row, where), 0)
        width = jnp.where(high > low, (high - low) / bins, 1)
        number = jnp.clip(jnp.floor((row - low) / width), 0, bins - 1)
        of_bin = lambda i: lowest(draw, where & (number == i), count)  # noqa: E731
        return lax.map(of_bin, jnp.arange(bins, dtype=row.dtype)).any(0)

    return _per_anchor(
        pairs,
        lambda row, positive, negative, draw: (
            spread(row, positive, draw, positives),
            spread(row, negative, draw, negatives),
        ),
        _draws(pairs),
    )


def _per_anchor(
    pairs: Pairs,
    rule: Callable[..., tuple[jax.Array, jax.Array]],
    *more: jax.Array,
) -> Pairs:
    """Narrows the masks by a rule of similarities, positives, negatives (and more)."""
    row = lax.stop_gradient(pairs.similarity)
    return pairs.narrow(*jax.vmap(rule)(row, pairs.positive, pairs.negative, *more))


def _draws(pairs: Pairs) -> jax.Array:
    """Random numbers [anchor, reference]; a pair's belongs to its rows' numbers."""
    pairs.need("key", "anchor_index")
    shape, dtype = pairs.similarity.shape[1:], pairs.similarity.dtype
    return jax.vmap(lambda key: jax.random.uniform(key, shape, dtype))(rows.keys(pairs))


def _at_most(values: jax.Array, where: jax.Array, count: int | None) -> jax.Array:
    return where if count is None else lowest(values, where, count)


def _choose(values: jax.Array, where: jax.Array, choice: Choice) -> jax.Array:
    """The hardest pair has the lowest value, the easiest the highest.

    Semi-hard is the hardest of those that the caller has left.
    """
    if choice == "all":
        return where
    pick = rows.is_largest if choice == "easiest" else rows.is_smallest
    return pick(values, where)
