"""Regularisers: cases for the conformance tests, and closed forms."""

import functools
import math

import jax
import numpy as np
import pytest
from cases import Case
from reference import mean, sides, similarity_matrix

import rankjax
from rankjax import regularizers


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def distances(x):
    return -similarity_matrix("negative_euclidean", unit(x))


def slow_center_invariant(x, y):
    squares = [float(row @ row) for row in x]
    return mean([(s - mean(squares)) ** 2 / 4 for s in squares])


def slow_spherical_embedding(x, y):
    lengths = [math.sqrt(row @ row) for row in x]
    return mean([(length - mean(lengths)) ** 2 for length in lengths])


def slow_spread_out(x, y, dim=None):
    s = similarity_matrix("cosine", x)
    values = [s[i, j] for i in range(len(x)) for j in sides(y, i)[1]]
    second = mean([v**2 for v in values])
    return mean(values) ** 2 + max(0, second - (1 / (dim or x.shape[1])))


def slow_koleo(x, y):
    d, n = distances(x), len(x)
    nearest = [min(d[i, j] for j in range(n) if j != i) for i in range(n)]
    return mean([-math.log(v) for v in nearest])


def slow_uniformity(x, y):
    d, n = distances(x), len(x)
    kernel = [math.exp(-2 * d[i, j] ** 2) for i in range(n) for j in range(i)]
    return math.log(mean(kernel))


def slow_positive_distances(x, y, power, factor):
    d = distances(x)
    return factor * mean(
        [d[i, j] ** power for i in range(len(x)) for j in sides(y, i)[0]]
    )


def slow_regular_face(x, y):
    s = similarity_matrix("cosine", x)
    return mean([max(s[i, j] for j in sides(y, i)[1]) for i in range(len(x))])


