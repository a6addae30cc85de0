"""Lifted structure losses: a soft maximum over all the negatives of a positive pair."""

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, register
from rankjax.rows import View
from rankjax.terms import Terms


@register(
    kind=Kind.POSITIVE_ROWS,
    similarity=similarity.negative_euclidean,
    paper="Oh Song et al., CVPR 2016",
)
def lifted_structure_loss(pairs: Pairs, *, margin: Number = 1.0) -> Terms:
    """Lifted structure loss, one term per positive pair.

    With D the negated similarity (Euclidean and not squared by default), and n over the
    negatives of the pair's class:

        J(a, p) = D(a, p) + log(sum_n exp(margin - D(a, n)) + exp(margin - D(p, n)))
        [J(a, p)]+^2 / 2

    Args:
      pairs: similarities [anchor, reference] and masks, with `reference_similarity`.
      margin: alpha in the paper, in units of the distance; 1 there.

    Returns:
      Terms, one per anchor and positive where the anchor has a negative: their mean is
      the paper's sum over pairs divided by 2 |P|. A pair counts from both its ends,
      with equal values, which changes no mean.

    Source: Oh Song, Xiang, Jegelka, Savarese, "Deep Metric Learning via Lifted
    Structured Feature Embedding", CVPR 2016. Known code does not normalise the
    embeddings; a penalty such as `rankjax.squared_norm` then bounds their length.
    pytorch-metric-learning agrees. The negatives of the positive are those of the
    anchor, whatever mining left of them.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.lifted_structure_loss(x, y)), 3)
    1.433
    """

    def terms(view: View) -> Terms:
        complete = view.negatives.any()
        of_anchor, of_positive = (
            jnp.where(complete, rows.log_sum_exp(margin + row, view.negatives), 0)
            for row in (view.row, view.positive_row)
        )
        bound = jax.nn.relu(jnp.logaddexp(of_anchor, of_positive) - view.positive)
        return Terms.one_per_anchor(jnp.square(bound) / 2, complete)

    return rows.per_positive(pairs, terms)


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_euclidean,
    paper="Hermans et al., 2017",
)
def generalized_lifted_structure_loss(pairs: Pairs, *, margin: Number = 1.0) -> Terms:
    """Generalised lifted structure loss, one term per anchor.

        [log(sum_p exp(D(a, p))) + log(sum_n exp(margin - D(a, n)))]+

    It is at least the batch-hard triplet loss with the same margin, by at most
    log |P| + log |N|; the two are equal with one positive and one negative.

    Args:
      pairs: similarities [anchor, reference] and masks; D is the negated similarity
        (Euclidean and not squared by default).
      margin: in units of the distance. 1 in pytorch-metric-learning and in "Revisiting
        Training Strategies" (ICML 2020), which adds 0.005 times the mean length of the
        embeddings.

    Returns:
      Terms, one term per anchor that has a positive and a negative. The paper sums over
      anchors: use `rankjax.total`. pytorch-metric-learning 2.9 gives an anchor without
      positives a term of its negatives alone; here it has none.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.generalized_lifted_structure_loss(x, y)), 3)
    0.973
    """
    complete = pairs.positive.any(-1) & pairs.negative.any(-1)
    pull = rows.log_sum_exp(-pairs.similarity, pairs.positive)
    push = rows.log_sum_exp(margin + pairs.similarity, pairs.negative)
    bound = jnp.where(complete, pull, 0) + jnp.where(complete, push, 0)
    return Terms.one_per_anchor(jax.nn.relu(bound), complete)
