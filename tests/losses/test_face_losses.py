"""Losses of face recognition that read lengths, draw margins, or share a threshold."""

import functools
import math

import jax
import numpy as np
import pytest
import reference
from cases import EMBEDDINGS, LABELS, Case
from evaluation import close

import rankjax
from rankjax import losses

Z = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
PROXIES = rankjax.References(Z, np.arange(8))


def softmax_loss(x, y, z, names, target, scale=64.0, other=lambda c, target: c):
    """Mean of -log softmax, by the target [row, cosine] and the other classes."""
    s, values = reference.similarity_matrix("cosine", x, z), []
    for i in range(len(y)):
        for j in range(len(names)):
            if names[j] == y[i]:
                own = target(i, s[i, j])
                against = sum(
                    math.exp(scale * other(s[i, k], own) - scale * own)
                    for k in range(len(names))
                    if names[k] != y[i]
                )
                values.append(math.log1p(against))
    return reference.mean(values)


def arc(c, margin):
    """cos(angle + margin) in degrees, and its continuation beyond 180."""
    angle, m = math.acos(c), math.radians(margin)
    return math.cos(angle + m) if angle + m < math.pi else c - m * math.sin(m)


def ada_face(
    x,
    y,
    z,
    names,
    margin=0.4,
    concentration=0.333,
    mean=None,
    deviation=None,
    scale=64.0,
):
    length = [math.sqrt(sum(v * v for v in row)) for row in x]
    mean = sum(length) / len(length) if mean is None else mean
    if deviation is None:
        squares = sum((v - mean) ** 2 for v in length)
        deviation = math.sqrt(squares / (len(length) - 1))

    def target(i, c):
        k = max(
            -1.0, min(1.0, (length[i] - mean) / ((deviation + 1e-3) / concentration))
        )
        angle = max(0.0, min(math.pi, math.acos(c) - margin * k))
        return math.cos(angle) - (margin * k + margin)

    return softmax_loss(x, y, z, names, target, scale)


def mag_face(
    x,
    y,
    z,
    names,
    least_margin=25.8,
    most_margin=45.8,
    low=10.0,
    high=110.0,
    cost=35.0,
    scale=64.0,
):
    length = [min(high, max(low, math.sqrt(sum(v * v for v in row)))) for row in x]
    steep = (most_margin - least_margin) / (high - low)
    margin = [least_margin + steep * (v - low) for v in length]
    of_length = [cost * (v / high**2 + 1 / v) for v in length]
    return softmax_loss(
        x, y, z, names, lambda i, c: arc(c, margin[i]), scale
    ) + reference.mean(of_length)


def draws(count):
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(count)]
    return [float(jax.random.normal(key, (), np.float32)) for key in keys]


def elastic_face(x, y, z, names, deviation=2.86, scale=64.0):
    margin = [28.6 + deviation * g for g in draws(len(x))]
    return softmax_loss(x, y, z, names, lambda i, c: arc(c, margin[i]), scale)


def curricular_face(x, y, z, names, progress=None, margin=28.6, scale=64.0):
    s = reference.similarity_matrix("cosine", x, z)
    if progress is None:
        progress = reference.mean(
            [s[i, j] for i in range(len(y)) for j in range(len(z)) if names[j] == y[i]]
        )
    return softmax_loss(
        x,
        y,
        z,
        names,
        lambda i, c: arc(c, margin),
        scale,
        other=lambda c, own: c if c <= own else c * (progress + c),
    )


def sphere_face2(x, y, z, names, w=0.7, scale=40.0, m=0.4, power=3.0, bias=0.0):
    s, values = reference.similarity_matrix("cosine", x, z), []
    r, b = scale, bias
    for i in range(len(y)):
        value = 0.0
        for j in range(len(names)):
            g = 2 * ((s[i, j] + 1) / 2) ** power - 1
            if names[j] == y[i]:
                value += w / r * math.log1p(math.exp(-r * (g - m) - b))
            else:
                value += (1 - w) / r * math.log1p(math.exp(r * (g + m) + b))
        values.append(value)
    return reference.mean(values)


