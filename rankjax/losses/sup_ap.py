"""SupAP, an upper bound of 1 - AP, and what ROADMAP adds to it."""

import jax
import jax.numpy as jnp

from rankjax.losses.contrastive import contrastive_loss
from rankjax.losses.smooth_ap import mean_over_positives
from rankjax.pairs import Pairs
from rankjax.registry import Kind, NonNegative, Number, Positive, Share, register
from rankjax.rows import View
from rankjax.terms import Terms

_PAPER = "Ramzi et al. (ROADMAP), NeurIPS 2021"


@register(kind=Kind.PER_POSITIVE, batch="large", paper=_PAPER)
def sup_ap_loss(
    pairs: Pairs,
    *,
    temperature: Positive = 0.01,
    slope: NonNegative = 100.0,
    delta: NonNegative = 0.05,
) -> Terms:
    """SupAP, one term per anchor: a bound of 1 - AP that no violation saturates.

    With t = S(a, j) - S(a, i), positive i has n negatives ahead, softly, by

        sigmoid(t / temperature)                            t < 0
        sigmoid(t / temperature) + 1/2                      0 <= t <= delta
        sigmoid(delta / temperature) + 1/2 + slope (t - delta)    beyond

    and p positives, itself among them, exactly (t >= 0); the term is the mean over
    positives i of n / (p + n).

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      temperature: in units of the similarity.
      slope: per unit of similarity; where a negative is far ahead, the gradient stays.
      delta: in units of the similarity; where the slope begins.

    Returns:
      Terms, one per anchor with a positive, in [0, 1) and never below 1 - AP. Positives
      are pulled past negatives, but not past each other: p has no gradient.

    Source: Ramzi, Thome, Rambour, Audebert, Bitot, "Robust and Decomposable Average
    Precision for Image Retrieval", NeurIPS 2021; defaults of the authors' code. There a
    tie counts as half a negative; here as one, for the bound to hold at ties. The first
    of their two codes has a jump at `delta`; the second by default has not, nor this.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.sup_ap_loss(x, y, temperature=0.2)), 3)
    0.121
    """

    def imprecision(view: View) -> jax.Array:
        lead = view.row - view.positive
        # A compiler may round the two terms of its own lead, which is 0, apart.
        ahead = view.this | (view.positives & (lead >= 0))
        positives = jnp.sum(ahead, dtype=lead.dtype)
        step = jax.nn.sigmoid(jnp.minimum(lead, delta) / temperature)
        step = step + jnp.where(lead >= 0, 0.5, 0) + slope * jax.nn.relu(lead - delta)
        negatives = jnp.sum(step, where=view.negatives)
        return negatives / (positives + negatives)

    return mean_over_positives(pairs, imprecision)


@register(kind=Kind.ROW, paper=_PAPER)
def calibration_loss(
    pairs: Pairs, *, positive_above: Number = 0.9, negative_below: Number = 0.6
) -> tuple[Terms, Terms]:
    """Calibration loss, one term per pair: one scale of similarities for all anchors.

        positives  [positive_above - S]+        negatives  [S - negative_below]+

    The unsquared contrastive loss on similarities; the two are averaged apart.

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      positive_above: similarity above which a positive costs nothing.
      negative_below: similarity below which a negative costs nothing.

    Returns:
      Terms of the positives and Terms of the negatives. The authors' code averages each
      over those above zero: use `rankjax.mean_active`.

    Source: as for `sup_ap_loss`.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.calibration_loss(x, y, negative_below=0.5)), 3)
    0.125
    """
    return contrastive_loss(
        pairs, margin=-negative_below, positive_margin=-positive_above, squared=False
    )


@register(kind=Kind.PER_POSITIVE, batch="large", paper=_PAPER)
def roadmap_loss(
    pairs: Pairs,
    *,
    temperature: Positive = 0.01,
    slope: NonNegative = 100.0,
    delta: NonNegative = 0.05,
    positive_above: Number = 0.9,
    negative_below: Number = 0.6,
    balance: Share = 0.5,
) -> tuple[Terms, ...]:
    """ROADMAP: (1 - balance) SupAP + balance calibration loss.

    The AP of a batch is better than that of the whole collection; similarities on one
    scale for all anchors make the difference smaller.

    Args:
      pairs: similarities [anchor, reference] and masks; cosines by default.
      temperature: see `sup_ap_loss`.
      slope: see `sup_ap_loss`.
      delta: see `sup_ap_loss`.
      positive_above: see `calibration_loss`.
      negative_below: see `calibration_loss`.
      balance: lambda in the paper.

    Returns:
      Terms of SupAP, one per anchor, and of the two parts of the calibration loss.

    Source: as for `sup_ap_loss`. The authors' first code adds the two with weights 1,
    twice this default; later settings of theirs weigh them 0.9 to 0.1.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.roadmap_loss(x, y, temperature=0.2)), 3)
    0.11
    """
    ranking = sup_ap_loss(pairs, temperature=temperature, slope=slope, delta=delta)
    calibration = calibration_loss(
        pairs, positive_above=positive_above, negative_below=negative_below
    )
    return ranking.scaled(1 - balance), *(t.scaled(balance) for t in calibration)
