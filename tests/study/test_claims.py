"""Claims are judged from sweeps by their own rules, and drawn as they were measured."""

import itertools

import numpy as np
import pytest

from experiments.study import statistics
from experiments.study.claims import (
    CLAIMS,
    c01_convergence,
    c02_stability,
    c03_hard_mining,
    c05_classes,
    c06_regulariser,
    c07_gradient_direction,
    c08_invariance,
    c11_sampling,
)
from experiments.study.claims import __main__ as command
from experiments.study.claims.c10_superiority import AGAINST_TRIPLETS
from experiments.study.claims.claim import word
from experiments.study.figures import FIGURES
from experiments.study.records import Record, Result, load
from experiments.study.statistics import Finding
from experiments.study.studies import STUDIES
from rankjax.errors import RunError

SEEDS = np.arange(100, 124)
RATES = np.geomspace(1e-4, 1e-1, 7)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)


def record(figures, curves=None, settings=None, seconds=1.0, **cells):
    """Figures and curves are numbers, or functions of the columns of cells."""
    axes = {**cells, "seed": SEEDS}
    grid = np.array([*itertools.product(*axes.values())], float).T
    columns = dict(zip(axes, grid, strict=True))

    def arrays(given):
        return {
            name: np.asarray(value(columns), float)
            if callable(value)
            else np.full(grid.shape[1], value, float)
            for name, value in (given or {}).items()
        }

    return Record(
        settings or {}, [], [], columns, arrays(figures), arrays(curves), seconds
    )


def result(arms, steps=600, every=25, **cells):
    """A sweep; an arm is a record, or its figures."""
    made = {
        k: v if isinstance(v, Record) else record(v, **cells) for k, v in arms.items()
    }
    return Result({"steps": steps, "every": every}, made)


def jitter(cells):
    """In [-1, 1], the same for all arms of a seed."""
    return np.sin(7 * cells["seed"])


# What claims are judged from


def convergence(ours, random_one, others):
    """Recall@1 rises as 1 - exp(-speed step)."""
    speeds = dict.fromkeys(c01_convergence.OTHERS, others)
    speeds |= {"n_pairs": ours, "triplet_random": random_one}
    steps = np.arange(25) * 25

    def arm(name, speed):
        def curve(cells):
            rate = speed * (1 + 0.2 * jitter(cells))
            return 0.9 * (1 - np.exp(-rate[:, None] * steps / 100))

        settings = {
            "loss": name if name.startswith("n_pairs") else "triplet",
            "selection": "random_negatives" if name == "triplet_random" else None,
            "classes": 32,
            "per_class": 2,
        }
        mean = {"mean_recall": lambda cells: curve(cells).mean(1)}
        seconds = 2.0 if name == "triplet_all" else 1.0
        return record(mean, {"recall": curve}, settings, seconds)

    study = result({name: arm(name, speed) for name, speed in speeds.items()})
    return {f"losses-{key}": study for key in ("modes", "glyphs", "digits")}


def stability(rank=5.0, **limits):
    """Arms that fail above a learning rate, at any rate if their rank is low."""

    def arm(size, limit):
        def recall(cells):
            good = cells["learning_rate"] * (1 + 0.5 * jitter(cells)) < limit
            return np.where(good, 0.8, 0.1)

        figures = {"recall_at_1": recall, "last_recall": recall, "raw": 0.6}
        settings = {"normalize": size == 8}
        return record({**figures, "rank": rank}, None, settings, learning_rate=RATES)

    arms = {
        f"{rule}-{size}-unit": arm(size, limit)
        for rule, limit in limits.items()
        for size in (8, 32)
    }
    return dict.fromkeys(CLAIMS["C2"].studies, result(arms))