CASES = {
    "squared_norm": Case(lambda x, y: mean([row @ row for row in x])),
    "norm": Case(lambda x, y: mean([math.sqrt(row @ row) for row in x])),
    "center_invariant": Case(slow_center_invariant),
    "spherical_embedding": Case(slow_spherical_embedding),
    "zero_mean": Case(lambda x, y: mean([abs(sum(row)) for row in x])),
    "spread_out": Case(slow_spread_out),
    "spread_out, dim": Case(
        functools.partial(slow_spread_out, dim=8),
        loss=functools.partial(regularizers.spread_out, dim=8),
    ),
    "koleo": Case(slow_koleo, params={"epsilon": 0.1}),
    "uniformity": Case(slow_uniformity, params={"temperature": 1.3}),
    "alignment": Case(functools.partial(slow_positive_distances, power=2, factor=1)),
    "sv_max": Case(lambda x, y: -np.linalg.svd(unit(x), compute_uv=False).mean()),
    "anti_collapse": Case(
        lambda x, y: (
            -np.log1p(np.linalg.svd(unit(x))[1] ** 2 * x.shape[1] / len(x) / 0.5).sum()
            / 2
        )
    ),
    "sparse_centers": Case(
        functools.partial(slow_positive_distances, power=1, factor=0.5)
    ),
    "regular_face": Case(slow_regular_face),
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def _value_and_grad(penalty):
    compute = rankjax.objective(penalty)
    return jax.jit(
        jax.value_and_grad(lambda x, y, params: compute(x, y, params=params))
    )


def evaluate(penalty, x, y=None, **params):
    """Value and gradient; by default every row is a class of its own."""
    return _value_and_grad(penalty)(x, np.arange(len(x)) if y is None else y, params)


def close(actual, expected, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


N, DIM = 12, 4
ANY = np.random.default_rng(0).normal(size=(N, DIM))
COLLAPSED = np.tile([[0.0, 3.0, 0.0, 4.0]], (N, 1))
# Each axis three times, at other lengths: a tight frame.
FRAME = np.tile(np.eye(DIM), (3, 1)) * np.linspace(1, 2, N)[:, None]
CROSS = np.concatenate([np.eye(DIM), -np.eye(DIM)])


def simplex(n):
    return np.eye(n) - 1 / n


def circle(n):
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def test_the_gradient_of_the_norm_is_the_direction_and_zero_at_zero():
    x = ANY.copy()
    x[3] = 0
    grad = evaluate(regularizers.norm, x)[1]
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    close(grad, np.where(lengths > 0, x / np.where(lengths > 0, lengths, 1), 0) / N)


@pytest.mark.parametrize("name", ["center_invariant", "spherical_embedding"])
def test_deviations_of_lengths_have_closed_forms(name):
    penalty = getattr(regularizers, name)
    loss, grad = evaluate(penalty, 3 * unit(ANY))
    close(loss, 0)
    close(grad, np.zeros_like(ANY))
    lengths = np.where(np.arange(N) % 2, 1.0, 3.0)[:, None]
    expected = {"center_invariant": (9 - 5) ** 2 / 4, "spherical_embedding": 1.0}
    close(evaluate(penalty, lengths * unit(ANY))[0], expected[name])


def test_zero_mean_counts_the_sum_of_a_rows_entries():
    centred = ANY - ANY.mean(1, keepdims=True)
    close(evaluate(regularizers.zero_mean, centred)[0], 0)
    close(evaluate(regularizers.zero_mean, centred - 0.5)[0], 0.5 * DIM)


# Spread-out

spread_out = regularizers.spread_out
half = functools.partial(spread_out, dim=2)
wide = functools.partial(spread_out, dim=4 * DIM)


def test_spread_out_of_collapsed_rows_is_two_less_one_over_dim():
    close(evaluate(spread_out, COLLAPSED)[0], 1 + (1 - 1 / DIM))
    close(evaluate(half, COLLAPSED)[0], 1 + (1 - 1 / 2))


def test_spread_out_vanishes_on_the_uniform_sphere():
    rows = np.random.default_rng(1).normal(size=(600, DIM))
    loss = evaluate(spread_out, rows)[0]
    assert 0 <= loss < 1e-3


def test_spread_out_of_the_cross_polytope_has_the_closed_form():
    """Of 2 d - 1 cosines per row one is -1 and the others 0: below 1 / d."""
    close(evaluate(spread_out, CROSS)[0], 1 / (2 * DIM - 1) ** 2)
    second = 1 / (2 * DIM - 1)
    close(evaluate(wide, CROSS)[0], second**2 + second - 1 / (4 * DIM))


def test_spread_out_does_not_see_positives():
    labels = np.arange(2 * DIM) % DIM
    close(evaluate(regularizers.spread_out, CROSS, labels)[0], 0)


# KoLeo


@pytest.mark.parametrize("n", [3, 6])
def test_koleo_of_equally_spaced_points_has_the_closed_form(n):
    expected = -math.log(2 * math.sin(math.pi / n) + 1e-8)
    for labels in (np.arange(n), np.zeros(n, int), np.arange(n) % 2):
        close(evaluate(regularizers.koleo, 5 * circle(n), labels)[0], expected)


def test_a_koleo_step_parts_the_nearest_rows():
    x = circle(6) + 0.05 * ANY[:6, :2]
    loss, grad = evaluate(regularizers.koleo, x)
    assert loss > evaluate(regularizers.koleo, x - 0.01 * grad)[0]


def test_coincident_rows_have_a_finite_koleo_and_no_gradient():
    loss, grad = evaluate(regularizers.koleo, COLLAPSED)
    close(loss, -math.log(1e-8))
    assert not np.any(grad)


# Uniformity and alignment


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_uniformity_has_closed_forms(temperature):
    run = functools.partial(evaluate, regularizers.uniformity, temperature=temperature)
    close(run(COLLAPSED)[0], 0)
    close(run(np.array([[2.0, 0, 0, 0], [-3.0, 0, 0, 0]]))[0], -4 * temperature)
    for n in (3, 5):
        close(run(simplex(n))[0], -temperature * 2 * n / (n - 1))


def test_the_simplex_is_the_minimum_of_uniformity():
    loss, grad = evaluate(regularizers.uniformity, simplex(5))
    close(grad, np.zeros((5, 5)))
    for seed in range(10):
        noise = 0.1 * np.random.default_rng(seed).normal(size=(5, 5))
        assert evaluate(regularizers.uniformity, simplex(5) + noise)[0] > loss


def test_alignment_of_two_rows_is_their_squared_chord():
    x = np.array([[2.0, 0.0], [0.6, 0.8]])
    labels = np.zeros(2, int)
    close(evaluate(regularizers.alignment, x, labels)[0], 0.4**2 + 0.8**2)
    close(evaluate(regularizers.alignment, 3 * x[[0, 0]], labels)[0], 0)


# SVMax


def test_sv_max_reaches_its_bounds_at_a_frame_and_at_collapse():
    run = functools.partial(evaluate, regularizers.sv_max)
    least, greatest = -math.sqrt(N / DIM), -math.sqrt(N) / DIM
    close(run(FRAME)[0], least)
    close(run(COLLAPSED)[0], greatest)
    assert least < run(ANY)[0] < greatest


def test_anti_collapse_reaches_its_bounds_at_a_frame_and_at_collapse():
    run = functools.partial(evaluate, regularizers.anti_collapse, distortion=0.2)
    least, greatest = -DIM / 2 * math.log1p(1 / 0.2), -math.log1p(DIM / 0.2) / 2
    close(run(FRAME)[0], least)
    close(run(COLLAPSED)[0], greatest)
    assert least < run(ANY)[0] < greatest


def test_sv_max_of_fewer_rows_than_dimensions_is_the_mean_over_the_rows():
    x = ANY[:2] / np.linalg.norm(ANY[:2], axis=1, keepdims=True)
    expected = -np.linalg.svd(x, compute_uv=False).mean()
    close(evaluate(regularizers.sv_max, 7 * x)[0], expected)


@pytest.mark.parametrize("rows", ["any", "frame"])
def test_the_gradient_of_sv_max_is_that_of_the_nuclear_norm(rows):
    """Of normalised x = U S V^T it is -U V^T / dim, also where values in S repeat."""
    x = {"any": ANY, "frame": FRAME}[rows]
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(x / lengths, full_matrices=False)
    slope = -u @ vt / DIM
    along = (slope * x).sum(1, keepdims=True) * x / lengths**2
    close(evaluate(regularizers.sv_max, x)[1], (slope - along) / lengths)


def test_sv_max_has_a_finite_gradient_at_collapse():
    assert np.isfinite(evaluate(regularizers.sv_max, COLLAPSED)[1]).all()
    assert np.isfinite(evaluate(regularizers.sv_max, 0 * COLLAPSED)[1]).all()


# Class vectors


def test_sparse_centers_is_half_the_distance_within_classes():
    x = np.array([[2.0, 0], [0, 3.0], [-1.0, 0], [-1.0, 0]])
    loss, grad = evaluate(regularizers.sparse_centers, x, np.array([0, 0, 1, 1]))
    close(loss, math.sqrt(2) / 2 / 2)
    close(grad[2:], np.zeros((2, 2)))


def test_regular_face_is_least_at_the_simplex():
    loss, _ = evaluate(regularizers.regular_face, simplex(5))
    close(loss, -1 / 4)
    for seed in range(10):
        noise = 0.1 * np.random.default_rng(seed).normal(size=(5, 5))
        assert evaluate(regularizers.regular_face, simplex(5) + noise)[0] > loss


# As a penalty


@pytest.mark.parametrize("name", CASES)
def test_as_a_penalty_it_adds_its_weight_times_its_value(name):
    penalty = CASES[name].loss or regularizers.REGULARIZERS[name]
    labels = np.arange(N) // 3
    nothing = rankjax.Terms.one_per_anchor
    base = lambda pairs: nothing(0 * pairs.similarity[:, 0], pairs.positive.any(-1))  # noqa: E731
    compute = rankjax.objective(base, regularizers=[(0.25, penalty)])
    close(compute(ANY, labels), 0.25 * CASES[name].slow(ANY, labels), 1e-6)