def uni_face(x, y, z, names, gamma=64.0, margin=0.4):
    s, values, b = reference.similarity_matrix("cosine", x, z), [], math.log(80)
    for i in range(len(y)):
        for j in range(len(names)):
            sign = -1 if names[j] == y[i] else 1
            logit = gamma * (s[i, j] - (margin if sign < 0 else 0)) - b
            values.append(math.log1p(math.exp(sign * logit)))
    return sum(values) / len(y)


CASES = {
    "ada_face": Case(ada_face, params={"margin": 0.3, "scale": 3.0}, proxies=1),
    "ada_face, given lengths": Case(
        functools.partial(ada_face, mean=2.5, deviation=1.5, scale=4.0),
        loss=functools.partial(
            losses.ada_face_loss, length_mean=2.5, length_deviation=1.5, scale=4.0
        ),
        params={"concentration": 0.5},
        proxies=1,
    ),
    "mag_face": Case(mag_face, params={"least_margin": 20.0, "scale": 3.0}, proxies=1),
    "mag_face, short rows": Case(
        functools.partial(mag_face, low=1.0, high=4.0, cost=2.0, scale=4.0),
        loss=functools.partial(
            losses.mag_face_loss,
            shortest=1.0,
            longest=4.0,
            length_weight=2.0,
            scale=4.0,
        ),
        params={"most_margin": 60.0},
        proxies=1,
    ),
    "elastic_face": Case(
        elastic_face, params={"deviation": 5.0, "scale": 3.0}, proxies=1, key=True
    ),
    "curricular_face": Case(
        curricular_face, params={"margin": 20.0, "scale": 3.0}, proxies=1
    ),
    "curricular_face, given progress": Case(
        functools.partial(curricular_face, progress=0.3, scale=4.0),
        loss=functools.partial(losses.curricular_face_loss, progress=0.3, scale=4.0),
        params={"margin": 20.0},
        proxies=1,
    ),
    "sphere_face2": Case(
        sphere_face2, params={"scale": 3.0, "power": 2.0, "bias": -1.0}, proxies=1
    ),
    "sigmoid, UniFace": Case(
        uni_face,
        loss=functools.partial(
            losses.sigmoid_loss, scale=64.0, bias=-math.log(80), margin=0.4
        ),
        params={"margin": 0.2},
        proxies=1,
    ),
}


def test_rows_of_one_length_have_no_quality_that_rounding_could_make():
    x = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    ada = rankjax.ada_face_loss(x, LABELS, references=PROXIES, scale=4.0)
    cos = rankjax.cos_face_loss(x, LABELS, references=PROXIES, margin=0.4, scale=4.0)
    np.testing.assert_allclose(ada, cos, rtol=1e-3)


def test_no_gradient_of_ada_face_changes_a_length():
    def loss(x):
        return rankjax.ada_face_loss(x, LABELS, references=PROXIES, scale=4.0)

    slope = jax.grad(loss)(EMBEDDINGS)
    np.testing.assert_allclose(np.sum(slope * EMBEDDINGS, 1), 0, atol=1e-6)


def test_margins_of_elastic_face_are_drawn_by_the_key():
    compute = functools.partial(
        rankjax.elastic_face_loss, EMBEDDINGS, LABELS, references=PROXIES
    )
    assert compute(key=jax.random.key(1)) != compute(key=jax.random.key(2))


@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
def test_sphere_face2_starts_with_the_best_bias_for_cosines_of_zero(classes):
    with jax.enable_x64(True):
        x = np.eye(classes + 1)[classes:]  # at a right angle to all class rows
        given = rankjax.References(np.eye(classes + 1)[:classes], np.arange(classes))
        best = losses.sphere_face2_bias(classes)
        slope = jax.grad(
            lambda bias: rankjax.sphere_face2_loss(x, [0], references=given, bias=bias)
        )(best)
        close(slope, 0, atol=1e-9)
