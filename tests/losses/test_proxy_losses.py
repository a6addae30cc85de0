"""Losses against learned class rows: slow loops, and what the papers claim."""

import functools
import math

import jax
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close

import rankjax
from rankjax.losses.arc_face import arc_face_loss, dynamic_margins
from rankjax.losses.normalized_softmax import normalized_softmax_loss
from rankjax.losses.soft_triple import soft_triple_loss
from rankjax.losses.sphere_face import sphere_face_loss
from rankjax.losses.sub_center_arc_face import sub_center_arc_face_loss


def roles(y, names, i):
    """Rows of the class of i, and of the others."""
    own = [j for j in range(len(names)) if names[j] == y[i]]
    return own, [j for j in range(len(names)) if names[j] != y[i]]


def unit_distances(x, z):
    """Squared distances of the rows, scaled to length 1."""
    x, z = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, z))
    return -reference.similarity_matrix("negative_squared_euclidean", x, z)


def softmax_loss(s, y, names, scale, target=lambda c: c):
    values = []
    for i in range(len(y)):
        own, others = roles(y, names, i)
        for j in own:
            hit = math.exp(scale * target(s[i, j]))
            miss = sum(math.exp(scale * s[i, k]) for k in others)
            values.append(-math.log(hit / (hit + miss)))
    return reference.mean(values)


def normalized_softmax(x, y, z, names, temperature=0.05):
    s = reference.similarity_matrix("cosine", x, z)
    return softmax_loss(s, y, names, 1 / temperature)


def face(x, y, z, names, margin, scale, target):
    s = reference.similarity_matrix("cosine", x, z)
    return softmax_loss(s, y, names, scale, target(margin))


def cos(margin):
    return lambda c: c - margin


def arc(margin):
    """By the angle itself."""
    m = math.radians(margin)

    def target(c):
        angle = math.acos(max(-1.0, min(1.0, c)))
        return math.cos(angle + m) if angle + m < math.pi else c - m * math.sin(m)

    return target


def sphere(margin):
    def target(c):
        angle = math.acos(max(-1.0, min(1.0, c)))
        k = min(int(margin * angle / math.pi), margin - 1)
        return (-1) ** k * math.cos(margin * angle) - 2 * k

    return target


def pooled(x, z, names, pool):
    """Similarities [row, class] and classes, one pooled value per class."""
    s = reference.similarity_matrix("cosine", x, z)
    classes = sorted(set(names))
    columns = [[j for j in range(len(names)) if names[j] == c] for c in classes]
    return np.array([[pool(row[j]) for j in columns] for row in s]), classes


def soft_maximum(s, gamma):
    weights = np.exp(s / gamma) / np.exp(s / gamma).sum()
    return (weights * s).sum()


def sub_center_arc_face(x, y, z, names, margin=28.6, scale=64.0):
    s, classes = pooled(x, z, names, max)
    return softmax_loss(s, y, classes, scale, arc(margin))


def soft_triple(x, y, z, names, scale=20.0, gamma=0.1, margin=0.01):
    s, classes = pooled(x, z, names, functools.partial(soft_maximum, gamma=gamma))
    return softmax_loss(s, y, classes, scale, cos(margin))


def p2s_grad(x, y, z, names):
    s = reference.similarity_matrix("cosine", x, z)
    return reference.mean(
        [
            sum((s[i, j] - (names[j] == y[i])) ** 2 for j in range(len(z))) / 2
            for i in range(len(y))
        ]
    )


def proxy_nca(x, y, z, names, scale=1.0):
    d = unit_distances(x, z)
    values = []
    for i in range(len(y)):
        own, others = roles(y, names, i)
        for j in own:
            away = sum(math.exp(-scale * d[i, k]) for k in others)
            values.append(-math.log(math.exp(-scale * d[i, j]) / away))
    return reference.mean(values)


def proxy_nca_pp(x, y, z, names, temperature=1 / 9):
    d = unit_distances(x, z)
    values = []
    for i in range(len(y)):
        own, others = roles(y, names, i)
        for j in own:
            every = sum(math.exp(-d[i, k] / temperature) for k in [j, *others])
            values.append(-math.log(math.exp(-d[i, j] / temperature) / every))
    return reference.mean(values)