def noise(gain, limit, flat=False):
    """Hard mining learns faster by `gain` and collapses above a rate less noise."""

    def arm(hard):
        def gone(cells):
            strength = np.log10(cells["learning_rate"]) + 2 * cells["noise"]
            return hard * (strength + 0.3 * jitter(cells) > limit)

        figures = {
            "mean_recall": lambda cells: (
                0.5 + hard * (gain + 0.01 * jitter(cells)) - gone(cells)
            ),
            "recall_at_1": lambda cells: np.where(gone(cells), 0.1, 0.8),
            "raw": 0.6,
            "rank": 4.0,
            "last_loss": 0.2 if flat and hard else 0.1,
        }
        grid = {"noise": (0.0, 0.1, 0.3), "learning_rate": RATES[1:6]}
        return record(figures, None, {"numbers": {"margin": 0.2}}, **grid)

    arms = {other: arm(0) for other in c03_hard_mining.OTHERS}
    study = result({c03_hard_mining.HARD: arm(1)} | arms)
    return dict.fromkeys(CLAIMS["C3"].studies, study)


def penalties(growth, *losses):
    """Lengths grow as step ** growth / (1 + 100 l2_weight); Recall@1 without a penalty
    is lower by `losses`, one for each case, or one for all."""
    grid = np.arange(33) * 50

    def norm(cells):
        rate = growth * (1 + 0.1 * jitter(cells)) / (1 + 100 * cells["l2_weight"])
        return np.maximum(grid, 1) ** rate[:, None]

    def study(loss):
        figures = {
            "recall_at_1": lambda cells: (
                0.7
                - (cells["l2_weight"] == 0)
                * (loss + (0.1 * loss - 0.005) * jitter(cells))
            ),
            "last_recall": lambda cells: 0.6 + 0.01 * (cells["l2_weight"] == 5e-3),
            "last_norm": lambda cells: 3 + jitter(cells),
        }
        arm = record(figures, {"norm": norm}, l2_weight=(0.0, 5e-4, 5e-3, 5e-2))
        return result({"lengths": arm, "normalized": arm}, steps=1600, every=50)

    each = losses * 3 if len(losses) == 1 else losses
    return dict(zip(c06_regulariser.CASES, map(study, each), strict=True))


# Judges

VERDICTS = [
    ("C1", convergence, (4, 1, 2), "holds", None),
    ("C1", convergence, (2, 1, 4), "holds in part", None),
    ("C1", convergence, (1, 2, 4), "does not hold", None),
    ("C1", convergence, (2, 2, 2), "cannot tell", None),
    ("C3", noise, (0.1, -2), "holds", 0.1),
    ("C3", noise, (0.1, 9), "holds in part", 0.1),
    ("C3", noise, (-0.1, -2), "does not hold", -0.1),
    ("C3", noise, (0.1, -9), "cannot tell", None),  # nothing survives
    ("C3", noise, (0, -2), "cannot tell", 0),
    ("C3", noise, (0, 9), "cannot tell", 0),
    ("C6", penalties, (0.3, 0.1), "holds", 0.3),
    ("C6", penalties, (0.3, 0.1, 0, 0), "holds in part", 0.3),
    ("C6", penalties, (0.3, 0.0), "does not hold", 0.3),
    ("C6", penalties, (0.0, 0.1), "cannot tell", 0.0),
]


@pytest.mark.parametrize(("name", "make", "given", "found", "first"), VERDICTS)
def test_a_verdict_follows_from_its_rule(name, make, given, found, first):
    verdict = CLAIMS[name].judge(make(*given))
    assert verdict.word == found
    if first is not None:
        assert verdict.findings[0].effect == pytest.approx(first, abs=0.02)


SOME = dict.fromkeys(("random", "all", "hard"), 1e-2)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (SOME | {"semi_hard": 1, "hard": 1e-3}, "holds"),
        (SOME | {"semi_hard": 1e-2, "random": 1, "hard": 1e-3}, "holds in part"),
        (SOME | {"semi_hard": 1e-3, "random": 1, "all": 1}, "does not hold"),
        (SOME | {"semi_hard": 1e-2}, "cannot tell"),
    ],
)
def test_semi_hard_negatives_are_the_most_stable_where_they_fail_the_least(
    limits, found
):
    assert CLAIMS["C2"].judge(stability(**limits)).word == found


@pytest.mark.parametrize(
    ("intervals", "found"),
    [
        ([(0.01, 0.03), (0.001, 0.02)], "holds"),
        ([(0.01, 0.03), (-0.01, 0.02)], "holds in part"),
        ([(0.01, 0.03), (-0.09, -0.02)], "holds in part"),
        ([(-0.004, 0.004), (0.001, 0.009)], "does not hold"),
        ([(-0.004, 0.004), (-0.03, 0.02)], "cannot tell"),
    ],
)
def test_words_follow_from_intervals_and_the_least_difference_that_matters(
    intervals, found
):
    findings = [Finding("", (low + high) / 2, low, high, 24) for low, high in intervals]
    assert word(findings) == found


