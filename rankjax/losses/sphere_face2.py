"""SphereFace2: one yes or no per class, with one threshold for all."""

import math

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, Share, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, batch="proxies", paper="Wen et al. (SphereFace2), ICLR 2022")
def sphere_face2_loss(
    pairs: Pairs,
    *,
    share: Share = 0.7,
    scale: Positive = 40.0,
    margin: NonNegative = 0.4,
    power: Positive = 3.0,
    bias: Number = 0.0,
) -> Terms:
    """SphereFace2: a binary classification per class row, summed over an anchor's row.

        w / s sum over P of log(1 + exp(-s (g(S(a, p)) - m) - b))
        + (1 - w) / s sum over N of log(1 + exp(s (g(S(a, z)) + m) + b))
        g(S) = 2 ((S + 1) / 2)^power - 1

    Args:
      pairs: cosines [anchor, class row] and masks.
      share: w, of the positive.
      scale: s, above 0; multiplies cosines.
      margin: m, in units of g.
      power: spreads high cosines; 1 leaves them as they are.
      bias: b, learned, by `params` of an objective. Start at
        `sphere_face2_bias(classes)`.

    Returns:
      Terms, one per anchor with any pair.

    Source: Wen, Liu, Weller, Raj, Singh, "SphereFace2: Binary Classification is All You
    Need for Deep Face Recognition", ICLR 2022, with its additive margin. The defaults
    are those of the authors' code, OpenSphere, which multiplies by 50 and lets the
    gradient pass g as if it were the cosine.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.sphere_face2_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), scale=2.0)), 3)
        0.243
    """
    stretched = 2 * jnp.maximum((pairs.similarity + 1) / 2, 0) ** power - 1
    yes = jax.nn.softplus(-scale * (stretched - margin) - bias)
    no = jax.nn.softplus(scale * (stretched + margin) + bias)
    considered = pairs.positive | pairs.negative
    values = jnp.where(pairs.positive, share * yes, (1 - share) * no) / scale
    return Terms.one_per_anchor(
        jnp.sum(values, -1, where=considered), considered.any(-1)
    )


def sphere_face2_bias(
    classes: int,
    *,
    share: float = 0.7,
    scale: float = 40.0,
    margin: float = 0.4,
    power: float = 3.0,
) -> float:
    """The bias of least `sphere_face2_loss` where all cosines are 0, to start with.

    Its slope, -w sigmoid(-p - b) + (1 - w) (classes - 1) sigmoid(n + b), is 0 there,
    with p and n the scaled logits of a positive and a negative.

    Raises:
      ValueError: fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    odds = share / ((1 - share) * (classes - 1))
    middle = scale * (2 * 0.5**power - 1)
    positive, negative = middle - scale * margin, middle + scale * margin
    root = math.sqrt((1 - odds) ** 2 + 4 * odds * math.exp(positive - negative))
    # Two forms of one number, of which each subtracts where the other adds.
    if odds > 1:
        return math.log((odds - 1 + root) / 2) - positive
    return math.log(2 * odds / (1 - odds + root)) - negative
