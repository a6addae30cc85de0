"""What losses make of a whole batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import rankjax
from experiments.study.drawing import (
    GREEN,
    ORANGE,
    SHADES,
    TEXT,
    arrows,
    panels,
    path,
    plane,
    point,
    two_classes,
)
from experiments.study.figures.points import steps
from experiments.study.registry import figure
from rankjax import losses, similarity


@figure()
def triplet_and_n_pairs() -> Figure:
    """One negative at a time, or all of them at once.

    An anchor a, its positive p and negatives of five other classes. Lines join the
    anchor with what it is compared with; arrows are the steps of gradient descent of
    the negatives, the longest of each panel 0.9 long. Left, a triplet: one negative
    moves, the others are not looked at. Right, N-pairs: every negative moves at once,
    as far as its share of the softmax, the most similar ones most. They move against
    a's direction from the origin, the cross, for the loss is one of inner products.

    Computed by jax.grad of rankjax.losses.triplet_loss (margin 4) and n_pairs_loss
    (scale 0.25, for the length of these points).
    Sources: Schroff et al., CVPR 2015; Sohn, NIPS 2016.
    """
    drawn, axes = panels(2, height=3.7)
    rows = n_pair()
    moves = {
        "Triplet: one negative": triplet_steps(rows),
        "N-pairs: all negatives": n_pairs_steps(rows),
    }
    for panel, (title, move) in zip(axes, moves.items(), strict=True):
        plane(panel, title, (-2.2, 2.8), (-1.9, 1.95))
        panel.plot(0, 0, "+", color=TEXT, ms=10)
        moved = np.linalg.norm(move, axis=1) > 0
        for i in np.flatnonzero(moved).tolist():
            path(panel, [rows[0], rows[i]], lw=0.9)
        move, at = move[2:][moved[2:]], rows[2:][moved[2:]]
        arrows(panel, at, move, ORANGE, longest=0.9, width=0.01)
        for i, negative in enumerate(rows[2:]):
            point(panel, negative, f"n{i + 1}", 1, (-9, 12))
        point(panel, rows[0], "a", 0, (0, 13))
        point(panel, rows[1], "p", 2, (0, 13))
    return drawn


def n_pair() -> np.ndarray:
    """An anchor, its positive, and negatives of five classes, [7, 2]."""
    negatives = [(1.9, 0.3), (0.8, -0.6), (-0.4, -1.1), (-1.3, -0.3), (-1.5, 1.0)]
    return np.array([(1.0, 0.8), (-0.2, 1.3), *negatives])


def triplet_steps(rows: np.ndarray) -> np.ndarray:
    """Steps [n, 2] of all rows where the triplet is the first three of them."""
    move = steps(losses.triplet_loss, margin=4.0)(rows[None, :3])[0]
    return np.vstack([move, np.zeros((len(rows) - 3, 2))])


def n_pairs_steps(rows: np.ndarray) -> np.ndarray:
    """Steps [n, 2] of all rows under N-pairs."""
    return np.asarray(steps(losses.n_pairs_loss, scale=0.25)(rows[None])[0])


@figure()
def n_pairs_matrix() -> Figure:
    """An N-pairs batch as one matrix.

    Six classes with two rows each. Left and middle: which of all pairs the loss reads,
    as positives (hatched) or negatives (plain), by default and with negatives='all';
    rows of one class are side by side, and its first is the anchor. An anchor has N − 1
    = 5 negatives, the other pairs' positives, or 2 (N − 1) = 10, both rows of each
    other class. Right: the batch as the paper sees it, anchors against positives. The
    shade is each column's share of the row's softmax for a random embedding whose
    classes are already loosely together; the loss wants all of it on the diagonal.

    The masks are the signs of jax.grad of rankjax.losses.n_pairs_loss with respect to
    the similarity matrix, and the shares its size. Source: Sohn, NIPS 2016.
    """
    drawn, axes = panels(3, height=3.7)
    for panel, negatives in zip(axes, ("positives", "all"), strict=False):
        signs = read_pairs(negatives)
        cells = np.zeros((*signs.shape, 4))
        cells[signs < 0], cells[signs > 0] = to_rgba(GREEN, 0.9), to_rgba(ORANGE, 0.45)
        panel.imshow(cells)
        for row, column in np.argwhere(signs < 0):
            _frame(panel, row, column, hatch="/////")
        panel.set_title(f"negatives='{negatives}'")
        _grid(panel, len(signs))
        panel.set(xlabel="reference", ylabel="anchor")
    positive = Patch(facecolor=GREEN, hatch="/////", edgecolor=TEXT, label="positive")
    negative = Patch(facecolor=to_rgba(ORANGE, 0.45), label="negative")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
    axes[0].legend(handles=[positive, negative], ncols=2, **below)
    shares = softmax_shares()
    image = axes[2].imshow(shares, cmap=SHADES, vmin=0, vmax=1)
    for i in range(len(shares)):
        _frame(axes[2], i, i, lw=1.8)
    _grid(axes[2], len(shares))
    axes[2].set(title="Softmax of each row", xlabel="positive", ylabel="anchor")
    drawn.colorbar(image, ax=axes[2], shrink=0.72, label="share")
    return drawn


@functools.cache
def read_pairs(negatives: str) -> np.ndarray:
    """-1 where N-pairs reads a pair as positive, 1 as negative, of six classes."""
    labels = np.repeat(np.arange(6), 2)
    same = labels[:, None] == labels[None]
    occurrence = jnp.asarray(np.tile([0, 1], 6))

    def value(matrix: jax.Array) -> jax.Array:
        pairs = rankjax.Pairs(
            matrix,
            positive=jnp.asarray(same & ~np.eye(12, dtype=bool)),
            negative=jnp.asarray(~same),
            anchor_occurrence=occurrence,
            reference_occurrence=occurrence,
        )
        return rankjax.mean(losses.n_pairs_loss(pairs, negatives=negatives))  # type: ignore[arg-type]

    return np.sign(np.asarray(jax.jit(jax.grad(value))(jnp.zeros((12, 12)))))


@functools.cache
def softmax_shares() -> np.ndarray:
    """Each positive's share [anchor, positive] of the softmax, of a loose embedding."""
    random = np.random.default_rng(5)
    centres = random.normal(size=(6, 8))
    rows = jnp.asarray(centres + 0.5 * random.normal(size=(2, 6, 8)), jnp.float32)
    matrix = similarity.dot(*rows)
    own = jnp.eye(6, dtype=bool)

    def value(matrix: jax.Array) -> jax.Array:
        pairs = rankjax.Pairs(matrix, positive=own, negative=~own)
        return rankjax.total(losses.n_pairs_loss(pairs))

    return np.asarray(jax.jit(jax.grad(value))(matrix) + own)


