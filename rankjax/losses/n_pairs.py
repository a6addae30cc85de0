"""Multi-class N-pair loss: every other pair's example is a negative."""

from typing import Literal

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.terms import Terms

Negatives = Literal["positives", "all"]
Direction = Literal["row", "column", "symmetric"]


def n_pairs_loss(
    pairs: Pairs,
    *,
    scale: float | jax.Array = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
) -> Terms:
    """N-pair loss, one term per anchor: the cross-entropy of naming its positive.

        log(1 + sum_n exp(S(a, n) - S(a, p)))

    and for an anchor with several positives P, which are then all right answers,

        log(sum over P and N of exp(S(a, .))) - mean over P of S(a, p).

    A batch holds N classes with a pair each. Rows of a class alternate between the
    roles of anchor and positive, in the order of the (global) batch.

    Args:
      pairs: similarities [anchor, reference] and masks; inner products by default, for
        which the paper adds an L2 penalty (`rankjax.squared_norm`) rather than
        normalising.
      scale: multiplies S. The paper has none; cosines need one, for without it the
        loss cannot fall below log(1 + (N - 1) exp(-N / (N - 1))).
      negatives: 'positives', the paper's N - 1 other pairs' positives, or 'all', the
        2 (N - 1) rows of other classes.
      direction: 'row' takes anchors against positives, 'column' positives against
        anchors, 'symmetric' the mean of the two.

    Returns:
      Terms, one term per anchor with a positive. When anchors and references come
      from different batches (two towers) they are the two roles and all pairs count.

    Raises:
      ValueError: an unknown option; or another direction than 'row' where anchors and
        references come from different batches (swap them and average instead).

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss
    Objective", NIPS 2016; several positives: TensorFlow's `npairs_loss`.
    """
    pairs = _assign_roles(pairs, negatives, direction)
    has_positive = pairs.positive.any(-1)
    scores = scale * pairs.similarity
    all_scores = rows.log_sum_exp(scores, pairs.positive | pairs.negative)
    score = jnp.sum(scores, -1, where=pairs.positive)
    score = score / jnp.maximum(jnp.sum(pairs.positive, -1, dtype=score.dtype), 1)
    values = jnp.where(has_positive, all_scores, 0) - score
    return Terms.of(values[:, None], has_positive[:, None])


def _assign_roles(pairs: Pairs, negatives: Negatives, direction: Direction) -> Pairs:
    if negatives not in ("positives", "all"):
        raise ValueError(f"negatives must be 'positives' or 'all', got {negatives!r}")
    if direction not in ("row", "column", "symmetric"):
        raise ValueError(
            f"direction must be 'row', 'column' or 'symmetric', got {direction!r}"
        )
    if pairs.anchor_occurrence is None or pairs.reference_occurrence is None:
        if direction != "row":
            raise ValueError(
                f"direction={direction!r} needs anchors and references from one batch; "
                "for two, swap anchors and references and average the two losses"
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
