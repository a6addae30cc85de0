"""Losses on two views, the potential field and GE2E: cases and papers' properties."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case
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


def slow_vic_reg(x, y):
    a, b = views(x, y)
    n, d = a.shape
    loss = 25 * sum(((a[i] - b[i]) ** 2).sum() / d for i in range(n)) / n
    for view in (a, b):
        for k in range(d):
            for m in range(d):
                first, second = (view[:, j] - mean(list(view[:, j])) for j in (k, m))
                covariance = (first * second).sum() / (n - 1)
                if k == m:
                    loss += 25 * max(0, 1 - math.sqrt(covariance + 1e-4)) / d / 2
                else:
                    loss += covariance**2 / d
    return loss


def slow_barlow_twins(x, y):
    a, b = views(x, y)
    d = a.shape[1]
    loss = 0.0
    for k in range(d):
        for m in range(d):
            correlation = np.corrcoef(a[:, k], b[:, m])[0, 1]
            loss += (1 - correlation) ** 2 if k == m else 5e-3 * correlation**2
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


def slow_generalized_end_to_end(x, y, variant="softmax"):
    def score(i, members):
        centre = sum(unit(x)[j] for j in members)
        return 10 * (unit(x)[i] @ centre) / np.linalg.norm(centre) - 5

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


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def _value_and_grad(loss, reduction=rankjax.mean):
    compute = rankjax.objective(loss, reduction=reduction)
    return jax.jit(
        jax.value_and_grad(lambda x, y, params: compute(x, y, params=params))
    )


def evaluate(loss, x, y, **params):
    return _value_and_grad(loss)(x, y, params)


def close(actual, expected, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


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


def test_vic_reg_is_zero_for_equal_views_that_are_white():
    loss, grad = evaluate(vic_reg_loss, interleave(WHITE, WHITE) + 3, PAIRED)
    close(loss, 0)
    close(grad, np.zeros((2 * N, DIM)))


def test_vic_reg_of_collapsed_views_is_the_variance_hinge():
    loss, grad = evaluate(vic_reg_loss, np.ones((2 * N, DIM)), PAIRED)
    close(loss, 25 * (1 - 0.01))
    assert np.isfinite(grad).all()


def test_vic_reg_invariance_is_the_mean_squared_difference():
    shift = np.array([0.5, -1.0, 2.0, 0.0])
    loss, grad = evaluate(vic_reg_loss, interleave(WHITE, WHITE + shift), PAIRED)
    close(loss, 25 * (shift**2).mean())
    close(grad[0::2], -25 * 2 * np.tile(shift, (N, 1)) / (N * DIM))


def test_vic_reg_covariance_is_summed_over_both_views():
    """Two of four dimensions equal: one covariance of 1, twice, in each view."""
    alike = WHITE[:, [0, 0, 1, 2]]
    close(evaluate(vic_reg_loss, interleave(alike, alike), PAIRED)[0], 2 * 2 / DIM)


def test_vic_reg_does_not_depend_on_the_origin():
    moved, expected = (evaluate(vic_reg_loss, ANY + c, PAIRED) for c in (100.0, 0.0))
    close(moved[0], expected[0])
    close(moved[1], expected[1])


@pytest.mark.parametrize("loss", [vic_reg_loss, barlow_twins_loss])
def test_one_pair_of_views_has_no_batch_statistics(loss):
    labels = np.where(np.arange(2 * N) < 2, 0, np.arange(2 * N))
    value, grad = evaluate(loss, ANY, labels)
    invariance = 25 * ((ANY[0] - ANY[1]) ** 2).mean()
    close(value, invariance if loss is vic_reg_loss else 0)
    assert not np.any(grad[2:])


# Barlow Twins


def test_barlow_twins_is_zero_for_equal_views_that_are_white():
    loss, grad = evaluate(barlow_twins_loss, interleave(WHITE, WHITE), PAIRED)
    close(loss, 0)
    close(grad, np.zeros((2 * N, DIM)))


def test_barlow_twins_of_opposite_views_is_four_per_dimension():
    loss = evaluate(barlow_twins_loss, interleave(WHITE, -WHITE), PAIRED)[0]
    close(loss, 4 * DIM)


def test_barlow_twins_does_not_see_scale_and_origin_of_a_dimension():
    scaled = ANY * np.array([1e-3, 1.0, 7.0, 1e3]) + np.array([5.0, -1.0, 0.0, 9.0])
    expected = evaluate(barlow_twins_loss, ANY, PAIRED)[0]
    assert expected > 0.5
    close(evaluate(barlow_twins_loss, scaled, PAIRED)[0], expected)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
def test_a_dimension_without_variance_costs_one_and_gets_no_gradient(constant):
    white = interleave(WHITE, WHITE)
    white[:, 2] = constant
    loss, grad = evaluate(barlow_twins_loss, white, PAIRED)
    close(loss, 1)
    close(grad, np.zeros((2 * N, DIM)))


# Potential field


def _force(distance, same, decay=3.0):
    """Slope of the energy of two rows by their distance, up to the chord's."""
    angle = 2 * np.arcsin(distance / 2)
    x = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    labels = np.array([0, 0 if same else 1])
    grad = evaluate(potential_field_loss, x, labels, decay=decay, radius=0.4)[1]
    chord_by_angle = np.cos(angle / 2)
    return (grad[1] @ np.array([-np.sin(angle), np.cos(angle)])) / chord_by_angle


