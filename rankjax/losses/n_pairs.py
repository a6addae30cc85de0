"""N-pair losses: every other pair's example is a negative."""

from typing import Literal

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.losses.softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, register
from rankjax.rows import View
from rankjax.terms import Terms

Negatives = Literal["positives", "all"]
Direction = Literal["row", "column", "symmetric"]


@register(
    kind=Kind.ROW, similarity=similarity.dot, batch="pairs", paper="Sohn, NIPS 2016"
)
def n_pairs_loss(
    pairs: Pairs,
    *,
    scale: Positive = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
) -> Terms:
    """Multi-class N-pair loss: the cross-entropy of naming an anchor's positive.

        log(1 + sum_n exp(S(a, n) - S(a, p)))

    and for an anchor with several positives P, which are then all right answers,

        log(sum over P and N of exp(S(a, .))) - mean over P of S(a, p).

    A batch holds N classes with a pair each. Rows of a class alternate between the
    roles of anchor and positive, in the order of the (global) batch. At collapse the
    loss is log N, or log(2 N - 1) with all negatives.

    Args:
      pairs: similarities [anchor, reference] and masks; inner products by default, for
        which the paper adds an L2 penalty (`rankjax.squared_norm`) rather than
        normalising: a batch that is ranked correctly gains from any longer embeddings.
      scale: multiplies S. The paper has none; cosines need one, for without it the
        loss cannot fall below log(1 + (N - 1) exp(-N / (N - 1))).
      negatives: 'positives', the paper's N - 1 other pairs' positives, or 'all', the
        2 (N - 1) rows of other classes.
      direction: 'row' takes anchors against positives, 'column' positives against
        anchors, 'symmetric' the mean of the two.

    Returns:
      Terms, one term per anchor with a positive. When anchors and references come
      from different batches (two towers) they are the two roles and all pairs count;
      on cosines with scale 20 that is the multiple negatives ranking loss of
      sentence-transformers and TensorFlow Similarity.

    Raises:
      ValueError: another direction than 'row' where anchors and references come from
        different batches (there is `objective(symmetric=True)` instead).

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss
    Objective", NIPS 2016; several positives: TensorFlow's `npairs_loss`.
    pytorch-metric-learning 2 normalises by default and keeps one pair per class.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.n_pairs_loss(x, y)), 3)
    0.409
    """
    pairs = assign_roles(pairs, negatives, direction)
    return cross_entropy(scale * pairs.similarity, pairs.positive, pairs.negative)


@register(
    kind=Kind.PER_POSITIVE,
    similarity=similarity.dot,
    batch="pairs",
    paper="Sohn, NIPS 2016",
)
def n_pairs_ovo_loss(
    pairs: Pairs,
    *,
    scale: Positive = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
) -> Terms:
    """One-vs-one N-pair loss: a logistic loss per negative, summed.

        sum_n log(1 + exp(S(a, n) - S(a, p)))

    At least `n_pairs_loss`, and equal to it for two pairs; (N - 1) log 2 at collapse.

    Args:
      pairs: similarities [anchor, reference] and masks; inner products by default.
      scale: multiplies S; the paper has none.
      negatives: see `n_pairs_loss`.
      direction: see `n_pairs_loss`.

    Returns:
      Terms, one term per anchor and positive; the paper has one positive. A class with
      more rows has more terms: `rankjax.mean_per_anchor` takes that back.

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss
    Objective", NIPS 2016, where it is the weaker baseline (N-pair-ovo).

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.n_pairs_ovo_loss(x, y)), 3)
    0.409
    """

    def terms(view: View) -> Terms:
        values = jax.nn.softplus(scale * (view.row - view.positive))
        return Terms.one_per_anchor(
            jnp.sum(values, where=view.negatives), jnp.asarray(True)
        )

    return rows.per_positive(assign_roles(pairs, negatives, direction), terms)


def assign_roles(pairs: Pairs, negatives: Negatives, direction: Direction) -> Pairs:
    """Keeps the pairs of an anchor with a positive, and the negatives asked for."""
    if pairs.anchor_occurrence is None or pairs.reference_occurrence is None:
        if direction != "row":
            raise ValueError(
                f"direction={direction!r} needs anchors and references from one batch; "
                "for two, take objective(symmetric=True) and rankjax.Positives"
            )
        return pairs
    anchor_role = pairs.anchor_occurrence[:, None] % 2
    reference_role = pairs.reference_occurrence[None, :] % 2
    across = anchor_role != reference_role
    acts_as_anchor = {
        "row": anchor_role == 0,
        "column": anchor_role == 1,
        "symmetric": anchor_role >= 0,
    }[direction]
    return pairs.narrow(
        positive=acts_as_anchor & across,
        negative=acts_as_anchor & (across | (negatives == "all")),
    )
