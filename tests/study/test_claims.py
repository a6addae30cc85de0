"""Claims of the survey: their words, closed forms and sweeps.

That each is judged as notebooks/about/results.md says is tested with that page's table.
"""

import numpy as np
import pytest

from experiments.study.claims import (
    CLAIMS,
    c05_classes,
    c07_gradient_direction,
)
from experiments.study.claims import __main__ as command
from experiments.study.claims.c10_superiority import AGAINST_TRIPLETS
from experiments.study.claims.claim import word
from experiments.study.figures import FIGURES
from experiments.study.records import load
from experiments.study.statistics import Finding
from experiments.study.studies import STUDIES
from rankjax.errors import RunError


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
    unfinished = load("norms-glyphs-adam")
    del unfinished.arms["normalized"]
    monkeypatch.setattr(command, "load", lambda study: unfinished)
    with pytest.raises(RunError, match="norms-glyphs-adam has no normalized yet"):
        command._complete("norms-glyphs-adam")
