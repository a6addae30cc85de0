"""Which negatives and positives a triplet is made of."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import rankjax
from experiments.study.drawing import (
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    PURPLE,
    TEXT,
    arrows,
    panels,
    path,
    plane,
    point,
    two_classes,
)
from experiments.study.figures.points import slopes, steps
from experiments.study.registry import figure
from rankjax import losses, mining, similarity
from rankjax.rows import View

BANDS = ("hard", "semi_hard", "easy")
MARGIN = 0.8


def bands(anchor: Any, positive: Any, negatives: Any, margin: float) -> np.ndarray:
    """Which of `BANDS` each negative [n, 2] is in, by the selections; int [n]."""
    every = jnp.asarray(np.vstack([[positive], negatives]), jnp.float32)
    one = jnp.asarray([anchor], jnp.float32)
    row = similarity.negative_squared_euclidean(one, every)[0]
    this = jnp.arange(len(row)) == 0
    view = View(row, positives=this, negatives=~this, positive=row[0], this=this)
    return np.asarray(_number(view, margin))[1:]


@functools.partial(jax.jit, static_argnums=1)
def _number(view: View, margin: float) -> jax.Array:
    masks = [mining.SELECTIONS[name](view, margin) for name in BANDS]
    return jnp.argmax(jnp.stack(masks), 0)


@figure()
def triplet_bands() -> Figure:
    """Hard, semi-hard and easy negatives.

    Left: the plane around an anchor a with its positive p, coloured by what a negative
    is if it lies there. Hard negatives are no farther from a than p; semi-hard ones are
    farther, by less than the margin in squared distance; the rest are easy and have no
    loss. Right: the loss of the triplet over the distance of the negative, and the
    length of the negative's gradient. Under squared distances the hardest negatives
    have the least gradient, 2 D(a, n).

    Bands from rankjax.mining.hard, semi_hard and easy at |a − p| = 0.8 and margin 0.8;
    curves from rankjax.losses.triplet_loss and jax.grad. Source: Schroff, Kalenichenko,
    Philbin (FaceNet), CVPR 2015.
    """
    drawn, (field, curve) = panels(2, height=4.2)
    anchor, positive = np.zeros(2), np.array([0.8, 0.0])
    axis = np.linspace(-1.7, 1.7, 321)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    number = bands(anchor, positive, grid.reshape(-1, 2), MARGIN).reshape(321, 321)
    colours = (ORANGE, BLUE, TEXT)
    levels = [-0.5, 0.5, 1.5, 2.5]
    field.contourf(*grid.T, number.T, levels, colors=colours, alpha=0.09)
    field.contour(*grid.T, number.T, levels[1:3], colors=TEXT, linewidths=1)
    plane(field, "Where the negative lies", (-1.7, 1.7), (-1.7, 1.7))
    random = np.random.default_rng(3)
    negatives = random.uniform(-1.6, 1.6, (34, 2))
    words = (np.abs(negatives[:, 0]) < 0.42) & (negatives[:, 1] < 0.3)
    negatives = negatives[~words]
    for i, band in enumerate(bands(anchor, positive, negatives, MARGIN)):
        style: dict[str, Any] = {"color": colours[band], "ms": 6, "alpha": 0.95}
        field.plot(*negatives[i], MARKERS[band + 1], **style)
    point(field, anchor, "a", 0, (0, 12), PURPLE)
    point(field, positive, "p", 0, (-13, 0), PURPLE)
    for name, at in (("hard", -0.5), ("semi-hard", -1.02), ("easy", -1.45)):
        field.text(0, at, name, ha="center", va="center", weight="bold")

    distance = np.linspace(0, 1.7, 400)
    of_distances = slopes(losses.triplet_loss, margin=MARGIN)
    values, *_ = of_distances(np.full(400, -0.64), -(distance**2))
    rows = np.zeros((400, 3, 2))
    rows[:, 1, 0], rows[:, 2, 0] = 0.8, distance
    moves = steps(losses.triplet_loss, margin=MARGIN)(rows)[:, 2]
    edges = [0, 0.8, np.sqrt(0.64 + MARGIN), 1.7]
    for i, name in enumerate(BANDS):
        curve.axvspan(edges[i], edges[i + 1], color=colours[i], alpha=0.09, lw=0)
        middle = (edges[i] + edges[i + 1]) / 2
        curve.text(middle, 2.62, name.replace("_", "-"), ha="center", weight="bold")
    curve.plot(distance, values, color=GREEN, ls="-", label="loss")
    length = np.linalg.norm(moves, axis=1)
    curve.plot(distance, length, color=TEXT, ls="--", label="length of ∂L/∂n")
    curve.set(title="Loss and gradient", xlabel="D(a, n)", xlim=(0, 1.7), ylim=(0, 2.8))
    curve.legend(loc="upper left", bbox_to_anchor=(0.0, 0.93))
    return drawn


@figure()
def bimodal_mining() -> Figure:
    """Hard and semi-hard mining of a class with two modes.

    One class (circles) has two modes, and another (squares) lies between them. Lines
    join an anchor a with its positives (solid) and negatives (dashed); arrows are the
    steps of gradient descent of the first class's points as anchors, the longest of
    each panel 0.7 long. Left, hard: the farthest positive is in the other mode and the
    nearest negative between the two, so that every anchor is drawn across the other
    class: the class is to have one mode. Right, semi-hard: no negative is farther than
    a positive of the other mode, which therefore asks for nothing; positives of a's own
    mode do the work, and the modes stay.

    Both are rankjax.losses.triplet_loss on squared distances with margin 1; the choices
    are those of rankjax.mining.hardest and rankjax.mining.semi_hard. After a figure of
    Taha, "Retrieval with Deep Learning: A Ranking loss Survey Part 1", 2020.
    """
    drawn, axes = panels(2, height=2.6)
    rows, labels = bimodal()
    for panel, title, (move, positives, negatives) in zip(
        axes, ("Hard", "Semi-hard"), (hardest(), semi_hard()), strict=True
    ):
        plane(panel, title, (-2.2, 2.2), (-0.9, 0.9))
        pairs = (GREEN, "-", positives), (ORANGE, "--", negatives)
        for colour, line, chosen in pairs:
            for other in np.flatnonzero(chosen).tolist():
                path(panel, [rows[0], rows[other]], colour, ls=line, lw=1.5)
        two_classes(panel, rows, labels, 7)
        arrows(panel, rows[labels == 0], move, longest=0.7)
        point(panel, rows[0], "a", 0, (-2, -15))
    return drawn


def bimodal() -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 2] and labels: a class of two modes, and another between them."""
    random = np.random.default_rng(0)
    modes = np.array([[-1.4, 0.0], [1.4, 0.0], [0.0, 0.0]])[np.repeat([0, 1, 2], 6)]
    spread = np.array([[0.2, 0.32], [0.2, 0.32], [0.3, 0.45]])[np.repeat([0, 1, 2], 6)]
    points = modes + spread * random.normal(size=modes.shape)
    return points, np.repeat([0, 0, 1], 6)


