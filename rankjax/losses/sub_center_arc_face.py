"""Sub-centre ArcFace: several class rows per class."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.losses.arc_face import Margin, widen
from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Count, Kind, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW, batch="proxies", paper="Deng et al., ECCV 2020", arrays=("margin",)
)
def sub_center_arc_face_loss(
    pairs: Pairs,
    *,
    margin: Margin = 28.6,
    scale: Positive = 64.0,
    centers: Count = 3,
) -> Terms:
    """ArcFace with several rows per class, of which an anchor meets the nearest.

    As `arc_face_loss`, with S(a, class) the largest cosine to a row of the class: noisy
    and unusual images may gather at rows of their own.

    Args:
      pairs: cosines [anchor, class row] and masks; rows of a class are consecutive.
      margin: degrees, from 0 to below 90; or one per class, [reference / centers].
      scale: above 0; multiplies cosines.
      centers: rows per class.

    Returns:
      Terms, one term per anchor and positive class.

    Raises:
      ValueError: the number of references is not a multiple of `centers`.

    Source: Deng, Guo, Liu, Gong, Zafeiriou, "Sub-center ArcFace: Boosting Face
    Recognition by Large-scale Noisy Web Faces", ECCV 2020.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.6, 0.8]]
        >>> round(float(rankjax.sub_center_arc_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 0, 1, 1]), margin=30.0,
        ...     scale=2.0, centers=2)), 3)
        0.417
    """
    similarity, positive, negative = by_class(pairs, centers)
    own, some = rows.largest(similarity, positive), positive.any(-1)
    other = rows.largest(similarity, negative)
    target = widen(jnp.where(some, own, 0), margin)
    others = jnp.where(negative.any(-1), other, 0)
    classes = Pairs(others, some, negative.any(-1))
    return cross_entropy(scale * target, scale * others, classes)


def by_class(pairs: Pairs, centers: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Similarities and both masks, [anchor, class, center].

    Raises:
      ValueError: the number of references is not a multiple of `centers`.
    """
    anchors, references = pairs.similarity.shape
    if references % centers:
        raise ValueError(
            f"{references} references cannot be classes of centers={centers} rows each"
        )
    shape = (anchors, references // centers, centers)
    split = (pairs.similarity, pairs.positive, pairs.negative)
    similarity, positive, negative = (x.reshape(shape) for x in split)
    return similarity, positive, negative
