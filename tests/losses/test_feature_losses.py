"""Losses on two views, the potential field and GE2E: cases and papers' properties."""

import functools
import math

import numpy as np
import pytest
from cases import Case
from evaluation import close, evaluate
from reference import mean, sides, similarity_matrix

import rankjax
from rankjax.losses.barlow_twins import barlow_twins_loss
from rankjax.losses.generalized_end_to_end import generalized_end_to_end_loss
from rankjax.losses.potential_field import potential_field_loss
from rankjax.losses.vic_reg import vic_reg_loss


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def views(x, y):
    """First and second rows of a class, third and fourth, and so on."""
    pairs = []
    for label in sorted(set(y)):
        members = [i for i in range(len(y)) if y[i] == label]
        pairs += zip(members[0::2], members[1::2], strict=False)
    a, b = zip(*pairs, strict=True)
    return x[list(a)], x[list(b)]


def slow_vic_reg(
    x,
    y,
    invariance_weight=25.0,
    variance_weight=25.0,
    covariance_weight=1.0,
    epsilon=1e-4,
):
    a, b = views(x, y)
    n, d = a.shape
    loss = invariance_weight * (((a - b) ** 2).sum(1) / d).sum() / n
    for view in (a, b):
        for k in range(d):
            for m in range(d):
                first, second = (view[:, j] - mean(list(view[:, j])) for j in (k, m))
                covariance = (first * second).sum() / (n - 1)
                if k == m:
                    hinge = max(0, 1 - math.sqrt(covariance + epsilon))
                    loss += variance_weight * hinge / d / 2
                else:
                    loss += covariance_weight * covariance**2 / d
    return loss


def slow_barlow_twins(x, y, redundancy_weight=5e-3):
    a, b = views(x, y)
    d = a.shape[1]
    loss = 0.0
    for k in range(d):
        for m in range(d):
            correlation = np.corrcoef(a[:, k], b[:, m])[0, 1]
            weight = 1 if k == m else redundancy_weight
            loss += weight * ((k == m) - correlation) ** 2
    return loss


def slow_potential_field(x, y, z=None, names=None, decay=4.0, radius=0.2, core=0.01):
    distance = -similarity_matrix(
        "negative_euclidean", unit(x), None if z is None else unit(z)
    )
    energies = []
    for i, j in np.ndindex(distance.shape):
        if z is None and i == j:
            continue
        d = distance[i, j]
        if y[i] == (y if z is None else names)[j]:
            energies.append(-(radius**-decay) if d < radius else -(d**-decay))
        else:
            energies.append(max(d, core) ** -decay if d < radius else radius**-decay)
    return mean(energies)


def slow_generalized_end_to_end(x, y, variant="softmax", scale=10.0, offset=-5.0):
    def score(i, members):
        centre = sum(unit(x)[j] for j in members)
        return scale * (unit(x)[i] @ centre) / np.linalg.norm(centre) + offset

    values = []
    for i in range(len(x)):
        positives, negatives = sides(y, i)
        if not positives or not negatives:
            continue
        own, others = score(i, positives), []
        for label in {y[j] for j in negatives}:
            others.append(score(i, [j for j in negatives if y[j] == label]))
        if variant == "softmax":
            values.append(math.log(sum(math.exp(z) for z in [own, *others])) - own)
        else:
            nearest = 1 / (1 + math.exp(-max(others)))
            values.append(1 - 1 / (1 + math.exp(-own)) + nearest)
    return mean(values)


NEAR = {"decay": 3.0, "radius": 1.1, "core": 0.7}
CASES = {
    "vic_reg": Case(
        slow_vic_reg,
        params={
            "invariance_weight": 10.0,
            "variance_weight": 3.0,
            "covariance_weight": 2.0,
            "epsilon": 0.01,
        },
    ),
    "barlow_twins": Case(slow_barlow_twins, params={"redundancy_weight": 0.3}),
    "potential_field": Case(slow_potential_field, params={"decay": 2.0, "radius": 0.9}),
    "potential_field, all three branches": Case(
        functools.partial(slow_potential_field, **NEAR),
        loss=functools.partial(potential_field_loss, **NEAR),
        params={"decay": 2.0, "radius": 1.0, "core": 0.75},
    ),
    "potential_field, proxies": Case(
        slow_potential_field, loss=functools.partial(potential_field_loss), proxies=2
    ),
    "generalized_end_to_end": Case(
        slow_generalized_end_to_end, params={"scale": 7.0, "offset": 1.0}
    ),
    "generalized_end_to_end, contrast": Case(
        functools.partial(slow_generalized_end_to_end, variant="contrast"),
        loss=functools.partial(generalized_end_to_end_loss, variant="contrast"),
        params={"scale": 7.0, "offset": 1.0},
    ),
}


pytestmark = pytest.mark.usefixtures("double_precision")


def interleave(a, b):
    return np.stack([a, b], 1).reshape(-1, a.shape[1])


N, DIM = 8, 4
RNG = np.random.default_rng(0)
PAIRED = np.repeat(np.arange(N), 2)
# Columns without mean, of variance 1, uncorrelated.
CENTRED = RNG.normal(size=(N, DIM))
WHITE = np.linalg.qr(CENTRED - CENTRED.mean(0))[0] * math.sqrt(N - 1)
ANY = RNG.normal(size=(2 * N, DIM))


# VICReg


@pytest.mark.parametrize("loss", [vic_reg_loss, barlow_twins_loss])
def test_one_pair_of_views_has_no_batch_statistics(loss):
    labels = np.where(np.arange(2 * N) < 2, 0, np.arange(2 * N))
    value, grad = evaluate(loss, ANY, labels)
    invariance = 25 * ((ANY[0] - ANY[1]) ** 2).mean()
    close(value, invariance if loss is vic_reg_loss else 0)
    assert not np.any(grad[2:])


# Barlow Twins


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e15])
def test_correlations_have_no_scale(scale):
    x = ANY.astype(np.float32)
    found = (rankjax.barlow_twins_loss(x * np.float32(by), PAIRED) for by in (scale, 1))
    close(*found, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
def test_a_dimension_without_variance_costs_one_and_gets_no_gradient(constant):
    white = interleave(WHITE, WHITE)
    white[:, 2] = constant
    loss, grad = evaluate(barlow_twins_loss, white, PAIRED)
    close(loss, 1)
    close(grad, np.zeros((2 * N, DIM)))


# GE2E


def test_a_class_whose_rows_cancel_has_cosine_zero():
    x = np.array([[1.0, 0], [1.0, 0], [0.6, 0.8], [-0.6, -0.8]])
    loss, grad = evaluate(
        generalized_end_to_end_loss, x, np.array([0, 0, 1, 1]), scale=1.0
    )
    ours = math.log1p(math.exp(-1.0))
    theirs = [math.log1p(math.exp(s + 1)) for s in (0.6, -0.6)]
    close(loss, (2 * ours + sum(theirs)) / 4)
    assert np.isfinite(grad).all()
