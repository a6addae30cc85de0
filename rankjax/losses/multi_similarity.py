"""Multi-similarity: pairs weighted by their own and by the others' similarities."""

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    paper="Wang et al., CVPR 2019",
    tuned="alpha / beta / threshold: CUB .01 / 50.6 / .56, Cars 14.4 / 75.8 / .66, "
    "SOP 8.5 / 57.4 / .41",
)
def multi_similarity_loss(
    pairs: Pairs,
    *,
    alpha: Positive = 2.0,
    beta: Positive = 50.0,
    threshold: Number = 0.5,
) -> Terms:
    """Multi-similarity loss, one term per anchor.

    With S the cosine, over the anchor's positives P and negatives N:

        log(1 + sum_P exp(-alpha (S - threshold))) / alpha
      + log(1 + sum_N exp( beta  (S - threshold))) / beta

    The gradient of a negative is 1 / (exp(beta (threshold - S)) + sum over N of
    exp(beta (S' - S))): large where it is above the threshold, and where it is above
    the anchor's other negatives.

    Args:
      pairs: similarities [anchor, reference] and masks. The paper first mines the pairs
        of each anchor (`mining.multi_similarity`, epsilon 0.1); the loss itself takes
        all it is given.
      alpha: above 0; sharpness for the positives.
      beta: above 0; sharpness for the negatives.
      threshold: lambda in the paper, in units of the similarity. As alpha and beta
        grow the loss approaches the two hinges of the hardest pairs about it.

    Returns:
      Terms, one per anchor with a positive or a negative; a side without pairs adds 0.
      The paper divides by the size of the batch, anchors that mining left without any
      pair included.

    Source: Wang, Han, Huang, Dong, Scott, "Multi-Similarity Loss with General Pair
    Weighting for Deep Metric Learning", CVPR 2019. The paper is quoted with alpha 2,
    beta 50, threshold 1; the authors' code has the threshold 0.5 and sets beta to 40;
    pytorch-metric-learning has these defaults. At threshold 1 negatives below a cosine
    of about 0.9 have next to no gradient. The authors' code drops positives whose
    cosine is within 1e-5 of 1, duplicates of the anchor; here they count.

        >>> import rankjax
        >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
        >>> y = [0, 0, 1, 1]
        >>> round(float(rankjax.multi_similarity_loss(x, y)), 3)
        0.269
    """
    above = pairs.similarity - threshold
    pull = rows.log_one_plus_sum_exp(-alpha * above, pairs.positive) / alpha
    push = rows.log_one_plus_sum_exp(beta * above, pairs.negative) / beta
    return Terms.one_per_anchor(pull + push, (pairs.positive | pairs.negative).any(-1))
