"""Losses on soft histograms of similarity: FastAP, SoftBin-AP, the histogram loss."""

import functools
import itertools

import jax
import numpy as np
import pytest
import reference
from cases import Case

from rankjax.losses.fast_ap import fast_ap_loss, soft_bin_ap_loss
from rankjax.losses.histogram import histogram_loss
from rankjax.objective import objective
from rankjax.pairs import Pairs


def triangles(value, low, high, nodes):
    """How much of a value falls to each node, by the distance to it in steps."""
    step = (high - low) / (nodes - 1)
    return np.array(
        [max(0.0, 1 - abs(value - (low + n * step)) / step) for n in range(nodes)]
    )


def quantized_ap(x, y, low, high, nodes, distances):
    """Average precision at each node, by how much recall grows there."""
    s, values = reference.similarity_matrix("cosine", x), []
    for a in range(len(s)):
        positives, negatives = reference.sides(y, a)
        if not positives:
            continue
        hits = sum(triangles(distances(s[a, j]), low, high, nodes) for j in positives)
        every = hits + sum(
            triangles(distances(s[a, j]), low, high, nodes) for j in negatives
        )
        precision = [
            hits[: n + 1].sum() / max(every[: n + 1].sum(), 1e-300)
            for n in range(nodes)
        ]
        values.append(1 - (hits * precision).sum() / len(positives))
    return reference.mean(values)


def fast_ap(x, y, bins=10):
    return quantized_ap(x, y, 0.0, 4.0, bins + 1, lambda s: 2 - 2 * s)


def soft_bin_ap(x, y, bins=20, low=-1.0, high=1.0):
    return quantized_ap(x, y, -high, -low, bins, lambda s: -min(max(s, low), high))


def histogram(x, y, bins=150):
    s = reference.similarity_matrix("cosine", x)
    sums, counts = np.zeros((2, bins + 1)), np.zeros(2)
    for i, j in itertools.permutations(range(len(s)), 2):
        side = int(y[i] != y[j])
        sums[side] += triangles(s[i, j], -1.0, 1.0, bins + 1)
        counts[side] += 1
    if not counts.all():
        return 0.0
    positive, negative = sums / counts[:, None]
    return sum(negative[r] * positive[: r + 1].sum() for r in range(bins + 1))


CASES = {
    "fast_ap": Case(fast_ap),
    "fast_ap, one bin": Case(
        functools.partial(fast_ap, bins=1),
        loss=functools.partial(fast_ap_loss, bins=1),
    ),
    "soft_bin_ap": Case(soft_bin_ap, params={"low": -0.9, "high": 1.1}),
    "soft_bin_ap, a part": Case(
        functools.partial(soft_bin_ap, bins=25, low=-0.5),
        loss=functools.partial(soft_bin_ap_loss, bins=25, low=-0.5),
        params={"high": 0.7},
    ),
    "histogram": Case(histogram),
    "histogram, few bins": Case(
        functools.partial(histogram, bins=7),
        loss=functools.partial(histogram_loss, bins=7),
    ),
}


RNG = np.random.default_rng(11)
LABELS = np.array([1, 0, 2, 2, 1, 0, 2, 1, 1, 2, 3, 0])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def close(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=atol)


@functools.cache
def _row(loss):
    def total(s, positive):
        return loss(Pairs(s, positive, ~positive)).total

    return jax.jit(total)


def row(loss, s, positive):
    """The term of an anchor from its similarities and which are positive."""
    s, positive = np.array([s], float), np.array([positive], bool)
    return float(_row(loss)(s, positive)[0])


@functools.cache
def _batch(bins):
    def value(s, positive, negative):
        pooled = histogram_loss(Pairs(s, positive, negative), bins=bins)
        terms = pooled.then(pooled.sums)
        return terms.total.sum() / terms.count.sum()

    return jax.jit(jax.value_and_grad(value))


def overlap(positives, negatives, bins):
    """The histogram loss, and its gradient, of similarities of pairs."""
    s = np.concatenate([positives, negatives])[None]
    positive = np.arange(s.shape[1])[None] < len(positives)
    return _batch(bins)(s, positive, ~positive)


def average_precision(s, positive):
    """Without ties."""
    ranked = np.array(positive)[np.argsort(-np.array(s))]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return precision[ranked].mean()


@pytest.mark.parametrize("loss", [fast_ap_loss, soft_bin_ap_loss])
def test_binned_ap_loss_lies_between_zero_and_one(loss):
    run = _row(loss)
    s = RNG.uniform(-1, 1, (200, 12))
    values = run(s, RNG.random((200, 12)) < 0.4)
    assert np.all((values >= 0) & (values <= 1))
    assert values.max() > 0.5


