"""Generalized end-to-end loss: a row against the mean of every class in the batch."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.entry import Kind, Number, Positive, listed
from rankjax.pairs import Pairs
from rankjax.similarity import dot
from rankjax.terms import Terms


@listed(kind=Kind.PLAIN, paper="Wan et al. (GE2E), ICASSP 2018")
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

    The cosine is a mean of similarities over the length of c_k, whose square is the
    mean similarity of the class's rows with each other: no mean is ever formed.

    Args:
      pairs: cosines [anchor, reference] and masks, with `reference_similarity` and
        labels.
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
    own = scale * _class_cosine(pairs, pairs.positive) + offset
    others = scale * _class_cosine(pairs, pairs.negative) + offset
    complete = pairs.positive.any(-1) & pairs.negative.any(-1)
    own = jnp.where(complete, rows.largest(own, pairs.positive), 0)
    if variant == "softmax":
        once = others - jnp.log(jnp.maximum(_class_sizes(pairs, pairs.negative), 1))
        negative = rows.log_sum_exp(once, pairs.negative)
        values = jax.nn.softplus(jnp.where(complete, negative, 0) - own)
    else:
        negative = jnp.where(complete, rows.largest(others, pairs.negative), 0)
        values = jax.nn.sigmoid(-own) + jax.nn.sigmoid(negative)
    return Terms.each(values, complete)


def _class_cosine(pairs: Pairs, members: jax.Array) -> jax.Array:
    """Cosines [anchor, reference] of the anchor and the mean of the reference's class.

    Members [anchor, reference] say which rows of a class enter its mean.
    """
    same = _same_class(pairs)
    if pairs.reference_similarity is None:
        raise ValueError("this needs Pairs.reference_similarity, which is None")
    mask = members.astype(same.dtype)
    sums = dot(mask * pairs.similarity, same)
    squares = dot(mask * dot(mask, same * pairs.reference_similarity), same)
    directed = squares > 1e-6 * jnp.square(_class_sizes(pairs, members))
    return jnp.where(directed, sums * lax.rsqrt(jnp.where(directed, squares, 1)), 0)


def _class_sizes(pairs: Pairs, members: jax.Array) -> jax.Array:
    """How many members the reference's class has, [anchor, reference]."""
    same = _same_class(pairs)
    return dot(members.astype(same.dtype), same)


def _same_class(pairs: Pairs) -> jax.Array:
    """1 where two references [reference, reference] are of one class, else 0."""
    pairs.need("reference_label")
    label = jnp.asarray(pairs.reference_label)
    return (label[:, None] == label[None, :]).astype(pairs.similarity.dtype)
