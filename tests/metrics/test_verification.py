import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from rankjax.metrics import (
    global_average_precision,
    open_set,
    template_embeddings,
    verification,
)


def pairs(n, rng, levels=None):
    same = np.arange(n) % 2 == 0
    scores = rng.normal(size=n) + same
    return (scores if levels is None else np.round(scores * levels) / levels), same


def slow_accuracies(scores, same, fold):
    """Every threshold is tried on the other folds, from the strictest on."""
    results = []
    for f in sorted(set(fold)):
        best, chosen = -1, None
        for t in [np.inf, *sorted(set(scores[fold != f]), reverse=True)]:
            right = np.mean((scores[fold != f] >= t) == same[fold != f])
            if right > best:
                best, chosen = right, t
        results.append(np.mean((scores[fold == f] >= chosen) == same[fold == f]))
    return results


def slow_rate_at(hits, misses, rate):
    """The best of all thresholds that let at most that share of misses in."""
    thresholds = [np.inf, *hits, *misses]
    return max(np.mean(hits >= t) for t in thresholds if np.mean(misses >= t) <= rate)


@pytest.mark.parametrize("levels", [None, 4])
def test_accuracy_equals_a_loop_over_folds_and_thresholds(levels):
    rng = np.random.default_rng(0)
    scores, same = pairs(120, rng, levels)
    fold = rng.integers(0, 5, 120)
    expected = slow_accuracies(scores, same, fold)
    got = verification(scores, same, fold=fold)
    assert got.accuracy == pytest.approx(np.mean(expected))
    error = np.sqrt(np.sum((expected - np.mean(expected)) ** 2) / 4) / np.sqrt(5)
    assert got.standard_error == pytest.approx(error)


def test_folds_are_those_of_lfw_by_default():
    rng = np.random.default_rng(0)
    # Ten sets, each of 6 same pairs and then 6 different ones.
    same = np.tile(np.repeat([True, False], 6), 10)
    scores = rng.normal(size=120) + same
    got = verification(scores, same)
    assert (
        got.accuracy == verification(scores, same, fold=np.arange(120) // 12).accuracy
    )
    # Likewise where all same pairs come first.
    first = np.argsort(~same, kind="stable")
    assert got.accuracy == verification(scores[first], same[first]).accuracy


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=8, max_size=60),
)
def test_roc_curve_equals_scikit_learn_with_ties(points):
    some = [(0, True), (0, True), (1, False), (1, False)]
    scores, same = (np.array(x) for x in zip(*points, *some, strict=True))
    got = verification(scores, same, folds=2)
    far, tar, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(got.far, far)
    np.testing.assert_allclose(got.tar, tar)
    np.testing.assert_array_equal(got.thresholds, thresholds)
    assert got.auc == pytest.approx(metrics.roc_auc_score(same, scores))
    # At the equal error rate the curve meets the other diagonal.
    assert np.interp(got.eer, far, tar) >= 1 - got.eer - 1e-9
    below = [x for x, y in zip(far, tar, strict=True) if x < 1 - y]
    assert max(below) <= got.eer


def test_equal_error_rate_by_hand():
    # FAR, FRR: (0, 1), (0, 1/2), (1/2, 1/2), (1/2, 0), ...
    assert verification([4, 3, 2, 1], [True, False, True, False], folds=2).eer == 0.5
    # (0, 1), (0, 1/3), (1/2, 1/3), ...: the line from FAR 0 crosses at 1/3.
    got = verification([5, 4, 3, 2, 1], [True, True, False, True, False], folds=2)
    assert got.eer == pytest.approx(1 / 3)
    # One tie of all: the line from (0, 1) to (1, 0).
    assert verification([1, 1, 1, 1], [True, True, False, False], folds=2).eer == 0.5


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([None, 1, 3]))
def test_tar_at_far_equals_a_loop_over_thresholds(seed, levels):
    scores, same = pairs(80, np.random.default_rng(seed), levels)
    fars = (0.025, 0.1, 0.3, 0.999)
    got = verification(scores, same, fars=fars).tar_at_far
    assert got == {x: slow_rate_at(scores[same], scores[~same], x) for x in fars}


def test_rates_below_one_pair_are_not_known():
    scores, same = pairs(200, np.random.default_rng(0))
    got = verification(scores, same, fars=(1.0, 0.29, 0.01, 0.0099)).tar_at_far
    assert got[1.0] == 1
    assert got[0.29] == slow_rate_at(scores[same], scores[~same], 0.29)
    assert np.isfinite(got[0.01])
    assert np.isnan(got[0.0099])


def test_one_rate_is_taken_for_a_list_of_one():
    scores, same = np.arange(20.0), np.arange(20) % 3 > 0
    found = verification(scores, same, folds=2, fars=0.2).tar_at_far
    assert found == verification(scores, same, folds=2, fars=(0.2,)).tar_at_far
    rates = open_set(scores, same, same, firs=0.5)
    assert rates == open_set(scores, same, same, firs=(0.5,))


