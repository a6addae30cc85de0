"""The numbers behind the report: neighbours, pairs, confusions, a map."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from rankjax.metrics import Search, nearest
from rankjax.metrics.directions import directions
from rankjax.similarity import cosine

LAID_OUT = 1000
"""Rows, at most, that t-SNE lays out."""


class SamplePairs(NamedTuple):
    """Rows of a query and a row of the gallery, int [pairs, 2]."""

    positive: np.ndarray
    negative: np.ndarray


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


def one_of_each(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows at random, but one of each class first, then a second of each."""
    drawn = rng.permutation(len(labels))
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]
    turn = np.arange(len(drawn)) - np.searchsorted(labels[drawn], labels[drawn])
    return drawn[np.argsort(turn + rng.random(len(drawn)))]


def lay_out(embeddings: np.ndarray, *, seed: int) -> np.ndarray | None:
    """Places [n, 2] from 0 to 1 on a map.

    The first `LAID_OUT` rows are laid out by t-SNE; each of the others stands between
    the three of these that are nearest, by Shepard's inverse squared distances (A
    two-dimensional interpolation function, 1968).

    None where there is nothing to lay out: under ten rows, or all in one point.
    """
    points = directions(embeddings).astype(np.float64)
    known = points[:LAID_OUT]
    if len(known) < 10 or np.ptp(known, axis=0).max() < 1e-6:
        return None
    if known.shape[1] == 1:
        known = np.pad(known, ((0, 0), (0, 1)))
    perplexity = min(30.0, len(known) / 4)
    # With one thread sums are in one order; with several they wait for each other.
    with threadpool_limits(1):
        tsne = TSNE(init="pca", perplexity=perplexity, random_state=seed)
        places = tsne.fit_transform(known).astype(np.float64)
    if len(points) > LAID_OUT:
        near = nearest(points[LAID_OUT:], k=3, gallery=points[:LAID_OUT])
        weights = 1 / np.maximum(2 - 2 * near.similarities, 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
        between = (weights[..., None] * places[near.rows]).sum(axis=1)
        places = np.concatenate([places, between])
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-12)
