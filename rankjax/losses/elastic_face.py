"""ElasticFace: ArcFace with a margin that is drawn for each row."""

import jax

from rankjax import rows
from rankjax.losses.arc_face import Margin, widen
from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="proxies",
    sharded=True,
    paper="Boutros et al. (ElasticFace), CVPRW 2022",
)
def elastic_face_loss(
    pairs: Pairs,
    *,
    margin: Margin = 28.6,
    deviation: NonNegative = 2.86,
    scale: Positive = 64.0,
) -> Terms:
    """ElasticFace: ArcFace whose margin is a normal number for each anchor.

    With g drawn from the standard normal distribution, for each anchor and each key:

        ArcFace's loss with margin + deviation g

    Args:
      pairs: cosines [anchor, class row], masks, and the key of an objective's call.
      margin: mean of the margins, degrees.
      deviation: standard deviation of the margins, degrees; 0 is `arc_face_loss`.
      scale: above 0; multiplies cosines.

    Returns:
      Terms, one term per anchor and positive.

    Raises:
      ValueError: there is no key.

    Source: Boutros, Damer, Kirchbuchner, Kuijper, "ElasticFace: Elastic Margin Loss for
    Deep Face Recognition", CVPR Workshops 2022; the defaults are those of the authors'
    configuration, 0.5 and 0.05 radians.

        >>> import jax, rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.elastic_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), scale=2.0,
        ...     key=jax.random.key(0))), 3)
        0.307
    """
    pairs.need("key", "anchor_index")
    draw = jax.vmap(lambda key: jax.random.normal(key, (), pairs.similarity.dtype))
    margins = margin + deviation * draw(rows.keys(pairs))
    return cross_entropy(
        scale * widen(pairs.similarity, margins[:, None]),
        scale * pairs.similarity,
        pairs,
    )
