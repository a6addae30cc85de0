"""Losses and a miner that a guide, graded pairs or hidden positives inform."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import EMBEDDINGS, GRADES, GUIDE, LABELS, Case

import rankjax
from rankjax import losses, similarity

COSINE = "cosine"


def slow_distillation(x, y, temperature=0.2, guide_temperature=0.01):
    s = reference.similarity_matrix(COSINE, x) / temperature
    g = reference.similarity_matrix(COSINE, GUIDE[y].astype(np.float64))
    g = g / guide_temperature
    values = []
    for a in range(len(x)):
        others = [j for j in range(len(x)) if j != a]
        of_guide, own = (
            {
                j: math.exp(m[a, j]) / sum(math.exp(m[a, k]) for k in others)
                for j in others
            }
            for m in (g, s)
        )
        values.append(sum(of_guide[j] * math.log(of_guide[j] / own[j]) for j in others))
    return reference.mean(values)


def slow_relaxed(x, y, margin=1.0, width=1.0):
    g = GUIDE[y].astype(np.float64)
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    values = []
    for a in range(len(x)):
        others = [j for j in range(len(x)) if j != a]
        far = {j: np.linalg.norm(x[a] - x[j]) for j in others}
        mean, value = reference.mean(list(far.values())), 0.0
        for j in others:
            w = math.exp(-np.sum((g[a] - g[j]) ** 2) / width)
            d = far[j] / mean
            value += w * d**2 + (1 - w) * max(margin - d, 0) ** 2
        values.append(value)
    return reference.mean(values)


def slow_margin_mse(x, y, guide_scale=1.0):
    s = x @ x.T
    g = guide_scale * reference.similarity_matrix(COSINE, GUIDE[y].astype(np.float64))
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        values += [
            (s[a, p] - s[a, n] - (g[a, p] - g[a, n])) ** 2
            for p in positives
            for n in negatives
        ]
    return reference.mean(values)


def grade(y, a, b):
    return GRADES[y[a], y[b]]


def slow_soft_target(x, y, temperature=0.1):
    s = reference.similarity_matrix(COSINE, x) / temperature
    values = []
    for a in range(len(x)):
        others = [j for j in range(len(x)) if j != a]
        grades = [grade(y, a, j) for j in others]
        total = math.log(sum(math.exp(s[a, j]) for j in others))
        if sum(grades):
            values.append(
                sum(
                    g / sum(grades) * (total - s[a, j])
                    for j, g in zip(others, grades, strict=True)
                )
            )
    return reference.mean(values)


def slow_cosent(x, y, scale=20.0):
    s = reference.similarity_matrix(COSINE, x)
    values = []
    for a in range(len(x)):
        others = [j for j in range(len(x)) if j != a]
        wrong = [
            math.exp(scale * (s[a, j] - s[a, i]))
            for i in others
            for j in others
            if grade(y, a, i) > grade(y, a, j)
        ]
        if wrong:
            values.append(math.log(1 + sum(wrong)))
    return reference.mean(values)


def slow_debiased(x, y, temperature=0.5, positive_share=0.1, hardness=0.0):
    s = reference.similarity_matrix(COSINE, x) / temperature
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            if not negatives:
                values.append(0.0)
                continue
            weights = [math.exp(hardness * s[a, n]) for n in negatives]
            found = [math.exp(s[a, n]) for n in negatives]
            mean = np.dot(weights, found) / sum(weights)
            own = math.exp(s[a, p])
            rest = (mean - positive_share * own) / (1 - positive_share)
            rest = len(negatives) * max(rest, math.exp(-1 / temperature))
            values.append(-math.log(own / (own + rest)))
    return reference.mean(values)


def slow_hard_nt_xent(x, y, temperature=0.07, hardness=5.0):
    c = reference.similarity_matrix(COSINE, x)
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            against = sum(
                math.exp(
                    c[a, n] / temperature + hardness * c[a, n] - c[a, p] / temperature
                )
                for n in negatives
            )
            values.append(math.log(1 + against))
    return reference.mean(values)


def slow_angle(x, y, scale=20.0):
    half = (x.shape[1] + 1) // 2
    z = [row[:half] + 1j * np.append(row[half:], [0] * (len(row) % 2)) for row in x]
    values = []
    for a in range(len(x)):
        others = [j for j in range(len(x)) if j != a]
        s = {}
        for j in others:
            ratio = z[a] * z[j].conj() / (np.linalg.norm(z[a]) * np.linalg.norm(z[j]))
            s[j] = abs(ratio.real.sum() + ratio.imag.sum())
        wrong = [
            math.exp(scale * (s[j] - s[i]))
            for i in others
            for j in others
            if grade(y, a, i) > grade(y, a, j)
        ]
        values.append(math.log(1 + sum(wrong)))
    return reference.mean(values)


hard = functools.partial(losses.debiased_contrastive_loss, hardness=1.0)
hard_nt_xent = functools.partial(losses.nt_xent_loss, hardness=5.0)

CASES = {
    "similarity_distillation": Case(
        slow_distillation,
        params={"temperature": 0.4, "guide_temperature": 0.3},
        guided=True,
    ),
    "relaxed_contrastive": Case(
        slow_relaxed, params={"margin": 1.1, "width": 0.8}, guided=True
    ),
    "margin_mse": Case(slow_margin_mse, params={"guide_scale": 1.5}, guided=True),
    "soft_target": Case(slow_soft_target, params={"temperature": 0.4}, graded=True),
    "cosent": Case(slow_cosent, params={"scale": 5.0}, graded=True),
    "cosent, AnglE": Case(
        slow_angle,
        loss=losses.cosent_loss,
        similarity=similarity.complex_angle,
        params={"scale": 5.0},
        graded=True,
    ),
    "debiased_contrastive": Case(
        slow_debiased, params={"temperature": 0.7, "positive_share": 0.05}
    ),
    "debiased_contrastive, hard negatives": Case(
        functools.partial(slow_debiased, hardness=1.0),
        loss=hard,
        params={"temperature": 0.7},
    ),
    "nt_xent, hard negatives": Case(
        slow_hard_nt_xent, loss=hard_nt_xent, params={"temperature": 0.5}
    ),
}


def test_a_guide_of_padding_changes_nothing_and_one_that_is_not_finite_does():
    guide = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    compute = rankjax.similarity_distillation_loss
    valid = np.arange(16) != 4
    expected = compute(EMBEDDINGS, LABELS, guide=guide, valid=valid)
    guide[4] = np.nan
    assert compute(EMBEDDINGS, LABELS, guide=guide, valid=valid) == expected
    assert np.isnan(compute(EMBEDDINGS, LABELS, guide=guide))


def test_no_gradient_reaches_a_guide():
    guide = jnp.asarray(GUIDE[LABELS])
    grad = jax.grad(
        lambda g: rankjax.relaxed_contrastive_loss(EMBEDDINGS, LABELS, guide=g)
    )(guide)
    assert not np.any(grad)


def test_relevance_of_equal_labels_gives_the_supervised_contrastive_loss():
    value = rankjax.soft_target_loss(EMBEDDINGS, LABELS)
    expected = rankjax.sup_con_loss(EMBEDDINGS, LABELS)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"^this needs Pairs.guide, which is None: give guide="),
        ({"guide": GUIDE}, r"^guide must have shape \(16, 3\), got \(8, 3\)"),
        ({"guide": LABELS[:, None]}, r"^guide must be floating point, got int"),
        (
            {
                "guide": GUIDE[LABELS],
                "references": rankjax.References(EMBEDDINGS, LABELS, guide=EMBEDDINGS),
            },
            r"^references.guide must have shape \(16, 3\), got \(16, 5\)",
        ),
        (
            {
                "guide": GUIDE[LABELS],
                "references": rankjax.References(EMBEDDINGS, LABELS),
            },
            r"^guide and references.guide must be given together",
        ),
    ],
)
def test_a_guide_that_is_missing_or_does_not_fit_is_refused(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rankjax.margin_mse_loss(EMBEDDINGS, LABELS, **given)


@pytest.mark.parametrize("loss", [losses.soft_target_loss, losses.cosent_loss])
@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.1])
@pytest.mark.parametrize("block", [None, 4])
def test_grades_outside_0_to_1_make_the_loss_not_a_number(loss, wrong, block):
    table = jnp.asarray(GRADES).at[1, 2].set(wrong)

    def value(valid, reduction=rankjax.mean):
        compute = rankjax.objective(
            loss,
            relevance=lambda a, r: table[a][:, r],
            block=block,
            reduction=reduction,
        )
        return compute(EMBEDDINGS, LABELS, valid=valid)

    assert np.isnan(value(np.full(len(LABELS), True)))
    assert np.isnan(value(np.full(len(LABELS), True), rankjax.mean_per_anchor))
    assert np.isfinite(value(LABELS != 1))  # where none is asked for the wrong one


@pytest.mark.parametrize(
    ("relevance", "message"),
    [
        (
            lambda a, r: a > 0,
            r"\[anchor, reference\], here \(16, 16\), got \(16,",
        ),
        (lambda a, r: None, r"must return .*, got \(\)"),
        (GRADES, r"must be a function, such as lambda.*, got an array of shape"),
    ],
)
def test_relevance_that_is_no_function_or_of_another_shape_is_refused(
    relevance, message
):
    with pytest.raises((TypeError, ValueError), match=f"^relevance .*{message}"):
        rankjax.soft_target_loss(EMBEDDINGS, LABELS, relevance=relevance)


def test_a_guide_and_grades_that_nothing_reads_are_refused():
    with pytest.raises(ValueError, match=r"^guide is given, and neither this loss"):
        rankjax.sup_con_loss(EMBEDDINGS, LABELS, guide=GUIDE[LABELS])
    with pytest.raises(
        ValueError, match=r"^relevance is given, and this loss does not"
    ):
        rankjax.sup_con_loss(EMBEDDINGS, LABELS, relevance=lambda a, r: GRADES[a][:, r])
