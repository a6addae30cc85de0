"""Losses as curves: over a distance, a similarity, or the embedding's scale."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.study.claims.c08_invariance import measured
from experiments.study.drawing import SERIES, label, legend, panels
from experiments.study.figures.points import slopes, steps
from experiments.study.registry import figure
from rankjax import losses


def over_distance(
    loss: Callable[..., Any], distance: np.ndarray, side: str, **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A loss of minus distances, and its slope, as the distance of one pair changes.

    Args:
      loss: from `rankjax.losses`.
      distance: [n].
      side: 'positive', beside a negative at distance 10, or 'negative', beside a
        positive at distance 0.
      settings: of the loss.
    """
    of_pairs, zero = slopes(loss, **settings), 0 * distance
    if side == "positive":
        value, slope, _ = of_pairs(-distance, zero - 10)
    else:
        value, _, slope = of_pairs(zero, -distance)
    return value, -slope


@figure()
def contrastive_curve() -> Figure:
    """Contrastive loss against the distance of a pair.

    Left: the loss of one pair as its distance D grows, margin 1. A positive pair costs
    D²/2 however near it is; a negative pair costs (1 − D)²/2 within the margin, and
    nothing beyond it. Thin lines are the variant without squares, D and 1 − D. Right:
    the slope of the loss, which is the force on the pair. With squares it fades towards
    the target and is continuous at the margin; without them it is constant, and jumps.

    Computed with rankjax.losses.contrastive_loss and jax.grad. Source: Hadsell, Chopra,
    LeCun, CVPR 2006; the linear variant is that of Musgrave et al., ECCV 2020.
    """
    _, (value, slope) = panels(2)
    distance = np.linspace(0.01, 2, 400)
    for line, side in enumerate(("positive", "negative")):
        for squared, width in ((True, 2.4), (False, 1.1)):
            loss = losses.contrastive_loss
            curves = over_distance(loss, distance, side, squared=squared)
            name = f"{side} pair" + ("" if squared else ", no squares")
            style: dict[str, Any] = {"color": SERIES[line], "lw": width, "label": name}
            for panel, curve in zip((value, slope), curves, strict=True):
                panel.plot(distance, curve, ("-", "--")[line], **style)
    for panel in (value, slope):
        panel.axvline(1, color="C4", lw=1, ls=":")
    label(value, (1, 1.55), "margin", (5, 0))
    value.set(title="Loss", xlabel="distance D", ylim=(-0.03, 1.7), xlim=(0, 2))
    slope.set(title="Slope, dL/dD", xlabel="distance D", xlim=(0, 2), ylim=(-1.2, 2))
    return legend(value, ncols=4)


@figure()
def potential_field() -> Figure:
    """Forces that fade with distance, and forces that grow.

    The size of the slope of three losses against the distance D of a pair, both axes
    logarithmic. Left, a positive pair: the contrastive force D and that of the squared
    triplet, 2D, grow with distance, so that the farthest positives, mislabelled ones
    too, pull most. The potential field's falls as D⁻⁵ and is absent within its radius
    of 0.2. Right, a negative pair: the contrastive push ends at the margin of 1, the
    squared triplet's vanishes as the negative comes close, and the potential field acts
    only within its radius. The triplet has its other distance at 1 (left: the negative,
    right: the positive) and the margin 1.

    Computed by jax.grad of rankjax.losses.potential_field_loss (decay 4),
    contrastive_loss and triplet_loss. Source: Bhatnagar and Ahuja, CVPR 2025.
    """
    drawn, axes = panels(2, sharey=True)
    distance = np.geomspace(0.02, 2, 400)
    rows = np.zeros((len(distance), 3, 2))
    rows[:, 1:, 0] = 1
    for column, (panel, side) in enumerate(
        zip(axes, ("positive", "negative"), strict=True), 1
    ):
        apart = rows.copy()
        apart[:, column, 0] = distance
        triplet = steps(losses.triplet_loss, margin=1.0)(apart)[:, column]
        named: dict[str, Callable[..., Any]] = {
            "potential field": losses.potential_field_loss,
            "contrastive": losses.contrastive_loss,
        }
        curves = {k: over_distance(v, distance, side)[1] for k, v in named.items()}
        curves["triplet, squared"] = np.linalg.norm(triplet, axis=1)
        for name, curve in curves.items():
            size = np.abs(curve)
            panel.plot(distance, np.where(size > 1e-6, size, np.nan), label=name)
        panel.set(xscale="log", yscale="log", xlabel="distance D", ylim=(1e-2, 1e8))
        force = {"positive": "Pull on a positive", "negative": "Push on a negative"}
        panel.set_title(f"{force[side]} pair, |dL/dD|")
        panel.axvline(0.2, color="C4", lw=1, ls=":")
        label(panel, (0.2, 2e7), "radius", (4, 0))
    axes[1].legend(loc="upper right", bbox_to_anchor=(1, 0.88))
    return drawn


