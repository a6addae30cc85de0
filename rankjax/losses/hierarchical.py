"""Hierarchical triplet loss: a margin for each pair of classes, from a class tree."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from rankjax import similarity
from rankjax.losses.triplet import triplet_loss
from rankjax.pairs import Pairs
from rankjax.registry import Kind, Number, register
from rankjax.terms import Terms


@register(
    kind=Kind.PER_POSITIVE,
    similarity=similarity.negative_euclidean,
    paper="Ge et al., ECCV 2018",
    arrays=("margins",),
)
def hierarchical_triplet_loss(pairs: Pairs, *, margins: Number = 0.2) -> Terms:
    """Triplet loss whose margin depends on the classes of anchor and negative.

        [D(a, p) - D(a, n) + margins(y_a, y_n)]+ / 2

    Args:
      pairs: similarities [anchor, reference] and masks, with labels where `margins` is
        a table; D is the negated similarity (Euclidean and not squared by default).
      margins: [class, class], anchor's and negative's, in units of the distance; from
        `hierarchical_margins`, which is called anew every few epochs. Labels are then
        rows of the table: 0, 1, ... One outside makes the loss not a number. A single
        number is the margin of all: half the triplet loss.

    Returns:
      Terms, one term per triplet.

    Raises:
      ValueError: a table without labels [n].

    Source: Ge, Huang, Dong, Scott, "Deep Metric Learning with Hierarchical Triplet
    Loss", ECCV 2018, which also draws batches of neighbouring classes.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> margins = [[0.0, 1.0], [0.5, 0.0]]
    >>> round(float(rankjax.hierarchical_triplet_loss(x, y, margins=margins)), 3)
    0.088
    """
    margin = jnp.asarray(margins, pairs.similarity.dtype)
    if margin.ndim not in (0, 2):
        raise ValueError(
            f"margins must be one number or [class, class], got {margin.shape}"
        )
    if margin.ndim:
        pairs.need("anchor_label", "reference_label")
        anchor, reference = map(
            jnp.asarray, (pairs.anchor_label, pairs.reference_label)
        )
        margin = margin.at[anchor[:, None], reference[None, :]].get(
            mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
        )
    nearer = jnp.where(pairs.negative, pairs.similarity + margin, pairs.similarity)
    triplets = dataclasses.replace(pairs, similarity=nearer)
    return triplet_loss(triplets, margin=0.0).scaled(0.5)


def hierarchical_margins(
    embeddings: Any, labels: Any, *, levels: int = 16, beta: float = 0.1
) -> np.ndarray:
    """Margins [class, class] for `hierarchical_triplet_loss`, from a class tree.

        margins(y, z) = beta + d_H(y, z) - s(y)

    s(y) is the mean squared distance between two rows of a class, d_0 its mean over
    classes, d(y, z) the mean squared distance between rows of two classes. At level l
    of the tree, 0 to `levels`, classes within d_l = d_0 + l (4 - d_0) / levels of each
    other are one node, and so are those that a chain of such classes joins. d_H(y, z)
    is d_l of the first level at which y and z are one node.

    Args:
      embeddings: [n, dim], of the training set or a share of it; they are scaled to
        unit length here, whose largest squared distance is the 4.
      labels: [n] int, each of 0, 1, ..., classes - 1 at least once.
      levels: L in the paper; at least 1.
      beta: smallest margin between classes as wide as the average.

    Returns:
      [class, class] float32, anchor's class first. The diagonal is never used. A class
      of one row has s = 0, and does not count in d_0.

    Raises:
      ValueError: labels are not 0, 1, ..., or levels is below 1.
    """
    labels = np.asarray(labels)
    sizes = np.bincount(labels) if labels.size and labels.min() >= 0 else np.zeros(1)
    if not sizes.all() or levels < 1:
        raise ValueError(
            "needs labels 0, 1, ..., each at least once, and levels at least 1"
        )
    x = np.asarray(embeddings, np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    means = np.zeros((len(sizes), x.shape[1]))
    np.add.at(means, labels, x)
    means /= sizes[:, None]
    power = np.bincount(labels, (x * x).sum(1)) / sizes
    spread = 2 * (power - (means * means).sum(1)) * sizes / np.maximum(sizes - 1, 1)
    between = power[:, None] + power[None, :] - 2 * means @ means.T
    lowest = spread[sizes > 1].mean() if (sizes > 1).any() else 0.0
    order, jumps = _single_linkage(between)
    merged = np.full(between.shape, 4.0)
    for threshold in np.linspace(lowest, 4.0, levels + 1)[::-1]:
        node = np.empty(len(order), int)
        node[order] = np.cumsum(jumps > threshold)
        merged[node[:, None] == node[None, :]] = threshold
    return (beta + merged - spread[:, None]).astype(np.float32)


def _single_linkage(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes in the order in which Prim's algorithm reaches them, and its edges.

    Whatever the threshold, the classes that edges below it join are neighbours in this
    order, and an edge above it starts the next such run.
    """
    order, jumps = [0], [0.0]
    left = np.arange(len(distance)) > 0
    nearest = distance[0].copy()
    while left.any():
        chosen = int(np.argmin(np.where(left, nearest, np.inf)))
        order.append(chosen)
        jumps.append(nearest[chosen])
        left[chosen] = False
        nearest = np.minimum(nearest, distance[chosen])
    return np.array(order), np.array(jumps)
