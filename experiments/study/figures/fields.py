"""Gradients as fields: over the place of a negative, and over two similarities."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.study.drawing import (
    BLUE,
    SHADES,
    TEXT,
    arrows,
    panels,
    plane,
    point,
)
from experiments.study.figures.points import slopes, steps
from experiments.study.registry import figure
from rankjax import losses

ANCHOR, POSITIVE = np.array([0.7, 2.2]), np.array([2.6, 1.0])
FIELDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Triplet": (losses.triplet_loss, {"margin": 0.6}),
    "Angular hinge, 45°": (losses.angular_hinge_loss, {"angle": 45.0}),
    "N-pairs": (losses.n_pairs_loss, {}),
}


def field(name: str, negatives: np.ndarray) -> np.ndarray:
    """The steps [n, 2] of negatives [n, 2] under one of `FIELDS`."""
    loss, settings = FIELDS[name]
    pair = np.broadcast_to(np.stack([ANCHOR, POSITIVE]), (len(negatives), 2, 2))
    rows = np.concatenate([pair, negatives[:, None]], 1)
    return np.asarray(steps(loss, **settings)(rows)[:, 2])


@figure()
def gradient_fields() -> Figure:
    """Where each loss pushes the negative.

    For a fixed anchor a and positive p, the step of gradient descent of a negative at
    every place, over the longest of its panel; no arrow where the loss is zero. The
    triplet pushes away from a, and less the nearer n is to it. The angular hinge pushes
    away from c, the middle of a and p. The N-pair loss, of inner products, pushes
    everywhere against a as seen from the origin (cross), more the larger the inner
    product with a is; where p lies changes the length of the push alone.

    Computed by jax.grad of rankjax.losses.triplet_loss (margin 0.6),
    angular_hinge_loss and n_pairs_loss with one negative. Sources: Schroff et al., CVPR
    2015; Wang et al., ICCV 2017; Sohn, NIPS 2016.
    """
    drawn, axes = panels(3, height=3.7)
    low, high = -0.7, 4.1
    line = np.linspace(low + 0.15, high - 0.15, 14)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    named = np.stack([ANCHOR, POSITIVE, (ANCHOR + POSITIVE) / 2, [0, 0]])
    for panel, name in zip(axes, FIELDS, strict=True):
        plane(panel, name, (low, high), (low, high))
        apart = np.linalg.norm(grid[:, None] - named, axis=2).min(1) > 0.42
        move = field(name, grid)
        size = np.linalg.norm(move, axis=1)
        some = apart & (size > 0.02 * size.max())
        move = 0.38 * move[some] / size.max()
        arrows(panel, grid[some], move, BLUE, width=0.009, minlength=0.1, pivot="mid")
        panel.plot(0, 0, "+", color=TEXT, ms=9)
        point(panel, ANCHOR, "a", 1, (-11, 7))
        point(panel, POSITIVE, "p", 2, (12, -6))
    point(axes[1], named[2], "c", 3, (8, 10))
    return drawn


SURFACES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Triplet, margin 0.25": (losses.triplet_loss, {"margin": 0.25}),
    "Circle, margin 0.25": (losses.circle_loss, {"margin": 0.25, "gamma": 32.0}),
    "Multi-similarity": (losses.multi_similarity_loss, {}),
}


def sizes(name: str, positive: Any, negative: Any) -> tuple[np.ndarray, np.ndarray]:
    """The sizes of a loss's slopes at similarities [n] to one positive and negative."""
    loss, settings = SURFACES[name]
    _, to_positive, to_negative = slopes(loss, **settings)(positive, negative)
    return np.abs(to_positive), np.abs(to_negative)


@figure()
def similarity_gradients() -> Figure:
    """How hard each loss pulls and pushes, over the two similarities.

    One anchor with one positive and one negative. The shade is the size of the loss's
    slope at the similarity of the positive (top) and of the negative (bottom), over
    the largest of the column. Lines: the boundary at which the triplet loss ends; the
    circle (1 − s(p))² + s(n)² = 2 · 0.25² at which the circle loss has half its logit;
    the threshold 0.5 of multi-similarity. The triplet pulls and pushes alike, wherever
    it is active. The circle loss turns to whichever similarity is farther from its
    target. Multi-similarity treats the two apart, and pushes all but fully or not at
    all.

    Computed by jax.grad of rankjax.losses.triplet_loss, circle_loss (gamma 32) and
    multi_similarity_loss (defaults) with respect to the similarities. Source: Sun et
    al., CVPR 2020, whose figure compares the same boundaries; Wang et al., CVPR 2019.
    """
    drawn, axes = panels(3, rows=2, height=5.6, sharex=True, sharey=True)
    grid = np.linspace(0, 1, 101)
    s_p, s_n = np.meshgrid(grid, grid)
    for column, name in enumerate(SURFACES):
        found = sizes(name, s_p.ravel(), s_n.ravel())
        largest = max(part.max() for part in found)
        for row, part in enumerate(found):
            panel = axes[3 * row + column]
            shade = (part / largest).reshape(s_p.shape)
            style: dict[str, Any] = {"cmap": SHADES, "vmin": 0, "vmax": 1}
            style |= {"shading": "nearest", "rasterized": True}
            panel.pcolormesh(grid, grid, shade, **style)
            for line in _boundary(column):
                panel.plot(*line, color="C1", ls="--", lw=1.8)
            panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            panel.grid(False)
            if row == 0:
                panel.set_title(name)
            else:
                panel.set_xlabel("s(p)")
    axes[0].set_ylabel("pull on p\ns(n)")
    axes[3].set_ylabel("push on n\ns(n)")
    shades, name = axes[0].collections[0], "share of the largest"
    drawn.colorbar(shades, ax=axes.tolist(), shrink=0.6, label=name)
    return drawn


def _boundary(column: int) -> list[tuple[Any, Any]]:
    if column == 0:
        return [([0.25, 1], [0, 0.75])]
    if column == 1:
        angle = np.linspace(np.pi / 2, np.pi, 60)
        radius = 0.25 * np.sqrt(2)
        return [(1 + radius * np.cos(angle), radius * np.sin(angle))]
    return [([0.5, 0.5], [0, 1]), ([0, 1], [0.5, 0.5])]
