import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.cluster import KMeans

from rankjax.metrics import clustering, clustering_scores, kmeans


def blobs(n, k, rng, spread=0.05):
    labels = np.arange(n) % k
    centres = 10 * rng.normal(size=(k, 6))
    return np.float32(centres[labels] + spread * rng.normal(size=(n, 6))), labels


def partition(labels):
    return {frozenset(np.flatnonzero(labels == x).tolist()) for x in np.unique(labels)}


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e3, 1), (0, 1e-30), (0, 1e25)])
def test_clusters_that_lie_apart_are_found_anywhere_and_at_any_scale(offset, scale):
    x, labels = blobs(60, 5, np.random.default_rng(0))
    got = kmeans((x + np.float32(offset)) * np.float32(scale), k=5, seed=0)
    assert partition(got.assignment) == partition(labels)
    assert np.isfinite(got.inertia)
    assert clustering_scores(labels, got)["ari"] == 1


def test_more_restarts_are_never_worse_and_as_good_as_scikit_learn():
    x = np.random.default_rng(1).normal(size=(301, 5)).astype(np.float32)
    one, many = (kmeans(x, k=9, seed=0, restarts=r).inertia for r in (1, 8))
    assert many <= one
    assert many <= 1.03 * KMeans(9, n_init=8, random_state=0).fit(x).inertia_


def test_first_centres_are_drawn_by_squared_distance():
    x = np.float32([[0], [1], [3]])
    first, second = np.asarray(clustering._plus_plus(x, 0, 2, 20_000, 1)).T
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


@pytest.mark.parametrize(
    ("x", "k", "message"),
    [
        (np.eye(3), 0, "k must be a whole number, from 1 to 3, got 0"),
        (np.eye(3), 1.5, "k must be a whole number, from 1 to 3, got 1.5"),
        (np.eye(3), 4, "k must be a whole number, from 1 to 3, got 4"),
        (np.diag([1, np.nan, 1]), 2, "1 rows that are not, the first in row 1"),
    ],
)
def test_what_cannot_be_clustered_is_named(x, k, message):
    with pytest.raises(ValueError, match=message):
        kmeans(np.float32(x), k=k, seed=0)


def test_without_scikit_learn_the_extra_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"sklearn\.cluster.*rankjax\[train\]"):
        kmeans(np.eye(3, dtype=np.float32), k=2, seed=0)


def test_metrics_are_imported_with_jax_and_numpy_alone():
    words = (
        "import sys; sys.modules |= dict.fromkeys(['scipy', 'sklearn', 'tqdm']); "
        "import rankjax.metrics"
    )
    subprocess.run([sys.executable, "-c", words], check=True)


def assert_as_scikit_learn(labels, clusters):
    _, labels32 = np.unique(labels, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "nmi": metrics.normalized_mutual_info_score(labels32, clusters),
            "ami": metrics.adjusted_mutual_info_score(labels32, clusters),
            "ari": metrics.adjusted_rand_score(labels32, clusters),
        }
    got = clustering_scores(labels, clusters)
    assert list(got) == [*expected, "f1"]
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1))
def test_scores_equal_scikit_learn(points):
    assert_as_scikit_learn(*np.array(points).T)


def test_f1_is_that_of_pairs():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 5, (2, 40))
    same, together = (x[:, None] == x for x in (labels, clusters))
    pair = np.triu(np.ones((40, 40), bool), 1)
    hits = (pair & same & together).sum()
    precision, recall = hits / (pair & together).sum(), hits / (pair & same).sum()
    expected = 2 * precision * recall / (precision + recall)
    assert clustering_scores(labels, clusters)["f1"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "clusters", "error", "message"),
    [
        ([], [], ValueError, "labels must have shape"),
        ([1, 2], [1], ValueError, r"clusters must have shape \(2,\).*got \(1,\)"),
        (
            [1.0, 2.0],
            [1, 2],
            TypeError,
            "labels must be integers or strings, got float64",
        ),
    ],
)
def test_bad_labels_are_named(labels, clusters, error, message):
    with pytest.raises(error, match=message):
        clustering_scores(labels, clusters)