def test_gap_equals_a_loop_and_average_precision():
    rng = np.random.default_rng(3)
    mated = np.arange(70) < 40
    for scores in (rng.normal(size=70), rng.integers(0, 6, 70)):
        correct = mated & (rng.random(70) < 0.7)
        total = hits = 0
        order = sorted(range(70), key=lambda i: (-scores[i], correct[i]))
        for place, probe in enumerate(order, start=1):
            hits += correct[probe]
            total += correct[probe] * hits / place
        got = global_average_precision(scores, correct, mated)
        assert got == pytest.approx(total / 40, abs=1e-12)
        if len(np.unique(scores)) == 70:
            peer = metrics.average_precision_score(correct, scores) * correct.sum() / 40
            assert got == pytest.approx(peer, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_open_set_rates_equal_a_loop_over_thresholds(seed, ties):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 70) if ties else rng.normal(size=70)
    mated = np.arange(70) < 40
    correct = mated & (rng.random(70) < 0.7)
    expected = {}
    for rate in (0.1, 0.5):
        expected[rate] = max(
            np.mean(correct[mated] & (scores[mated] >= t))
            for t in [np.inf, *scores]
            if np.mean(scores[~mated] >= t) <= rate
        )
    got = open_set(scores, correct, mated, firs=(0.1, 0.5, 0.01, 1.0))
    assert {x: got[x] for x in expected} == expected
    assert np.isnan(got[0.01])
    assert got[1.0] == correct[mated].mean()


@pytest.mark.parametrize(
    ("scores", "same", "options", "error", "message"),
    [
        ([1, np.nan, 2, 3], [True, False] * 2, {}, ValueError, "first at 1"),
        ([1, 2, 3, 4], [True] * 4, {}, ValueError, "got 4 same and 0 different"),
        (
            [1, 2, 3, 4],
            [True, False] * 2,
            {},
            ValueError,
            "folds .* from 2 to 2",
        ),
        ([1, 2, 3, 4], [1, 0] * 2, {}, TypeError, "same must be a bool mask"),
        ([1, 2, 3], [True, False] * 2, {}, ValueError, r"same must have shape \(3,\)"),
        ([1, 2], [True, False], {"fold": [0, 1]}, ValueError, "fold must leave"),
        ([1, 2], [True, False], {"fold": [0, 0]}, ValueError, "fold must leave"),
        ([], [], {}, ValueError, "scores must have shape"),
        (
            [1, 2, 3, 4],
            [True, False] * 2,
            {"folds": 2, "fars": (2.0,)},
            ValueError,
            "fars must be from 0 to 1, got 2.0",
        ),
    ],
)
def test_bad_pairs_are_named(scores, same, options, error, message):
    with pytest.raises(error, match=message):
        verification(scores, same, **options)


@pytest.mark.parametrize(
    ("correct", "mated", "message"),
    [
        ([True, False], [True, True], "got 2 of 2 with one"),
        ([True, True], [True, False], "True at 1"),
    ],
)
def test_bad_probes_are_named(correct, mated, message):
    with pytest.raises(ValueError, match=message):
        open_set([1.0, 2.0], correct, mated)


def test_templates_are_means_over_media_of_means_over_frames():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 6)).astype(np.float32)
    # Numbers of media are of all templates: two may show the same video.
    templates, media = rng.integers(-3, 4, 40) * 10, rng.integers(0, 5, 40)
    names, got = template_embeddings(rows, templates, media)
    assert names.tolist() == sorted(set(templates.tolist()))
    for name, found in zip(names, got, strict=True):
        of_media = []
        for video in sorted(set(media[templates == name])):
            frames = rows[(templates == name) & (media == video)].astype(np.float64)
            of_media.append(sum(frames) / len(frames))
        np.testing.assert_allclose(found, sum(of_media) / len(of_media), rtol=1e-12)
    alone = template_embeddings(rows, templates)[1]
    means = [rows[templates == name].astype(np.float64).mean(0) for name in names]
    np.testing.assert_allclose(alone, means, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("media", [None, np.arange(4, dtype=np.uint64)])
@pytest.mark.parametrize("kind", [np.uint64, np.int64])
def test_templates_that_floating_point_cannot_tell_apart_are_told_apart(kind, media):
    rows = np.random.default_rng(0).normal(size=(4, 3))
    first = kind(2**62 + 1)
    templates = np.array([first, first, first + kind(1), first + kind(1)], kind)
    names, found = template_embeddings(rows, templates, media)
    np.testing.assert_array_equal(names, [first, first + kind(1)])
    assert names.dtype == kind
    np.testing.assert_allclose(found, rows.reshape(2, 2, 3).mean(1))
