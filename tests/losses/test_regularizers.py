"""Regularisers: cases for the conformance tests, and closed forms."""

import functools
import math

import numpy as np
import pytest
from cases import Case
from evaluation import close, evaluate
from reference import mean, sides, similarity_matrix

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


def slow_koleo(x, y, epsilon=1e-8):
    d, n = distances(x), len(x)
    nearest = [min(d[i, j] for j in range(n) if j != i) for i in range(n)]
    return mean([-math.log(v + epsilon) for v in nearest])


def slow_uniformity(x, y, temperature=2.0):
    d, n = distances(x), len(x)
    kernel = [math.exp(-temperature * d[i, j] ** 2) for i in range(n) for j in range(i)]
    return math.log(mean(kernel))


def slow_positive_distances(x, y, power, factor):
    d = distances(x)
    return factor * mean(
        [d[i, j] ** power for i in range(len(x)) for j in sides(y, i)[0]]
    )


def slow_regular_face(x, y):
    s = similarity_matrix("cosine", x)
    return mean([max(s[i, j] for j in sides(y, i)[1]) for i in range(len(x))])


def slow_anti_collapse(x, y, distortion=0.5):
    squares = np.linalg.svd(unit(x))[1] ** 2
    return -np.log1p(squares * x.shape[1] / len(x) / distortion).sum() / 2


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
    "anti_collapse": Case(slow_anti_collapse, params={"distortion": 0.2}),
    "sparse_centers": Case(
        functools.partial(slow_positive_distances, power=1, factor=0.5)
    ),
    "regular_face": Case(slow_regular_face),
}


pytestmark = pytest.mark.usefixtures("double_precision")


N, DIM = 12, 4
ALONE = np.arange(N)
ANY = np.random.default_rng(0).normal(size=(N, DIM))
COLLAPSED = np.tile([[0.0, 3.0, 0.0, 4.0]], (N, 1))


def test_coincident_rows_have_a_finite_koleo_and_no_gradient():
    loss, grad = evaluate(regularizers.koleo, COLLAPSED, ALONE)
    close(loss, -math.log(1e-8))
    assert not np.any(grad)


# SVMax


def test_sv_max_of_fewer_rows_than_dimensions_is_the_mean_over_the_rows():
    x = ANY[:2] / np.linalg.norm(ANY[:2], axis=1, keepdims=True)
    expected = -np.linalg.svd(x, compute_uv=False).mean()
    close(evaluate(regularizers.sv_max, 7 * x, ALONE[:2])[0], expected)
