"""Statistics of paired seeds are right."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from experiments.study import statistics
from experiments.study.statistics import (
    of_draws,
    random_effects,
    resampled,
)

random = np.random.default_rng(0)


def test_first_reached_is_the_first_step_at_the_target_and_censors_at_the_last():
    steps = np.array([0, 25, 50, 75])
    curves = np.array([[0, 0.5, 0.2, 0.9], [0, 0.1, 0.2, 0.3], [0.6, 0, 0, 0]])
    found, reached = statistics.first_reached(steps, curves, 0.5)
    assert found.tolist() == [25, 75, 0]
    assert reached.tolist() == [True, False, True]
    found, reached = statistics.first_reached(steps, curves, np.array([0.9, 0.3, 0.7]))
    assert found.tolist() == [75, 75, 75]
    assert reached.tolist() == [True, True, False]


def test_holm_on_a_known_example():
    # Of p 0.01, 0.04, 0.03, 0.005: 4 x 0.005, 3 x 0.01, 2 x 0.03, then no less than it.
    adjusted = statistics.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_wilson_is_the_root_of_the_score_equation():
    z = stats.norm.ppf(0.975)
    for successes, trials in ((0, 20), (3, 20), (20, 20)):
        for p in statistics.wilson(successes, trials):
            squared = (successes / trials - p) ** 2
            np.testing.assert_allclose(squared, z**2 * p * (1 - p) / trials, atol=1e-12)
    mask = np.arange(20).reshape(4, 5) < 3
    found = statistics.share("", mask, 4)
    assert (found.effect, found.seeds) == (3 / 20, 4)
    assert (found.low, found.high) == statistics.wilson(3, 20)


def test_mcnemar_is_the_sign_test_of_the_discordant():
    one = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool)
    other = np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    sided = sum(math.comb(6, k) for k in (5, 6)) / 2**6
    np.testing.assert_allclose(statistics.mcnemar(one, other), 2 * sided)
    assert statistics.mcnemar(one, one) == 1


def test_paired_intervals_cover_the_mean_and_agree_with_t_where_it_holds():
    values = random.normal(0.3, 1, 200)
    found = statistics.paired("", values + 5, np.full(200, 5.0))
    ends = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    np.testing.assert_allclose((found.low, found.high), ends, atol=0.03)
    np.testing.assert_allclose(found.effect, values.mean())
    np.testing.assert_allclose(found.p, stats.wilcoxon(values).pvalue)
    constant = statistics.paired("", np.zeros(24))
    assert (constant.low, constant.high, constant.p) == (0, 0, 1)
    with pytest.raises(ValueError, match="finite"):
        statistics.paired("x", np.array([1.0, np.nan]))


def test_the_interval_of_a_ratio_is_that_of_its_linearised_form():
    one = random.normal(4, 1, 300)
    other = one / 4 + random.normal(1, 0.3, 300)
    found = statistics.ratio("", one, other)
    effect = one.mean() / other.mean()
    np.testing.assert_allclose(found.effect, effect)
    # Delta method: the mean of (one - effect * other) / mean(other).
    error = stats.sem(one - effect * other) / other.mean()
    ends = effect + 1.96 * error * np.array([-1, 1])
    np.testing.assert_allclose((found.low, found.high), ends, atol=0.3 * error)


def test_slopes_are_those_of_polyfit():
    x, y = random.normal(size=7), random.normal(size=(2, 3, 7))
    expected = [[np.polyfit(x, row, 1)[0] for row in rows] for rows in y]
    np.testing.assert_allclose(statistics.slopes(x, y), expected)


@pytest.mark.parametrize("parted", [False, True])
def test_logistic_is_scikit_learns(parted):
    x = np.array(list(itertools.product(np.linspace(-3.5, -1.5, 5), (0, 0.1, 0.3))))
    chance = 1.0 * (x[:, 0] > -2.7) if parted else 1 / (1 + np.exp(-2 * x[:, 0] - 4))
    yes = random.binomial(24, chance)
    rows = np.repeat(x, 24, 0)
    y = (np.arange(24) < yes[:, None]).ravel()
    model = LogisticRegression(C=1, tol=1e-10, max_iter=1000).fit(rows, y)
    found = statistics.logistic(x, np.stack([yes, 24 - yes]), 24)
    np.testing.assert_allclose(found[0, 1:], model.coef_[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[0, 0], model.intercept_[0], rtol=1e-3)
    np.testing.assert_allclose(found[1], -found[0], rtol=1e-6)


def test_logistic_of_no_event_at_all_is_finite_and_flat():
    found = statistics.logistic(np.array([[0.0], [1.0]]), np.zeros(2), 24)
    assert np.isfinite(found).all()
    assert abs(found[1]) < 0.1


def test_random_effects_are_those_computed_by_hand():
    # Effects 1, 2 and 6 with squared errors 1, 1 and 2: weights 1, 1, 1/2, mean
    # 6 / 2.5 = 2.4, Q = 1.96 + 0.16 + 6.48 = 8.6, and between benches
    # (8.6 - 2) / (2.5 - 2.25 / 2.5) = 4.125.
    pairs = [np.array([m - v**0.5, m + v**0.5]) for m, v in ((1, 1), (2, 1), (6, 2))]
    mean, further = random_effects("", pairs)
    weights = np.array([1 / 5.125, 1 / 5.125, 1 / 6.125])
    expected = (weights @ [1, 2, 6]) / weights.sum()
    squares = weights @ (np.array([1, 2, 6]) - expected) ** 2
    error = np.sqrt(squares / 2 / weights.sum())
    assert error**2 > 1 / weights.sum()  # else the usual error would be taken
    np.testing.assert_allclose(mean.effect, expected)
    np.testing.assert_allclose(mean.high - expected, 4.302653 * error, rtol=1e-6)
    np.testing.assert_allclose(
        expected - further.low,
        12.706205 * np.sqrt(4.125 + 1 / weights.sum()),
        rtol=1e-6,
    )
    np.testing.assert_allclose(mean.p, 2 * stats.t.sf(expected / error, 2))


def test_resampling_seeds_gives_the_error_of_their_mean():
    values = np.random.default_rng(3).normal(2, 1, size=50)
    draws = resampled(values)
    assert draws[0] == pytest.approx(values.mean())
    np.testing.assert_allclose(draws[1:].std(), values.std() / 50**0.5, rtol=0.03)
    finding = of_draws("", draws, 50)
    half = 1.96 * values.std() / 50**0.5
    np.testing.assert_allclose(
        [finding.low, finding.high], values.mean() + np.array([-half, half]), rtol=0.03
    )
