import numpy as np
import pytest
from sklearn.cluster import KMeans

from rankjax.metrics import clustering, clustering_scores, kmeans


def blobs(n, k, rng, spread=0.05):
    labels = np.arange(n) % k
    centres = 10 * rng.normal(size=(k, 6))
    return np.float32(centres[labels] + spread * rng.normal(size=(n, 6))), labels


def partition(labels):
    return {frozenset(np.flatnonzero(labels == x).tolist()) for x in np.unique(labels)}


def squared_distances(x, centres):
    return np.square(np.float64(x)[:, None] - np.float64(centres)[None]).sum(-1)


@pytest.mark.parametrize("offset", [0, 1e3])
def test_clusters_that_lie_apart_are_found(offset):
    x, labels = blobs(60, 5, np.random.default_rng(0))
    got = kmeans(x + np.float32(offset), k=5, seed=0)
    assert partition(got.assignment) == partition(labels)


def test_result_is_a_fixed_point_of_lloyds_algorithm():
    x = np.random.default_rng(0).normal(size=(301, 5)).astype(np.float32)
    got = kmeans(x, k=9, seed=0, restarts=2)
    distances = squared_distances(x, got.centres)
    assert got.assignment.dtype == np.int32
    np.testing.assert_array_equal(got.assignment, distances.argmin(1))
    means = [x[got.assignment == j].mean(0) for j in range(9)]
    np.testing.assert_allclose(got.centres, means, atol=1e-5)
    assert got.inertia == pytest.approx(distances.min(1).sum(), rel=1e-6)


def test_result_is_the_same_again_and_in_any_block():
    x = np.random.default_rng(0).normal(size=(301, 5)).astype(np.float32)
    first = kmeans(x, k=9, seed=3, restarts=2)
    again = kmeans(x, k=9, seed=3, restarts=2)
    np.testing.assert_array_equal(first.centres, again.centres)
    for block in (64, 1000):
        other = kmeans(x, k=9, seed=3, restarts=2, block=block)
        np.testing.assert_array_equal(first.assignment, other.assignment)
    assert np.any(kmeans(x, k=9, seed=4, restarts=2).assignment != first.assignment)


def test_more_restarts_are_never_worse_and_as_good_as_scikit_learn():
    x = np.random.default_rng(1).normal(size=(301, 5)).astype(np.float32)
    one, many = (kmeans(x, k=9, seed=0, restarts=r).inertia for r in (1, 8))
    assert many <= one
    assert many <= 1.03 * KMeans(9, n_init=8, random_state=0).fit(x).inertia_


def test_first_centres_are_drawn_by_squared_distance():
    x = np.float32([[0], [1], [3]])
    keys = clustering.jax.random.split(clustering.jax.random.key(0), 400)
    drawn = np.concatenate(
        [np.asarray(clustering._plus_plus(x, key, 2, 50, 1)) for key in keys]
    )
    first, second = drawn.T
    for i, weights in enumerate([(0, 1, 9), (1, 0, 4), (9, 4, 0)]):
        got = np.bincount(second[first == i], minlength=3) / (first == i).sum()
        np.testing.assert_allclose(got, np.divide(weights, sum(weights)), atol=0.02)
    np.testing.assert_allclose(np.bincount(first) / len(first), 1 / 3, atol=0.02)


@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_points_than_clusters_leave_clusters_empty(distinct):
    rng = np.random.default_rng(0)
    points = 100 + rng.normal(size=(distinct, 6)).astype(np.float32)
    x = points[np.arange(60) % distinct]
    got = kmeans(x, k=5, seed=0)
    assert partition(got.assignment) == partition(np.arange(60) % distinct)
    assert np.isfinite(got.centres).all()
    assert got.inertia == pytest.approx(0, abs=1e-6)


def test_a_cluster_left_empty_takes_the_farthest_point():
    x = np.float32([[0], [1], [2], [9]])
    # Two centres on the same point: the second is empty; the third's mean is 4.
    _, centres, _ = clustering._lloyd(x, np.int32([0, 0, 1]), 1, 4)
    assert np.asarray(centres)[:, 0].tolist() == [0, 9, 4]


def test_one_hot_sums_equal_scattered_ones(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(37, 3)).astype(np.float32)
    cluster = rng.integers(0, 6, 37).astype(np.int32)
    monkeypatch.setattr(clustering.jax, "default_backend", lambda: "gpu")
    sums, counts = clustering._sums(x, cluster, 7, 10)
    for j in range(7):
        np.testing.assert_allclose(sums[j], x[cluster == j].sum(0), atol=1e-5)
        assert counts[j] == (cluster == j).sum()


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_tiny_and_huge_embeddings_cluster_alike(scale):
    x, labels = blobs(60, 5, np.random.default_rng(0))
    got = kmeans(x * np.float32(scale), k=5, seed=0)
    assert partition(got.assignment) == partition(labels)
    assert np.isfinite(got.inertia)


@pytest.mark.parametrize("k", [0, 4])
def test_a_number_of_clusters_out_of_range_is_named(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to 3 .*, got {k}"):
        kmeans(np.eye(3, dtype=np.float32), k=k, seed=0)


def test_embeddings_that_are_not_finite_are_refused():
    x = np.eye(3, dtype=np.float32)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="1 rows that are not, the first in row 1"):
        kmeans(x, k=2, seed=0)


def test_scores_take_what_kmeans_returns():
    x, labels = blobs(60, 5, np.random.default_rng(0))
    assert clustering_scores(labels, kmeans(x, k=5, seed=0))["ari"] == 1
