"""Losses of graded pairs: `relevance` in [0, 1] instead of yes and no."""

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW, batch="large", graded=True, paper="Yang et al. (UniCL), CVPR 2022"
)
def soft_target_loss(pairs: Pairs, *, temperature: Positive = 0.1) -> Terms:
    """Cross-entropy of the softmax over all others with the share of each in relevance.

        -sum over P and N of t log softmax(S / temperature),   t = relevance / its sum

    With one label per row, relevance is 1 or 0, and this is `sup_con_loss`.

    Args:
      pairs: similarities [anchor, reference] (cosines by default), masks and relevance:
        the Jaccard index of labels, or by `objective(relevance=...)`.
      temperature: divides S.

    Returns:
      Terms, one per anchor with a pair of relevance above 0; at least the entropy of t.

    Raises:
      ValueError: there is no relevance, as masks were given instead of labels.

    Source: Yang, Li, Zhang, Xiao, Liu, Yuan, Gao, "Unified Contrastive Learning in
    Image-Text-Label Space", CVPR 2022, and Tian et al., "StableRep", NeurIPS 2023, for
    shares of equal size. The temperature is that of `sup_con_loss`.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [[True, False], [True, True], [False, True], [False, True]]
    >>> import numpy
    >>> round(float(rankjax.soft_target_loss(x, numpy.array(y))), 3)
    1.73
    """
    pairs.need("relevance")
    scores = pairs.similarity / temperature
    both = pairs.positive | pairs.negative
    relevance = jnp.asarray(pairs.relevance).astype(scores.dtype)
    share = jnp.sum(relevance, -1, where=both, keepdims=True)
    some = share > 0
    share = jnp.where(some, relevance / jnp.where(some, share, 1), 0)
    total = jnp.where(both.any(-1), rows.log_sum_exp(scores, both), 0)
    values = jnp.sum(share * (total[:, None] - scores), -1, where=both)
    return Terms.one_per_anchor(values, some[:, 0])


@register(kind=Kind.ROW, graded=True, paper="Huang et al., TASLP 2024")
def cosent_loss(pairs: Pairs, *, scale: Positive = 20.0) -> Terms:
    """CoSENT: an anchor's references in the order of their relevance.

        log(1 + sum over relevance(a, i) > relevance(a, j) of
                exp(scale (S(a, j) - S(a, i))))

    Args:
      pairs: similarities [anchor, reference] (cosines by default), masks and relevance:
        the Jaccard index of labels, or by `objective(relevance=...)`. A list of scored
        pairs that are all to be ordered is one anchor. With the similarity
        `complex_angle` this is AnglE's loss of angles.
      scale: multiplies S; that of the authors' code and of sentence-transformers.

    Returns:
      Terms, one per anchor with two references of different relevance.

    Raises:
      ValueError: there is no relevance, as masks were given instead of labels.

    Source: Huang, Peng, Zou, Liu, Zhou, Lin, Su, "CoSENT: Consistent Sentence Embedding
    via Similarity Ranking", IEEE/ACM TASLP 2024, which orders all scored pairs of a
    batch; here each anchor orders its own.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [[True, False], [True, True], [False, True], [False, True]]
    >>> import numpy
    >>> round(float(rankjax.cosent_loss(x, numpy.array(y))), 3)
    0.006
    """
    pairs.need("relevance")
    both = pairs.positive | pairs.negative
    relevance = jnp.asarray(pairs.relevance).astype(pairs.similarity.dtype)

    def row(
        scores: jax.Array, relevance: jax.Array, where: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        falling = jnp.where(where, -relevance, jnp.inf)  # what is left out comes last
        order = jnp.argsort(falling)
        scores, falling, where = scores[order], falling[order], where[order]
        upper = lax.cumlogsumexp(-jnp.where(where, scores, 0))
        above = jnp.searchsorted(falling, falling, side="left", method="sort")
        less = where & (above > 0)
        sums = scores + upper[jnp.maximum(above - 1, 0)]
        return rows.log_one_plus_sum_exp(sums, less), less.any()

    values, some = jax.vmap(row)(scale * pairs.similarity, relevance, both)
    return Terms.one_per_anchor(values, some)
