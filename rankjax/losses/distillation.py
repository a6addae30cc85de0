"""Losses that hand on what another model thinks of pairs: `guide=` in the objective."""

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW, batch="large", guided=True, paper="Fang et al. (SEED), ICLR 2021"
)
def similarity_distillation_loss(
    pairs: Pairs, *, temperature: Positive = 0.2, guide_temperature: Positive = 0.01
) -> Terms:
    """Divergence of an anchor's softmax over the others from that of the guide.

        sum over P and N of T log(T / Q),
        T = softmax(guide / guide_temperature), Q = softmax(S / temperature)

    Labels only say which pairs are considered.

    Args:
      pairs: similarities [anchor, reference] (cosines by default), masks, the guide.
      temperature: divides S.
      guide_temperature: divides the guide's cosines.

    Returns:
      Terms, one per anchor with any pair; 0 where the two softmaxes are equal.

    Raises:
      ValueError: there is no guide.

    Source: Fang, Wang, Wang, Zhang, Yang, Liu, "SEED: Self-supervised Distillation For
    Visual Representation", ICLR 2021, whose cross-entropy is larger by a constant, the
    entropy of T. With both temperatures 0.1 the gradient is that of X-CLR (Sobal et
    al., "X-Sample Contrastive Loss", ICLR 2025), whose guide embeds classes' captions.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> g = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> round(float(rankjax.similarity_distillation_loss(x, y, guide=g)), 3)
    0.173
    """
    pairs.need("guide")
    both = pairs.positive | pairs.negative

    def log_softmax(scores: jax.Array) -> jax.Array:
        total = jnp.where(both.any(-1), rows.log_sum_exp(scores, both), 0)
        return jnp.where(both, scores - total[:, None], 0)

    of_guide = log_softmax(jnp.asarray(pairs.guide) / guide_temperature)
    difference = of_guide - log_softmax(pairs.similarity / temperature)
    divergence = jnp.sum(jnp.exp(of_guide) * difference, -1, where=both)
    return Terms.one_per_anchor(divergence, both.any(-1))


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_euclidean,
    batch="large",
    guided=True,
    paper="Kim et al., CVPR 2021",
)
def relaxed_contrastive_loss(
    pairs: Pairs, *, margin: NonNegative = 1.0, width: Positive = 1.0
) -> Terms:
    """Contrastive loss whose pairs are positive as far as they are near for the guide.

        w (D / m)^2 + (1 - w) [margin - D / m]+^2,   w = exp(-|g_a - g_r|^2 / width)

    with the distance D, the anchor's mean distance m, and the guide's unit vectors g.
    Labels only say which pairs are considered.

    Args:
      pairs: similarities [anchor, reference] (negative Euclidean distances of rows that
        are not normalised by default), masks, and the guide.
      margin: in mean distances.
      width: of the Gaussian on the guide's squared distances, 2 - 2 cosine.

    Returns:
      Terms, one per anchor: the sum over its pairs, as the paper averages.

    Raises:
      ValueError: there is no guide.

    Source: Kim, Kim, Cho, Kwak, "Embedding Transfer with Label Relaxation for Improved
    Metric Learning", CVPR 2021. Its mean distance counts the anchor itself; here it is
    over the pairs that are considered.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> g = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> round(float(rankjax.relaxed_contrastive_loss(x, y, guide=g)), 3)
    0.746
    """
    pairs.need("guide")
    both, distance = pairs.positive | pairs.negative, -pairs.similarity
    count = jnp.sum(both, -1, dtype=distance.dtype)
    mean = jnp.sum(distance, -1, where=both) / jnp.maximum(count, 1)
    some = (mean > 0)[:, None]
    relative = jnp.where(some, distance / jnp.where(some, mean[:, None], 1), 0)
    near = jnp.exp((2 * jnp.asarray(pairs.guide) - 2) / width)
    pull, push = jnp.square(relative), jnp.square(jax.nn.relu(margin - relative))
    values = jnp.sum(near * pull + (1 - near) * push, -1, where=both)
    return Terms.one_per_anchor(values, both.any(-1))


@register(
    kind=Kind.ROW,
    similarity=similarity.dot,
    guided=True,
    paper="Hofstätter et al., 2020",
)
def margin_mse_loss(pairs: Pairs, *, guide_scale: Positive = 1.0) -> Terms:
    """Squared error of each margin between a positive and a negative.

        ((S(a, p) - S(a, n)) - guide_scale (G(a, p) - G(a, n)))^2

    Args:
      pairs: similarities [anchor, reference] (inner products by default), masks, and
        the guide's cosines G.
      guide_scale: multiplies G, whose scale S need not share.

    Returns:
      Terms, one per triplet.

    Raises:
      ValueError: there is no guide.

    Source: Hofstätter, Althammer, Schröder, Sertkan, Hanbury, "Improving Efficient
    Neural Ranking Models with Cross-Architecture Knowledge Distillation", 2020, where
    the teacher scores pairs by a network of their own.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> g = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> round(float(rankjax.margin_mse_loss(x, y, guide=g)), 3)
    0.22
    """
    pairs.need("guide")
    error = pairs.similarity - guide_scale * jnp.asarray(pairs.guide)
    count = jnp.sum(pairs.negative, -1, dtype=error.dtype)[:, None]
    divisor = jnp.maximum(count, 1)
    # About the negatives' mean, so that their pairs with each positive need no loop.
    mean = jnp.sum(error, -1, where=pairs.negative, keepdims=True) / divisor
    spread = jnp.sum(jnp.square(error - mean), -1, where=pairs.negative, keepdims=True)
    values = count * jnp.square(error - mean) + spread
    of_positives = Terms.over_references(values, pairs.positive & (count > 0))
    return Terms(
        of_positives.total, of_positives.count * count[:, 0], of_positives.active
    )
