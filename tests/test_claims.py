"""Claims are judged from sweeps by their own rules, with statistics that are right."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from experiments.claims import (
    c01_convergence,
    c02_stability,
    c03_hard_mining,
    c05_classes,
    c06_regulariser,
    statistics,
)
from experiments.claims.registry import CLAIMS
from experiments.sweep.records import Record, Result
from experiments.sweep.studies import STUDIES

SEEDS = range(100, 124)
random = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)


def record(cells, final, curves=None, settings=None, seconds=1.0):
    """`final` and `curves` are functions of a cell; every figure has a little noise."""
    cells = [
        dict(zip((*cells, "seed"), values, strict=True))
        for values in itertools.product(*cells.values(), SEEDS)
    ]

    def arrays(function):
        rows = [function(cell) for cell in cells] if function else [{}]
        noise = np.random.default_rng(len(cells)).normal(size=len(cells)) * 1e-3
        return {
            name: np.array([np.add(row[name], n) for row, n in zip(rows, noise)])  # noqa: B905
            for name in rows[0]
        }

    return Record(
        settings=settings or {},
        chosen=[],
        trials=[],
        cells={name: np.array([cell[name] for cell in cells]) for name in cells[0]},
        final=arrays(final),
        curves=arrays(curves),
        seconds=seconds,
    )


def result(arms, steps=600, every=25):
    return Result({"steps": steps, "every": every}, arms)


def jitter(cell):
    """In [-1, 1], the same for all arms of a seed."""
    return math.sin(7 * cell["seed"])


# Statistics


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


@pytest.mark.parametrize(("classes", "batch"), [(10, 64), (20, 8), (50, 2)])
def test_closed_forms_of_repeated_classes_are_those_of_a_simulation(classes, batch):
    drawn = np.sort(random.integers(classes, size=(20_000, batch)), -1)
    distinct = 1 + np.count_nonzero(np.diff(drawn, axis=-1), -1)
    same = np.count_nonzero(drawn == drawn[:, :1], -1) - 1
    # The first of the sorted row is not any draw: take the anchor at random.
    anchor = drawn[np.arange(len(drawn)), random.integers(batch, size=len(drawn))]
    same = np.count_nonzero(drawn == anchor[:, None], -1) - 1
    for closed, simulated in (
        (c05_classes.repeated(classes, batch), 1 - distinct / batch),
        (c05_classes.false_negatives(classes, batch), same > 0),
        (c05_classes.floor(classes, batch), np.log1p(same)),
    ):
        assert abs(closed - simulated.mean()) < 5 * simulated.std() / 20_000**0.5


# Judges


def words(claim, good, bad):
    return [CLAIMS[claim].judge(results).word for results in (good, bad)]


def losses(speeds):
    """Recall@1 that rises as 1 - exp(-speed step)."""
    grid = np.arange(25) * 25
    arms = {}
    for name, speed in speeds.items():
        settings = {
            "loss": name if name.startswith("n_pairs") else "triplet",
            "selection": "random_negatives" if name == "triplet_random" else None,
            "classes": 32,
            "per_class": 2,
        }

        def curves(cell, speed=speed):
            rate = speed * (1 + 0.2 * jitter(cell))
            return {"recall": 0.9 * (1 - np.exp(-rate * grid / 100))}

        arms[name] = record(
            {},
            lambda cell, curves=curves: {"mean_recall": curves(cell)["recall"].mean()},
            curves,
            settings,
            seconds=2.0 if name == "triplet_all" else 1.0,
        )
    return result(arms)


def convergence(ours, random_one, others):
    speeds = dict.fromkeys(c01_convergence.OTHERS, others)
    speeds |= {"n_pairs": ours, "triplet_random": random_one}
    study = losses(speeds)
    return {f"losses-{key}": study for key in ("modes", "glyphs", "digits")}


def test_c1_holds_where_n_pairs_is_faster_than_all_triplets():
    assert words("C1", convergence(4, 1, 2), convergence(1, 2, 4)) == [
        "holds",
        "does not hold",
    ]
    assert words("C1", convergence(2, 1, 4), convergence(2, 2, 2)) == [
        "holds in part",
        "cannot tell",
    ]


def test_c1_takes_the_ratio_per_pair_and_per_second():
    verdict = CLAIMS["C1"].judge(convergence(4, 1, 2))
    found = {f.what.split(" (")[0]: f for f in verdict.findings}
    first = verdict.findings[0]
    assert first.what == (
        "steps, triplet_random / n_pairs, drawn classes (reached by 24 / 24 seeds)"
    )
    assert first.p is not None
    assert first.p < 0.01
    # 64 rows: 32 positive pairs and 64 negative ones against 32 x 32.
    per_pair = found["pairs looked at, triplet_random / n_pairs, drawn classes"]
    np.testing.assert_allclose(per_pair.effect, first.effect * 96 / 1024)
    steps = found["steps, triplet_all / n_pairs, drawn classes"]
    seconds = found["seconds, triplet_all / n_pairs, drawn classes"]
    np.testing.assert_allclose(
        [seconds.effect, seconds.low, seconds.high],
        [2 * steps.effect, 2 * steps.low, 2 * steps.high],
    )
    pairs = found["pairs looked at, triplet_all / n_pairs, drawn classes"]
    np.testing.assert_allclose(pairs.effect, steps.effect * (64 * 63 / 2) / 1024)


RATES = np.geomspace(1e-4, 1e-1, 7)


def mined(limits, rank=5.0):
    """Arms that fail above a learning rate; hard ones at a low rank if asked."""
    arms = {}
    for rule, limit in limits.items():

        def final(cell, limit=limit):
            good = cell["learning_rate"] * (1 + 0.5 * jitter(cell)) < limit
            recall = 0.8 if good else 0.1
            return {
                "recall_at_1": recall,
                "last_recall": recall,
                "raw": 0.6,
                "rank": rank,
            }

        for size in (8, 32):
            arms[f"{rule}-{size}-unit"] = record(
                {"learning_rate": RATES}, final, settings={"normalize": size == 8}
            )
    return result(arms)


def stability(**limits):
    study = mined(limits)
    return {"stability-modes": study, "stability-glyphs": study}


def test_c2_holds_where_semi_hard_fails_the_least():
    good = stability(semi_hard=1, random=1e-2, all=1e-2, hard=1e-3)
    bad = stability(semi_hard=1e-3, random=1, all=1, hard=1e-2)
    assert words("C2", good, bad) == ["holds", "does not hold"]
    part = stability(semi_hard=1e-2, random=1, all=1e-2, hard=1e-3)
    none = stability(semi_hard=1e-2, random=1e-2, all=1e-2, hard=1e-2)
    assert words("C2", part, none) == ["holds in part", "cannot tell"]


def test_c2_counts_each_failure_once_and_pairs_settings():
    verdict = CLAIMS["C2"].judge(
        stability(semi_hard=1, random=1, all=1, hard=RATES[-1] * 0.49)
    )
    found = {f.what: f for f in verdict.findings}
    # The largest of seven rates fails, and it alone: factors go from 0.5 to 1.5.
    np.testing.assert_allclose(found["failures, hard, drawn classes"].effect, 1 / 7)
    np.testing.assert_allclose(found["failures, semi_hard - hard"].effect, -1 / 7)
    of_fast = found["failures, learning rate 1e-3 or more, semi_hard - hard"]
    np.testing.assert_allclose(of_fast.effect, -1 / 5)
    unit = found["failures, normalised, semi_hard - hard"]
    np.testing.assert_allclose(unit.effect, -1 / 7)
    cells = 2 * 2 * len(SEEDS)
    np.testing.assert_allclose(found["failures, semi_hard - hard"].p, 2 * 0.5**cells)


def test_a_run_of_low_rank_fails_though_it_ranks_well_and_so_does_one_not_finite():
    study = mined({"hard": 1}, rank=1.0)
    some = study.arms["hard-8-unit"]
    assert c02_stability.failed(some).all()
    assert not c02_stability.ranks_worse(some).any()
    some.final["rank"][:] = 5
    some.final["recall_at_1"][0] = np.nan
    assert np.flatnonzero(c02_stability.failed(some)).tolist() == [0]


def noise(gain, limit, flat=False):
    """Hard mining learns faster by `gain` and collapses above a rate less noise."""
    arms = {}
    for name in (c03_hard_mining.HARD, *c03_hard_mining.OTHERS):
        hard = name == c03_hard_mining.HARD

        def final(cell, hard=hard):
            strength = np.log10(cell["learning_rate"]) + 2 * cell["noise"]
            gone = hard and strength + 0.3 * jitter(cell) > limit
            mean = 0.5 + hard * (gain + 0.01 * jitter(cell)) - gone
            return {
                "mean_recall": mean,
                "recall_at_1": 0.1 if gone else 0.8,
                "raw": 0.6,
                "rank": 4.0,
                "last_loss": 0.2 if flat and hard else 0.1,
            }

        grid = {"noise": (0.0, 0.1, 0.3), "learning_rate": RATES[1:6]}
        settings = {"numbers": {"margin": 0.2}}
        arms[name] = record(grid, final, settings=settings)
    study = result(arms)
    return {"noise-modes": study, "noise-glyphs": study}


def test_c3_holds_where_hard_mining_is_faster_and_collapses_more():
    assert words("C3", noise(0.1, -2), noise(-0.1, -2)) == ["holds", "does not hold"]
    assert words("C3", noise(0.1, 9), noise(0.1, -9)) == [
        "holds in part",
        "cannot tell",
    ]
    assert words("C3", noise(0, -2), noise(0, 9)) == ["cannot tell", "cannot tell"]


def test_c3_looks_only_where_both_survive_and_finds_what_makes_for_collapse():
    results = noise(0.1, -2, flat=True)
    gaps, left = c03_hard_mining.surviving(
        results["noise-modes"], c03_hard_mining.OTHERS[0]
    )
    np.testing.assert_allclose(gaps.mean(), 0.1, atol=5e-3)
    assert 0.4 < left < 0.8
    slopes = c03_hard_mining.slopes_of_collapse(
        results["noise-modes"].arms[c03_hard_mining.HARD]
    )
    assert all(low > 0 for _, low, _ in slopes.values())
    assert all(low < value < high for value, low, high in slopes.values())
    every, all_left = c03_hard_mining.surviving(
        results["noise-modes"],
        c03_hard_mining.OTHERS[0],
        lambda arm: np.zeros(len(arm.cells["seed"]), bool),
    )
    assert (len(every), all_left) == (len(SEEDS), 1)
    assert every.mean() < gaps.mean() - 0.1  # what has collapsed drags it down
    found = {f.what: f.effect for f in CLAIMS["C3"].judge(results).findings}
    assert found["loss pinned at the margin, hard, drawn classes"] == 1
    np.testing.assert_allclose(
        found["ranks well although pinned, hard, drawn classes"], left
    )


def variation(start, slope, joined):
    """Hard minus N-pairs is `start` at one mode, plus `slope` per doubling."""
    arms = {}
    names = ("triplet_hard_pairs", "triplet_easy_positive", "n_pairs", "angular")
    for name in ("triplet_hard", *names):

        def final(cell, hard=name == "triplet_hard"):
            doublings = np.log2(cell["modes"])
            more = start + slope * doublings + 0.01 * jitter(cell) * (1 + doublings)
            recall = 0.7 + hard * more
            return {"recall_at_1": recall, "mode_recall": recall - 0.1}

        arms[name] = record({"modes": (1, 2, 4, 8), "spread": (0.2, 0.5)}, final)

    def glyphs(gap):
        return result(
            {
                name: record(
                    {},
                    lambda cell, hard=name == "triplet_hard": {
                        "recall_at_1": 0.7 + hard * (gap + 0.01 * jitter(cell))
                    },
                )
                for name in arms
            }
        )

    return {
        "variation-modes": result(arms),
        "losses-glyphs": glyphs(0.05),
        "losses-cases": glyphs(0.05 + joined * (1.5 if joined else 0)),
    }


def test_c4_holds_where_hard_triplets_lead_with_one_mode_and_trail_with_many():
    good, bad = variation(0.1, -0.1, -0.1), variation(0.1, 0.1, -0.1)
    assert words("C4", good, bad) == ["holds", "does not hold"]
    lower, flat = variation(-0.1, -0.1, -0.1), variation(0.1, 0.0, 0.0)
    assert words("C4", lower, flat) == ["holds in part", "does not hold"]
    apart = variation(0.1, -0.1, 0.1)
    assert CLAIMS["C4"].judge(apart).word == "holds in part"
    first = CLAIMS["C4"].judge(good).findings[0]
    np.testing.assert_allclose(first.effect, -0.1, atol=0.01)


def batches(blind, aware):
    """Recall@1 falls by `blind` with repeated classes, by `aware` if they are known."""
    results = {}
    for key, all_classes in c05_classes.CLASSES.items():
        for classes in (*all_classes, 100):
            arms = {}
            for count in (8, 16, 32, 64):
                for repeats, lost in (("never", 0), ("aware", aware), ("blind", blind)):
                    if repeats == "never" and count > classes:
                        continue
                    if repeats == "blind":
                        lost += aware

                    def final(cell, lost=lost, repeats=repeats):
                        more = c05_classes.floor(16, 16) if repeats == "blind" else 0
                        return {
                            "recall_at_1": 0.7 - lost * (1 + 0.1 * jitter(cell)),
                            "last_loss": 1 + more,
                        }

                    arms[f"{repeats}-{count}"] = record({}, final)
            results[f"classes-{key}-{classes}"] = result(arms)
        results[f"shapes-{key}"] = result(
            {
                shape: record({}, lambda cell, i=i: {"recall_at_1": 0.7 - 0.1 * i})
                for i, shape in enumerate(("64x2", "32x4", "16x8"))
            }
        )
    return results


def test_c5_holds_where_repeated_classes_harm_whether_or_not_they_are_known():
    assert words("C5", batches(0.1, 0.05), batches(0.0, 0.0)) == [
        "holds",
        "does not hold",
    ]
    only_drawn = batches(0.1, 0.0)
    for name, study in batches(0.0, 0.0).items():
        if "glyphs" in name:
            only_drawn[name] = study
    assert words("C5", batches(0.1, 0.0), only_drawn) == [
        "holds in part",
        "cannot tell",
    ]
    verdict = CLAIMS["C5"].judge(batches(0.1, 0.05))
    np.testing.assert_allclose(verdict.findings[0].effect, -0.1, atol=0.01)
    found = {f.what: f.effect for f in verdict.findings}
    np.testing.assert_allclose(found["Recall@1, 64x2 - 16x8, glyphs"], 0.2)


def test_the_largest_batch_without_repetition_is_the_one_that_is_compared():
    results = batches(0.1, 0.0)
    names = [c05_classes.largest(results[f"classes-modes-{c}"]) for c in (10, 20, 50)]
    assert names == ["never-8", "never-16", "never-32"]


def penalties(growth, loss):
    """Lengths grow as step ** growth / (1 + 100 l2_weight); Recall@1 without a penalty
    is lower by `loss`, where it may differ from case to case."""
    grid = np.arange(33) * 50

    def study(loss):
        def final(cell):
            less = 0 if cell["l2_weight"] else loss * (1 + 0.1 * jitter(cell))
            best = 0.01 * (cell["l2_weight"] == 5e-3)
            recall = 0.7 - less + 0.005 * jitter(cell) * (cell["l2_weight"] == 0)
            return {"recall_at_1": recall, "last_recall": 0.6 + best, "last_norm": 3}

        def curves(cell):
            rate = growth * (1 + 0.1 * jitter(cell)) / (1 + 100 * cell["l2_weight"])
            return {"norm": np.maximum(grid, 1) ** rate}

        weights = {"l2_weight": (0.0, 5e-4, 5e-3, 5e-2)}
        arm = record(weights, final, curves)
        return result({"lengths": arm, "normalized": arm}, steps=1600, every=50)

    losses = (loss,) * 3 if np.isscalar(loss) else loss
    return dict(zip(c06_regulariser.CASES, map(study, losses), strict=True))


def test_c6_holds_where_lengths_grow_without_a_penalty_and_recall_is_lost():
    good, bad = penalties(0.3, 0.1), penalties(0.3, 0.0)
    assert words("C6", good, bad) == ["holds", "does not hold"]
    part, still = penalties(0.3, (0.1, 0, 0)), penalties(0.0, 0.1)
    assert words("C6", part, still) == ["holds in part", "cannot tell"]
    found = {f.what: f for f in CLAIMS["C6"].judge(good).findings}
    first = CLAIMS["C6"].judge(good).findings[0]
    np.testing.assert_allclose(first.effect, 0.3, atol=0.02)
    page = found["rank correlation of slope and penalty, drawn classes, Adam"]
    np.testing.assert_allclose(page.effect, -1)
    assert page.p is not None
    assert page.p < 1e-6


def test_c6_goes_on_where_a_run_is_no_longer_finite():
    results = penalties(0.3, 0.1)
    arm = results["norms-modes-adam"].arms["lengths"]
    gone = arm.where(l2_weight=0.0, seed=100)
    arm.curves["norm"][gone, 20:] = np.nan
    arm.final["recall_at_1"][gone] = 0
    arm.final["last_norm"][gone] = np.nan
    verdict = CLAIMS["C6"].judge(results)
    assert verdict.findings[0].seeds == len(SEEDS) - 1
    assert verdict.word == "holds"


@pytest.mark.parametrize("name", [f"C{i}" for i in range(1, 7)])
def test_a_claim_rests_on_sweeps_that_there_are(name):
    claim = CLAIMS[name]
    assert claim.name == name
    assert set(claim.studies) <= set(STUDIES)
    assert all(len(STUDIES[study].seeds) >= 20 for study in claim.studies)