def proxy_anchor(x, y, z, names, alpha=32.0, margin=0.1):
    s = reference.similarity_matrix("cosine", x, z)
    pull, push = [], []
    for j in range(len(z)):
        near = [s[i, j] for i in range(len(y)) if y[i] == names[j]]
        far = [s[i, j] for i in range(len(y)) if y[i] != names[j]]
        if near:
            pull.append(
                math.log(1 + sum(math.exp(-alpha * (v - margin)) for v in near))
            )
        push.append(math.log(1 + sum(math.exp(alpha * (v + margin)) for v in far)))
    return reference.mean(pull) + reference.mean(push)


CASES = {
    "normalized_softmax": Case(
        normalized_softmax, params={"temperature": 0.3}, proxies=1
    ),
    "normalized_softmax, two rows": Case(
        normalized_softmax, loss=normalized_softmax_loss, proxies=2
    ),
    "cos_face": Case(
        functools.partial(face, margin=0.35, scale=64.0, target=cos),
        params={"margin": 0.2, "scale": 3.0},
        proxies=1,
    ),
    "arc_face": Case(
        functools.partial(face, margin=28.6, scale=64.0, target=arc),
        params={"margin": 20.0, "scale": 3.0},
        proxies=1,
    ),
    "arc_face, wide": Case(
        functools.partial(face, margin=80.0, scale=4.0, target=arc),
        loss=functools.partial(arc_face_loss, margin=80.0, scale=4.0),
        proxies=1,
    ),
    "sub_center_arc_face": Case(
        sub_center_arc_face, params={"margin": 20.0, "scale": 3.0}, proxies=3
    ),
    "sphere_face": Case(
        functools.partial(face, margin=4, scale=30.0, target=sphere),
        params={"scale": 3.0},
        proxies=1,
    ),
    "p2s_grad": Case(p2s_grad, proxies=1),
    "proxy_nca": Case(proxy_nca, params={"scale": 2.0}, proxies=1),
    "proxy_nca_pp": Case(proxy_nca_pp, params={"temperature": 0.5}, proxies=1),
    "proxy_anchor": Case(proxy_anchor, params={"alpha": 4.0, "margin": 0.2}, proxies=1),
    "soft_triple": Case(
        soft_triple,
        params={"scale": 3.0, "gamma": 0.3, "margin": 0.05},
        proxies=10,
    ),
    "soft_triple, three": Case(
        soft_triple,
        loss=functools.partial(soft_triple_loss, centers=3),
        proxies=3,
    ),
}

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(9, 6))
LABELS = np.array([0, 1, 1, 3, 0, 2, 3, 3, 0])
CLASSES = np.arange(5)  # the last is absent from the batch
PROXIES = RNG.normal(size=(5, 6))
CENTERS = RNG.normal(size=(15, 6))


pytestmark = pytest.mark.usefixtures("double_precision")


@functools.cache
def _compiled(loss):
    compute = rankjax.objective(loss)
    return jax.jit(
        jax.value_and_grad(
            lambda operands, y, names, params: compute(
                operands[0],
                y,
                references=rankjax.References(operands[1], names),
                params=params,
            )
        )
    )


def evaluate(loss, *, x=EMBEDDINGS, y=LABELS, z=PROXIES, names=CLASSES, **params):
    """Value, and gradients of embeddings and proxies."""
    return _compiled(loss)((x, z), y, names, params)


def value(*args, **kwargs):
    return evaluate(*args, **kwargs)[0]


def cosines(z=PROXIES):
    return reference.similarity_matrix("cosine", EMBEDDINGS, z)


# SoftTriple

triple = functools.partial(soft_triple_loss, centers=3)
grouped = {"z": CENTERS, "names": np.repeat(CLASSES, 3)}


