"""Distances on the sphere, and what sampling rules make of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.study.drawing import MARKERS, SERIES, panels
from experiments.study.figures.points import steps
from experiments.study.registry import figure
from rankjax import losses, mining, similarity
from rankjax.rows import View
from rankjax.selections import log_distance_density

RULES: dict[str, mining.Selection] = {
    "hardest": mining.hardest_negative,
    "semi-hard": mining.semi_hard_or_easiest,
    "distance-weighted": functools.partial(mining.distance_weighted, farthest=2.0),
    "random": mining.random_negatives,
}
DIM, ANCHORS, TO_POSITIVE, NOISE = 16, 300, 0.8, 0.1


def density(distance: np.ndarray, dim: int) -> np.ndarray:
    """q(d) on an even grid of distances, of integral 1."""
    log = np.asarray(log_distance_density(jnp.asarray(distance**2), dim), np.float64)
    weight = np.exp(log - log.max())
    return weight / (weight.sum() * (distance[1] - distance[0]))


def on_sphere(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Points [count, dim], uniform on the unit sphere."""
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@functools.cache
def chosen_distances() -> dict[str, np.ndarray]:
    """Distances of the negatives that each rule chooses for each anchor, by rule."""
    points = jnp.asarray(on_sphere(ANCHORS + 1000, DIM), jnp.float32)
    rows = similarity.negative_squared_euclidean(points[:ANCHORS], points[ANCHORS:])
    nothing = jnp.zeros(rows.shape[1], bool)

    @jax.jit
    @jax.vmap
    def choose(row: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        positive = jnp.float32(-(TO_POSITIVE**2))
        view = View(row, nothing, ~nothing, positive, nothing, key=key, dim=DIM)
        distance = jnp.sqrt(-row)
        return {
            n: jnp.sum(distance, where=rule(view, 0.2)) for n, rule in RULES.items()
        }

    found = choose(rows, jax.random.split(jax.random.key(0), ANCHORS))
    return {name: np.asarray(found[name]) for name in RULES}


@functools.cache
def gradient_variance() -> tuple[np.ndarray, np.ndarray]:
    """Distances of a negative, and the variance of its gradient under noise."""
    distances = np.linspace(0.05, 1.7, 34)
    noise = NOISE * np.random.default_rng(0).normal(size=(34, 400, DIM))
    rows = np.zeros((34, 400, 3, DIM))
    rows[:, :, 1, 1] = 1.0
    rows[:, :, 2] = noise
    rows[:, :, 2, 0] += distances[:, None]
    step = steps(losses.contrastive_loss, squared=False, margin=4.0)
    moves = step(rows.reshape(-1, 3, DIM))[:, 2].reshape(34, 400, DIM)
    centred = moves - moves.mean(1, keepdims=True)
    return distances, np.square(centred).sum(-1).mean(1)


@figure()
def distance_density() -> Figure:
    """Distances between random points of the sphere, and what sampling makes of them.

    Left: the density q(d) of the distance of two random points of the unit sphere in
    dim dimensions. Nearly all of them are √2 apart in high ones, so that a random
    negative is never near. Middle: distances of the negatives that four rules choose
    among 1,000 random points for 300 anchors in 16 dimensions, with a positive at
    distance 0.8. Distance-weighted sampling, Pr ~ 1/q, spreads them from its cut of 0.5
    on. Right: the variance of a negative's gradient (of the contrastive loss without
    squares, whose gradient has length 1) when its embedding has noise of 0.1 in each of
    16 dimensions. Close to the anchor the direction is noise. Markers are the rules, at
    the mean of their distances and of their variances.

    Computed with rankjax.mining's selections, the density they weight by, and jax.grad
    of rankjax.losses.contrastive_loss. Source: Wu, Manmatha, Smola, Krähenbühl, ICCV
    2017; the points are ours.
    """
    drawn, (curves, counts, variance) = panels(3, height=3.6)
    distance = np.linspace(0.002, 1.998, 999)
    for dim in (3, 8, 32, 128, 512):
        curves.plot(distance, density(distance, dim), label=f"dim {dim}")
    curves.set(title="Density q(d)", xlabel="distance d", yscale="log", ylim=(1e-3, 80))
    curves.legend(loc="upper left", handlelength=2.2)
    distances, variances = gradient_variance()
    variance.plot(distances, variances, color="C4", ls="-")
    for i, (name, found) in enumerate(chosen_distances().items()):
        style: Any = {"color": SERIES[i], "ls": ("-", "--", "-.", ":")[i], "lw": 1.8}
        bins = np.linspace(0, 1.8, 37)
        counts.hist(found, bins, histtype="step", label=name, **style)
        at = np.interp(found, distances, variances).mean()
        variance.plot(found.mean(), at, MARKERS[i], color=SERIES[i], ms=9, label=name)
    counts.set(title="Negatives chosen", xlabel="distance of the negative")
    variance.set(title="Variance of the gradient", xlabel="distance of the negative")
    variance.set_ylim(0, 1.05)
    variance.legend(loc="upper right", handlelength=1)
    return drawn
