"""Losses that judge each pair by itself, or against the other pairs of the batch."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case

import rankjax
from rankjax import mining, similarity
from rankjax.losses.binomial_deviance import binomial_deviance_loss
from rankjax.losses.contrastive import (
    contrastive_loss,
    signal_to_noise_contrastive_loss,
)
from rankjax.losses.intra_pair_variance import intra_pair_variance_loss
from rankjax.losses.margin import margin_loss
from rankjax.losses.positive_negative import positive_negative_loss
from rankjax.losses.threshold_consistent import threshold_consistent_margin_loss

# Slow loops from the papers


def _split(s, y):
    """Values of all positive and of all negative pairs."""
    rows = [(s[i], *reference.sides(y, i)) for i in range(len(y))]
    return (
        [row[j] for row, positives, _ in rows for j in positives],
        [row[j] for row, _, negatives in rows for j in negatives],
    )


def _cosine(x, y):
    return _split(reference.similarity_matrix("cosine", x), y)


def _cosine_contrastive(x, y, threshold, squared):
    power, half = (2, 0.5) if squared else (1, 1.0)
    positives, negatives = _cosine(x, y)
    return reference.mean([half * (1 - s) ** power for s in positives]) + (
        reference.mean([half * max(0.0, s - threshold) ** power for s in negatives])
    )


def _signal_to_noise(x, y, margin=1.0):
    ratio = np.array([[np.var(r - a) / np.var(a) for r in x] for a in x])
    positives, negatives = _split(ratio, y)
    return reference.mean(positives) + reference.mean(
        [max(0.0, margin - d) for d in negatives]
    )


def _threshold_consistent(x, y, weights=(1.0, 1.0), margins=(0.9, 0.5)):
    positives, negatives = _cosine(x, y)
    loose = [margins[0] - s for s in positives if s <= margins[0]]
    close = [s - margins[1] for s in negatives if s >= margins[1]]
    return weights[0] * reference.mean(loose) + weights[1] * reference.mean(close)


def _intra_pair_variance(x, y, epsilon=0.01):
    positives, negatives = _cosine(x, y)
    least = (1 - epsilon) * reference.mean(positives)
    most = (1 + epsilon) * reference.mean(negatives)
    return reference.mean([max(0.0, least - s) ** 2 for s in positives]) + (
        reference.mean([max(0.0, s - most) ** 2 for s in negatives])
    )


def _margin(x, y, beta=1.2, nu=0.0, reduce=reference.mean):
    d = -reference.similarity_matrix("negative_euclidean", x)
    values = []
    for i in range(len(y)):
        boundary = beta if isinstance(beta, float) else beta[y[i]]
        for j in range(len(y)):
            if i != j:
                sign = 1 if y[i] == y[j] else -1
                hinge = max(0.0, 0.2 + sign * (d[i, j] - boundary))
                values.append(hinge + nu * boundary)
    return reduce(values)


def _binomial_deviance(x, y):
    positives, negatives = _cosine(x, y)
    return reference.mean([np.log1p(np.exp(-2 * (s - 0.5))) for s in positives]) + (
        reference.mean([np.log1p(np.exp(50 * (s - 0.5))) for s in negatives])
    )


def _positive_negative(x, y, margin=1.0, name="negative_euclidean", semi_hard=False):
    d = -reference.similarity_matrix(name, x)
    values = []
    for a in range(len(y)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            for n in negatives:
                band = d[a, p] < d[a, n] < d[a, p] + (margin or 0)
                if band or not semi_hard:
                    gap = d[a, p] - min(d[a, n], d[p, n])
                    values.append(reference.hinge(gap, margin))
    return reference.mean(values)


TABLE = np.array([0.9, 1.7, 2.2, 1.3, 3.0, 1.0, 2.0, 2.5], np.float32)
CASES = {
    "contrastive": Case(
        reference.contrastive, params={"margin": 1.5, "positive_margin": 0.5}
    ),
    "contrastive, not squared": Case(
        functools.partial(reference.contrastive, squared=False),
        loss=functools.partial(contrastive_loss, squared=False),
        params={"margin": 2.5, "positive_margin": 0.5},
    ),
    "contrastive, hinges on cosine": Case(
        functools.partial(_cosine_contrastive, threshold=0.3, squared=False),
        loss=functools.partial(
            contrastive_loss, margin=-0.3, positive_margin=-1.0, squared=False
        ),
        similarity=similarity.cosine,
    ),
    "contrastive, squared hinges on cosine": Case(
        functools.partial(_cosine_contrastive, threshold=0.3, squared=True),
        loss=functools.partial(contrastive_loss, margin=-0.3, positive_margin=-1.0),
        similarity=similarity.cosine,
    ),
    "signal_to_noise_contrastive": Case(
        _signal_to_noise, params={"margin": 1.5, "positive_margin": 0.5}
    ),
    "threshold_consistent_margin": Case(
        _threshold_consistent,
        params={
            "positive_margin": 0.7,
            "negative_margin": 0.1,
            "positive_weight": 2.0,
            "negative_weight": 0.5,
        },
    ),
    "intra_pair_variance": Case(
        _intra_pair_variance,
        params={"positive_epsilon": 0.1, "negative_epsilon": 0.2},
    ),
    "margin": Case(_margin, params={"margin": 0.5, "beta": 2.0, "nu": 0.1}),
    "margin, a boundary per class": Case(
        functools.partial(_margin, beta=TABLE, nu=0.1),
        loss=functools.partial(margin_loss, beta=TABLE, nu=0.1),
        table=True,
    ),
    "margin, mean over active pairs": Case(
        functools.partial(_margin, beta=2.0, reduce=reference.mean_nonzero),
        loss=functools.partial(margin_loss, beta=2.0),
        reduction=rankjax.mean_active,
        params={"margin": 0.5},
    ),
    "binomial_deviance": Case(
        _binomial_deviance,
        params={"alpha": 1.5, "threshold": 0.2, "negative_cost": 3.0},
    ),
    "positive_negative": Case(_positive_negative, params={"margin": 0.5}),
    "positive_negative, soft, on cosine": Case(
        functools.partial(_positive_negative, margin=None, name="cosine"),
        loss=functools.partial(positive_negative_loss, margin=None),
        similarity=similarity.cosine,
    ),
    "positive_negative, semi-hard": Case(
        functools.partial(_positive_negative, semi_hard=True),
        loss=functools.partial(positive_negative_loss, selection=mining.semi_hard),
    ),
}

# Properties

LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
ROW = np.arange(10)
POSITIVE = (LABELS[:, None] == LABELS) & (ROW[:, None] != ROW)
NEGATIVE = LABELS[:, None] != LABELS
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 6))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def close(actual, expected, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


@functools.cache
def _on_matrix(loss, reduction=rankjax.mean):
    """Value and gradients of given similarities [10, 10] and of the settings."""

    def compute(s, params):
        measured = rankjax.objective(
            loss, similarity=lambda a, r: s, reduction=reduction
        )
        return measured(EMBEDDINGS, LABELS, params=params)

    return jax.jit(jax.value_and_grad(compute, (0, 1)))


def on_matrix(loss, s, reduction=rankjax.mean, **params):
    params = jax.tree.map(jnp.float64, params)
    return _on_matrix(loss, reduction)(jnp.asarray(s), params)


def cosines(seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (10, 10))


def distances(seed=1):
    return np.random.default_rng(seed).uniform(0, 2, (10, 10))


@functools.cache
def _on_rows(loss):
    compute = rankjax.objective(loss)
    return jax.jit(jax.value_and_grad(lambda x, y, **given: compute(x, y, **given)))


def on_rows(loss, x, y, **params):
    return _on_rows(loss)(jnp.asarray(x, jnp.float64), y, params=params)


def slopes(pull, push):
    """Gradient of a mean over positives plus a mean over negatives."""
    return np.where(POSITIVE, pull / POSITIVE.sum(), 0) + np.where(
        NEGATIVE, push / NEGATIVE.sum(), 0
    )


# Contrastive


def test_contrastive_hinges_pull_and_push_with_force_one_inside_their_margins():
    d = distances()
    unsquared = functools.partial(contrastive_loss, squared=False)
    _, (grad, _) = on_matrix(unsquared, -d, margin=1.2, positive_margin=0.4)
    close(grad, slopes(-1.0 * (d > 0.4), 1.0 * (d < 1.2)))


def test_squared_contrastive_hinges_pull_and_push_in_proportion_to_the_violation():
    d = distances()
    _, (grad, _) = on_matrix(contrastive_loss, -d, margin=1.2, positive_margin=0.4)
    close(grad, slopes(-np.maximum(d - 0.4, 0), np.maximum(1.2 - d, 0)))


# Signal to noise


def test_the_ratio_of_a_row_with_noise_is_the_noise_over_the_signal():
    signal = np.array([1.0, -1.0, 1.0, -1.0])
    noise = np.array([1.0, 1.0, -1.0, -1.0])  # as strong, and not correlated
    x = np.stack([signal, signal + 0.5 * noise])
    ratios = [0.25 / 1.0, 0.25 / 1.25]  # each of the two rows as the anchor
    value, _ = on_rows(signal_to_noise_contrastive_loss, x, np.zeros(2, int))
    close(value, np.mean(ratios))
    value, _ = on_rows(signal_to_noise_contrastive_loss, x, np.arange(2))
    close(value, 1 - np.mean(ratios))


@pytest.mark.parametrize("change", ["scale", "offset of each row"])
def test_signal_to_noise_does_not_see(change):
    offsets = np.arange(10.0)[:, None]
    changed = {"scale": 3 * EMBEDDINGS, "offset of each row": EMBEDDINGS + offsets}
    expected, _ = on_rows(signal_to_noise_contrastive_loss, EMBEDDINGS, LABELS)
    value, _ = on_rows(signal_to_noise_contrastive_loss, changed[change], LABELS)
    close(value, expected)


# Threshold-consistent margin


def test_threshold_consistent_margin_has_the_values_of_a_hand_calculation():
    angles = np.radians([0.0, 60.0, 75.0, 90.0])
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    y = np.array([0, 0, 1, 1])
    # Positives: cos 60 = 0.5 and cos 15 = 0.966, which is beyond 0.9.
    # Negatives: cos 75 = 0.259, cos 90 = 0, cos 15 = 0.966, cos 30 = 0.866.
    far = (math.cos(math.radians(15)) - 0.5, math.cos(math.radians(30)) - 0.5)
    loss = threshold_consistent_margin_loss
    close(on_rows(loss, x, y)[0], 0.4 + np.mean(far))
    weights = {"positive_weight": 3.0, "negative_weight": 0.5}
    close(on_rows(loss, x, y, **weights)[0], 3 * 0.4 + 0.5 * np.mean(far))


def test_pairs_beyond_the_thresholds_neither_count_nor_get_a_gradient():
    s = cosines()
    loss = functools.partial(threshold_consistent_margin_loss, positive_margin=0.3)
    loose, near = POSITIVE & (s <= 0.3), NEGATIVE & (s >= 0.5)
    assert 0 < loose.sum() < POSITIVE.sum()
    value, (grad, _) = on_matrix(loss, s)
    close(value, (0.3 - s[loose]).mean() + (s[near] - 0.5).mean())
    close(grad, near / near.sum() - loose / loose.sum())
    easier = s + 0.5 * (POSITIVE & ~loose) - 0.5 * (NEGATIVE & ~near)
    close(on_matrix(loss, easier)[0], value)


# Intra-pair variance


def test_equal_positives_and_equal_negatives_have_no_variance():
    value, (grad, _) = on_matrix(intra_pair_variance_loss, np.where(POSITIVE, 0.7, 0.2))
    close(value, 0.0)
    close(grad, np.zeros((10, 10)))


def test_without_epsilon_each_side_is_a_variance_below_or_above_the_mean():
    s = cosines()
    value, _ = on_matrix(
        intra_pair_variance_loss, s, positive_epsilon=0.0, negative_epsilon=0.0
    )
    low, high = s[POSITIVE] - s[POSITIVE].mean(), s[NEGATIVE] - s[NEGATIVE].mean()
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    close(value, (low**2).mean() + (high**2).mean())


def test_gradients_flow_through_the_means_of_the_batch():
    s = cosines()
    below = np.maximum(0.9 * s[POSITIVE].mean() - s, 0)
    above = np.maximum(s - 1.2 * s[NEGATIVE].mean(), 0)
    _, (grad, _) = on_matrix(
        intra_pair_variance_loss, s, positive_epsilon=0.1, negative_epsilon=0.2
    )
    pull = 2 * (0.9 * below[POSITIVE].mean() - below)
    push = 2 * (above - 1.2 * above[NEGATIVE].mean())
    close(grad, slopes(pull, push))


# Margin


@pytest.mark.parametrize("reduction", [rankjax.mean, rankjax.mean_active])
def test_gradient_of_beta_is_active_negatives_minus_active_positives(reduction):
    d = distances()
    near, far = NEGATIVE & (d < 1.3), POSITIVE & (d > 0.9)
    count = near.sum() + far.sum() if reduction is rankjax.mean_active else 90
    value, (grad, params) = on_matrix(margin_loss, -d, reduction, beta=1.1, margin=0.2)
    close(value, ((1.3 - d)[near].sum() + (d - 0.9)[far].sum()) / count)
    close(params["beta"], (int(near.sum()) - int(far.sum())) / count)
    close(params["margin"], (near.sum() + far.sum()) / count)
    close(grad, (near * 1.0 - far) / count)


def test_each_class_learns_its_own_boundary():
    d = distances()
    table = np.array([0.7, 1.1, 1.5, 1.2, 9.0])
    boundary = table[LABELS][:, None]
    near, far = NEGATIVE & (d < boundary + 0.2), POSITIVE & (d > boundary - 0.2)
    value, (_, params) = on_matrix(margin_loss, -d, beta=table)
    hinges = (boundary + 0.2 - d)[near].sum() + (d - boundary + 0.2)[far].sum()
    close(value, hinges / 90)
    slope = (near * 1.0 - far).sum(1) / 90
    close(params["beta"], [slope[c == LABELS].sum() for c in range(5)])


def test_nu_adds_the_mean_boundary_of_the_pairs():
    d = distances()
    without, _ = on_matrix(margin_loss, -d, beta=1.1, nu=0.0)
    value, (_, params) = on_matrix(margin_loss, -d, beta=1.1, nu=0.3)
    close(value, without + 0.3 * 1.1)
    close(params["nu"], 1.1)


def test_a_pair_of_points_is_moved_with_force_one_along_the_line_between_them():
    x = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])  # 3 apart
    direction = np.array([1.0, 2.0, 2.0]) / 3
    _, grad = on_rows(margin_loss, x, np.zeros(2, int), beta=1.0)
    close(grad, [direction, -direction])
    _, grad = on_rows(margin_loss, x, np.arange(2), beta=4.0)
    close(grad, [-direction, direction])
    _, grad = on_rows(margin_loss, x, np.arange(2), beta=1.0)
    close(grad, np.zeros((2, 3)))


def test_a_table_of_boundaries_needs_single_labels():
    compute = rankjax.objective(margin_loss)
    with pytest.raises(ValueError, match="anchor_label"):
        compute(
            EMBEDDINGS, positive=POSITIVE, negative=NEGATIVE, params={"beta": TABLE}
        )


def test_labels_beyond_a_table_of_boundaries_make_the_loss_not_a_number():
    compute = rankjax.objective(margin_loss)
    y = np.array([0, 0, 1, 1, 7])
    for label, valid, finite in [(8, True, False), (-1, True, False), (8, False, True)]:
        labels = np.where(y == 1, label, y)
        valid = np.where(y == 1, valid, True)
        value = compute(EMBEDDINGS[:5], labels, valid=valid, params={"beta": TABLE})
        assert np.isfinite(value) == finite, (label, valid)
    with pytest.raises(ValueError, match=r"^beta must be a number or \[class\], got"):
        compute(EMBEDDINGS[:5], y, params={"beta": TABLE[None]})


# Binomial deviance


def test_binomial_deviance_at_the_threshold_is_twice_log_two():
    value, _ = on_matrix(binomial_deviance_loss, np.full((10, 10), 0.5))
    close(value, 2 * math.log(2))


def test_slopes_of_binomial_deviance_are_sigmoids():
    s = cosines()
    settings = {"alpha": 3.0, "threshold": 0.2, "negative_cost": 4.0}
    _, (grad, _) = on_matrix(binomial_deviance_loss, s, **settings)
    pull = -3 / (1 + np.exp(3 * (s - 0.2)))
    push = 12 / (1 + np.exp(-12 * (s - 0.2)))
    close(grad, slopes(pull, push))


def test_sharp_binomial_deviance_approaches_hinges_at_the_threshold():
    s = cosines()
    settings = {"alpha": 1e6, "threshold": 0.2, "negative_cost": 1.0}
    value, _ = on_matrix(binomial_deviance_loss, s, **settings)
    pull, push = np.maximum(0.2 - s[POSITIVE], 0), np.maximum(s[NEGATIVE] - 0.2, 0)
    close(value / 1e6, pull.mean() + push.mean(), atol=1e-6)


# Positive-negative


def test_positive_negative_is_the_worse_of_the_triplet_and_its_swap():
    points = np.random.default_rng(4).normal(size=(40, 3, 6))
    pair = lambda i, j: (np.arange(9) == 3 * i + j).reshape(3, 3)  # noqa: E731
    compute = rankjax.objective(positive_negative_loss)
    one = lambda x: compute(  # noqa: E731
        x, positive=pair(0, 1), negative=pair(0, 2), params={"margin": 1.0}
    )
    values = jax.jit(jax.vmap(one))(points)
    a, p, n = np.moveaxis(points, 1, 0)
    apart = lambda u, v: np.linalg.norm(u - v, axis=-1)  # noqa: E731
    triplet = np.maximum(apart(a, p) - apart(a, n) + 1, 0)
    swapped = np.maximum(apart(p, a) - apart(p, n) + 1, 0)
    assert np.any(triplet > swapped)
    assert np.any(triplet < swapped)
    close(values, np.maximum(triplet, swapped))


def test_positive_negative_needs_the_rows_of_positives():
    pairs = rankjax.Pairs(*map(jnp.asarray, (cosines(), POSITIVE, NEGATIVE)))
    with pytest.raises(ValueError, match="reference_embeddings"):
        positive_negative_loss(pairs)
