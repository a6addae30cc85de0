"""Suspect rows and classes, against loops over all similarities and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from rankjax import metrics


def groups(classes=6, each=8, dim=16, noise=0.15, seed=0):
    """Directions around centres, and their labels, which are far apart."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    centres = rng.normal(size=(classes, dim))
    rows = centres[labels] + noise * rng.normal(size=(len(labels), dim))
    return rows.astype(np.float32), 7 * labels + 3


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float64) @ unit.T.astype(np.float64)


def slow_nearer(rows, labels, k):
    """Means of the k most similar rows, class by class."""
    scores, found = cosines(rows), []
    for i, label in enumerate(labels):
        own = np.sort(np.delete(scores[i], i)[np.delete(labels, i) == label])[::-1]
        others = {}
        for other in {*labels.tolist()} - {label}:
            most = max(min(k, len(own)), 1)
            others[other] = np.sort(scores[i][labels == other])[::-1][:most].mean()
        best = max(others, key=others.get)
        found.append((own[:k].mean() if len(own) else np.nan, others[best], best))
    return map(np.array, zip(*found, strict=True))


@pytest.mark.parametrize("k", [1, 3, 20])
def test_nearer_class_is_that_of_loops_over_all_rows(k):
    rows, labels = groups(noise=0.9)
    labels[0], labels[1:3] = 99, 98  # a class of one row, and one of two
    own, other, label = slow_nearer(rows, labels, k)
    found = metrics.nearer_class(rows, labels, metrics.nearest(rows, k=47), k=k)
    np.testing.assert_allclose(found.own, own, atol=1e-6)
    np.testing.assert_allclose(found.other, other, atol=1e-6)
    assert found.label.tolist() == label.tolist()
    assert found.ratio[0] == 0
    np.testing.assert_allclose(
        found.ratio[1:], ((1 - own) / (1 - other))[1:], rtol=1e-4
    )


def test_few_neighbours_bound_the_other_class_from_above():
    rows, labels = groups(noise=0.9)
    every = metrics.nearer_class(rows, labels, metrics.nearest(rows, k=47))
    few = metrics.nearer_class(rows, labels, metrics.nearest(rows, k=4))
    known = ~np.isnan(few.other)
    assert 10 < known.sum() < 40
    assert (few.other >= every.other - 1e-6)[known].all()
    np.testing.assert_allclose(few.own, every.own)
    # Where none of another class is near, there is nothing to suspect.
    assert (few.ratio[~known] == 0).all()
    assert (few.label[~known] == labels[~known]).all()


def test_changed_labels_come_first_with_the_class_they_had():
    rows, labels = groups()
    wrong, before = [3, 11, 40], labels[[3, 11, 40]]
    labels[wrong] = np.where(before == 3, 10, 3)
    found = metrics.nearer_class(rows, labels, metrics.nearest(rows, k=20))
    assert {*np.argsort(-found.ratio)[:3]} == {*wrong}
    assert (found.ratio > 2).sum() == 3
    assert found.label[wrong].tolist() == before.tolist()


@pytest.mark.parametrize("scale", [1.0, 1e-20])
def test_copies_are_pairs_whatever_their_length(scale):
    rows, _ = groups()
    rows[5], rows[20], rows[21] = 2 * rows[4], rows[30], rows[30] * (1 + 1e-7)
    pairs, similarities = metrics.duplicates(metrics.nearest(scale * rows, k=5))
    expected = [[4, 5], [20, 21], [20, 30], [21, 30]]
    assert sorted(pairs.tolist()) == expected
    np.testing.assert_allclose(similarities, 1, atol=1e-6)


def test_the_limit_of_copies_is_a_part_of_the_usual_distance():
    rows, _ = groups()
    found = metrics.nearest(rows, k=47)
    for near in (0, 0.5, 1):
        limit = max(near * np.median(1 - found.similarities[:, 0]), 1e-6)
        expected = np.argwhere(np.triu(1 - cosines(rows) <= limit, 1))
        pairs, similarities = metrics.duplicates(found, near=near)
        assert sorted(pairs.tolist()) == expected.tolist()
        assert (np.diff(similarities) <= 0).all()


