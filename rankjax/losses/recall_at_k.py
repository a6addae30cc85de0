"""Recall@k and precision@k with sigmoids in place of both their steps."""

from typing import Annotated

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Count, Kind, Positive, Range, register
from rankjax.rows import View
from rankjax.terms import Terms

Counts = Annotated[tuple[int, ...], Range(least=1)]
"""Whole numbers that shape the computation, hence static."""

_PAPER = "Patel et al., CVPR 2022"


@register(kind=Kind.PER_POSITIVE, batch="large", paper=_PAPER)
def recall_at_k_loss(
    pairs: Pairs,
    *,
    k: Counts = (1, 2, 4, 8, 16),
    rank_temperature: Positive = 1.0,
    temperature: Positive = 0.01,
) -> Terms:
    """Recall@k surrogate, one term per anchor: 1 - recall@k, averaged over k.

    With r the soft rank of positive i, which sigmoids count,

        r = 1 + sum over others j of sigmoid((S(a, j) - S(a, i)) / temperature)

        recall@k = (sum over positives i of sigmoid((k - r) / rank_temperature), at most
                    k) / min(k, number of positives).

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      k: lengths of the lists, each at least 1; static, a tuple.
      rank_temperature: in ranks.
      temperature: in units of the similarity.

    Returns:
      Terms, one per anchor with a positive, in [0, 1]. A positive at rank k itself
      counts as half found, however low the temperatures: the step of the paper is at k.
      With the step at k + 1/2 it would be recall@k, see `surrogate_precision_loss`.

    Source: Patel, Tolias, Matas, "Recall@k Surrogate Loss with Large Batches and
    Similarity Mixup", CVPR 2022; defaults of the authors' code. It ranks the anchor
    among its own candidates, so that all ranks are one higher, and wants classes of one
    size; here the anchor is left out.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.recall_at_k_loss(x, y, k=(1, 2))), 3)
    0.384
    """
    steps = jnp.asarray(k, pairs.similarity.dtype)
    recall = _recall(pairs, steps, steps, rank_temperature, temperature)
    return Terms.one_per_anchor(1 - recall.mean(-1), pairs.positive.any(-1))


@register(kind=Kind.PER_POSITIVE, batch="large", paper=_PAPER)
def surrogate_precision_loss(
    pairs: Pairs,
    *,
    k: Count = 5,
    rank_temperature: Positive = 1.0,
    temperature: Positive = 0.01,
) -> Terms:
    """Precision@k surrogate, one term per anchor: the recall@k loss, its step at k+1/2.

    Precision@k is over min(k, number of positives), so that 1 can be reached, and then
    the same as the recall@k of `recall_at_k_loss`.

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      k: length of the list, static.
      rank_temperature: in ranks.
      temperature: in units of the similarity.

    Returns:
      Terms, one per anchor with a positive, in [0, 1]; towards temperatures 0 they
      become 1 - precision@k.

    Source: open-metric-learning's loss of that name, after `recall_at_k_loss`; there k
    has no default, ranks start at 1/2, which puts the step where it is here, and
    similarities are Euclidean distances, negated.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.surrogate_precision_loss(x, y, k=1)), 3)
    0.378
    """
    sizes = jnp.full(1, k, pairs.similarity.dtype)
    recall = _recall(pairs, sizes, sizes + 0.5, rank_temperature, temperature)
    return Terms.one_per_anchor(1 - recall[:, 0], pairs.positive.any(-1))


def _recall(
    pairs: Pairs,
    sizes: jax.Array,
    steps: jax.Array,
    rank_temperature: Positive,
    temperature: Positive,
) -> jax.Array:
    """Shares [anchor, k]: positives in lists of `sizes`, of those that could be."""

    def terms(view: View) -> Terms:
        others = (view.positives | view.negatives) & ~view.this
        ahead = jax.nn.sigmoid((view.row - view.positive) / temperature)
        rank = 1 + jnp.sum(ahead, where=others)
        found = jax.nn.sigmoid((steps - rank) / rank_temperature)
        return Terms.one_per_anchor(found, jnp.ones(found.shape, bool))

    found = rows.per_positive(pairs, terms).total
    number = jnp.sum(pairs.positive, -1, dtype=sizes.dtype)
    possible = jnp.minimum(sizes[None, :], jnp.maximum(number, 1)[:, None])
    return jnp.minimum(found, possible) / possible