@pytest.mark.parametrize("loss", [fast_ap_loss, soft_bin_ap_loss])
def test_binned_ap_is_one_where_positives_fall_to_nodes_before_all_negatives(loss):
    """Wherever they are within their bins."""
    # Squared distances up to 0.8 and from 1.4, with nodes at multiples of 0.4.
    positives, negatives = RNG.uniform(0.6, 1, 5), RNG.uniform(-1, 0.3, 7)
    s = np.concatenate([positives, negatives])
    assert row(loss, s, np.arange(12) < 5) == 0
    assert row(loss, s[::-1], np.arange(12) < 5) > 0.3


def test_fast_ap_is_exact_where_distinct_distances_lie_at_nodes():
    loss = functools.partial(fast_ap_loss, bins=16)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        s = 1 - rng.permutation(17)[:9] / 8  # squared distances are multiples of 4/16
        positive = rng.permutation(9) < 4
        close(row(loss, s, positive), 1 - average_precision(s, positive))


def test_fast_ap_does_not_become_ap_with_many_bins():
    """A positive halfway between two nodes, behind a negative.

    Its first half is one in three of what is there so far, its second half one of two.
    """
    for bins in (10, 100):
        loss = functools.partial(fast_ap_loss, bins=bins)
        negative, positive = 1.0, 1 - (bins // 2 + 0.5) * 2 / bins
        expected = 1 - (0.5 * 0.5 / 1.5 + 0.5 * 1 / 2)
        close(row(loss, [negative, positive], [False, True]), expected)
        assert abs(expected - (1 - average_precision([1, 0], [False, True]))) > 0.08


def test_soft_bin_ap_over_all_cosines_is_fast_ap_with_one_bin_less():
    s = RNG.uniform(-1, 1, (30, 12))
    positive = RNG.random((30, 12)) < 0.4
    soft = _row(functools.partial(soft_bin_ap_loss, bins=9))(s, positive)
    close(soft, _row(functools.partial(fast_ap_loss, bins=8))(s, positive))


def test_uneven_classes_in_any_order_have_one_fast_ap():
    x = RNG.normal(size=(12, 4))
    run = jax.jit(objective(fast_ap_loss))
    for order in (np.argsort(LABELS), RNG.permutation(12)):
        close(run(x[order], LABELS[order]), fast_ap(x, LABELS))


@pytest.mark.parametrize("gap", [0.0, 0.2, 0.6])
def test_histogram_loss_is_the_probability_that_a_negative_pair_is_closer(gap):
    positives = np.clip(RNG.normal(gap / 2, 0.2, 400), -1, 1)
    negatives = np.clip(RNG.normal(-gap / 2, 0.2, 600), -1, 1)
    closer = np.mean(negatives[:, None] > positives[None, :])
    assert abs(overlap(positives, negatives, 200)[0] - closer) < 0.02


@pytest.mark.parametrize("bins", [20, 200])
def test_histogram_loss_of_equal_distributions_is_a_half_and_half_the_squares(bins):
    s = RNG.uniform(-1, 1, 300)
    h = sum(triangles(v, -1.0, 1.0, bins + 1) for v in s) / 300
    expected = 0.5 + 0.5 * (h**2).sum()
    close(overlap(s, s, bins)[0], expected)
    assert expected > 0.502


def test_histogram_loss_runs_from_zero_to_one():
    low, high = RNG.uniform(-1, -0.2, 50), RNG.uniform(0, 1, 70)
    close(overlap(high, low, 20)[0], 0)
    close(overlap(low, high, 20)[0], 1)


def test_histogram_terms_are_the_share_of_positives_below_each_negative():
    """At nodes: counting what is at the same node as below."""
    positives = np.array([-0.5, 0.0, 0.0, 0.5])
    negatives = np.array([-0.6, -0.5, 0.0, 0.4, 0.9])
    s = np.concatenate([positives, negatives])[None]
    positive = np.arange(9)[None] < 4
    pooled = histogram_loss(Pairs(s, positive, ~positive), bins=20)
    expected = [np.mean(positives <= n) for n in negatives]
    close(pooled.then(pooled.sums).total, [sum(expected)])
    assert len(set(expected)) == 4


def test_histogram_loss_pulls_apart_only_what_overlaps():
    positives, negatives = np.array([0.93, 0.13]), np.array([0.17, -0.83])
    slopes = overlap(positives, negatives, 20)[1]
    assert not np.any(slopes[0, [0, 3]])
    assert slopes[0, 1] < 0 < slopes[0, 2]


def test_a_batch_without_positive_or_without_negative_pairs_has_no_histogram_terms():
    x = RNG.normal(size=(12, 4))
    run = jax.jit(objective(histogram_loss))
    assert run(x, np.arange(12)) == 0
    assert run(x, np.zeros(12, int)) == 0


def test_histogram_loss_in_blocks_of_anchors_is_that_of_the_batch():
    x = RNG.normal(size=(12, 4))
    run = jax.jit(objective(functools.partial(histogram_loss, bins=7), block=5))
    close(run(x, LABELS), histogram(x, LABELS, bins=7))
