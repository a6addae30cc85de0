"""Decoupled contrastive loss: NT-Xent whose denominator leaves the positive out."""

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.terms import BatchSums, Terms


@register(kind=Kind.ROW, batch="pairs", paper="Yeh et al., ECCV 2022")
def decoupled_contrastive_loss(
    pairs: Pairs, *, temperature: Positive = 0.1, sigma: Positive | None = None
) -> Terms | BatchSums:
    """Decoupled contrastive loss (DCL), one term per anchor and positive.

        log(sum_n exp(S(a, n) / temperature)) - w(a, p) S(a, p) / temperature

    with w = 1, or with `sigma` (DCLW) the negative von Mises-Fisher weight

        w(a, p) = 2 - exp(S(a, p) / sigma) / mean over all positive pairs of the same

    NT-Xent is the softplus of the unweighted loss, so that its gradient fades where a
    positive is easy or negatives are few; this one's does not, and has no lower bound
    of 0.

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default, and with
        `sigma` nothing above 1.
      temperature: divides S.
      sigma: of the weights, whose mean is 1; None for no weights. Known code has 0.5.

    Returns:
      Terms, one per anchor and positive where the anchor has a negative; with `sigma`
      BatchSums, for the mean is that of the whole batch.

    Source: Yeh, Hong, Hsu, Liu, Chen, LeCun, "Decoupled Contrastive Learning",
    ECCV 2022. Known code disagrees on whether gradients flow through w; here they do
    not, for positives closer than sigma would then be pushed apart. Still, the weight
    of a positive far closer than the mean is below 0. Temperature as in known code.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.decoupled_contrastive_loss(x, y, temperature=0.5)), 3)
    -0.737
    """
    scores = pairs.similarity / temperature
    has_negative = pairs.negative.any(-1)
    negatives = jnp.where(has_negative, rows.log_sum_exp(scores, pairs.negative), 0)
    paired = pairs.positive & has_negative[:, None]
    if sigma is None:
        return Terms.over_references(negatives[:, None] - scores, paired)
    closeness = lax.stop_gradient(jnp.exp((pairs.similarity - 1) / sigma))

    def weigh(sums: tuple[jax.Array, jax.Array]) -> Terms:
        total, count = sums
        weight = 2 - closeness * count / jnp.where(total > 0, total, 1)
        return Terms.over_references(negatives[:, None] - weight * scores, paired)

    count = jnp.sum(paired, dtype=scores.dtype)
    return BatchSums((jnp.sum(closeness, where=paired), count), weigh)