def effects(name, results):
    """Of a verdict's findings, by what they are of."""
    return {f.what: f for f in CLAIMS[name].judge(results).findings}


def test_each_failure_counts_once_and_settings_are_paired():
    limits = {"semi_hard": 1, "random": 1, "all": 1, "hard": RATES[-1] * 0.49}
    found = effects("C2", stability(**limits))
    # The largest of seven rates fails, and it alone: factors go from 0.5 to 1.5.
    for what, expected in (
        ("failures, hard, drawn classes", 1 / 7),
        ("failures, semi_hard - hard", -1 / 7),
        ("failures, learning rate 1e-3 or more, semi_hard - hard", -1 / 5),
        ("failures, normalised, semi_hard - hard", -1 / 7),
    ):
        np.testing.assert_allclose(found[what].effect, expected)
    cells = 2 * 2 * len(SEEDS)
    np.testing.assert_allclose(found["failures, semi_hard - hard"].p, 2 * 0.5**cells)


def test_a_run_of_low_rank_fails_though_it_ranks_well_and_so_does_one_not_finite():
    some = stability(rank=1.0, hard=1)["stability-modes"].arms["hard-8-unit"]
    assert c02_stability.failed(some).all()
    assert not c02_stability.ranks_worse(some).any()
    some.final["rank"][:] = 5
    some.final["recall_at_1"][0] = np.nan
    assert np.flatnonzero(c02_stability.failed(some)).tolist() == [0]


def test_speed_is_compared_only_where_both_survive():
    results = noise(0.1, -2, flat=True)
    study, other = results["noise-modes"], c03_hard_mining.OTHERS[0]
    gaps, left = c03_hard_mining.surviving(study, other)
    np.testing.assert_allclose(gaps.mean(), 0.1, atol=5e-3)
    assert 0.4 < left < 0.8
    slopes = c03_hard_mining.slopes_of_collapse(study.arms[c03_hard_mining.HARD])
    assert all(0 < low < value < high for value, low, high in slopes.values())
    nothing = lambda arm: np.zeros(len(arm.cells["seed"]), bool)  # noqa: E731
    every, all_left = c03_hard_mining.surviving(study, other, nothing)
    assert (len(every), all_left) == (len(SEEDS), 1)
    assert every.mean() < gaps.mean() - 0.1  # what has collapsed drags it down
    found = effects("C3", results)
    assert found["loss pinned at the margin, hard, drawn classes"].effect == 1
    well = found["ranks well although pinned, hard, drawn classes"].effect
    np.testing.assert_allclose(well, left)


@pytest.mark.parametrize(("classes", "batch"), [(10, 64), (20, 8), (50, 2)])
def test_closed_forms_of_repeated_classes_are_those_of_a_simulation(classes, batch):
    random = np.random.default_rng(0)
    drawn = np.sort(random.integers(classes, size=(20_000, batch)), -1)
    distinct = 1 + np.count_nonzero(np.diff(drawn, axis=-1), -1)
    # The first of the sorted row is not any draw: take the anchor at random.
    anchor = drawn[np.arange(len(drawn)), random.integers(batch, size=len(drawn))]
    same = np.count_nonzero(drawn == anchor[:, None], -1) - 1
    for closed, simulated in (
        (c05_classes.repeated(classes, batch), 1 - distinct / batch),
        (c05_classes.false_negatives(classes, batch), same > 0),
        (c05_classes.floor(classes, batch), np.log1p(same)),
    ):
        assert abs(closed - simulated.mean()) < 5 * simulated.std() / 20_000**0.5


