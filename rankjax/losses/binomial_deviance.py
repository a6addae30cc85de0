"""Binomial deviance: a logistic loss on each pair's similarity."""

import jax

from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, paper="Yi et al., ICPR 2014")
def binomial_deviance_loss(
    pairs: Pairs,
    *,
    alpha: Positive = 2.0,
    threshold: Number = 0.5,
    negative_cost: Positive = 25.0,
) -> tuple[Terms, Terms]:
    """Binomial deviance, one term per pair; positives and negatives are averaged apart.

    With S the cosine:

        positives  log(1 + exp(-alpha (S - threshold)))
        negatives  log(1 + exp(alpha negative_cost (S - threshold)))

    Args:
      pairs: similarities [anchor, reference] and masks.
      alpha: above 0; sharpness.
      threshold: beta in the papers, in units of the similarity.
      negative_cost: C in the papers, above 0. It stands inside the exponential: it
        makes the negatives' side steeper rather than weighing it.

    Returns:
      Terms of the positives and Terms of the negatives; the loss is the sum of their
      means.

    Source: Yi, Lei, Li, "Deep Metric Learning for Practical Person Re-Identification",
    ICPR 2014. alpha 2 and threshold 0.5 are what an author of the histogram loss
    (Ustinova & Lempitsky, NIPS 2016) used to compare with it; cost 25 as in known code
    for BIER (Opitz et al.), while other code has 10.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.binomial_deviance_loss(x, y)), 3)
        1.689
    """
    above = alpha * (pairs.similarity - threshold)
    pull = jax.nn.softplus(-above)
    push = jax.nn.softplus(negative_cost * above)
    return Terms.over_references(pull, pairs.positive), Terms.over_references(
        push, pairs.negative
    )
