"""AdaFace: a margin that turns from the angle to the cosine as rows get longer."""

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.losses.arc_face import turn
from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, register
from rankjax.terms import BatchSums, Terms

_LEAST_DEVIATION = 1e-3  # the authors' code's, beside which rounding is no deviation


@register(
    kind=Kind.ROW,
    batch="proxies",
    lengths=True,
    sharded=True,
    paper="Kim et al. (AdaFace), CVPR 2022",
)
def ada_face_loss(
    pairs: Pairs,
    *,
    margin: NonNegative = 0.4,
    concentration: NonNegative = 0.333,
    scale: Positive = 64.0,
    length_mean: Number | None = None,
    length_deviation: NonNegative | None = None,
) -> Terms | BatchSums:
    """AdaFace: normalised softmax whose margin depends on the length of the anchor.

    Long rows are taken for images of high quality. With t the angle to the anchor's
    class row, and z how much longer than others in the batch the anchor is:

        -log(exp(s f) / (exp(s f) + sum_z exp(s S(a, z))))
        f = cos(t - m z) - m (1 + z)
        z = (|a| - mean) / (deviation / concentration), from -1 to 1

    At z = -1 that is ArcFace, at 0 CosFace, and at 1 hard samples have most weight.

    Args:
      pairs: cosines [anchor, class row], masks and the anchors' lengths.
      margin: m, radians of the angle and units of the cosine.
      concentration: share of the lengths' standard deviation; the larger, the more
        rows have a z of -1 or 1.
      scale: s, above 0; multiplies cosines.
      length_mean: of lengths; None for that of the batch. The paper has a moving
        average, which a training loop may keep and pass in `params`.
      length_deviation: standard deviation of lengths, likewise.

    Returns:
      Terms, one term per anchor and positive. Lengths are constants to the gradient, as
      in the paper. The angle stays between 0 and 180 degrees.

    Raises:
      ValueError: there are no lengths, as similarities were given by hand.

    Source: Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition",
    CVPR 2022; the defaults and the estimate of the deviation (with n - 1, and 0.001
    added) are those of the authors' code.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.ada_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), margin=0.3,
        ...     scale=2.0)), 3)
        0.336
    """
    pairs.need("anchor_length")
    length = lax.stop_gradient(jnp.asarray(pairs.anchor_length))
    times = jnp.sum(pairs.positive, -1, dtype=length.dtype)  # once per class row

    def terms(mean: Number, deviation: Number) -> Terms:
        z = concentration * (length - mean) / (deviation + _LEAST_DEVIATION)
        z = jnp.clip(z, -1, 1)[:, None]
        target = _within_half_turn(pairs.similarity, -margin * z) - margin * (1 + z)
        return cross_entropy(scale * target, scale * pairs.similarity, pairs)

    if length_mean is not None and length_deviation is not None:
        return terms(length_mean, length_deviation)

    def with_mean(sums: tuple[jax.Array, jax.Array]) -> BatchSums:
        count, total = sums
        mean = total / jnp.maximum(count, 1) if length_mean is None else length_mean
        squares = jnp.sum(times * (length - mean) ** 2)

        def with_deviation(squares: jax.Array) -> Terms:
            if length_deviation is not None:
                return terms(mean, length_deviation)
            return terms(mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1)))

        return BatchSums(squares, with_deviation, constant=True)

    return BatchSums(
        (jnp.sum(times), jnp.sum(times * length)), with_mean, constant=True
    )


def _within_half_turn(cosine: jax.Array, radians: jax.Array) -> jax.Array:
    """The cosine of the sum of two angles, which is kept from 0 to 180 degrees."""
    below = (radians < 0) & (cosine > jnp.cos(radians))
    beyond = (radians > 0) & (cosine < -jnp.cos(radians))
    return jnp.where(below, 1, jnp.where(beyond, -1, turn(cosine, radians)))