@pytest.mark.parametrize(("dim", "shared"), [(2, 0.0), (2, 0.6), (5, 0.3), (16, 0.0)])
def test_negatives_are_in_thales_balls_as_often_as_the_closed_form_says(dim, shared):
    count, rng = 100_000, np.random.default_rng(dim)
    means = shared**0.5 * rng.normal(size=(2, count, dim))
    a, p, n = means[[0, 0, 1]] + (1 - shared) ** 0.5 * rng.normal(size=(3, count, dim))
    expected = c07_gradient_direction.toward(dim, shared)
    for start, share in zip((a, (a + p) / 2), expected, strict=True):
        middle, radius = (start + p) / 2, np.linalg.norm(p - start, axis=-1) / 2
        inside = np.linalg.norm(n - middle, axis=-1) < radius
        error = np.sqrt(share * (1 - share) / count)
        assert abs(inside.mean() - share) < 4 * error + 1e-5


def test_what_is_measured_of_scaled_sets_is_that_of_a_slow_loop():
    labels = np.repeat(np.arange(3), 2)
    rows = np.random.default_rng(4).normal(size=(2, 6, 3))
    found = c08_invariance.measured(rows, labels)
    for i, x in enumerate(rows):
        terms = {"triplet, margin 0.2": [], "angular hinge": [], "angular": []}
        triplet, hinge, angular = terms.values()
        for a, p in itertools.permutations(range(6), 2):
            if labels[a] != labels[p]:
                continue
            others = np.flatnonzero(labels != labels[a])
            for n in others:
                far = np.sum((x[a] - x[p]) ** 2)
                triplet.append(max(far - np.sum((x[a] - x[n]) ** 2) + 0.2, 0))
                centre = (x[a] + x[p]) / 2
                hinge.append(max(far - 4 * np.sum((x[n] - centre) ** 2), 0))
            exponents = [4 * (x[a] + x[p]) @ x[n] - 4 * x[a] @ x[p] for n in others]
            angular.append(np.log1p(np.sum(np.exp(exponents))))
        for name, values in terms.items():
            value, active = (part[i] for part in found[name])
            np.testing.assert_allclose(value, np.mean(values), rtol=1e-5)
            np.testing.assert_allclose(active, np.mean(np.array(values) > 0), rtol=1e-6)


def test_the_best_rate_is_chosen_by_validation():
    arm = {
        "recall_at_1": lambda cells: cells["learning_rate"] * 10,
        "last_recall": lambda cells: -cells["learning_rate"],
    }
    arms = dict.fromkeys(("a-all", "a-hard", "b-all", "b-hard"), arm)
    sampled = result(arms, learning_rate=[0.001, 0.01])
    np.testing.assert_allclose(c11_sampling.at_best_rate(sampled), 10 * 0.001)


def test_the_verdict_on_superiority_tells_what_was_published():
    claim = CLAIMS["C10"]
    says = claim.judge({study: load(study) for study in claim.studies}).says
    gains = {
        name: [ours - theirs for ours, theirs in pairs.values()]
        for name, pairs in AGAINST_TRIPLETS.items()
    }
    papers = [g for name, of in gains.items() if "paper" in name for g in of]
    alike = [g for name, of in gains.items() if "mined" in name for g in of]
    alike += gains["survey's code, N-pairs, semi-hard triplet"]
    assert f"{min(papers):.0f} to {max(papers):.0f} points" in says
    assert f"from {-min(alike):.0f} points below" in says
    assert f"to {max(alike):.0f} above" in says


# Claims as a whole


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_rests_on_sweeps_that_there_are_and_says_what_was_expected(name):
    claim = CLAIMS[name]
    assert claim.name == name
    assert set(claim.studies) <= set(STUDIES)
    assert all(len(STUDIES[study].seeds) >= 20 for study in claim.studies)
    assert min(map(len, (claim.claim, claim.prediction, claim.statistic))) > 50
    of_claim = [e for e in FIGURES.values() if f"Claim {name}: " in e.caption]
    assert len(of_claim) == (name != "C8")
    for entry in of_claim:
        assert f"Expected before anything was run: {claim.prediction}" in entry.caption


def test_a_sweep_that_is_not_finished_is_named(monkeypatch):
    unfinished = penalties(0.3, 0.1)
    del unfinished["norms-glyphs-adam"].arms["normalized"]
    monkeypatch.setattr(command, "load", unfinished.__getitem__)
    with pytest.raises(RunError, match="norms-glyphs-adam has no normalized yet"):
        command.judged([CLAIMS["C6"]])
