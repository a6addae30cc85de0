"""ArcFace: softmax over class rows with an additive margin on the target's angle."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from rankjax.losses.normalized_softmax import cross_entropy, per_class_row
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, Range, register
from rankjax.terms import Terms

Margin = Annotated[Number, Range(least=0, below=90)]
"""Degrees. From a right angle on the target's logit would no longer fall steadily."""


@register(
    kind=Kind.ROW,
    batch="proxies",
    sharded=True,
    paper="Deng et al., CVPR 2019",
    arrays=("margin",),
    tuned="margin / scale: CUB 23.2 / 100, Cars 20.5 / 49.5, SOP 18.6 / 220",
)
def arc_face_loss(
    pairs: Pairs, *, margin: Margin = 28.6, scale: Positive = 64.0
) -> Terms:
    """ArcFace: normalised softmax whose target angle is widened by a margin.

    With c the cosine to the anchor's class row, t its angle, and m the margin:

        -log(exp(s f(c)) / (exp(s f(c)) + sum_z exp(s S(a, z))))
        f(c) = cos(t + m) where t + m < 180 degrees, else c - m sin(m)

    The second form, with m in radians, keeps f falling as the angle grows.

    Args:
      pairs: cosines [anchor, class row] and masks.
      margin: m, degrees, from 0 to below 90; or one per class row, [reference], such
        as `dynamic_margins` of the sizes of classes.
      scale: s, above 0; multiplies cosines.

    Returns:
      Terms, one term per anchor and positive. No angle is computed, and the sine is
      kept above rounding, so that the gradient is finite at angles 0 and 180.

    Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep
    Face Recognition", CVPR 2019. The defaults, 0.5 radians and 64, are those of
    pytorch-metric-learning, which continues f in the same way.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.arc_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), margin=30.0,
        ...     scale=2.0)), 3)
        0.344
    """
    target = widen(pairs.similarity, margin)
    return cross_entropy(scale * target, scale * pairs.similarity, pairs)


def dynamic_margins(
    class_sizes: Any,
    *,
    factor: NonNegative = 0.5,
    power: NonNegative = 0.25,
    offset: NonNegative = 0.05,
) -> jax.Array:
    """Wider margins for rarer classes: factor n^-power + offset radians, in degrees.

    Args:
      class_sizes: [class], number n of training images of each, at least 1.
      factor: the margin of a class of one image, less the offset; radians.
      power: how fast margins fall with the size of a class.
      offset: the margin of an endless class; radians.

    Raises:
      ValueError: a class has no image.

    Source: Ha, Liu, Liu, Liao, "Google Landmark Recognition 2020 Competition Third
    Place Solution", 2020; the defaults are those of pytorch-metric-learning 3, which
    scales n^-power between the smallest and the largest class: sizes of 10, 100 and
    1,000 have 0.500, 0.212 and 0.050 radians there, 0.331, 0.208 and 0.139 here.
    """
    sizes = jnp.asarray(class_sizes, float)
    if not isinstance(sizes, jax.core.Tracer) and not (np.asarray(sizes) >= 1).all():
        raise ValueError(
            f"class_sizes must be images of each class, at least 1, got {sizes.min()}; "
            "np.bincount(labels) counts them"
        )
    return jnp.rad2deg(factor * sizes**-power + offset)


def widen(cosine: jax.Array, margin: Number) -> jax.Array:
    """The cosine [anchor, class] of the angle plus a margin, and its continuation."""
    margins = jnp.deg2rad(per_class_row(margin, cosine))
    continued = cosine - margins * jnp.sin(margins)
    return jnp.where(cosine > -jnp.cos(margins), turn(cosine, margins), continued)


def turn(cosine: jax.Array, radians: jax.Array) -> jax.Array:
    """The cosine of an angle plus another, with finite gradients at 0 and 180."""
    least = 4 * jnp.finfo(cosine.dtype).eps
    sine = jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), least))
    return cosine * jnp.cos(radians) - sine * jnp.sin(radians)
