import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rankjax import metrics


def bootstrap(values, **options):
    return metrics.bootstrap({"hit": values}, **options)["hit"]


def compare_models(a, b, **options):
    return metrics.compare_models({"hit": a}, {"hit": b}, **options)["hit"]


def of_classes(rng, classes, most, between=1.0):
    """Values with a part that a class has in common; its true mean is 0."""
    labels = np.repeat(np.arange(classes), rng.integers(1, most + 1, classes))
    common = between * rng.normal(size=classes)
    return common[labels] + rng.normal(size=len(labels)), labels


def expanded(n, level=0.95):
    """The level whose normal quantile is Student's at another, times a root."""
    z = stats.t.ppf((1 + level) / 2, n - 1) * math.sqrt(n / (n - 1))
    return 2 * stats.norm.cdf(z) - 1


def test_interval_is_the_bias_corrected_and_accelerated_one():
    values = np.random.default_rng(0).lognormal(sigma=1.5, size=60)
    got = bootstrap(values, samples=40_000)
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=40_000,
        confidence_level=expanded(60),
        rng=np.random.default_rng(1),
    ).confidence_interval
    error = values.std() / math.sqrt(60)
    assert got.mean == pytest.approx(values.mean())
    assert got[1:] == pytest.approx(tuple(expected), abs=0.05 * error)


def test_interval_by_class_equals_that_of_the_ratio_of_class_sums():
    rng = np.random.default_rng(0)
    values, labels = of_classes(rng, 25, 9)
    totals, counts = np.bincount(labels, values), np.bincount(labels)
    got = bootstrap(values, labels=labels, by="class", samples=40_000)
    expected = stats.bootstrap(
        (totals, counts),
        lambda t, c, axis: t.sum(axis) / c.sum(axis),
        paired=True,
        confidence_level=expanded(25),
        n_resamples=40_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert got.mean == pytest.approx(values.mean())
    assert got[1:] == pytest.approx(tuple(expected), abs=0.02)


def test_metrics_together_have_the_intervals_and_verdicts_that_each_has_alone():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 3)
    a, b = ({name: rng.random(60) for name in ("map", "mrr")} for _ in range(2))
    for by in ("query", "class"):
        together = metrics.bootstrap(a, labels=labels, by=by, samples=300)
        for name, values in a.items():
            alone = bootstrap(values, labels=labels, by=by, samples=300)
            assert together[name] == pytest.approx(alone, rel=1e-12)
    compared = metrics.compare_models(a, {**b, "other": 0}, labels=labels, samples=300)
    assert list(compared) == ["map", "mrr"]
    for name, found in compared.items():
        alone = compare_models(a[name], b[name], labels=labels, samples=300)
        assert found.sentence == alone.sentence


def test_interval_over_classes_covers_where_that_over_queries_does_not():
    rng = np.random.default_rng(0)
    covered = {"class": 0, "query": 0}
    for seed in range(300):
        values, labels = of_classes(rng, 40, 9)
        for by in covered:
            _, low, high = bootstrap(
                values, labels=labels, by=by, samples=400, seed=seed
            )
            covered[by] += low <= 0 <= high
    assert 0.90 <= covered["class"] / 300 <= 0.98
    assert covered["query"] / 300 < 0.80


def test_interval_is_the_same_again_and_wider_at_a_higher_level():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    narrow, wide = (bootstrap(values, level=x) for x in (0.5, 0.99))
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high


def test_equal_values_have_a_point_as_interval():
    assert bootstrap(np.full(7, 0.3)) == pytest.approx((0.3, 0.3, 0.3))
    got = bootstrap(np.ones(7), labels=[0, 0, 0, 1, 1, 2, 2], by="class")
    assert got == (1, 1, 1)


