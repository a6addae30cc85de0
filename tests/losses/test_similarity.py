"""Similarities equal loops, and their gradients are right where distances vanish."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation import close
from jax.extend.core import jaxprs_in_params
from jax.test_util import check_grads

from rankjax import similarity
from rankjax.similarity import (
    SIMILARITIES,
    negative_euclidean,
    negative_hyperbolic,
    negative_lp,
    negative_snr_distance,
    negative_squared_euclidean,
)

RNG = np.random.default_rng(0)
A, R = RNG.normal(size=(4, 5)), RNG.normal(size=(7, 5))


pytestmark = pytest.mark.usefixtures("double_precision")


def to_ball(x, c, clip):
    length = np.linalg.norm(x)
    x = x * min(1, clip / length)
    length = np.linalg.norm(x)
    return math.tanh(math.sqrt(c) * length) / (math.sqrt(c) * length) * x


def moebius(x, y, c):
    xy, xx, yy = x @ y, x @ x, y @ y
    top = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    return top / (1 + 2 * c * xy + c**2 * xx * yy)


def slow_hyperbolic(a, r, c=0.1, clip=2.3):
    x, y = to_ball(a, c, clip), to_ball(r, c, clip)
    norm = np.linalg.norm(moebius(-x, y, c))
    return -2 / math.sqrt(c) * math.atanh(math.sqrt(c) * norm)


SLOW = {
    "cosine": lambda a, r: a @ r / np.linalg.norm(a) / np.linalg.norm(r),
    "dot": lambda a, r: a @ r,
    "negative_euclidean": lambda a, r: -math.sqrt(((a - r) ** 2).sum()),
    "negative_squared_euclidean": lambda a, r: -((a - r) ** 2).sum(),
    "negative_normalized_euclidean": lambda a, r: (
        -np.linalg.norm(a / np.linalg.norm(a) - r / np.linalg.norm(r))
    ),
    "negative_lp": lambda a, r: -sum(abs(a[k] - r[k]) for k in range(len(a))),
    "negative_snr_distance": lambda a, r: -np.var(r - a) / np.var(a),
    "negative_hyperbolic": slow_hyperbolic,
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_equals_loops_and_finite_differences(name):
    measure = jax.jit(SIMILARITIES[name])
    close(measure(A, R), [[SLOW[name](a, r) for r in R] for a in A])
    check_grads(measure, (jnp.asarray(A), jnp.asarray(R)), order=1, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_results_are_at_least_float32(name, dtype):
    rows = jax.ShapeDtypeStruct((4, 5), jnp.dtype(dtype))
    s = jax.eval_shape(SIMILARITIES[name], rows, rows)
    assert s.dtype == (jnp.float64 if dtype == "float64" else jnp.float32)


HARD = {
    "zero": np.zeros((3, 5)),
    "equal": np.full((3, 5), 0.1),
    "duplicates": A[[0, 0, 1]],
    "opposite": np.stack([A[0], -A[0], A[1]]),
    "huge": A[:3] * 1e8,
    "tiny": A[:3] * 1e-12,
    "mixed": A[:3] * np.array([[1e-12], [1.0], [1e8]]),
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_values_and_gradients_stay_finite_in_float32(name):
    measure = SIMILARITIES[name]
    both = jax.jit(jax.value_and_grad(lambda x: (measure(x, x)).sum()))
    for hard, x in HARD.items():
        value, grad = both(x.astype(np.float32))
        assert np.isfinite(value), hard
        assert np.isfinite(grad).all(), hard


DISTANCES = sorted(SIMILARITIES.keys() - {"cosine", "dot"})


@pytest.mark.parametrize("name", DISTANCES)
def test_coincident_rows_are_at_distance_zero_without_gradient(name):
    x = jnp.asarray(A[:1])
    run = jax.jit(jax.value_and_grad(lambda r: SIMILARITIES[name](x, r).sum()))
    value, grad = run(x)
    close(value, 0, atol=1e-7)
    close(grad, 0, atol=1e-15)


def test_settings_out_of_range_are_refused():
    for p in (0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="p must be at least 1 and finite"):
            negative_lp(A, R, p=p)
    with pytest.raises(ValueError, match="curvature must be above 0, got 0"):
        negative_hyperbolic(A, R, curvature=0)
    with pytest.raises(ValueError, match="clip must be above 0, got -1"):
        negative_hyperbolic(A, R, clip=-1)


# Lp

lp = jax.jit(lambda a, r, p: negative_lp(a, r, p=p))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 8.0])
def test_lp_equals_loops(p):
    expected = [[-np.linalg.norm(a - r, ord=p) for r in R] for a in A]
    close(lp(A, R, p), expected)
    close(negative_lp(A, R, p=p), expected)


def test_lp_has_gradients_by_rows_and_by_p():
    check_grads(lp, (*map(jnp.asarray, (A, R)), 1.75), order=1, eps=1e-6, atol=1e-6)


def test_lp_tends_to_the_largest_difference():
    largest = -np.abs(A[:, None] - R[None]).max(-1)
    close(lp(A, R, 500.0), largest, rtol=1e-2)


_lp_grad = jax.jit(jax.grad(lambda a, r, p: negative_lp(a, r, p=p).sum()))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 4.0])
def test_lp_has_no_gradient_in_coordinates_that_coincide(p):
    a = jnp.array([[1.0, 2.0, 3.0]])
    r = jnp.array([[1.0, 2.0, 7.0], [1.0, 2.0, 3.0]])
    close(_lp_grad(a, r, p), [[0, 0, 1]])


def test_lp_never_holds_an_array_of_all_three_axes():
    rows, dim = 40, 30
    operands = jnp.ones((rows, dim)), jnp.zeros((rows + 1, dim))

    def shapes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.shape for v in equation.outvars)
            for inner in jaxprs_in_params(equation.params):
                yield from shapes(inner)

    step = jax.grad(lambda a, r: negative_lp(a, r).sum(), argnums=(0, 1))
    found = list(shapes(jax.make_jaxpr(step)(*operands).jaxpr))
    assert max(math.prod(shape) for shape in found) < rows * rows * dim
    assert (rows + 1, dim) in found


# Signal-to-noise ratio


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
def test_an_anchor_without_signal_has_a_row_of_zeros(constant):
    anchors = jnp.full((1, 5), constant, jnp.float32)
    references = jnp.asarray(R, jnp.float32)
    assert not np.any(jax.jit(negative_snr_distance)(anchors, references))


# Hyperbolic

hyperbolic = jax.jit(negative_hyperbolic, static_argnames="clip")


def test_hyperbolic_tends_to_twice_the_euclidean_distance():
    for curvature, error in ((1e-4, 1e-2), (1e-8, 1e-6)):
        s = hyperbolic(A, R, curvature=curvature, clip=1e3)
        close(s, 2 * negative_euclidean(A, R), rtol=error)


def test_rows_beyond_the_clip_keep_their_direction_alone():
    beyond = 3 * R / np.linalg.norm(R, axis=1, keepdims=True)
    close(hyperbolic(A, beyond), hyperbolic(A, 1e6 * beyond))
    grad = jax.jit(jax.grad(lambda r: hyperbolic(jnp.asarray(A), r).sum()))(beyond)
    close((grad * beyond).sum(1), np.zeros(7))


def test_hyperbolic_sees_the_direction_alone_of_rows_whose_length_overflows():
    x = jnp.asarray([[3e38, 3e38, 1e38], [-3e38, 2e38, 3e38]], jnp.float32)
    close(negative_hyperbolic(x, x), negative_hyperbolic(x * 1e-30, x * 1e-30), 1e-5)


def test_hyperbolic_has_the_gradient_of_the_limit_at_zero():
    """Near the origin the distance is twice the Euclidean one."""
    r = jnp.array([[1e-3, 0.0]])
    distance = lambda a: -hyperbolic(a, r).sum()  # noqa: E731
    close(jax.jit(jax.grad(distance))(jnp.zeros((1, 2))), [[-2.0, 0.0]], rtol=1e-5)


@pytest.mark.parametrize("curvature", [0.05, 1.0])
def test_hyperbolic_equals_moebius_addition_and_has_a_gradient_by_curvature(curvature):
    expected = [[slow_hyperbolic(a, r, curvature, 1.7) for r in R] for a in A]
    measure = functools.partial(hyperbolic, clip=1.7)
    close(measure(A, R, curvature=curvature), expected)
    by_curvature = lambda c: measure(A, R, curvature=c)  # noqa: E731
    check_grads(by_curvature, (jnp.asarray(curvature),), order=1, eps=1e-6, atol=1e-6)


# Lengths


@pytest.mark.parametrize("end", ["max", "tiny"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_directions_and_lengths_hold_up_to_both_ends_of_the_numbers(dtype, end, wrap):
    x = np.array([[1, 0.5, 0], [-1, 0.25, 1], [0.5, 0.5, -0.5]], dtype)
    factor = getattr(np.finfo(dtype), end) * np.asarray(0.5 if end == "max" else 8)
    scaled = (x * factor).astype(dtype)
    lengths = np.asarray(wrap(similarity.lengths)(scaled)) / factor
    close(lengths, np.linalg.norm(x, axis=1), 1e-6)
    for function in (
        "cosine",
        "negative_normalized_euclidean",
        "negative_snr_distance",
    ):
        of = wrap(SIMILARITIES[function])
        close(of(scaled, scaled[:2]), of(x, x[:2]), 1e-5, 1e-3)
    less = 8 if end == "max" else 1  # a difference must be a number too
    lp = np.asarray(wrap(similarity.negative_lp)(scaled / less, scaled[:2] / less))
    close(lp / (factor / less), similarity.negative_lp(x, x[:2]), 1e-5)


def test_squared_distances_survive_a_far_origin():
    far = negative_squared_euclidean(A + 1e6, R + 1e6)
    close(far, negative_squared_euclidean(A, R), rtol=1e-7)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_row_that_is_not_a_number_leaves_the_others_as_they_are(name):
    x = np.random.default_rng(6).normal(size=(5, 3)).astype(np.float32)
    expected = SIMILARITIES[name](x, x.copy())
    x[2, 1] = np.nan
    for references in (x, x.copy()):  # the same array, and another
        found = np.array(SIMILARITIES[name](x, references))
        assert np.isnan(found[2]).all()
        assert np.isnan(found[:, 2]).all()
        others = np.ix_([0, 1, 3, 4], [0, 1, 3, 4])
        np.testing.assert_allclose(
            found[others], np.asarray(expected)[others], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("scale", [1e-8, 1e-15])
@pytest.mark.parametrize("name", ["negative_euclidean", "negative_snr_distance"])
def test_short_rows_keep_their_distances(name, scale):
    x = np.random.default_rng(6).normal(size=(5, 3)).astype(np.float32)
    factor = scale if name == "negative_euclidean" else 1
    found = SIMILARITIES[name](x * np.float32(scale), x * np.float32(scale))
    expected = factor * np.asarray(SIMILARITIES[name](x, x.copy()))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * factor)


def test_the_gradient_of_a_matrix_with_itself_is_that_of_two_matrices():
    x = np.random.default_rng(7).normal(size=(6, 3)).astype(np.float32)
    weight = np.random.default_rng(8).normal(size=(6, 6)).astype(np.float32)
    both = jax.grad(lambda x: jnp.sum(weight * jnp.sin(similarity.cosine(x, x))))(
        jnp.asarray(x)
    )
    one, other = jax.grad(
        lambda a, r: jnp.sum(weight * jnp.sin(similarity.cosine(a, r))), argnums=(0, 1)
    )(jnp.asarray(x), jnp.asarray(x))
    np.testing.assert_allclose(both, one + other, rtol=1e-5, atol=1e-6)
