"""Gradients as fields over the place of a negative."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.study.drawing import (
    BLUE,
    TEXT,
    arrows,
    panels,
    plane,
    point,
)
from experiments.study.figures.points import steps
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