def test_samples_do_not_depend_on_how_many_fit_into_memory(monkeypatch):
    values, labels = of_classes(np.random.default_rng(0), 30, 5)
    expected = bootstrap(values, labels=labels, by="class", samples=500)
    p_value = compare_models(values, 0 * values, labels=labels).p_value
    monkeypatch.setattr("rankjax.metrics.uncertainty._DRAWS", 1000)
    got = bootstrap(values, labels=labels, by="class", samples=500)
    assert got == pytest.approx(expected, rel=1e-12)
    got = compare_models(values, 0 * values, labels=labels).p_value
    assert got == pytest.approx(p_value, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_p_value_of_few_classes_is_that_of_all_signs(seed):
    rng = np.random.default_rng(seed)
    # Small integers, so that many sums tie.
    a, b = rng.integers(0, 3, (2, 40))
    labels = np.append(np.arange(8), rng.integers(0, 8, 32))
    totals = [(a - b)[labels == c].sum() for c in range(8)]
    flipped = [
        abs(sum(s * t for s, t in zip(signs, totals, strict=True)))
        for signs in itertools.product((-1, 1), repeat=8)
    ]
    expected = np.mean([x >= abs(sum(totals)) for x in flipped])
    assert compare_models(a, b, labels=labels, samples=50).p_value == expected


@pytest.mark.parametrize("classes", [10, 30])
def test_models_that_do_not_differ_are_told_apart_no_more_often_than_said(classes):
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(400):
        a, labels = of_classes(rng, classes, 5)
        got = compare_models(a, 0 * a, labels=labels, samples=199, seed=seed)
        found += got.verdict != "cannot tell"
    assert 0.02 <= found / 400 <= 0.08


def test_the_better_model_is_named():
    rng = np.random.default_rng(0)
    a, labels = of_classes(rng, 40, 5, between=0.1)
    b = a + 1 + 0.1 * rng.normal(size=len(a))
    got = compare_models(a, b, labels=labels, names=("old", "new"))
    assert got.verdict == "new is better"
    assert got.difference.mean == pytest.approx((a - b).mean())
    assert got.difference.high < 0
    assert got.by_query.high < 0
    assert got.sentence.startswith("new is better: old - new = -")
    assert compare_models(b, a, labels=labels).verdict == "a is better"


def test_one_model_twice_cannot_be_told_apart():
    a = np.random.default_rng(0).random(20)
    got = compare_models(a, a, labels=np.arange(20) // 2)
    assert (got.difference, got.p_value) == ((0, 0, 0), 1)
    assert got.verdict == "cannot tell"


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, r"values\['hit'\] must have shape"),
        ([1.0], {}, "values must hold two queries or more"),
        (
            [1.0, np.nan],
            {},
            r"values\['hit'\] must not be NaN, got 1 of them, first at 1",
        ),
        ([1.0, 2.0], {"by": "class"}, "labels are needed by class"),
        ([1, 2], {"by": "class", "labels": [1, 1]}, "labels must hold two classes"),
        ([1.0, 2.0], {"by": "class", "labels": [1]}, "labels must have shape"),
        ([1.0, 2.0], {"by": "row"}, "by must be 'query' or 'class', got 'row'"),
        ([1.0, 2.0], {"level": 95}, "level must be between 0 and 1, got 95"),
        ([1.0, 2.0], {"samples": 0}, "samples must be a whole number, at least 1"),
    ],
)
def test_bad_values_are_named(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(values, **options)


def test_values_of_one_metric_without_its_name_are_refused():
    with pytest.raises(TypeError, match="values must be a dict of values by metric"):
        metrics.bootstrap([1.0, 2.0])
    with pytest.raises(ValueError, match="a must hold a metric, got none"):
        metrics.compare_models({"map": [1, 0]}, {"mrr": [1, 0]}, labels=[0, 1])


def test_arms_of_different_lengths_are_named():
    with pytest.raises(ValueError, match=r"b\['hit'\] must have shape \(2,\)"):
        compare_models([1, 2], [1], labels=[0, 1])


def test_an_infinite_value_is_refused_by_name():
    values = {"a": np.array([1.0, np.inf, 0.0])}
    with pytest.raises(ValueError, match=r"\['a'\] must be finite, got infinity"):
        metrics.bootstrap(values)
    with pytest.raises(ValueError, match=r"^a\['a'\] must be finite, got infinity"):
        metrics.compare_models(values, {"a": np.zeros(3)}, labels=np.arange(3))
