"""Softmax losses: a positive named among the negatives, at a temperature."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="pairs",
    paper="Chen et al. (SimCLR), ICML 2020",
    tuned="temperature: CUB .0091, Cars .0219, SOP .0002",
)
def nt_xent_loss(
    pairs: Pairs, *, temperature: Positive = 0.07, hardness: NonNegative = 0.0
) -> Terms:
    """NT-Xent, also called InfoNCE: each positive against all negatives of its anchor.

        log(1 + sum_n exp((S(a, n) - S(a, p)) / temperature))

    Args:
      pairs: similarities [anchor, reference] (cosines by default) and masks.
      temperature: divides S. The default is that of MoCo, optax and
        pytorch-metric-learning; SimCLR has 0.5.
      hardness: negatives weigh exp(hardness S), a constant to the gradient; the paper
        has none, EmbeddingGemma (2025) 5.

    Returns:
      Terms, one term per anchor and positive, 0 where the anchor has no negative.

    Source: van den Oord, Li, Vinyals, "Representation Learning with Contrastive
    Predictive Coding", 2018; Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for
    Contrastive Learning of Visual Representations", ICML 2020, where classes are the
    two views of an image. Of several positives only the one at hand is in the
    denominator, as in pytorch-metric-learning; all of them are in `sup_con_loss`.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.nt_xent_loss(x, y, temperature=0.5)), 3)
    0.43
    """
    scores = pairs.similarity / temperature
    has_negative = pairs.negative.any(-1)
    harder = scores + lax.stop_gradient(hardness * pairs.similarity)
    negatives = jnp.where(has_negative, rows.log_sum_exp(harder, pairs.negative), 0)
    values = jax.nn.softplus(negatives[:, None] - scores)
    return Terms.over_references(
        jnp.where(has_negative[:, None], values, 0), pairs.positive
    )


@register(kind=Kind.ROW, batch="large", paper="Khosla et al., NeurIPS 2020")
def sup_con_loss(
    pairs: Pairs,
    *,
    temperature: Positive = 0.1,
    mean: Literal["outside", "inside"] = "outside",
) -> Terms:
    """Supervised contrastive loss: the softmax over all others, of all positives.

    With q(j) = exp(S(a, j) / temperature) / sum over P and N of the same:

        outside  -mean over P of log q(p)        inside  -log(mean over P of q(p))

    Args:
      pairs: similarities [anchor, reference] (cosines by default) and masks.
      temperature: divides S; the paper's. Its authors' code has 0.07.
      mean: over the positives, outside the logarithm (the paper's choice, the larger
        loss) or inside.

    Returns:
      Terms, one per anchor with a positive; at least log of the number of positives.

    Source: Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan,
    "Supervised Contrastive Learning", NeurIPS 2020. The authors' code averages anchors
    without a positive in, as 0; here, and in pytorch-metric-learning, they have no
    term. It also multiplies by temperature / 0.07.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.sup_con_loss(x, y, temperature=0.5)), 3)
    0.43
    """
    scores = pairs.similarity / temperature
    if mean == "outside":
        return cross_entropy(scores, pairs.positive, pairs.negative)
    count = jnp.sum(pairs.positive, -1, dtype=scores.dtype)
    values = minus_log_share(scores, pairs.positive, pairs.negative)
    return Terms.one_per_anchor(values + jnp.log(jnp.maximum(count, 1)), count > 0)


def cross_entropy(
    scores: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    weight: float | jax.Array = 1.0,
) -> Terms:
    """-mean over P of weight x log softmax over P and N, one term per anchor with a P.

    The positives' own log-sum-exp is taken apart: it cancels exactly where there is one
    positive, so that a small loss keeps its digits however large the scores are.
    """
    count = jnp.sum(positive, -1, dtype=scores.dtype)
    own = jnp.where(count > 0, rows.log_sum_exp(scores, positive), 0)
    excess = minus_log_share(scores, positive, negative)
    values = weight * ((own[:, None] - scores) + excess[:, None])
    sums = jnp.sum(values, -1, where=positive)
    return Terms.one_per_anchor(sums / jnp.maximum(count, 1), count > 0)


def minus_log_share(
    scores: jax.Array, positive: jax.Array, negative: jax.Array
) -> jax.Array:
    """-log(sum over P of exp / sum over P and N of exp), [anchor]; 0 without either."""
    both = positive.any(-1) & negative.any(-1)
    against = jnp.where(both, rows.log_sum_exp(scores, negative), 0)
    own = jnp.where(both, rows.log_sum_exp(scores, positive), 0)
    return jnp.where(both, jax.nn.softplus(against - own), 0)