def _frame(panel: Axes, row: int, column: int, **settings: Any) -> None:
    style: Any = {"lw": 0, "fill": False, "ec": TEXT} | settings
    panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))


def _grid(panel: Axes, size: int) -> None:
    for ticks in (panel.set_xticks, panel.set_yticks):
        ticks(np.arange(size + 1) - 0.5, [""] * (size + 1), minor=True)
        ticks([])
    panel.grid(which="minor", alpha=0.35)
    panel.grid(which="major", visible=False)
    panel.tick_params(which="minor", length=0)


@figure()
def unequal_spread() -> Figure:
    """Two classes of unequal spread.

    Two synthetic classes of 24 points, with standard deviations 0.15 and 0.6. Arrows
    are steps of gradient descent, the longest of each panel 0.6 long; the numbers are
    each class's share of the summed lengths of gradients. Left, triplets with the
    margin 0.2: the wide class, whose positives are far, has most of the gradient, and
    its far points are hauled in. Right, the angular hinge, which asks at 45 degrees for
    a distance in proportion to that of anchor and positive: a pair with no negative in
    the ball whose diameter it is, is left alone, and the shares are more even.

    Computed by jax.grad of rankjax.losses.triplet_loss and angular_hinge_loss. After
    the illustration of unequal classes in Wang et al., ICCV 2017; the points are ours.
    """
    drawn, axes = panels(2, height=3.6)
    rows, labels = two_spreads()
    named = {"Triplet, margin 0.2": "triplet", "Angular hinge, 45°": "angular_hinge"}
    for panel, (title, loss) in zip(axes, named.items(), strict=True):
        move, shares = shared_gradient(loss)
        plane(panel, title, (-1.5, 2.3), (-1.5, 1.6))
        some = np.linalg.norm(move, axis=1) > 1e-6
        arrows(panel, rows[some], move[some], longest=0.6, width=0.005)
        two_classes(panel, rows, labels, 5.5)
        for x, share in zip((-0.8, 0.9), shares, strict=True):
            panel.text(x, 1.35, f"{share:.0%} of the gradient", ha="center")
    return drawn


def two_spreads() -> tuple[np.ndarray, np.ndarray]:
    """Points [48, 2] and labels of a tight class and a wide one."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 24)
    spread = np.array([0.15, 0.6])[labels, None]
    centres = np.array([[-0.6, 0.0], [0.5, 0.0]])[labels]
    return centres + spread * random.normal(size=(48, 2)), labels


@functools.cache
def shared_gradient(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [n, 2] of a loss, and each class's share of their lengths."""
    rows, labels = two_spreads()
    loss = rankjax.objective(losses.LOSSES[name], block=None)
    move = -np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(rows, jnp.float32), labels))
    length = np.linalg.norm(move, axis=1)
    return move, np.bincount(labels, length) / length.sum()