def test_outliers_are_those_of_the_modified_z_score():
    values = np.array([1.0, 1.1, 0.9, 1.2, 0.0, np.nan])
    expected = 0.6745 * (1.0 - values) / 0.1
    np.testing.assert_allclose(metrics.outliers(values), expected)
    # Of classes the medians differ and the spread is one.
    labels = np.array([4, 4, 4, 2, 2, 2])
    values = np.array([1.0, 2.0, 4.0, 10.0, 10.5, 11.0])
    below = np.array([1.0, 0.0, -2.0, 0.5, 0.0, -0.5])
    expected = 0.6745 * below / 0.5
    np.testing.assert_allclose(metrics.outliers(values, labels), expected)
    assert metrics.outliers(np.ones(4)).tolist() == [0] * 4


def test_mixed_classes_are_those_of_loops_over_neighbours():
    rows, labels = groups(classes=5, noise=1.5)
    labels[labels == 10] = np.where(np.arange(8) < 2, 3, 17)
    scores = cosines(rows)
    np.fill_diagonal(scores, -2)
    sizes = {label: (labels == label).sum() for label in {*labels.tolist()}}
    seen = {(a, b): 0 for a in sizes for b in sizes}
    for i, label in enumerate(labels):
        for j in np.argsort(-scores[i])[: sizes[label] - 1]:
            seen[label, labels[j]] += 1
    expected = {}
    for a in sizes:
        for b in sizes:
            if a < b and seen[a, b] and seen[b, a]:
                total = sizes[a] + sizes[b] - 1
                expected[a, b] = min(
                    seen[a, b] / (seen[a, b] + seen[a, a]) / (sizes[b] / total),
                    seen[b, a] / (seen[b, a] + seen[b, b]) / (sizes[a] / total),
                )
    pairs, figures = metrics.mixed_classes(labels, metrics.nearest(rows, k=39))
    found = dict(zip(map(tuple, pairs.tolist()), figures, strict=True))
    assert found == pytest.approx(expected)
    assert (np.diff(figures) <= 0).all()


def test_two_classes_with_one_name_are_parted_by_their_silhouette():
    rows, labels = groups(classes=6, each=20)
    joined = np.where(labels == 10, 3, labels)
    found, figures, group = metrics.modes(rows, joined)
    assert found[0] == 3
    members = joined == 3
    side = group[members]
    assert {*zip(side, labels[members], strict=True)} in (
        {(0, 3), (1, 10)},
        {(1, 3), (0, 10)},
    )
    for label, figure in zip(found, figures, strict=True):
        members = joined == label
        expected = silhouette_score(rows[members], group[members], metric="cosine")
        assert figure == pytest.approx(expected, abs=1e-4)
    assert figures[0] > 0.5 > figures[1:].max()


@pytest.mark.parametrize("rows", [np.ones((8, 3)), np.zeros((8, 3))])
def test_rows_in_one_point_are_all_copies_and_nothing_else(rows):
    labels = np.arange(8) % 2
    found = metrics.nearest(rows, k=7)
    nearer = metrics.nearer_class(rows, labels, found)
    assert (nearer.ratio <= 1).all()
    assert np.isfinite(metrics.modes(rows, labels)[1]).all()
    assert not metrics.outliers(nearer.own, labels).any()


def test_what_cannot_be_meant_is_refused_by_name():
    rows, labels = groups()
    found = metrics.nearest(rows, k=5)
    with pytest.raises(ValueError, match="neighbours must be of all 47 rows"):
        metrics.nearer_class(rows[:47], labels[:47], found)
    with pytest.raises(ValueError, match="k must be a whole number, at least 1, got 0"):
        metrics.nearer_class(rows, labels, found, k=0)
    with pytest.raises(ValueError, match="near must be from 0 to 1, got 2"):
        metrics.duplicates(found, near=2)
    with pytest.raises(ValueError, match="neighbours must be of all 40 rows"):
        metrics.mixed_classes(labels[:40], found)
    with pytest.raises(ValueError, match=r"least must be a whole .* at least 2, got 1"):
        metrics.modes(rows, labels, least=1)
    with pytest.raises(TypeError, match=r"^neighbours must be what"):
        metrics.nearer_class(rows, labels, 3)
