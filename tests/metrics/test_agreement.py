import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from rankjax.metrics import clustering_scores


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


@pytest.mark.parametrize(
    ("labels", "clusters"),
    [
        (np.zeros(6, int), np.zeros(6, int)),
        (np.zeros(6, int), np.arange(6)),
        (np.arange(6), np.zeros(6, int)),
        (np.arange(6), np.arange(6)[::-1]),
        (np.arange(6), np.arange(6) // 2),
        (np.arange(6) % 2, np.arange(6) // 3),
        (np.arange(6) // 3, 7 - np.arange(6) // 3),
        (np.zeros(1, int), np.zeros(1, int)),
    ],
)
def test_scores_of_degenerate_clusterings_equal_scikit_learn(labels, clusters):
    assert_as_scikit_learn(labels, clusters)


def test_scores_of_many_small_classes_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3000, 15_000)
    moved = rng.integers(0, 3000, 15_000)
    clusters = np.where(rng.random(15_000) < 0.3, moved, labels)
    assert_as_scikit_learn(labels, clusters)


def test_f1_is_that_of_pairs():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 5, (2, 40))
    same, together = (x[:, None] == x for x in (labels, clusters))
    pair = np.triu(np.ones((40, 40), bool), 1)
    hits = (pair & same & together).sum()
    precision, recall = hits / (pair & together).sum(), hits / (pair & same).sum()
    expected = 2 * precision * recall / (precision + recall)
    assert clustering_scores(labels, clusters)["f1"] == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_labels_that_floats_cannot_tell_apart_are_told_apart(dtype):
    labels = np.array([2**62, 2**62 + 1, 2**62, 2**62 + 1], dtype)
    scores = clustering_scores(labels, [0, 1, 0, 1])
    assert scores == {"nmi": 1, "ami": 1, "ari": 1, "f1": 1}


@pytest.mark.parametrize(
    ("labels", "clusters", "error", "message"),
    [
        ([], [], ValueError, "labels must have shape"),
        ([1, 2], [1], ValueError, r"clusters must have shape \(2,\).*got \(1,\)"),
        ([1.0, 2.0], [1, 2], TypeError, "labels must be integers, got float64"),
    ],
)
def test_bad_labels_are_named(labels, clusters, error, message):
    with pytest.raises(error, match=message):
        clustering_scores(labels, clusters)
