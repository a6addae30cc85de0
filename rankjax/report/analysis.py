"""The numbers behind the report: neighbours, pairs, confusions, a map."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.optimize import linear_sum_assignment
from sklearn.manifold import TSNE

from rankjax.metrics import Search
from rankjax.metrics.directions import directions
from rankjax.similarity import cosine


class SamplePairs(NamedTuple):
    """Rows of a query and a row of the gallery, int [pairs, 2]."""

    positive: np.ndarray
    negative: np.ndarray


class Map(NamedTuple):
    """Images on a grid of `columns` x `rows` cells, no cell used twice."""

    indices: np.ndarray  # int [m], the images shown
    cells: np.ndarray  # int [m, 2], column and row of each
    columns: int
    rows: int


def confusions(
    search: Search, failed: np.ndarray, found: np.ndarray, *, limit: int = 12
) -> list[tuple[int, int, int]]:
    """The class pairs confused most often among queries [m] that fail.

    Args:
      search: what they are queries of.
      failed: the queries [m], and
      found: the gallery rows [m] that come first for them.

    Returns:
      Of each pair how often, one such query, and the gallery row that it found.
    """
    if not len(failed):
        return []
    labels = search.query_labels[failed], search.gallery_labels[found]
    _, first, counts = np.unique(
        np.sort(np.stack(labels, axis=1), axis=1),
        axis=0,
        return_index=True,
        return_counts=True,
    )
    order = np.argsort(-counts, kind="stable")[:limit]
    return [
        (int(counts[i]), int(failed[first[i]]), int(found[first[i]])) for i in order
    ]


def sample_pairs(
    search: Search, rng: np.random.Generator, *, limit: int = 10_000
) -> SamplePairs:
    """All positive pairs if they are few, else about `limit`; so many negatives."""
    order = np.argsort(search.gallery_labels, kind="stable")
    sorted_labels = search.gallery_labels[order]
    starts, ends = (
        np.searchsorted(sorted_labels, search.query_labels, side)
        for side in ("left", "right")
    )
    sizes = ends - starts
    if sizes.sum() <= 4 * limit:
        query = np.repeat(np.arange(len(sizes)), sizes)
        within = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    else:
        query = rng.choice(len(sizes), size=limit, p=sizes / sizes.sum())
        within = rng.integers(sizes[query])
    positive = np.stack([query, order[starts[query] + within]], axis=1)
    positive = positive[~search.skipped(*positive.T)]
    if search.itself is not None and sizes.sum() <= 4 * limit:
        # Each pair once, and not from both of its sides.
        positive = positive[search.itself[positive[:, 0]] < positive[:, 1]]
    if len(positive) > limit:
        positive = positive[np.sort(rng.permutation(len(positive))[:limit])]
    counts = len(search.queries), len(search.gallery)
    drawn = rng.integers(counts, size=(2 * limit, 2))
    labels = search.query_labels[drawn[:, 0]], search.gallery_labels[drawn[:, 1]]
    return SamplePairs(positive, drawn[labels[0] != labels[1]][:limit])


def top_matches(search: Search, queries: np.ndarray, *, most: int = 8) -> np.ndarray:
    """The gallery rows that come first for queries [q]: int [q, <= most].

    Of a query that meets fewer rows than others, the last are -1.
    """
    gallery = jnp.asarray(directions(search.gallery))
    every = np.arange(len(gallery))
    best = []
    for some in np.array_split(queries, len(queries) // 256 + 1):
        own = jnp.asarray(directions(search.queries[some]))
        scores = np.array(cosine(own, gallery))
        scores[search.skipped(some[:, None], every)] = -np.inf
        found, rows = lax.top_k(scores, min(most, len(every)))
        best.append(np.where(np.isfinite(found), rows, -1))
    return np.concatenate(best)


def validated_on(history: list[dict[str, float]]) -> str:
    """Which split a run was evaluated on while it trained: validation or training."""
    names = {key.partition("/")[0] for row in history for key in row if "/" in key}
    return "training" if "training" in names else "validation"


def series(history: list[dict[str, float]], key: str) -> np.ndarray:
    """Steps and values of the rows that hold both: float [2, rows]."""
    rows = [(row["step"], row[key]) for row in history if {"step", key} <= row.keys()]
    return np.array(rows, float).reshape(-1, 2).T


def lay_out(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    classes: int = 30,
    limit: int = 400,
) -> Map | None:
    """A t-SNE map of random classes, every image moved to the nearest free cell.

    None where there is nothing to lay out: under ten images, or all in one point.
    """
    rng = np.random.default_rng((seed, 2))
    present = np.unique(labels)
    chosen = rng.choice(present, min(classes, len(present)), replace=False)
    share = limit // len(chosen)
    members = (rng.permutation(np.flatnonzero(labels == label)) for label in chosen)
    indices = np.concatenate([images[:share] for images in members])
    points = embeddings[indices].astype(np.float64)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-30)
    if len(points) < 10 or np.ptp(points, axis=0).max() < 1e-6:
        return None
    if points.shape[1] == 1:
        points = np.pad(points, ((0, 0), (0, 1)))
    perplexity = min(30.0, len(points) / 4)
    # For so few points "exact" is the faster method, and it has no threads to race.
    tsne = TSNE(init="pca", method="exact", perplexity=perplexity, random_state=seed)
    places = tsne.fit_transform(points)
    rows = int(np.ceil(np.sqrt(len(points))))
    columns = int(np.ceil(1.5 * rows))
    size = np.array([columns - 1, rows - 1])
    low, high = places.min(axis=0), places.max(axis=0)
    places = (places - low) / np.maximum(high - low, 1e-12) * size
    cells = np.stack(np.meshgrid(range(columns), range(rows)), axis=-1).reshape(-1, 2)
    distance = ((places[:, None] - cells) ** 2).sum(axis=-1)
    return Map(indices, cells[linear_sum_assignment(distance)[1]], columns, rows)
