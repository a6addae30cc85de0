"""Toy embeddings that tell measures apart."""

import functools

import numpy as np
from matplotlib.figure import Figure

from experiments.study.drawing import panels, plane, two_classes
from experiments.study.registry import figure
from rankjax import metrics, similarity


def embeddings() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three embeddings [48, 2] of two classes with their labels, by name."""
    column, row, twin = (x.ravel() for x in np.indices((6, 4, 2)))
    pairs = np.stack([column - 2.5 + 0.2 * twin - 0.1, 0.8 * (row - 1.5)], 1)
    line = np.linspace(-2.8, 2.8, 24)
    angle = 2 * np.pi * np.arange(24) / 24
    ring = 1.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    halves = np.repeat([0, 1], 24)
    return {
        "Scattered pairs": (pairs, (column + row) % 2),
        "Two bands": (
            np.stack([np.tile(line, 2), np.where(halves, 0.5, -0.5)], 1),
            halves,
        ),
        "Disc and ring": (np.concatenate([0.25 * ring, ring]), halves),
    }


@functools.cache
def scores() -> dict[str, dict[str, float]]:
    """Recall@1, NMI and MAP@R of each of `embeddings`."""
    found = {}
    for name, (rows, labels) in embeddings().items():
        retrieved = metrics.retrieval_metrics(
            rows, labels, recall_at=(1,), similarity=similarity.negative_euclidean
        )
        clusters = metrics.kmeans(rows, k=2, seed=0, restarts=20)
        found[name] = {
            "Recall@1": retrieved["recall_at_1"],
            "NMI": metrics.clustering_scores(labels, clusters)["nmi"],
            "MAP@R": retrieved["map_at_r"],
        }
    return found


@figure()
def measures_apart() -> Figure:
    """Embeddings that Recall@1 and NMI cannot tell apart.

    Three embeddings of two classes in the plane, circles and squares, 24 points each.
    In all three the nearest neighbour of every point is of its class, so that Recall@1
    is 1; and k-means with two clusters cuts the picture in halves that hold as much of
    one class as of the other, so that NMI is about 0. MAP@R, which asks how many of a
    point's R = 23 nearest are of its class and how early, puts them in order.

    Computed with rankjax.metrics.retrieval_metrics, kmeans and clustering_scores on
    Euclidean distances; the numbers are above each panel. The argument is that of
    Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020; the
    embeddings are ours.
    """
    drawn, axes = panels(3, height=2.9)
    found = scores()
    for panel, (name, (rows, labels)) in zip(axes, embeddings().items(), strict=True):
        plane(panel, name, (-3.2, 3.2), (-1.9, 1.9))
        two_classes(panel, rows, labels, 4.5)
        lines = "\n".join(f"{k}  {abs(v):.2f}" for k, v in found[name].items())
        panel.text(0, -1.9, lines, ha="center", va="top", linespacing=1.5)
    return drawn
