"""Threshold-consistent margin: the same two thresholds for every class."""

from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, paper="Zhang et al., ICLR 2024")
def threshold_consistent_margin_loss(
    pairs: Pairs,
    *,
    positive_margin: Number = 0.9,
    negative_margin: Number = 0.5,
    positive_weight: NonNegative = 1.0,
    negative_weight: NonNegative = 1.0,
) -> tuple[Terms, Terms]:
    """Threshold-consistent margin (TCM) loss, added to another loss.

    With S the cosine:

        positive_weight * mean of (positive_margin - S) over positives with
                          S <= positive_margin
      + negative_weight * mean of (S - negative_margin) over negatives with
                          S >= negative_margin

    One threshold between the two margins then suits all classes. It is a regulariser:
    alone it does not rank, so add it to the loss of another objective.

    Args:
      pairs: similarities [anchor, reference] and masks.
      positive_margin: m+ in the paper, in units of the similarity.
      negative_margin: m- in the paper, in units of the similarity.
      positive_weight: lambda+ in the paper, at least 0.
      negative_weight: lambda- in the paper, at least 0.

    Returns:
      Terms of the positives and Terms of the negatives, one term per pair on the wrong
      side of its margin. Pairs on the right side are no terms, so that the mean is the
      paper's; contrastive hinges averaged over all pairs fade as most become easy.

    Source: Zhang, Xu, Tang, Fang, Wu, Tighe, Xing, "Threshold-Consistent Margin Loss
    for Open-World Deep Metric Learning", ICLR 2024; the defaults are those of
    pytorch-metric-learning.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.threshold_consistent_margin_loss(x, y)), 3)
        0.2
    """
    s = pairs.similarity
    loose = pairs.positive & (s <= positive_margin)
    close = pairs.negative & (s >= negative_margin)
    return (
        Terms.over_references(positive_margin - s, loose).scaled(positive_weight),
        Terms.over_references(s - negative_margin, close).scaled(negative_weight),
    )