@figure()
def rank_relaxation() -> Figure:
    """A rank made smooth by sigmoids.

    A query has one positive and eight negatives at the similarities that the ticks at
    the bottom mark; the positive's similarity s moves along the axis. Left: its rank,
    the steps, and the soft rank in which a sigmoid of (s(n) − s) / τ replaces each
    step. Right: the slope of Smooth-AP at s. At the usual temperature, τ = 0.01, a
    positive learns only where it is about to overtake a negative, and nothing in gaps;
    at 0.1 it learns everywhere, from a rank that is further from the true one.

    Computed with rankjax.losses.smooth_ap_loss, which for one positive is 1 − 1/rank,
    and jax.grad. Source: Brown et al., ECCV 2020.
    """
    drawn, (rank, slope) = panels(2)
    negatives = np.array([0.06, 0.12, 0.16, 0.34, 0.38, 0.62, 0.65, 0.83])
    s = np.linspace(0, 1, 800)
    true = 1 + (negatives[None] > s[:, None]).sum(1)
    rank.plot(s, true, color="C4", ls="-", lw=1.4, label="rank", drawstyle="steps")
    for i, temperature in enumerate((0.01, 0.1)):
        of_s = slopes(losses.smooth_ap_loss, temperature=temperature)
        every = np.broadcast_to(negatives, (len(s), len(negatives)))
        values, slope_of_s, _ = of_s(s, every)
        settings: dict[str, Any] = {"color": f"C{i}", "ls": ("-", "--")[i]}
        rank.plot(s, 1 / (1 - values), label=f"τ = {temperature}", **settings)
        slope.plot(s, slope_of_s, label=f"τ = {temperature}", **settings)
    for panel in (rank, slope):
        bottom = panel.get_xaxis_transform()
        style: dict[str, Any] = {"color": "C3", "ms": 12, "mew": 2}
        style |= {"transform": bottom, "label": "negatives"}
        panel.plot(negatives, np.full(8, 0.02), "|", **style)
        panel.set(xlabel="similarity s of the positive", xlim=(0, 1))
    rank.set(title="Rank of the positive", ylim=(0.4, 9.3))
    slope.set(title="Slope of Smooth-AP, dL/ds")
    rank.legend(loc="upper right")
    return drawn


@figure()
def embedding_scale() -> Figure:
    """What scaling the embedding does to four losses.

    32 points of eight classes in 3 dimensions, their spread 0.6 of that of the class
    centres, multiplied by s. Left: the share of terms that are above zero. Of the
    triplet loss it depends on s, for the margin of 0.2 is a length; of the angular
    hinge it does not, for an angle has no unit. N-pairs and the angular loss in its
    logarithmic form are never at zero. Right: the value of the loss, over its value at
    s = 1. The hinge's value grows as s², and the two logarithmic losses are not
    free of scale either.

    Computed with rankjax.objective and its active_share; both logarithmic losses on
    inner products, angles 45 degrees. Source of the claim that the angular loss is free
    of scale: Wang et al., ICCV 2017.
    """
    drawn, (share, value) = panels(2)
    scales = np.geomspace(0.1, 10, 41)
    shares = scaled(scales)
    for i, (name, (values, active)) in enumerate(shares.items()):
        every = {"marker": "os^D"[i], "markevery": (2 + 2 * i, 9), "ms": 6}
        share.plot(scales, active, label=name, **every)
        at_one = values[len(scales) // 2]
        value.plot(scales, np.maximum(values / at_one, 1e-12), label=name, **every)
    share.set(title="Share of active terms", ylim=(-0.05, 1.1))
    value.set(title="Loss over that at s = 1", yscale="log", ylim=(5e-3, 500))
    for panel in (share, value):
        panel.set(xscale="log", xlabel="scale s of the embedding")
    value.legend(loc="lower right")
    return drawn


def scaled(scales: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and active shares [scale] of four losses of one scaled batch, by name."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 4)
    rows = random.normal(size=(8, 3))[labels] + 0.6 * random.normal(size=(32, 3))
    return measured(
        scales[:, None, None] * rows / np.linalg.norm(rows, axis=1).mean(), labels
    )