@pytest.mark.parametrize("decay", [1.0, 3.0])
def test_attraction_falls_with_distance_and_ends_within_the_radius(decay):
    for distance in (0.5, 1.0, 1.5):
        close(_force(distance, True, decay), decay * distance ** -(decay + 1))
    assert _force(0.3, True, decay) == 0


@pytest.mark.parametrize("decay", [1.0, 3.0])
def test_repulsion_falls_with_distance_and_ends_beyond_the_radius(decay):
    for distance in (0.05, 0.1, 0.3):
        close(_force(distance, False, decay), -decay * distance ** -(decay + 1))
    assert _force(0.5, False, decay) == 0


def test_total_is_the_energy_over_ordered_pairs():
    close(
        _value_and_grad(potential_field_loss, rankjax.total)(ANY, PAIRED, {})[0],
        slow_potential_field(ANY, PAIRED) * 2 * N * (2 * N - 1),
    )


# GE2E

UNEVEN = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4])
contrast = functools.partial(generalized_end_to_end_loss, variant="contrast")


def test_collapsed_ge2e_is_the_logarithm_of_the_number_of_classes():
    loss = evaluate(generalized_end_to_end_loss, np.ones((16, DIM)), UNEVEN)[0]
    close(loss, math.log(5))
    close(evaluate(contrast, np.ones((16, DIM)), UNEVEN)[0], 1)


def test_ge2e_of_orthogonal_classes_has_the_closed_form():
    x = np.eye(5)[UNEVEN]
    loss = evaluate(generalized_end_to_end_loss, x, UNEVEN, scale=3.0)[0]
    close(loss, math.log(1 + 4 * math.exp(-3)))
    own, other = (1 / (1 + math.exp(-z)) for z in (3.0 - 1.0, -1.0))
    loss = evaluate(contrast, x, UNEVEN, scale=3.0, offset=-1.0)[0]
    close(loss, 1 - own + other)


def test_the_offset_has_no_effect_in_the_softmax():
    first, second = (
        evaluate(generalized_end_to_end_loss, ANY, UNEVEN, scale=10.0, offset=b)
        for b in (-5.0, 2.0)
    )
    close(first[0], second[0])
    close(first[1], second[1])


def test_the_anchor_is_left_out_of_its_own_class():
    """Of a class of two the other row is the mean, however near the anchor is to it."""
    x = np.array([[1.0, 0], [0, 1.0], [-1.0, 0], [-1.0, 0]])
    run = functools.partial(evaluate, generalized_end_to_end_loss, scale=1.0)
    value = run(x, np.array([0, 0, 1, 1]))[0]
    far, near = np.log1p(np.exp(-1.0)), np.log1p(1.0)
    opposite = np.log1p(np.exp(-1 / math.sqrt(2) - 1))
    close(value, (far + near + 2 * opposite) / 4)


def test_a_class_whose_rows_cancel_has_cosine_zero():
    x = np.array([[1.0, 0], [1.0, 0], [0.6, 0.8], [-0.6, -0.8]])
    loss, grad = evaluate(
        generalized_end_to_end_loss, x, np.array([0, 0, 1, 1]), scale=1.0
    )
    ours = math.log1p(math.exp(-1.0))
    theirs = [math.log1p(math.exp(s + 1)) for s in (0.6, -0.6)]
    close(loss, (2 * ours + sum(theirs)) / 4)
    assert np.isfinite(grad).all()


def test_ge2e_needs_labels():
    mask = jnp.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"needs Pairs\.reference_label"):
        generalized_end_to_end_loss(rankjax.Pairs(jnp.ones((2, 2)), mask, mask))
    label = jnp.arange(2)
    pairs = rankjax.Pairs(jnp.ones((2, 2)), mask, mask, reference_label=label)
    with pytest.raises(ValueError, match=r"needs Pairs\.reference_embeddings"):
        generalized_end_to_end_loss(pairs)
