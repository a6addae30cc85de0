"""SoftTriple: several learned centres per class, softly assigned."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.losses.normalized_softmax import cross_entropy
from rankjax.losses.sub_center_arc_face import by_class
from rankjax.pairs import Pairs
from rankjax.registry import Count, Kind, Number, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="proxies",
    paper="Qian et al., ICCV 2019",
    tuned="scale / 1/gamma / margin: CUB 78.0 / 59.0 / .431, "
    "Cars 17.7 / 19.2 / .359, SOP 100 / 47.9 / .315",
)
def soft_triple_loss(
    pairs: Pairs,
    *,
    scale: Positive = 20.0,
    gamma: Positive = 0.1,
    margin: Number = 0.01,
    centers: Count = 10,
) -> Terms:
    """SoftTriple loss: softmax over classes, each the soft maximum over its centres.

    With S the cosine, w_k the centres of class c:

        S'(a, c) = sum_k q_k S(a, w_k),  q = softmax over k of S(a, w_k) / gamma
        -log(exp(s (S'(a, y) - m)) / (exp(s (S'(a, y) - m)) + sum_c exp(s S'(a, c))))

    Args:
      pairs: cosines [anchor, centre] and masks; centres of a class are consecutive.
      scale: s, above 0; lambda in the paper.
      gamma: above 0; towards 0 the nearest centre alone counts.
      margin: m, in units of the cosine.
      centers: centres per class, 1 or more.

    Returns:
      Terms, one term per anchor and positive class. The paper adds 0.2 times a penalty
      that merges centres of a class, a function of the centres alone:
      `rankjax.regularizers.sparse_centers`.

    Raises:
      ValueError: the number of references is not a multiple of `centers`.

    Source: Qian, Shang, Sun, Hu, Li, Jin, "SoftTriple Loss: Deep Metric Learning
    Without Triplet Sampling", ICCV 2019, and the defaults of their code. A centre far
    below its class's soft maximum may raise it by moving away.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> z = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.6, 0.8]]
        >>> round(float(rankjax.soft_triple_loss(
        ...     x, y, references=rankjax.References(z, [0, 0, 1, 1]), scale=2.0,
        ...     centers=2)), 3)
        0.329
    """
    similarity, positive, negative = by_class(pairs, centers)
    # The centres of a class are all positive or all negative.
    of_class = _soft_maximum(similarity, positive | negative, gamma)
    classes = Pairs(of_class, positive.any(-1), negative.any(-1))
    return cross_entropy(scale * (of_class - margin), scale * of_class, classes)


def _soft_maximum(values: jax.Array, where: jax.Array, gamma: Number) -> jax.Array:
    """The mean of a class's values, weighted by their softmax; 0 if there are none."""
    total = rows.log_sum_exp(values / gamma, where)[..., None]
    total = jnp.where(where.any(-1, keepdims=True), total, 0)
    weights = jnp.exp(jnp.where(where, values / gamma - total, -jnp.inf))
    return jnp.sum(weights * values, -1)
