"""Toy embeddings that tell measures apart."""

import functools

import numpy as np
from matplotlib.figure import Figure

from experiments.figures.registry import figure
from experiments.figures.style import BLUE, MARKERS, PURPLE, panels, plane
from rankjax import metrics, similarity


def embeddings() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three embeddings [48, 2] of two classes with their labels, by name."""
    random = np.random.default_rng(0)
    found = {}
    for name, places in (
        ("Scattered pairs", 12),
        ("A few groups", 3),
        ("Two bands", 1),
    ):
        # Each class has so many groups along the line, in turn with the other's.
        size = 24 // places
        along = np.arange(2 * places) - (2 * places - 1) / 2
        x = np.repeat(along, size)[:, None] * (4.0 / max(places, 1))
        labels = np.repeat(np.arange(2 * places) % 2, size)
        if places == 1:
            x = np.tile(np.linspace(-4, 4, 24), 2)[:, None]
            y = np.where(labels, 0.6, -0.6)[:, None]
        else:
            y = np.zeros((48, 1))
        spread = 0.06 if places == 12 else 0.15
        rows = np.hstack([x, y]) + spread * random.normal(size=(48, 2))
        found[name] = rows, labels
    return found


@functools.cache
def scores() -> dict[str, dict[str, float]]:
    """Recall@1, NMI and MAP@R of each of `embeddings`."""
    found = {}
    for name, (rows, labels) in embeddings().items():
        retrieved = metrics.retrieval_metrics(
            rows, labels, recall_at=(1,), similarity=similarity.negative_euclidean
        )
        clusters = metrics.kmeans(rows, k=2, seed=0)
        found[name] = {
            "Recall@1": retrieved["recall_at_1"],
            "NMI": metrics.clustering_scores(labels, clusters)["nmi"],
            "MAP@R": retrieved["map_at_r"],
        }
    return found


@figure
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
        plane(panel, name, (-5, 5), (-2.2, 2.2))
        for label, colour in enumerate((BLUE, PURPLE)):
            panel.plot(*rows[labels == label].T, MARKERS[label], color=colour, ms=4.5)
        lines = "\n".join(f"{k}  {abs(v):.2f}" for k, v in found[name].items())
        panel.text(0, -2.3, lines, ha="center", va="top", linespacing=1.5)
    return drawn
