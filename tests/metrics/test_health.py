import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankjax.metrics import health


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def slow_health(x, labels):
    """Every statistic from all pairs, as its paper defines it."""
    x = np.float64(x)
    n, u, norms = len(x), unit(x), np.linalg.norm(x, axis=1)
    pairs = list(itertools.combinations(range(n), 2))
    squared = {(i, j): np.sum((u[i] - u[j]) ** 2) for i, j in pairs}
    same = [p for p in pairs if labels[p[0]] == labels[p[1]]]
    p = np.linalg.svd(x, compute_uv=False)
    p = p / p.sum()
    classes = np.unique(labels)
    intra = [
        np.mean([1 - u[i] @ u[j] for i, j in same if labels[i] == c])
        for c in classes
        if (labels == c).sum() > 1
    ]
    means = unit(np.stack([u[labels == c].mean(0) for c in classes]))
    cosine = np.mean([u[i] @ u[j] for i, j in pairs])
    inter = [1 - a @ b for a, b in itertools.combinations(means, 2)]
    return {
        "mean_cosine": cosine,
        "effective_rank": np.exp(-np.sum(p * np.log(p))),
        "spectral_decay": np.mean(np.log(1 / len(p) / p)),
        "uniformity": np.log(np.mean([np.exp(-2 * squared[p]) for p in pairs])),
        "alignment": np.mean([squared[p] for p in same]),
        "intra_distance": np.mean(intra),
        "inter_distance": np.mean(inter),
        "intra_inter_ratio": np.mean(intra) / np.mean(inter),
        "norm_mean": norms.mean(),
        "norm_std": norms.std(),
        "collapsed": float(cosine > 0.99),
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 30), st.integers(2, 8))
def test_statistics_equal_loops_over_pairs(seed, n, dim):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)).astype(np.float32) + np.float32(0.3)
    labels = np.append(rng.integers(0, 4, n - 3), [9, 9, 7])
    got, expected = health(x, labels), slow_health(x, labels)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_equal_rows_are_collapsed_at_any_scale(scale):
    x = np.full((6, 4), scale, np.float32)
    got = health(x, [0, 0, 0, 1, 1, 1])
    assert got["collapsed"] == 1
    assert got["mean_cosine"] == pytest.approx(1)
    assert got["uniformity"] == pytest.approx(0, abs=1e-9)
    assert got["effective_rank"] == pytest.approx(1, abs=1e-4)
    assert got["alignment"] == pytest.approx(0, abs=1e-9)


def test_short_rows_are_collapsed_whatever_their_directions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8)).astype(np.float32)
    assert health(x, np.arange(40) // 2)["collapsed"] == 0
    assert health(1e-6 * x, np.arange(40) // 2)["collapsed"] == 1


def test_zero_vectors_have_no_direction_and_no_rank():
    got = health(np.zeros((4, 3), np.float32), [0, 0, 1, 1])
    assert got["collapsed"] == 1
    assert got["mean_cosine"] == 0
    assert np.isnan(got["effective_rank"])


def test_what_classes_do_not_define_is_nan():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    singletons, one = health(x, np.arange(5)), health(x, np.zeros(5, int))
    assert np.isnan([singletons["alignment"], singletons["intra_distance"]]).all()
    assert np.isnan([one["inter_distance"], one["intra_inter_ratio"]]).all()


def test_a_sample_gives_nearly_the_uniformity_of_all_and_the_same_again():
    x = np.random.default_rng(0).normal(size=(3000, 5)).astype(np.float32)
    labels = np.zeros(3000, int)
    exact, first, again, other = (
        health(x, labels, seed=seed, sample=sample)["uniformity"]
        for seed, sample in [(0, 3000), (1, 1000), (1, 1000), (2, 1000)]
    )
    assert first == again
    assert first != other
    assert first == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.full((3, 2), np.inf, np.float32), [0, 1, 2], "3 rows that are not"),
        (np.ones((3, 2), np.float32), [0, 1], r"labels must have shape \(3,\)"),
        (np.ones((1, 2), np.float32), [0], "two rows or more, got one"),
    ],
)
def test_bad_input_is_named(x, labels, message):
    with pytest.raises(ValueError, match=message):
        health(x, labels)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_measures_of_directions_do_not_see_the_length_of_rows(scale):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(8, 3)), np.repeat(np.arange(4), 2)
    expected, got = health(x, labels), health(scale * x, labels)
    for name in ("mean_cosine", "uniformity", "alignment", "effective_rank"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-9)
    np.testing.assert_allclose(got["norm_mean"], scale * expected["norm_mean"])
