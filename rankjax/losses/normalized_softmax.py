"""Softmax over learned class rows: normalised, and with an additive cosine margin."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="proxies",
    sharded=True,
    paper="Zhai and Wu, BMVC 2019",
    tuned="temperature: CUB .109, Cars .089, SOP .063",
)
def normalized_softmax_loss(pairs: Pairs, *, temperature: Positive = 0.05) -> Terms:
    """Normalised softmax: the cross-entropy of naming an anchor's class.

    With S the cosine, y the anchor's class row and T the temperature:

        -log(exp(S(a, y) / T) / (exp(S(a, y) / T) + sum_z exp(S(a, z) / T))), z not y

    Args:
      pairs: cosines [anchor, class row] and masks.
      temperature: above 0; divides the cosine.

    Returns:
      Terms, one term per anchor and positive: several class rows of one class are each
      compared with the rows of other classes, and not with one another.

    Source: Zhai, Wu, "Classification is a Strong Baseline for Deep Metric Learning",
    BMVC 2019. The default is that of pytorch-metric-learning.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.normalized_softmax_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), temperature=0.5)), 3)
        0.206
    """
    logits = pairs.similarity / temperature
    return cross_entropy(logits, logits, pairs)


@register(
    kind=Kind.ROW,
    batch="proxies",
    sharded=True,
    paper="Wang et al., CVPR 2018",
    arrays=("margin",),
    tuned="margin / scale: CUB .618 / 100, Cars .432 / 161, SOP .336 / 100",
)
def cos_face_loss(
    pairs: Pairs, *, margin: NonNegative = 0.35, scale: Positive = 64.0
) -> Terms:
    """CosFace: normalised softmax whose target cosine is lowered by a margin.

        -log(exp(s (S(a, y) - m)) / (exp(s (S(a, y) - m)) + sum_z exp(s S(a, z))))

    Args:
      pairs: cosines [anchor, class row] and masks.
      margin: m, in units of the cosine; or one per class row, [reference].
      scale: s, above 0; multiplies cosines.

    Returns:
      Terms, one term per anchor and positive.

    Source: Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu, "CosFace: Large Margin Cosine
    Loss for Deep Face Recognition", CVPR 2018; known as AM-softmax too. The defaults
    are those of pytorch-metric-learning.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.cos_face_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), margin=0.25,
        ...     scale=2.0)), 3)
        0.311
    """
    target = pairs.similarity - per_class_row(margin, pairs.similarity)
    return cross_entropy(scale * target, scale * pairs.similarity, pairs)


def per_class_row(margin: Number, cosine: jax.Array) -> jax.Array:
    """Margins [anchor, class row] from one number or from one per class row.

    Raises:
      ValueError: another number of margins.
    """
    margins = jnp.asarray(margin, cosine.dtype)
    if margins.ndim == 1 and cosine.shape[1:] != margins.shape:
        raise ValueError(
            f"margin must be one number or one per class row, here "
            f"{cosine.shape[1]}, got {len(margins)}"
        )
    return jnp.broadcast_to(margins, cosine.shape)


def cross_entropy(target: jax.Array, others: jax.Array, pairs: Pairs) -> Terms:
    """-log(exp(t) / (exp(t) + sum of exp(o))), one term per positive.

    Args:
      target: [anchor, class], logits t of classes in the role of the anchor's own.
      others: [anchor, class], logits o of the same classes in the role of another.
      pairs: masks [anchor, class]: t counts where positive, and o where negative; a
        term is 0 if there is no negative.
    """
    every = rows.log_sum_exp_over(others, pairs.negative, pairs.reference_axis)
    some = (every != -jnp.inf)[:, None]
    gap = jnp.where(some, every[:, None], 0) - target
    return Terms.over_references(
        jnp.where(some, jax.nn.softplus(gap), 0), pairs.positive
    )
