"""FastAP and SoftBin-AP: average precision of a histogram of the anchor's row."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from rankjax.pairs import Pairs
from rankjax.registry import Count, Kind, Number, Range, register
from rankjax.terms import Terms


@register(
    kind=Kind.ROW,
    batch="large",
    paper="Cakir et al., CVPR 2019",
    tuned="bins: CUB 17, Cars 27, SOP 16",
)
def fast_ap_loss(pairs: Pairs, *, bins: Count = 10) -> Terms:
    """FastAP, one term per anchor: 1 - AP of soft histograms of squared distances.

    The squared distance 2 - 2 S of unit-length embeddings runs from 0 to 4, which
    `bins` intervals cut at bins + 1 nodes; each item is split between the two nodes
    around it, the nearer one getting more. With h+ and h the counts of positives and of
    all at a node, H+ and H those up to it,

        1 - (1 / number of positives) sum over nodes of h+ H+ / H.

    Args:
      pairs: cosines [anchor, reference] and masks; what is outside [-1, 1] counts as at
        the boundary.
      bins: number of intervals, static.

    Returns:
      Terms, one per anchor with a positive, in [0, 1]; 0 where all its positives lie
      at nodes before all negatives. More bins do not make it exact: an item that is
      split over two nodes ranks behind its own first part.

    Source: Cakir, He, Xia, Kulis, Sclaroff, "Deep Metric Learning to Rank", CVPR 2019;
    the default is the authors' code's and pytorch-metric-learning's, which both agree
    with this one.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.fast_ap_loss(x, y, bins=3)), 3)
    0.267
    """
    return _binned_ap(pairs, _descending(pairs.similarity, -1, 1), bins + 1)


@register(kind=Kind.ROW, batch="large", paper="Revaud et al., ICCV 2019")
def soft_bin_ap_loss(
    pairs: Pairs,
    *,
    bins: Annotated[int, Range(least=2)] = 20,
    low: Number = -1.0,
    high: Number = 1.0,
) -> Terms:
    """SoftBin-AP, one term per anchor: 1 - AP quantised over soft bins of similarity.

    As `fast_ap_loss`, which it equals where this has one bin more, with a free range:
    `bins` triangles whose centres run from `high` down to `low`.

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default. What is
        outside of the range belongs to its first or last bin, and gets no gradient.
      bins: number of centres, at least 2; static.
      low: similarity of the last centre, below `high`.
      high: similarity of the first centre.

    Returns:
      Terms, one per anchor with a positive, in [0, 1].

    Source: Revaud, Almazan, Rezende, de Souza, "Learning with Average Precision:
    Training Image Retrieval with a Listwise Loss", ICCV 2019. Known code has 25 bins
    from 0 to 1; the defaults here, over all cosines, are those of the ROADMAP authors.
    There the anchor is among its own positives; here it is left out.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.soft_bin_ap_loss(x, y, bins=4)), 3)
    0.267
    """
    position = _descending(pairs.similarity, low, high)
    return _binned_ap(pairs, position, bins)


def _descending(similarity: jax.Array, low: Number, high: Number) -> jax.Array:
    """0 at `high` and above, 1 at `low` and below."""
    return jnp.clip((high - similarity) / (high - low), 0, 1)


def _binned_ap(pairs: Pairs, position: jax.Array, nodes: int) -> Terms:
    place = (nodes - 1) * position

    @jax.checkpoint
    def at(node: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Positives at a node, and negatives up to it."""
        shares = jax.nn.relu(1 - jnp.abs(place - node))
        so_far = jnp.clip(node + 1 - place, 0, 1)
        return (
            jnp.sum(shares, -1, where=pairs.positive),
            jnp.sum(so_far, -1, where=pairs.negative),
        )

    # Node by node, and again for the gradient, so that a matrix per node is never held.
    every = jnp.arange(nodes, dtype=place.dtype)
    positives, negatives_so_far = (x.T for x in lax.map(at, every))
    positives_so_far = jnp.cumsum(positives, -1)
    so_far = positives_so_far + negatives_so_far
    imprecision = negatives_so_far / jnp.where(so_far > 0, so_far, 1)
    number = jnp.sum(pairs.positive, -1, dtype=position.dtype)
    values = jnp.sum(positives * imprecision, -1) / jnp.maximum(number, 1)
    return Terms.one_per_anchor(values, number > 0)
