"""MagFace: a margin that grows with the length of a row, which costs, too."""

import dataclasses

import jax.numpy as jnp

from rankjax.losses.arc_face import Margin, widen
from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="proxies",
    lengths=True,
    sharded=True,
    paper="Meng et al. (MagFace), CVPR 2021",
)
def mag_face_loss(
    pairs: Pairs,
    *,
    least_margin: Margin = 25.8,
    most_margin: Margin = 45.8,
    shortest: Positive = 10.0,
    longest: Positive = 110.0,
    scale: Positive = 64.0,
    length_weight: NonNegative = 35.0,
) -> Terms:
    """MagFace: ArcFace with a margin that rises with the length of the anchor.

    A length l, cut off at `shortest` and `longest`, has the margin m(l) on the line
    from (shortest, least_margin) to (longest, most_margin), and a cost of its own that
    falls with l, so that easy images get long rows:

        ArcFace's loss with margin m(l) + length_weight (l / longest^2 + 1 / l)

    Args:
      pairs: cosines [anchor, class row], masks and the anchors' lengths.
      least_margin: degrees.
      most_margin: degrees, at least `least_margin`.
      shortest: length from which on rows differ. Shorter ones get no gradient by their
        length: the network must start with rows of about these lengths.
      longest: above `shortest`.
      scale: above 0; multiplies cosines.
      length_weight: at least 0; multiplies the cost of lengths.

    Returns:
      Terms, one term per anchor and positive.

    Raises:
      ValueError: there are no lengths, as similarities were given by hand.

    Source: Meng, Zhao, Huang, Zhou, "MagFace: A Universal Representation for Face
    Recognition and Quality Assessment", CVPR 2021. The defaults are those of the
    authors' script, 0.45 and 0.8 radians. Beyond 180 degrees the target goes on as in
    `arc_face_loss`; their code has no margin beyond a right angle.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.mag_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), scale=2.0)), 3)
        3.845
    """
    pairs.need("anchor_length")
    length = jnp.clip(jnp.asarray(pairs.anchor_length), shortest, longest)
    share = (length - shortest) / (longest - shortest)
    margin = least_margin + (most_margin - least_margin) * share
    terms = cross_entropy(
        scale * widen(pairs.similarity, margin[:, None]),
        scale * pairs.similarity,
        pairs,
    )
    cost = length_weight * (length / longest**2 + 1 / length)
    return dataclasses.replace(
        terms, total=terms.total + cost * terms.count, active=terms.count
    )
