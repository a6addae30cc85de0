"""Triplets in the plane: directions of gradients, and the angle at the negative."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle

from experiments.study.drawing import (
    BLUE,
    ORANGE,
    PURPLE,
    TEXT,
    arrows,
    label,
    panels,
    path,
    plane,
    point,
)
from experiments.study.figures.points import steps
from experiments.study.registry import figure
from rankjax import losses

A, P = np.array([-1.0, 0.0]), np.array([1.0, 0.0])


@figure()
def triplet_gradient() -> Figure:
    """Where a triplet sends its negative.

    An anchor a, a positive p, and a negative n inside the ball whose diameter is
    [a, p]; c is the middle. The triplet loss moves n straight away from a (solid), not
    perpendicular to [a, p], and here brings n nearer to p. The angular loss moves
    n straight away from c (dashed), out of the pair. Dotted circles have the diameters
    [a, p] and [c, p]: the steps bring n nearer to p exactly inside them, the triplet's
    inside the large one, the angular loss's inside the small one (Thales).

    Directions by jax.grad of rankjax.losses.triplet_loss and angular_hinge_loss, drawn
    with one length. After Wang et al., ICCV 2017.
    """
    drawn, (panel,) = panels(1, height=3.7)
    plane(panel, "", (-2.6, 2.6), (-1.15, 1.35))
    negative = np.array([0.3, 0.62])
    path(panel, [A, P])
    triplet = steps(losses.triplet_loss, margin=4.0)
    angular = steps(losses.angular_hinge_loss, angle=BOUND)
    for name, of, start, radius, colour, line, offset in (
        ("triplet: away from a", triplet, A, 1.0, ORANGE, "-", (8, 0)),
        ("angular: away from c", angular, 0 * A, 0.5, BLUE, "--", (8, 4)),
    ):
        middle = (start + P) / 2
        ball = Circle(tuple(middle), radius, fill=False, ec=colour, ls=":", lw=1.5)
        panel.add_patch(ball)
        path(panel, [start, negative], colour, lw=1, ls=line)
        move = of(np.stack([A, P, negative])[None])[0, 2]
        move = 0.6 * move / np.linalg.norm(move)
        arrows(panel, negative, move, colour, width=0.006)
        label(panel, negative + move, name, offset)
    above = negative + np.array([0, 0.6])
    path(panel, [negative, above], ls=":")
    label(panel, above, "perpendicular to [a, p]", (-6, 2), ha="right")
    point(panel, A, "a", 0, (-13, 0))
    point(panel, P, "p", 2, (13, 0))
    point(panel, (0, 0), "c", 4, (-8, -13))
    point(panel, negative, "n", 1, (-14, 2))
    return drawn


@figure()
def angular_construction() -> Figure:
    """Which angle the angular loss bounds.

    Left: the angle at n of the triangle a, p, n, and shaded where it is below 25
    degrees. The shade comes up to a and to p: n₂ has a smaller angle than n, and is
    nearer to a. This is the concern of the paper and of the survey with bounding that
    angle. (The gradient of the angle does not lead there: its step, the arrow, goes
    away from a and from p, from every place.) Right: the construction of the angular
    loss. c is the middle of a and p, m a point where the circle about c through both
    meets the line through c perpendicular to [c, n]. In the right-angled triangle m, c,
    n the angle n' has tan n' = |m − c| / |n − c| = |a − p| / (2 |n − c|), so that it is
    below 25 degrees outside a circle about c, and the step is straight away from c.

    Left, angle and step by jax.grad of the angle itself; right, the step by that of
    rankjax.losses.angular_hinge_loss. Source: Wang et al., ICCV 2017.
    """
    drawn, (direct, bound) = panels(2, height=3.9)
    x, y = (-2.7, 2.7), (-1.8, 2.6)
    plane(direct, "The angle at n itself", x, y)
    plane(bound, "The angle n' instead", x, y)
    grid = np.stack(np.meshgrid(np.linspace(*x, 300), np.linspace(*y, 245)), -1)
    away = NEGATIVE / np.linalg.norm(NEGATIVE)
    m = np.array([away[1], -away[0]])
    instead = np.arctan(1 / np.linalg.norm(grid, axis=-1))
    hinge = steps(losses.angular_hinge_loss, angle=BOUND)
    move = hinge(np.stack([A, P, NEGATIVE])[None])[0, 2]
    for panel, ends, colour, step, angles in (
        (direct, (A, P), ORANGE, angle_step(NEGATIVE), angle_at(grid)),
        (bound, (m, 0 * m), BLUE, move, instead),
    ):
        within = np.degrees(np.asarray(angles))
        panel.contourf(*grid.T, within.T, [0, BOUND], colors=[TEXT], alpha=0.1)
        path(panel, [ends[0], NEGATIVE, ends[1], ends[0]], colour, lw=1.6)
        path(panel, [A, P])
        first, last = sorted(_degrees(end - NEGATIVE) for end in ends)
        at = tuple(NEGATIVE)
        panel.add_patch(Arc(at, 1, 1, theta1=first, theta2=last, ec=colour, lw=2))
        arrows(panel, NEGATIVE, step, longest=0.6, width=0.01)
        point(panel, A, "a", 0, (-10, -11))
        point(panel, P, "p", 2, (12, -8))
        point(panel, NEGATIVE, "n", 1, (2, 14))
    bound.add_patch(Circle((0, 0), 1, fill=False, ec=PURPLE, ls="--", lw=1.2))
    point(bound, m, "m", 3, (10, 8))
    point(bound, (0, 0), "c", 4, (4, -14))
    point(direct, NEARER, "n₂", 1, (-15, 2))
    direct.text(-0.93, 0.38, "∠n")
    bound.text(-0.92, 0.72, "n'")
    return drawn


NEGATIVE, NEARER, BOUND = np.array([-1.55, 1.0]), np.array([-1.35, 0.15]), 25.0


def angle_at(negative: Any) -> jax.Array:
    """The angle at n of the triangle a, p, n, for n [..., 2]; in radians."""
    u, v = (jnp.asarray(end) - jnp.asarray(negative) for end in (A, P))
    lengths = jnp.linalg.norm(u, axis=-1) * jnp.linalg.norm(v, axis=-1)
    return jnp.arccos(jnp.clip(jnp.sum(u * v, -1) / lengths, -1, 1))


def angle_step(negative: Any) -> np.ndarray:
    """The step of gradient descent of n on that angle."""
    return -np.asarray(jax.grad(angle_at)(jnp.asarray(negative, jnp.float32)))


def _degrees(direction: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(direction[1], direction[0])))
