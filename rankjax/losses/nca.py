"""Stochastic nearest neighbours: the odds that an anchor's neighbour is a positive."""

import jax.numpy as jnp

from rankjax import similarity
from rankjax.losses.softmax import minus_log_share
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_squared_euclidean,
    paper="Goldberger et al., NIPS 2004",
)
def nca_loss(pairs: Pairs, *, scale: Positive = 1.0, log: bool = True) -> Terms:
    """Neighbourhood components analysis: that a random neighbour is of another class.

    With D^2 the squared Euclidean distance, an anchor picks a neighbour j with
    probability proportional to exp(-scale D^2(a, j)), a positive with probability

        p(a) = sum over P of exp(-scale D^2) / sum over P and N of the same

    and the loss is -log p(a), or 1 - p(a), the expected error of the pick.

    Args:
      pairs: minus squared Euclidean distances [anchor, reference] and masks.
      scale: multiplies D^2. The paper has none, for it learns the map itself.
      log: False for 1 - p(a). Both are the paper's; the logarithm does not give up
        anchors that are far from every positive.

    Returns:
      Terms, one per anchor with a positive, 0 where it has no negative.

    Source: Goldberger, Roweis, Hinton, Salakhutdinov, "Neighbourhood Components
    Analysis", NIPS 2004. `scale` and the logarithm are the default in
    pytorch-metric-learning too.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.nca_loss(x, y)), 3)
    0.43
    """
    values = minus_log_share(scale * pairs.similarity, pairs.positive, pairs.negative)
    return Terms.one_per_anchor(
        values if log else -jnp.expm1(-values), pairs.positive.any(-1)
    )


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_squared_euclidean,
    paper="Frosst et al., ICML 2019",
)
def soft_nearest_neighbor_loss(pairs: Pairs, *, temperature: Positive = 1.0) -> Terms:
    """Soft nearest neighbour loss: -log of the positives' share at a temperature.

        -log(sum over P of exp(-D^2 / temperature) / sum over P and N of the same)

    It is `nca_loss` with scale 1 / temperature. The paper puts it on hidden layers, to
    measure how entangled classes are there, and maximises it as often as it minimises.

    Args:
      pairs: minus squared Euclidean distances D^2 [anchor, reference] and masks.
      temperature: divides D^2; its gradient lets it be learned, as in the paper.

    Returns:
      Terms, one per anchor with a positive, 0 where it has no negative.

    Source: Frosst, Papernot, Hinton, "Analyzing and Improving Representations with the
    Soft Nearest Neighbor Loss", ICML 2019. TensorFlow Similarity adds 1e-9 to both
    sums, which flattens the loss of far points; log-sum-exp needs no such constant.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.soft_nearest_neighbor_loss(x, y)), 3)
    0.43
    """
    scores = pairs.similarity / temperature
    values = minus_log_share(scores, pairs.positive, pairs.negative)
    return Terms.one_per_anchor(values, pairs.positive.any(-1))
