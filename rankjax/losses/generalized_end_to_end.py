"""Generalized end-to-end loss: a row against the mean of every class in the batch."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, Positive, register
from rankjax.similarity import normalize
from rankjax.terms import Terms


@register(kind=Kind.PLAIN, paper="Wan et al. (GE2E), ICASSP 2018")
def generalized_end_to_end_loss(
    pairs: Pairs,
    *,
    scale: Positive = 10.0,
    offset: Number = -5.0,
    variant: Literal["softmax", "contrast"] = "softmax",
) -> Terms:
    """GE2E, one term per anchor: its own class's mean against the other classes' means.

    With c_k the mean of the normalised rows of class k, where the anchor's own class
    leaves the anchor out, and z_k = scale cos(a, c_k) + offset:

        softmax    log(sum_k exp(z_k)) - z_own
        contrast   1 - sigmoid(z_own) + max over other k of sigmoid(z_k)

    Args:
      pairs: cosines [anchor, reference] and masks, with `reference_embeddings`, labels
        and indices. A class counts where mining left one of its negatives.
      scale: w in the paper, learned from 10.
      offset: b in the paper, learned from -5; without effect in the softmax.
      variant: the paper's choice for text-independent speaker verification is
        'softmax', for text-dependent 'contrast'.

    Returns:
      Terms, one per anchor with a positive and a negative. A class whose rows cancel
      out has no direction, and cosine 0.

    Raises:
      ValueError: there are no labels that say which negatives form a class.

    Source: Wan, Wang, Papir, Lopez Moreno, "Generalized End-to-End Loss for Speaker
    Verification", ICASSP 2018. The means are of normalised rows, as in
    pytorch-metric-learning 3; much code normalises the mean alone.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.generalized_end_to_end_loss(x, y)), 3)
    0.004
    """
    own, others, is_other = _class_cosines(pairs)
    complete = pairs.positive.any(-1) & is_other.any(-1)
    if variant == "softmax":  # in which the offset cancels
        negative = rows.log_sum_exp(scale * others, is_other)
        values = jax.nn.softplus(jnp.where(complete, negative, 0) - scale * own)
    else:
        negative = jnp.where(complete, rows.largest(others, is_other), 0)
        own, negative = scale * own + offset, scale * negative + offset
        values = jax.nn.sigmoid(-own) + jax.nn.sigmoid(negative)
    return Terms.one_per_anchor(values, complete)


def _class_cosines(pairs: Pairs) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cosines of anchors and means of classes.

    Returns:
      [anchor], with the mean of the anchor's own class, without the anchor;
      [anchor, class], with those of all classes; [anchor, class] bool, whether a class
      has a negative of the anchor. There are as many classes as references, most empty.
    """
    pairs.need("reference_label", "reference_embeddings")
    pairs.need("anchor_index", "reference_index")
    label = jnp.asarray(pairs.reference_label)
    number = jnp.searchsorted(jnp.sort(label), label, method="sort")

    def add(rows: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(rows, number, len(label))

    x = normalize(jnp.asarray(pairs.reference_embeddings))
    lengths = jnp.sum(x * x, -1)  # 1, but of padding 0
    squares = jnp.sum(jnp.square(add(x)), -1)
    others = _over_length(
        add(pairs.similarity.T).T, squares[None, :], add(lengths)[None, :]
    )
    is_other = add(pairs.negative.astype(jnp.float32).T).T > 0
    # |sum of the class - a|^2, where the anchor is one of the class.
    index, own_index = map(jnp.asarray, (pairs.reference_index, pairs.anchor_index))
    itself = index[None, :] == own_index[:, None]
    self_product = jnp.sum(jnp.where(itself, lengths[None, :], 0), -1)
    own = jnp.sum(pairs.similarity, -1, where=pairs.positive)
    of_class = jnp.argmax(pairs.positive, -1)
    own_squares = squares[number[of_class]] - 2 * own - self_product
    count = jnp.sum(pairs.positive, -1, dtype=own.dtype)
    return _over_length(own, own_squares, count), others, is_other


def _over_length(sums: jax.Array, squares: jax.Array, count: jax.Array) -> jax.Array:
    """The cosine with a mean from the sum of products; 0 where rows cancel out."""
    directed = squares > 1e-6 * jnp.square(count)
    root = lax.rsqrt(jnp.where(directed, squares, 1))
    return jnp.where(directed, sums * root, 0)