def test_soft_triple_tends_to_the_nearest_centre_as_gamma_falls():
    s, classes = pooled(EMBEDDINGS, CENTERS, grouped["names"], max)
    expected = softmax_loss(s, LABELS, classes, 5.0)
    got = value(triple, gamma=1e-4, scale=5.0, margin=0.0, **grouped)
    close(got, expected, rtol=1e-8)


@pytest.mark.parametrize("loss", [soft_triple_loss, sub_center_arc_face_loss])
def test_references_that_are_not_whole_classes_are_refused(loss):
    with pytest.raises(ValueError, match="14 references cannot be classes of centers="):
        rankjax.objective(functools.partial(loss, centers=3))(
            EMBEDDINGS,
            LABELS,
            references=rankjax.References(CENTERS[:14], grouped["names"][:14]),
        )


# Margins


def around(degrees):
    """Rows at angles to the first of two proxies, at right angles to the second."""
    t = np.radians(degrees)
    x = np.stack([np.cos(t), np.zeros_like(t), np.sin(t)], -1)
    return {"z": np.eye(2, 3), "names": CLASSES[:2], "x": x, "y": np.zeros(len(x), int)}


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(arc_face_loss, margin=89.0),
        arc_face_loss,
        sphere_face_loss,
        functools.partial(sphere_face_loss, margin=7),
    ],
    ids=["arc, 89", "arc", "sphere", "sphere, 7"],
)
def test_the_loss_rises_with_the_angle_over_the_whole_half_turn(loss):
    degrees = np.linspace(0, 180, 362)
    same = np.tile([True, False], (362, 1))
    s = np.stack([np.cos(np.radians(degrees)), np.zeros(362)], 1)
    terms = loss(rankjax.Pairs(jax.numpy.asarray(s), same, ~same), scale=1.0)
    assert np.all(np.diff(terms.total) > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [arc_face_loss, sphere_face_loss])
def test_gradients_at_angles_of_0_and_180_degrees_are_finite_and_small(loss, dtype):
    given = around(np.array([0.0, 180.0]))
    given["x"], given["z"] = given["x"].astype(dtype), given["z"].astype(dtype)
    loss_value, grads = evaluate(loss, scale=2.0, **given)
    assert np.isfinite(loss_value)
    for grad in grads:
        assert np.all(np.abs(grad) < 100)


def test_margins_may_differ_between_classes():
    margins = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    s = cosines()
    values = [
        softmax_loss(s[i : i + 1], y[None], CLASSES, 3.0, arc(margins[y]))
        for i, y in enumerate(LABELS)
    ]
    got = value(arc_face_loss, margin=margins, scale=3.0)
    close(value(arc_face_loss, margin=margins.tolist(), scale=3.0), got)
    close(got, np.mean(values))
    by_class = functools.partial(sub_center_arc_face_loss, centers=3)
    same = {"z": np.repeat(PROXIES, 3, 0), "names": np.repeat(CLASSES, 3)}
    close(value(by_class, margin=margins, scale=3.0, **same), got)


def test_dynamic_margins_widen_for_rare_classes():
    margins = dynamic_margins([1, 16, 10**12])
    close(margins, np.degrees([0.55, 0.3, 0.5e-3 + 0.05]))


def test_margins_of_labels_in_place_of_sizes_are_refused():
    with pytest.raises(ValueError, match=r"^class_sizes must be .*, at least 1, got 0"):
        dynamic_margins([0, 0, 1, 1, 2])


def test_a_margin_of_a_right_angle_is_refused():
    with pytest.raises(ValueError, match="margin must be at least 0 and below 90"):
        rankjax.objective(functools.partial(arc_face_loss, margin=90.0))


def test_proxy_nca_may_be_negative_so_that_mean_active_is_refused():
    x, y = np.eye(2, dtype=np.float32), np.arange(2)
    given = {"references": rankjax.References(x, y)}
    # The own proxy is at distance 0, the other one at sqrt(2).
    assert rankjax.proxy_nca_loss(x, y, **given) == pytest.approx(-2)
    with pytest.raises(ValueError, match=r"^reduction=mean_active divides by"):
        rankjax.proxy_nca_loss(x, y, reduction=rankjax.mean_active, **given)
