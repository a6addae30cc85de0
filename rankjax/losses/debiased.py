"""Contrastive learning that allows for positives among its negatives."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, Range, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, batch="views", paper="Chuang et al., NeurIPS 2020")
def debiased_contrastive_loss(
    pairs: Pairs,
    *,
    temperature: Positive = 0.5,
    positive_share: Annotated[Number, Range(least=0, below=1)] = 0.1,
    hardness: NonNegative = 0.0,
) -> Terms:
    """NT-Xent whose negatives are corrected for the positives that hide among them.

        log(1 + n g / e_p),   e = exp(S / temperature)
        g = max((M - positive_share e_p) / (1 - positive_share), exp(-1 / temperature))

    with the anchor's n negatives and the mean M of their e, weighted by e^hardness.

    Args:
      pairs: similarities [anchor, reference] (cosines by default) and masks.
      temperature: divides S; the paper's.
      positive_share: chance that a negative is of the anchor's class, below 1.
      hardness: 0 weights all negatives alike, as the paper does; 1 is the default of
        Robinson et al., who lay more weight on near ones.

    Returns:
      Terms, one term per anchor and positive, 0 where the anchor has no negative.

    Source: Chuang, Robinson, Yen-Chen, Torralba, Jegelka, "Debiased Contrastive
    Learning", NeurIPS 2020; hardness: Robinson, Chuang, Sra, Jegelka, "Contrastive
    Learning with Hard Negative Samples", ICLR 2021.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.debiased_contrastive_loss(x, y)), 3)
    0.313
    """
    scores = pairs.similarity / temperature
    considered = pairs.positive | pairs.negative
    shift = lax.stop_gradient(
        jnp.max(scores, -1, where=considered, initial=-jnp.inf, keepdims=True)
    )
    shift = jnp.where(shift == -jnp.inf, 0, shift)
    some = pairs.negative.any(-1, keepdims=True)
    below = jnp.where(considered, scores - shift, 0)
    weight = jnp.where(pairs.negative, jnp.exp(hardness * below), 0)
    total = jnp.sum(weight, -1, keepdims=True)
    mean = jnp.sum(weight * jnp.exp(below), -1, keepdims=True)
    mean = mean / jnp.where(total > 0, total, 1)
    rest = (mean - positive_share * jnp.exp(below)) / (1 - positive_share)
    known = rest > 0
    log_rest = jnp.where(known, jnp.log(jnp.where(known, rest, 1)) + shift, -jnp.inf)
    least = jnp.maximum(log_rest, -1 / temperature)
    count = jnp.sum(pairs.negative, -1, dtype=scores.dtype, keepdims=True)
    values = jax.nn.softplus(jnp.log(jnp.maximum(count, 1)) + least - scores)
    return Terms.over_references(jnp.where(some, values, 0), pairs.positive)
