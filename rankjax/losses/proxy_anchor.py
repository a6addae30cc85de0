"""Proxy-Anchor: each class's proxy, compared with the whole batch."""

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="proxies",
    anchors="references",
    paper="Kim et al., CVPR 2020",
)
def proxy_anchor_loss(
    pairs: Pairs, *, margin: Number = 0.1, alpha: Positive = 32.0
) -> tuple[Terms, Terms]:
    """Proxy-Anchor loss: proxies are the anchors, rows of the batch their references.

    For proxy p, with S the cosine, x rows of its class, and x' rows of other classes:

        log(1 + sum_x exp(-alpha (S(x, p) - margin)))    and
        log(1 + sum_x' exp(alpha (S(x', p) + margin)))

    Args:
      pairs: cosines [proxy, row of the batch] and masks; an objective turns the matrix
        round by itself.
      margin: in units of the cosine.
      alpha: above 0; multiplies cosines.

    Returns:
      Terms of the first, one per proxy whose class is in the batch, and Terms of the
      second, one per proxy: the loss is the sum of their means. Proxies of absent
      classes are pushed away by the whole batch. A reduction's weights do not apply.

    Source: Kim, Kim, Cho, Kwak, "Proxy Anchor Loss for Deep Metric Learning", CVPR
    2020, and the defaults of their code.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.proxy_anchor_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), alpha=2.0)), 3)
        1.739
    """
    present = pairs.positive.any(-1)
    pull = rows.log_one_plus_sum_exp(
        -alpha * (pairs.similarity - margin), pairs.positive
    )
    push = rows.log_one_plus_sum_exp(
        alpha * (pairs.similarity + margin), pairs.negative
    )
    return (
        Terms.one_per_anchor(pull, present),
        Terms.one_per_anchor(push, present | pairs.negative.any(-1)),
    )
