"""CurricularFace: ArcFace that turns to hard classes as training goes on."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.losses.arc_face import Margin, widen
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.rows import View
from rankjax.terms import BatchSums, Terms


@register(
    kind=Kind.PER_POSITIVE,
    batch="proxies",
    paper="Huang et al. (CurricularFace), CVPR 2020",
)
def curricular_face_loss(
    pairs: Pairs,
    *,
    margin: Margin = 28.6,
    scale: Positive = 64.0,
    progress: Number | None = None,
) -> Terms | BatchSums:
    """CurricularFace: ArcFace whose hard classes weigh more, the better it does.

    With f(c) the widened target of `arc_face_loss`, and r the progress of training:

        -log(exp(s f(c)) / (exp(s f(c)) + sum_z exp(s N(S(a, z)))))
        N(S) = S where S <= f(c), else S (r + S)

    Args:
      pairs: cosines [anchor, class row] and masks.
      margin: degrees.
      scale: s, above 0; multiplies cosines.
      progress: r, an average of the positive cosines, a constant to the gradient; None
        for that of the batch. The paper has a moving average over steps, 0.01 of each
        and 0 at the start, which a training loop may keep and pass in `params`.

    Returns:
      Terms, one term per anchor and positive.

    Source: Huang, Wang, Tai, Liu, Shen, Li, Li, Huang, "CurricularFace: Adaptive
    Curriculum Learning Loss for Deep Face Recognition", CVPR 2020.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.curricular_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), scale=2.0)), 3)
        0.433
    """

    def terms(progress: Number) -> Terms:
        def term(view: View) -> Terms:
            target = widen(view.positive, margin)
            hard = view.row * (progress + view.row)
            scores = scale * jnp.where(view.row > target, hard, view.row)
            some = view.negatives.any()
            against = jnp.where(some, rows.log_sum_exp(scores, view.negatives), 0)
            value = jax.nn.softplus(against - scale * target)
            return Terms.one_per_anchor(jnp.where(some, value, 0), jnp.asarray(True))

        return rows.per_positive(pairs, term)

    if progress is not None:
        return terms(progress)
    positive = Terms.over_references(pairs.similarity, pairs.positive)
    return BatchSums(
        (jnp.sum(positive.total), jnp.sum(positive.count)),
        lambda sums: terms(sums[0] / jnp.maximum(sums[1], 1)),
        constant=True,
    )
