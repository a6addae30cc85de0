import numpy as np
import pytest

from rankjax.metrics import leave_one_out, query_gallery
from rankjax.metrics.directions import cosines
from rankjax.report import analysis


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blobs(rng, *sizes, dim=5):
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = rng.normal(size=(len(sizes), dim))
    points = centres[labels] + 0.8 * rng.normal(size=(len(labels), dim))
    return points.astype(np.float32), labels


def search(labels):
    return leave_one_out(np.eye(len(labels), 2), labels)


def slow_nearest(points, k):
    rows = []
    for i, a in enumerate(points.astype(float)):
        scored = [
            (-(a @ b) / np.linalg.norm(a) / np.linalg.norm(b), j)
            for j, b in enumerate(points.astype(float))
            if j != i
        ]
        rows.append([j for _, j in sorted(scored)[:k]])
    return np.array(rows)


def test_confusions_count_both_directions(rng):
    points, labels = blobs(rng, 9, 8, 7, 7)
    neighbours = slow_nearest(points, 1)[:, 0]
    failed = np.flatnonzero(labels[neighbours] != labels)
    expected: dict[frozenset[int], list[int]] = {}
    for query in failed:
        pair = frozenset([int(labels[query]), int(labels[neighbours[query]])])
        expected.setdefault(pair, []).append(query)
    among = leave_one_out(points, labels)
    found = analysis.confusions(among, failed, neighbours[failed], limit=99)
    assert len(found) == len(expected) > 1
    counts = [count for count, _, _ in found]
    assert counts == sorted(counts, reverse=True)
    for count, query, row in found:
        pair = frozenset([int(labels[query]), int(labels[row])])
        assert row == neighbours[query]
        assert count == len(expected[pair])
        assert query in expected[pair]
    first = analysis.confusions(among, failed, neighbours[failed], limit=1)
    assert first == found[:1]
    assert analysis.confusions(among, failed[:0], neighbours[:0]) == []


def test_top_matches_of_many_queries_are_the_slow_loops(rng):
    points, labels = blobs(rng, 100, 99, 98)
    found = analysis.top_matches(leave_one_out(points * 3, labels), np.arange(297))
    np.testing.assert_array_equal(found, slow_nearest(points, 8))


def test_few_positive_pairs_are_all_taken(rng):
    _, labels = blobs(rng, 4, 3, 1)
    pairs = analysis.sample_pairs(search(labels), rng)
    found = sorted(tuple(sorted(pair)) for pair in pairs.positive.tolist())
    n = len(labels)
    assert found == [
        (i, j) for i in range(n) for j in range(i + 1, n) if labels[i] == labels[j]
    ]


def test_sampled_pairs_are_what_they_are_called_and_evenly_drawn(rng):
    _, labels = blobs(rng, 2, 10, 40)
    positive, negative = analysis.sample_pairs(search(labels), rng, limit=800)
    assert positive.shape == (800, 2)
    assert 400 < len(negative) <= 800
    assert (labels[positive[:, 0]] == labels[positive[:, 1]]).all()
    assert (positive[:, 0] != positive[:, 1]).all()
    assert (labels[negative[:, 0]] != labels[negative[:, 1]]).all()
    # 1 + 45 + 780 pairs: class 1 holds 45 / 826 of them, 44 of 800 expected.
    assert 20 < (labels[positive[:, 0]] == 1).sum() < 75


def test_cosines_are_the_formula_over_block_borders(rng):
    rows = rng.normal(size=(3, 2**21)).astype(np.float32)
    rows[2] = 0
    pairs = np.array([[0, 1], [0, 0], [1, 0], [0, 2], [1, 1]])
    expected = rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
    np.testing.assert_allclose(
        cosines(rows, pairs), [expected, 1, expected, 0, 1], atol=1e-4
    )


def test_the_rows_of_a_map_begin_with_one_of_each_class(rng):
    labels = rng.permutation(np.repeat(np.arange(9), [1, 2, 3, 3, 3, 6, 6, 6, 8]))
    rows = analysis.one_of_each(labels, rng)
    assert sorted(rows) == list(range(38))
    turns = [9, 8, 7, 4, 4, 4, 1, 1]  # classes that have so many rows
    for part in np.split(labels[rows], np.cumsum(turns)[:-1]):
        assert len({*part}) == len(part)
    assert (np.diff(labels[rows[:9]]) < 0).any()  # and not in their order


def test_the_map_puts_far_classes_apart_also_what_tsne_has_not_seen(rng, monkeypatch):
    monkeypatch.setattr(analysis, "LAID_OUT", 30)
    labels = np.arange(42) % 2
    points = np.where(labels[:, None] == 0, [1.0, 0, 0], [0, 1.0, 0])
    points = points + 0.05 * rng.normal(size=points.shape)
    places = analysis.lay_out(points, seed=0)
    assert places is not None
    assert places.min(axis=0).tolist() == [0, 0]
    assert places.max(axis=0).tolist() == [1, 1]
    ours, theirs = (places[:30][labels[:30] == label] for label in (0, 1))
    between = np.linalg.norm(ours.mean(axis=0) - theirs.mean(axis=0))
    spread = np.linalg.norm(ours - ours.mean(axis=0), axis=1).mean()
    assert between > spread
    # Shepard's mean of the three that are nearest.
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    for row in range(30, 42):
        squares = ((unit[row] - unit[:30]) ** 2).sum(axis=1)
        near = np.argsort(squares)[:3]
        mean = (places[near] / squares[near, None]).sum(axis=0) / (
            1 / squares[near]
        ).sum()
        np.testing.assert_allclose(places[row], mean, atol=1e-3)


def test_pairs_of_a_gallery_are_all_but_those_of_the_querys_camera(rng):
    labels, gallery = np.array([0, 1, 5]), np.array([1, 0, 0, 1, 0])
    cameras, others = np.array([0, 1, 0]), np.array([0, 0, 1, 1, 2])
    found = query_gallery(
        *(np.eye(3), labels, np.eye(5, 3) + 1, gallery),
        query_cameras=cameras,
        gallery_cameras=others,
    )
    positive, negative = analysis.sample_pairs(found, rng, limit=50)
    assert sorted(positive.tolist()) == [[0, 2], [0, 4], [1, 0]]
    assert (labels[negative[:, 0]] != gallery[negative[:, 1]]).all()
    assert set(negative[:, 0]) == {0, 1, 2}
    # Ten thousand of few pairs are drawn, and evenly.
    large = query_gallery(
        *(np.eye(200, 3) + 1, np.zeros(200, int), np.eye(5, 3) + 1, gallery),
        query_cameras=np.repeat([1, 3], 100),
        gallery_cameras=others,
    )
    drawn = analysis.sample_pairs(large, rng, limit=100).positive
    assert 60 < len(drawn) <= 100
    assert set(drawn[:, 1]) == {1, 2, 4}
    assert not ((drawn[:, 0] < 100) & (drawn[:, 1] == 2)).any()


def test_top_matches_are_the_slow_loops_and_end_where_a_query_meets_no_more(rng):
    points, labels = blobs(rng, 4, 3)
    found = analysis.top_matches(leave_one_out(points, labels), np.array([5, 0]))
    expected = slow_nearest(points, 6)[[5, 0]]
    np.testing.assert_array_equal(found[:, :6], expected)
    assert (found[:, 6:] == -1).all()
