"""Sigmoid loss: every pair is a yes or no of its own."""

import jax
import jax.numpy as jnp

from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, register
from rankjax.terms import Terms


@register(kind=Kind.ROW, batch="large", paper="Zhai et al. (SigLIP), ICCV 2023")
def sigmoid_loss(
    pairs: Pairs,
    *,
    scale: Positive = 10.0,
    bias: Number = -10.0,
    margin: NonNegative = 0.0,
) -> Terms:
    """Sigmoid loss, summed over an anchor's pairs.

        sum over P of log(1 + exp(-(scale (S(a, p) - margin) + bias)))
        + sum over N of log(1 + exp(scale S(a, n) + bias))

    No softmax couples the pairs: the loss of a set of references is the sum of those of
    its parts, and the gradient of an entry of S, at most `scale` over the number of
    anchors, depends on that entry alone.

    Args:
      pairs: similarities [anchor, reference] (cosines by default) and masks.
      scale: multiplies S; the paper learns its logarithm, from log 10.
      bias: the paper learns it, from -10: most pairs are negative, and start as such.
        Pass both as `params` of an objective to learn them.
      margin: by which a positive must clear the threshold -bias / scale that all pairs
        share; the paper has none. UniFace (Zhou et al., ICCV 2023; class rows) has 0.4
        with scale 64 and starts at bias -log(10 x classes), UniTSFace (Jia et al.,
        NeurIPS 2023; a row per class of earlier embeddings) has 0.1.

    Returns:
      Terms, one per anchor with any pair, so that `mean` divides by the batch size and
      not by the number of pairs, as the paper does.

    Source: Zhai, Mustafa, Kolesnikov, Beyer, "Sigmoid Loss for Language Image
    Pre-Training", ICCV 2023, for two towers with one positive per row. Within one batch
    rows of equal labels are positives, a row has no pair with itself, and each pair of
    rows counts from both ends.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.sigmoid_loss(x, y, scale=2.0, bias=-1.0)), 3)
    1.202
    """
    logits = scale * pairs.similarity + bias
    # Each entry of S in one term only, however small it is.
    values = jax.nn.softplus(jnp.where(pairs.positive, scale * margin - logits, logits))
    considered = pairs.positive | pairs.negative
    return Terms.one_per_anchor(
        jnp.sum(values, -1, where=considered), considered.any(-1)
    )
