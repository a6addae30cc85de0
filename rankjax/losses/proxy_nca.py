"""Proxy-NCA: one learned proxy per class, compared by squared distance."""

import jax.numpy as jnp

from rankjax import rows
from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="proxies",
    paper="Movshovitz-Attias et al., ICCV 2017",
    signed=True,
)
def proxy_nca_loss(pairs: Pairs, *, scale: Positive = 1.0) -> Terms:
    """Proxy-NCA: nearer to the own proxy than to those of all other classes.

    With D^2 = 2 - 2 S the squared distance of unit vectors, S their cosine:

        -log(exp(-s D^2(a, y)) / sum_z exp(-s D^2(a, z))), z not y

    The own proxy is not in the denominator: the value may be negative, and has no
    least one but for the bounds of S.

    Args:
      pairs: cosines [anchor, proxy] and masks.
      scale: s, above 0; 1 in the paper.

    Returns:
      Terms, one term per anchor and positive where the anchor has a negative.

    Source: Movshovitz-Attias, Toshev, Leung, Ioffe, Singh, "No Fuss Distance Metric
    Learning using Proxies", ICCV 2017. `ProxyNCALoss` of pytorch-metric-learning has
    the own proxy in the denominator: `proxy_nca_pp_loss` with temperature 1 / s.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.proxy_nca_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]))), 3)
        -1.8
    """
    logits = 2 * scale * pairs.similarity
    some = pairs.negative.any(-1, keepdims=True)
    others = rows.log_sum_exp(logits, pairs.negative)[..., None]
    return Terms.over_references(
        jnp.where(some, others, 0) - logits, pairs.positive & some
    )


@register(
    kind=Kind.ROW,
    batch="proxies",
    sharded=True,
    paper="Teh et al., ECCV 2020",
    tuned="1 / temperature: CUB 14.0, Cars 7.97, SOP 10.7",
)
def proxy_nca_pp_loss(pairs: Pairs, *, temperature: Positive = 1 / 9) -> Terms:
    """ProxyNCA++: the probability of the own proxy among all, at low temperature.

    With D^2 = 2 - 2 S the squared distance of unit vectors, S their cosine:

        -log(exp(-D^2(a, y) / T) / sum over all proxies z of exp(-D^2(a, z) / T))

    It is the softplus of `proxy_nca_loss` with scale 1 / T, and the normalised softmax
    with temperature T / 2.

    Args:
      pairs: cosines [anchor, proxy] and masks.
      temperature: T, above 0.

    Returns:
      Terms, one term per anchor and positive.

    Source: Teh, DeVries, Taylor, "ProxyNCA++: Revisiting and Revitalizing Proxy
    Neighborhood Component Analysis", ECCV 2020. Their code takes vectors of length 3,
    which is the default temperature.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.0, 1.0]]
        >>> round(float(rankjax.proxy_nca_pp_loss(
        ...     x, y, references=rankjax.References(z, [0, 1]), temperature=1.0)), 3)
        0.206
    """
    logits = 2 * pairs.similarity / temperature
    return cross_entropy(logits, logits, pairs)
