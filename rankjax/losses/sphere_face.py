"""SphereFace: softmax over class rows with a multiplicative margin on the angle."""

import math

import jax
import jax.numpy as jnp

from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Count, Kind, Positive, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, batch="proxies", sharded=True, paper="Liu et al., CVPR 2017")
def sphere_face_loss(
    pairs: Pairs, *, margin: Count = 4, scale: Positive = 30.0
) -> Terms:
    """SphereFace: normalised softmax whose target angle counts m times.

    With c the cosine to the anchor's class row and t its angle:

        -log(exp(s f(t)) / (exp(s f(t)) + sum_z exp(s S(a, z))))
        f(t) = (-1)^k cos(m t) - 2 k,  k = floor(m t / 180 degrees)

    f falls from 1 at angle 0 to 1 - 2 m at 180 without a jump.

    Args:
      pairs: cosines [anchor, class row] and masks.
      margin: m, a whole number; 1 is the normalised softmax.
      scale: s, above 0; multiplies cosines.

    Returns:
      Terms, one term per anchor and positive. cos(m t) is computed as a polynomial of
      the cosine: no angle, hence no infinite gradient at angle 0.

    Source: Liu, Wen, Yu, Li, Raj, Song, "SphereFace: Deep Hypersphere Embedding for
    Face Recognition", CVPR 2017. There, and in pytorch-metric-learning, the length of
    each embedding takes the place of s; a similarity carries no lengths, so s is one
    number here, as in later code that normalises features (with s = 30). The margin of
    large-margin softmax (ICML 2016), whose class rows have lengths too, is the same.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.sphere_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), margin=2, scale=2.0
        ... )), 3)
        0.369
    """
    target = _multiply_angle(jnp.clip(pairs.similarity, -1, 1), margin)
    return cross_entropy(scale * target, scale * pairs.similarity, pairs)


def _multiply_angle(cosine: jax.Array, margin: int) -> jax.Array:
    before, chebyshev = jnp.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, chebyshev = chebyshev, 2 * cosine * chebyshev - before
    passed = sum(
        (cosine < math.cos(j * math.pi / margin)).astype(cosine.dtype)
        for j in range(1, margin)
    )
    return (1 - 2 * (passed % 2)) * chebyshev - 2 * passed
