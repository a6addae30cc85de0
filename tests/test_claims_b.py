"""Claims C7 to C12: their statistics, and that each judge can find for and against."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

import rankjax
from experiments.claims import __main__ as command
from experiments.claims import (
    c07_gradient_direction,
    c08_invariance,
    c09_fixed_margin,
    c10_superiority,
    c11_sampling,
    c12_angle,
)
from experiments.claims.claim import Finding
from experiments.claims.effects import (
    of_draws,
    partial_eta_squared,
    random_effects,
    resampled,
    word,
)
from experiments.figures import FIGURES, claims_b
from experiments.figures.published import AGAINST_TRIPLETS
from experiments.sweep.records import Record, Result
from rankjax import losses
from rankjax.errors import RunError

SEEDS = 24


@pytest.fixture
def drawn(monkeypatch):
    """Draws a figure of claims from given results; returns its panels by title."""

    def draw(name, results):
        monkeypatch.setattr(claims_b, "load", results.__getitem__)
        panels = FIGURES[name].draw().axes
        assert all(panel.lines or panel.containers for panel in panels)
        return panels

    return draw


def noise(*key, size=SEEDS):
    return 0.01 * np.random.default_rng(list(key)).normal(size=size)


def result(arms, curves=None, **cells):
    """A sweep of arms whose figures by name are functions of the cells."""
    axes = {"seed": range(SEEDS), **cells}
    grid = np.array([*itertools.product(*axes.values())], float).T
    named = dict(zip(axes, grid, strict=True))
    records = {}
    for arm, figures in arms.items():
        final = {
            name: np.broadcast_to(value, grid.shape[1]).astype(float)
            if not callable(value)
            else value(named)
            for name, value in figures.items()
        }
        records[arm] = Record({}, [], [], named, final, curves or {}, 0.0)
    return Result({"steps": 100, "every": 50}, records)


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


def test_random_effects_of_benches_that_agree_have_the_usual_error():
    pairs = [np.array([m - v**0.5, m + v**0.5]) for m, v in ((3, 1), (3, 4))]
    mean, _ = random_effects("", pairs)
    assert mean.effect == pytest.approx(3)
    assert mean.high - 3 == pytest.approx(12.706205 * np.sqrt(1 / (1 + 1 / 4)))


def test_partial_eta_squared_is_that_of_a_slow_loop():
    values = np.random.default_rng(0).normal(size=(6, 3, 2, 4))
    values[:, 1] += 1
    values[:, :, 1, 2] -= 2
    seeds, *levels = values.shape
    grand = values.mean()

    def mean_of(**at):
        index = tuple(at.get(n, slice(None)) for n in ("s", "a", "b", "c"))
        return values[index].mean()

    squares = dict.fromkeys([(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], 0.0)
    error = 0.0
    for s, a, b, c in itertools.product(range(seeds), *map(range, levels)):
        of_a, of_b, of_c = (mean_of(**{n: i}) - grand for n, i in
                            (("a", a), ("b", b), ("c", c)))  # fmt: skip
        ab = mean_of(a=a, b=b) - grand - of_a - of_b
        bc = mean_of(b=b, c=c) - grand - of_b - of_c
        ac = mean_of(a=a, c=c) - grand - of_a - of_c
        cell = mean_of(a=a, b=b, c=c) - grand
        abc = cell - of_a - of_b - of_c - ab - bc - ac
        for name, effect in zip(squares, (of_a, of_b, of_c, ab, bc, abc), strict=True):
            squares[name] += effect**2
        left = values[s, a, b, c] - mean_of(a=a, b=b, c=c) - mean_of(s=s) + grand
        error += left**2
    found = partial_eta_squared(values)
    assert set(found) == {*squares, (0, 2)}
    for name, square in squares.items():
        np.testing.assert_allclose(found[name][0], square / (square + error), rtol=1e-9)
        assert ((found[name] >= -1e-12) & (found[name] <= 1)).all()


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


@pytest.mark.parametrize(("dim", "shared"), [(2, 0.0), (2, 0.6), (5, 0.3), (16, 0.0)])
def test_steps_go_nearer_to_the_positive_inside_thales_balls_as_often_as_said(
    dim, shared
):
    count = 20_000
    rng = np.random.default_rng(dim)
    means = shared**0.5 * rng.normal(size=(2, count, dim))
    own = (1 - shared) ** 0.5 * rng.normal(size=(3, count, dim))
    tuples = (means[[0, 0, 1]] + own).transpose(1, 0, 2).astype(np.float32)
    a, p, n = tuples.transpose(1, 0, 2)

    def value(rows, loss, **settings):
        pairs = rankjax.from_tuples(rows, np.array([0]), np.array([1]),
                                    np.array([[2]]), similarity=DISTANCE)  # fmt: skip
        return rankjax.total(loss(pairs, **settings))

    expected = c07_gradient_direction.toward(dim, shared)
    for start, share, loss, settings in (
        (a, expected[0], losses.triplet_loss, {"margin": 1e4}),
        ((a + p) / 2, expected[1], losses.angular_hinge_loss, {"angle": 0.1}),
    ):
        gradient = jax.jit(jax.vmap(jax.grad(lambda r: value(r, loss, **settings))))  # noqa: B023
        step = -np.asarray(gradient(tuples))[:, 2]
        nearer = np.sum(step * (p - n), -1) > 0
        middle, radius = (start + p) / 2, np.linalg.norm(p - start, axis=-1) / 2
        inside = np.linalg.norm(n - middle, axis=-1) < radius
        assert np.mean(nearer != inside) < 2e-4  # rounding, at the surface
        error = np.sqrt(share * (1 - share) / count)
        assert abs(nearer.mean() - share) < 4 * error + 1e-4


DISTANCE = rankjax.similarity.negative_squared_euclidean


def directions(toward, out):
    def arms(scale):
        return {
            arm: {
                "mean_triplet_toward": 0.1 + scale * toward + noise(1),
                "mean_angular_toward": 0.1 + noise(1) / 2,
                "mean_triplet_out": 0.8 + noise(2),
                "mean_angular_out": 0.8 + scale * out + noise(2) / 2,
            }
            for arm in ("triplet_all", "angular", "n_pairs")
        }

    names = c07_gradient_direction.PROBED
    curves = {name: 0.1 + noise(3, size=(SEEDS, 3)) for name in names}
    return {
        study: result(arms(1.0), curves)
        for study in c07_gradient_direction.CLAIM.studies
    }


@pytest.mark.parametrize(
    ("toward", "out", "found"),
    [(0.05, 0.1, "holds"), (0.0, 0.1, "holds in part"), (0.0, -0.1, "does not hold")],
)
def test_the_judge_of_directions_weighs_shares_and_cosines(toward, out, found):
    verdict = c07_gradient_direction.judge(directions(toward, out))
    assert verdict.word == found
    assert verdict.findings[0].effect == pytest.approx(toward, abs=0.01)
    assert verdict.findings[1].effect == pytest.approx(out, abs=0.01)


def test_what_is_measured_of_scaled_sets_is_that_of_a_slow_loop():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(3), 2)
    rows = rng.normal(size=(2, 6, 3))
    found = c08_invariance.measured(rows, labels)
    for i, x in enumerate(rows):
        triplet, hinge, angular = [], [], []
        for a, p in itertools.permutations(range(6), 2):
            if labels[a] != labels[p]:
                continue
            others = [n for n in range(6) if labels[n] != labels[a]]
            for n in others:
                far = np.sum((x[a] - x[p]) ** 2)
                triplet.append(max(far - np.sum((x[a] - x[n]) ** 2) + 0.2, 0))
                centre = (x[a] + x[p]) / 2
                hinge.append(max(far - 4 * np.sum((x[n] - centre) ** 2), 0))
            exponents = [4 * (x[a] + x[p]) @ x[n] - 4 * x[a] @ x[p] for n in others]
            angular.append(np.log1p(np.sum(np.exp(exponents))))
        for name, terms in (
            ("triplet, margin 0.2", triplet),
            ("angular hinge", hinge),
            ("angular", angular),
        ):
            value, active = (part[i] for part in found[name])
            np.testing.assert_allclose(value, np.mean(terms), rtol=1e-5)
            np.testing.assert_allclose(active, np.mean(np.array(terms) > 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("hinge_power", "moved", "turned", "found"),
    [
        (0, 0.0, 1.0, "holds"),
        (2, 0.0, 1.0, "holds in part"),
        (2, 0.2, 1.0, "does not hold"),
        (0, 0.0, 1.1, "does not hold"),
    ],
)
def test_the_judge_of_invariance_weighs_rotation_and_scale(
    monkeypatch, hinge_power, moved, turned, found
):
    scales, one = c08_invariance.SCALES, np.ones((24, 1))
    falling = np.linspace(0.9, 0.1, len(scales)) * one
    scaled = dict.fromkeys(c08_invariance.LOSSES, (np.ones_like(falling), falling))
    scaled["angular"] = (np.ones_like(falling), np.ones_like(falling))
    scaled["angular hinge"] = scales**hinge_power * one, 0.5 + moved * falling
    middle = len(scales) // 2
    rotated = {
        name: (turned * v[:, middle], a[:, middle]) for name, (v, a) in scaled.items()
    }
    monkeypatch.setattr(c08_invariance, "sets", lambda: (scaled, rotated))
    verdict = c08_invariance.judge({})
    assert verdict.word == found
    assert verdict.findings[0].effect == (0.0 if moved else 1.0)


def spreads(harm):
    def arm(number, gap, share):
        return {
            "recall_0": 0.8 + noise(number, 0),
            "recall_1": 0.8 - gap + noise(number, 1),
            "mean_wide_gradient": share * np.exp(noise(number, 2)),
        }

    arms = {
        "triplet_all": arm(0, 0.1 + harm, 1.5),
        "triplet_semi_hard": arm(1, 0.1 + harm, 1.2),
        "triplet_hard": arm(2, 0.1 + harm, 1.1),
        "angular": arm(3, 0.1, 1.2),
        "n_pairs": arm(4, 0.1, 1.0),
    }
    curves = {"wide_gradient": 1 + noise(5, size=(SEEDS, 3))}
    return {study: result(arms, curves) for study in c09_fixed_margin.CLAIM.studies}


def test_a_sweep_that_is_not_finished_is_named(monkeypatch):
    unfinished = spreads(0.1)
    del unfinished["spreads-glyphs"].arms["n_pairs"]
    monkeypatch.setattr(command, "load", unfinished.__getitem__)
    with pytest.raises(RunError, match="spreads-glyphs has no n_pairs yet"):
        command.judged([c09_fixed_margin.CLAIM])


@pytest.mark.parametrize(("harm", "word"), [(0.1, "holds"), (-0.05, "does not hold")])
def test_the_judge_of_fixed_margins_asks_how_wide_classes_are_retrieved(harm, word):
    verdict = c09_fixed_margin.judge(spreads(harm))
    assert verdict.word == word
    assert verdict.findings[0].effect == pytest.approx(harm, abs=0.01)
    assert verdict.findings[6].effect == pytest.approx(np.log(1.5 / 1.2), abs=0.01)


def benches(random, everything):
    results = {}
    for i, study in enumerate(c10_superiority.CLAIM.studies):
        recalls = {
            "n_pairs": 0.7,
            "angular": 0.7,
            "triplet_random": 0.7 - random * (1 + i / 10),
            "triplet_all": 0.7 - everything * (1 + i / 10),
            "triplet_semi_hard": 0.7,
        }
        arms = {
            arm: {
                "recall_at_1": recall + noise(i, j),
                "map_at_r": recall / 2 + noise(i, j),
            }
            for j, (arm, recall) in enumerate(recalls.items())
        }
        results[study] = result(arms)
    return results


@pytest.mark.parametrize(
    ("random", "everything", "word"),
    [
        (0.1, 0.1, "holds"),
        (0.1, -0.1, "holds in part"),
        (-0.1, -0.05, "does not hold"),
    ],
)
def test_the_judge_of_superiority_asks_both_losses_against_both_plain_triplets(
    random, everything, word
):
    verdict = c10_superiority.judge(benches(random, everything))
    assert verdict.word == word
    assert verdict.findings[0].effect == pytest.approx(1.15 * random, abs=0.01)


def test_benches_that_contradict_each_other_do_not_tell():
    differ = benches(0.1, 0.1)
    differ["losses-digits"] = benches(-0.5, -0.5)["losses-digits"]
    assert c10_superiority.judge(differ).word == "cannot tell"


def samplings(loss, mining, hard_rate=0.0):
    names = itertools.product(enumerate("abc"), enumerate(("all", "hard")))

    def recall(i, j):
        def of(cells):
            wrong = hard_rate * j * (cells["learning_rate"] > 0.005)
            own = noise(i, j, size=len(cells["seed"]))
            return 0.5 + loss * i + mining * j - wrong + own

        return of

    arms = {
        f"{first}-{second}": {
            "recall_at_1": recall(i, j),
            "last_recall": recall(i, j),
        }
        for (i, first), (j, second) in names
    }
    studies = c11_sampling.CLAIM.studies
    return {s: result(arms, learning_rate=[0.001, 0.01]) for s in studies}


@pytest.mark.parametrize(
    ("loss", "mining", "hard_rate", "word"),
    [
        (0.01, 0.2, 0.0, "holds"),
        (0.01, 0.0, 0.5, "holds in part"),
        (0.2, 0.01, 0.0, "does not hold"),
    ],
)
def test_the_judge_of_sampling_looks_at_all_rates_and_at_the_best(
    loss, mining, hard_rate, word
):
    verdict = c11_sampling.judge(samplings(loss, mining, hard_rate))
    assert verdict.word == word
    assert (verdict.findings[0].effect > 0) == (word != "does not hold")


def test_the_best_rate_is_chosen_by_validation():
    arms = {
        f"{loss}-{mining}": {
            "recall_at_1": lambda cells: cells["learning_rate"] * 10,
            "last_recall": lambda cells: -cells["learning_rate"],
        }
        for loss in "ab"
        for mining in ("all", "hard")
    }
    sampled = result(arms, learning_rate=[0.001, 0.01])
    np.testing.assert_allclose(c11_sampling.at_best_rate(sampled), 10 * 0.001)


def angles(peak, bend, weight):
    grid = [20.0, 25.0, 30.0, 36.0, 40.0, 45.0, 50.0, 55.0, 60.0]

    def recall(cells):
        own = noise(7, size=len(cells["seed"]))
        return 0.6 - bend * ((cells["angle"] - peak) / 10) ** 2 + own

    def mixed(cells):
        own = noise(8, size=len(cells["seed"]))
        return 0.6 + weight * cells["angular_weight"] / 2 + own

    arms = {
        arm: {"recall_at_1": recall, "last_rank": 5.0}
        for arm in ("angular", "n_pairs_angular")
    }
    weights = {"n_pairs_angular": {"recall_at_1": mixed}}
    return {
        study: result(arms, angle=grid)
        if study.startswith("angles")
        else result(weights, angular_weight=[0.0, 2.0])
        for study in c12_angle.CLAIM.studies
    }


@pytest.mark.parametrize(
    ("peak", "bend", "weight", "word"),
    [
        (45, 0.02, 0.05, "holds"),
        (45, 0.02, -0.05, "holds in part"),
        (65, 0.02, 0.05, "holds in part"),  # the best angle is too large
        (45, -0.02, -0.05, "does not hold"),
    ],
)
def test_the_judge_of_angles_asks_for_good_angles_and_for_the_weight(
    peak, bend, weight, word
):
    verdict = c12_angle.judge(angles(peak, bend, weight))
    assert verdict.word == word
    best = min(peak, 60) if bend > 0 else 20  # an end, where the parabola opens up
    assert verdict.findings[0].effect == pytest.approx(best, abs=1)
    assert verdict.findings[0].p < 1e-4


def test_figures_of_claims_show_what_was_measured(drawn):
    _, by_dim, _ = drawn("gradient_directions", directions(0.05, 0.1))
    shares = by_dim.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(shares, 0.15, atol=0.01)
    *_, gaps = drawn("wide_and_narrow_classes", spreads(0.1))
    np.testing.assert_allclose(gaps.containers[0].lines[0].get_xdata(), 0.1, atol=0.02)
    ours, _, papers = drawn("superiority", benches(0.1, -0.1))
    means = [part.lines[0].get_xdata()[-1] for part in ours.containers]
    np.testing.assert_allclose(means, [0.115, -0.115, 0], atol=0.01)
    published = [x for line in papers.lines for x in line.get_xdata()]
    assert max(published) == pytest.approx(0.71 - 0.455)
    *_, parts = drawn("loss_or_sampling", samplings(0.01, 0.2))
    mining, loss, _ = (bar.get_width() for bar in parts.containers[1].patches)
    assert mining > loss
    angle, _, weights = drawn("angle_and_weight", angles(45, 0.02, 0.05))
    mean, parabola = angle.lines[1:3]
    assert mean.get_xdata()[mean.get_ydata().argmax()] == 45
    assert parabola.get_xdata()[parabola.get_ydata().argmax()] == pytest.approx(45, 0.1)
    np.testing.assert_allclose(weights.lines[0].get_ydata(), [0.6, 0.65], atol=0.01)
    for name in FIGURES:
        if name in vars(claims_b):
            assert "Expected before anything was run" in FIGURES[name].caption


def test_the_verdict_on_superiority_tells_what_was_published():
    says = c10_superiority.judge(benches(0.1, 0.1)).says
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
