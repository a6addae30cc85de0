"""Triplets in the plane: directions of gradients, and the angle at the negative."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle

from experiments.figures.points import steps
from experiments.figures.registry import figure
from experiments.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    TEXT,
    arrows,
    panels,
    plane,
    point,
)
from rankjax import losses

A, P = np.array([-1.0, 0.0]), np.array([1.0, 0.0])


@figure
def triplet_gradient() -> Figure:
    """Where a triplet sends its negative.

    An anchor a, a positive p, and a negative n inside the ball whose diameter is
    [a, p]; c is the middle. The triplet loss moves n straight away from a (solid), which
    is not perpendicular to [a, p] and here brings n nearer to p. The angular loss moves
    n straight away from c (dashed), out of the pair. Dotted circles have the diameters
    [a, p] and [c, p]: the steps bring n nearer to p exactly inside them, the triplet's
    inside the large one, the angular loss's inside the small one (Thales).

    Directions by jax.grad of rankjax.losses.triplet_loss and angular_hinge_loss, drawn
    with one length. After Wang et al., ICCV 2017.
    """
    drawn, (panel,) = panels(1, height=3.7)
    plane(panel, "", (-2.6, 2.6), (-1.15, 1.35))
    negative = np.array([0.3, 0.62])
    panel.plot(*np.stack([A, P]).T, color=TEXT, lw=1.2, ls="-")
    panel.add_patch(Circle((0, 0), 1, fill=False, ec=ORANGE, ls=":", lw=1.5))
    panel.add_patch(Circle((0.5, 0), 0.5, fill=False, ec=BLUE, ls=":", lw=1.5))
    for name, start, colour, line, offset in (
        ("triplet: away from a", A, ORANGE, "-", (8, 0)),
        ("angular: away from c", np.zeros(2), BLUE, "--", (8, 4)),
    ):
        loss = losses.triplet_loss if colour == ORANGE else losses.angular_hinge_loss
        settings: dict[str, Any] = {"margin": 4.0} if colour == ORANGE else {"angle": 45}
        move = steps(loss, **settings)(np.stack([A, P, negative])[None])[0, 2]
        panel.plot(*np.stack([start, negative]).T, color=colour, lw=1, ls=line)
        move = 0.6 * move / np.linalg.norm(move)
        arrows(panel, negative, move, colour, width=0.006)
        panel.annotate(
            name, negative + move, xytext=offset, textcoords="offset points", va="center"
        )
    panel.plot(*np.stack([negative, negative + [0, 0.6]]).T, color=TEXT, ls=":", lw=1.2)
    panel.annotate(
        "perpendicular to [a, p]", negative + [0, 0.6], xytext=(-6, 2), ha="right",
        textcoords="offset points", va="center",
    )  # fmt: skip
    point(panel, A, "a", 0, (-13, 0))
    point(panel, P, "p", 2, (13, 0))
    point(panel, (0, 0), "c", 4, (0, -14))
    point(panel, negative, "n", 1, (-14, 2))
    return drawn


@figure
def angular_construction() -> Figure:
    """Which angle the angular loss bounds.

    Left: the angle at n of the triangle a, p, n. To make that angle smaller is not
    safe: where the angle at a is obtuse, the step of gradient descent on the angle
    (arrow) drags n towards a. Right: the construction of the angular loss. c is the
    middle of a and p, m a point where the circle about c through both meets the line
    through c perpendicular to [c, n]. The angle n′ of the right-angled triangle m, c, n
    has tan n′ = |m − c| / |n − c| = |a − p| / (2 |n − c|), and making it smaller moves
    n straight away from c.

    The left step is jax.grad of the angle itself, the right one that of
    rankjax.losses.angular_hinge_loss at 30 degrees. Source: Wang et al., ICCV 2017.
    """
    drawn, (direct, bound) = panels(2, height=3.6)
    negative = np.array([-1.75, 1.2])
    plane(direct, "The angle at n itself", (-2.7, 1.8), (-1.3, 1.9))
    plane(bound, "The angle n′ instead", (-2.7, 1.8), (-1.3, 1.9))
    away = negative / np.linalg.norm(negative)
    m = np.array([away[1], -away[0]])
    for panel, corners, colour, move in (
        (direct, (A, negative, P), ORANGE, angle_step(negative)),
        (bound, (m, negative, 0 * m), BLUE, hinge_step(negative)),
    ):
        panel.plot(*np.stack([*corners, corners[0]]).T, color=colour, lw=1.6, ls="-")
        panel.plot(*np.stack([A, P]).T, color=TEXT, lw=1.2, ls="-")
        first, last = sorted(_degrees(x - negative) for x in (corners[0], corners[2]))
        panel.add_patch(
            Arc(negative, 1, 1, theta1=first, theta2=last, ec=colour, lw=2)
        )
        arrows(panel, negative, 0.55 * move / np.linalg.norm(move), width=0.012)
        point(panel, A, "a", 0, (0, -14))
        point(panel, P, "p", 2, (12, -8))
        point(panel, negative, "n", 1, (-13, 0))
    bound.add_patch(Circle((0, 0), 1, fill=False, ec=PURPLE, ls="--", lw=1.2))
    point(bound, m, "m", 3, (10, 8))
    point(bound, (0, 0), "c", 4, (4, -14))
    direct.text(-1.25, 0.83, "∠n", ha="left")
    bound.text(-1.18, 1.02, "n′", ha="left")
    return drawn


def angle_step(negative: np.ndarray) -> np.ndarray:
    """The step of gradient descent on the angle at n of the triangle a, p, n."""

    def angle(n: jax.Array) -> jax.Array:
        u, v = jnp.asarray(A) - n, jnp.asarray(P) - n
        return jnp.arccos(u @ v / jnp.sqrt(u @ u * (v @ v)))

    return -np.asarray(jax.grad(angle)(jnp.asarray(negative, jnp.float32)))


def hinge_step(negative: np.ndarray, angle: float = 20.0) -> np.ndarray:
    """The step of the negative under the angular hinge."""
    rows = np.stack([A, P, negative])[None]
    return np.asarray(steps(losses.angular_hinge_loss, angle=angle)(rows)[0, 2])


def _degrees(direction: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(direction[1], direction[0])))


STEPS = {
    "triplet, towards p": (losses.triplet_loss, {"margin": 10.0}, P, 0.5),
    "angular, towards p": (losses.angular_hinge_loss, {"angle": 10.0}, P, 0.25),
    "triplet, towards c": (losses.triplet_loss, {"margin": 10.0}, 0 * P, 0.25),
}
"""Loss, settings, what the step may come nearer to, and the radius, over |a - p|, of
the ball in which it does."""


MOST = 8
_MOVES = {name: steps(loss, **given) for name, (loss, given, *_) in STEPS.items()}


def closer(name: str, dim: int, count: int, seed: int = 0) -> np.ndarray:
    """Whether the step of each of `count` random negatives brings it nearer.

    Args:
      name: of `STEPS`.
      dim: of the space, at most `MOST`; negatives are uniform in the ball of radius
        |a - p| about c.
      count: of negatives.
      seed: of negatives.

    Returns:
      Bool [count].
    """
    *_, target, _ = STEPS[name]
    random = np.random.default_rng(seed)
    direction = random.normal(size=(count, dim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    # In a space of one size, whose other coordinates are 0, to compile once.
    rows = np.zeros((count, 3, MOST))
    rows[:, 2, :dim] = 2 * direction * random.uniform(size=(count, 1)) ** (1 / dim)
    rows[:, 0, 0], rows[:, 1, 0] = A[0], P[0]
    at = target[0] * np.eye(1, MOST)
    return np.sum(_MOVES[name](rows)[:, 2] * (at - rows[:, 2]), 1) > 0


@figure
def thales_balls() -> Figure:
    """How often a step brings the negative nearer to the positive.

    Left: the exact regions in the plane. A triplet step, away from a, brings n nearer
    to p inside the ball of diameter [a, p]; an angular step, away from c, inside that
    of diameter [c, p]; a triplet step brings n nearer to the middle c inside that of
    diameter [a, c], an angular step never. Right: the share of negatives for which this
    happens, by dimension, for negatives spread evenly over the ball of radius |a − p|
    about c. Lines are the closed form, the ratio of volumes: 2⁻ᵈ for the large ball and
    4⁻ᵈ for the small ones. Markers are 20,000 random negatives each, with two standard
    errors. The difference between the losses is real, and soon vanishes with dimension.

    Steps by jax.grad of rankjax.losses.triplet_loss and angular_hinge_loss, both
    active everywhere. Negatives of a trained network are not spread evenly.
    """
    drawn, (balls, shares) = panels(2, height=3.9)
    plane(balls, "Where the step is towards p, or c", (-1.5, 1.5), (-1.35, 1.35))
    for x, radius, colour, hatch, name in (
        (0.0, 1.0, ORANGE, "///", "triplet, towards p"),
        (0.5, 0.5, BLUE, "\\\\\\", "angular, towards p"),
        (-0.5, 0.5, GREEN, "...", "triplet, towards c"),
    ):
        balls.add_patch(
            Circle((x, 0), radius, fc=(0, 0, 0, 0), ec=colour, hatch=hatch, lw=1.8,
                   label=name)  # fmt: skip
        )
    balls.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=1)
    point(balls, A, "a", 0, (-12, 0))
    point(balls, P, "p", 2, (12, 0))
    point(balls, (0, 0), "c", 4, (0, -13))
    dims, count = np.arange(1, MOST + 1), 20_000
    for i, (name, (*_, radius)) in enumerate(STEPS.items()):
        colour, line = (ORANGE, BLUE, GREEN)[i], ("-", "--", ":")[i]
        shares.plot(dims, radius ** dims.astype(float), color=colour, ls=line, label=name)
        found = np.array([closer(name, d, count).mean() for d in dims])
        error = 2 * np.sqrt(found * (1 - found) / count)
        some = found > 0
        shares.errorbar(dims[some] + (0, -0.06, 0.06)[i], found[some], error[some],
                        color=colour, ls="none", marker="os^"[i], ms=5)  # fmt: skip
    shares.set(title="Share of negatives", xlabel="dimension d", yscale="log",
               ylim=(1e-5, 1))  # fmt: skip
    shares.legend(loc="lower left")
    return drawn
