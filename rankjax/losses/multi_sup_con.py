"""Supervised contrastive loss of rows that carry sets of labels."""

from rankjax.losses.softmax import cross_entropy
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Positive, Share, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="large",
    graded=True,
    paper="Contrastive Learning for Multi-Label Classification, NeurIPS SSL 2022",
)
def multi_sup_con_loss(
    pairs: Pairs, *, temperature: Positive = 0.1, threshold: Share = 0.5
) -> Terms:
    """Supervised contrastive loss of rows with several labels.

        -mean over P of J(a, p) log(exp(S(a, p) / temperature) / sum over all others)

    Args:
      pairs: similarities [anchor, reference] (cosines by default), masks, and as
        `relevance` J, the Jaccard index of two rows' label sets. Without `relevance` it
        is 1 for every positive: `sup_con_loss`.
      temperature: divides S.
      threshold: of J, from 0 to 1; positives are the rows that share a label and have
        at least this J, the others are in the sum only. Default as in
        pytorch-metric-learning 3.

    Returns:
      Terms, one per anchor with a positive.

    Source: "Contrastive Learning for Multi-Label Classification" (MultiSupCon),
    Self-Supervised Learning workshop, NeurIPS 2022. pytorch-metric-learning takes two
    rows without labels for equal; here they share nothing.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [[True, False], [True, True], [False, True], [False, True]]
    >>> round(float(rankjax.multi_sup_con_loss(x, y, temperature=0.5)), 3)
    0.477
    """
    scores = pairs.similarity / temperature
    if pairs.relevance is None:
        return cross_entropy(scores, pairs.positive, pairs.negative)
    relevance = pairs.relevance.astype(scores.dtype)
    chosen = pairs.positive & (relevance >= threshold)
    others = (pairs.positive & ~chosen) | pairs.negative
    return cross_entropy(scores, chosen, others, relevance)