Choice = tuple[np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def hardest() -> Choice:
    """Steps of the first class's anchors, and the pairs of its first by hard mining."""
    rows, labels = bimodal()
    same = labels[None] == labels[:, None]
    pairs = rankjax.Pairs(
        similarity.negative_euclidean(*2 * (jnp.asarray(rows, jnp.float32),)),
        positive=jnp.asarray(same & ~np.eye(len(rows), dtype=bool)),
        negative=jnp.asarray(~same),
    )
    mined = mining.hardest(pairs)
    move = _steps(losses.triplet_loss, mining.hardest)
    return move, np.asarray(mined.positive[0]), np.asarray(mined.negative[0])


@functools.cache
def semi_hard() -> Choice:
    """Steps of the first class's anchors, and the semi-hard pairs of its first."""
    rows, labels = bimodal()
    positives, negatives = np.zeros((2, len(rows)), bool)
    for other in np.flatnonzero(labels == 0)[1:]:
        band = bands(rows[0], rows[other], rows[labels == 1], 1.0)
        positives[other] = (band == 1).any()
        negatives[labels == 1] |= band == 1
    loss = functools.partial(losses.triplet_loss, selection=mining.semi_hard)
    move = _steps(loss)
    return move, positives, negatives


def _steps(loss: Callable[..., Any], miner: mining.Miner | None = None) -> np.ndarray:
    rows, labels = bimodal()
    compute = rankjax.objective(loss, mining=miner, block=None)
    points = jnp.asarray(rows, jnp.float32)

    @jax.jit
    @jax.grad
    def gradient(anchors: jax.Array) -> jax.Array:
        others = rankjax.References(points, labels, copy_of=np.arange(len(rows)))
        return compute(anchors, labels, params={"margin": 1.0}, references=others)

    return -np.asarray(gradient(points))[labels == 0]
