"""Angular losses: slow loops, and what the paper claims, in double precision."""

import functools
import math

import jax
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close, evaluate, value
from jax.sharding import Mesh, PartitionSpec

import rankjax
from rankjax import similarity
from rankjax.losses.angular import (
    angular_hinge_loss,
    angular_loss,
    n_pairs_angular_loss,
)
from rankjax.losses.n_pairs import n_pairs_loss


def on(name, function, **settings):
    return lambda x, y: function(reference.similarity_matrix(name, x), y, **settings)


def angular_of_roles(s, y, angle=45.0):
    """Anchors are every other row of a class; so are the rows that they see."""
    t = math.tan(math.radians(angle)) ** 2
    role = [sum(y[k] == y[i] for k in range(i)) % 2 for i in range(len(y))]
    seen = [j for j in range(len(y)) if role[j] == 1]
    values = []
    for a in range(len(s)):
        negatives = [n for n in seen if y[n] != y[a]]
        positives = [p for p in seen if y[p] == y[a]]
        for p in positives if role[a] == 0 and negatives else []:
            logits = [4 * t * (s[a, n] + s[p, n]) for n in negatives]
            target = 2 * (1 + t) * s[a, p]
            others = sum(math.exp(v) for v in logits)
            values.append(-math.log(math.exp(target) / (math.exp(target) + others)))
    return reference.mean(values)


def combined(x, y, negatives="positives", direction="row"):
    s = reference.similarity_matrix("dot", x)
    n_pairs = reference.n_pairs(s, y, negatives, direction)
    return n_pairs + 2 * reference.angular(s, y)


of_roles = functools.partial(angular_loss, negatives="positives")
CASES = {
    "angular": Case(on("cosine", reference.angular), params={"angle": 40.0}),
    "angular, other positives": Case(
        on("cosine", angular_of_roles), loss=of_roles, params={"angle": 40.0}
    ),
    "angular_hinge": Case(reference.angular_hinge, params={"angle": 40.0}),
    "n_pairs_angular": Case(
        combined, params={"angle": 40.0, "angular_weight": 0.5, "scale": 0.7}
    ),
    "n_pairs_angular, all negatives, symmetric": Case(
        functools.partial(combined, negatives="all", direction="symmetric"),
        loss=functools.partial(
            n_pairs_angular_loss, negatives="all", direction="symmetric"
        ),
        params={"angle": 40.0, "angular_weight": 0.5, "scale": 0.7},
    ),
}

N = 5  # pairs
PAIRED = np.repeat(np.arange(N), 2)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(2 * N, 6))
TRIPLETS = RNG.normal(size=(200, 3, 6))  # anchor, positive, negative
T40 = math.tan(math.radians(40)) ** 2


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def _one_triplet(loss, measure=None):
    compute = rankjax.objective(loss, similarity=measure)
    pair = lambda i, j: (np.arange(9) == 3 * i + j).reshape(3, 3)  # noqa: E731
    masks = {"positive": pair(0, 1), "negative": pair(0, 2)}
    one = lambda x, params: compute(x, params=params, **masks)  # noqa: E731
    return jax.jit(jax.vmap(jax.value_and_grad(one), (0, None)))


def each_triplet(loss, x, *, measure=None, **params):
    """Values [triplet] and gradients [triplet, 3, dim], anchor and negative fixed."""
    return _one_triplet(loss, measure)(x, params)


# One triplet


def hinge(x, angle=40.0):
    return each_triplet(angular_hinge_loss, x, angle=angle)


def test_angular_hinge_is_homogeneous_of_degree_two():
    once, scaled = hinge(TRIPLETS)[0], hinge(3 * TRIPLETS)[0]
    assert 20 < (once > 0).sum() < 180
    close(scaled, 9 * once)


@pytest.mark.parametrize("change", ["scale", "rotation", "translation"])
def test_active_angular_triplets_are_the_same_after(change):
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    changed = {
        "scale": 1e-3 * TRIPLETS,
        "rotation": TRIPLETS @ rotation,
        "translation": TRIPLETS + 10,
    }[change]
    np.testing.assert_array_equal(hinge(changed)[0] > 0, hinge(TRIPLETS)[0] > 0)


@pytest.mark.parametrize("angle", [20.0, 30.0, 40.0])
def test_angular_hinge_is_active_exactly_when_the_angle_exceeds_its_bound(angle):
    """The circle about the midpoint c through a and p, met at right angles to n - c."""
    a, p, n = np.moveaxis(TRIPLETS, 1, 0)
    centre = (a + p) / 2
    axis = n - centre
    across = np.random.default_rng(3).normal(size=axis.shape)
    share = (across * axis).sum(-1) / (axis * axis).sum(-1)
    across = across - share[:, None] * axis
    across = across / np.linalg.norm(across, axis=-1, keepdims=True)
    met = centre + np.linalg.norm(a - centre, axis=-1, keepdims=True) * across
    to_centre, to_met = centre - n, met - n
    cosine = (to_centre * to_met).sum(-1)
    cosine /= np.linalg.norm(to_centre, axis=-1) * np.linalg.norm(to_met, axis=-1)
    exceeds = np.degrees(np.arccos(cosine)) > angle
    assert 10 < exceeds.sum() < 200
    np.testing.assert_array_equal(hinge(TRIPLETS, angle)[0] > 0, exceeds)


def test_gradients_of_an_active_angular_triplet_follow_n_minus_c_and_sum_to_zero():
    loss, grad = hinge(TRIPLETS)
    a, p, n = np.moveaxis(TRIPLETS, 1, 0)
    away = n - (a + p) / 2
    expected = np.stack(
        [
            2 * (a - p) + 4 * T40 * away,
            2 * (p - a) + 4 * T40 * away,
            -8 * T40 * away,
        ],
        1,
    )
    close(grad, np.where((loss > 0)[:, None, None], expected, 0))
    close(grad.sum(1), np.zeros((200, 6)))


def test_unit_length_angular_hinge_argument_is_f_plus_a_constant():
    x = TRIPLETS / np.linalg.norm(TRIPLETS, axis=-1, keepdims=True)
    f = np.log(np.expm1(each_triplet(angular_loss, x, angle=40.0)[0]))
    close(hinge(x)[0], np.maximum(f + 2 - 6 * T40, 0))


def test_combined_loss_is_n_pairs_plus_the_weighted_angular_loss():
    n_pairs = evaluate(n_pairs_loss, EMBEDDINGS, PAIRED)
    angular = evaluate(
        angular_loss, EMBEDDINGS, PAIRED, measure=similarity.dot, angle=40.0
    )
    combined = evaluate(
        n_pairs_angular_loss,
        EMBEDDINGS,
        PAIRED,
        angle=40.0,
        angular_weight=0.7,
    )
    close(combined[0], n_pairs[0] + 0.7 * angular[0])
    close(combined[1], n_pairs[1] + 0.7 * angular[1])


# Unit length


def test_gradients_at_the_negative_agree_on_the_sphere():
    """Off the sphere they differ: the exponent has dropped the negative's norm."""
    x = TRIPLETS / np.linalg.norm(TRIPLETS, axis=-1, keepdims=True)
    a, p, n = np.moveaxis(x, 1, 0)
    loss, grad = each_triplet(angular_loss, x, measure=similarity.dot, angle=40.0)
    of_f = grad[:, 2] / -np.expm1(-loss)[:, None]
    hinged, grad = hinge(x)
    of_hinge = grad[:, 2]
    active = hinged > 0
    assert 20 < active.sum() < 180

    def tangent(g):
        return g - (g * n).sum(-1, keepdims=True) * n

    close(of_f, 4 * T40 * (a + p))
    close(tangent(of_f)[active], tangent(of_hinge)[active])
    assert np.abs(of_f - of_hinge)[active].max() > 0.1


def test_a_step_on_the_hinge_never_moves_the_negative_towards_the_centre():
    loss, grad = hinge(TRIPLETS)
    a, p, n = np.moveaxis(TRIPLETS, 1, 0)
    active = loss > 0
    step, away = -grad[active, 2], (n - (a + p) / 2)[active]
    lengths = np.linalg.norm(step, axis=-1) * np.linalg.norm(away, axis=-1)
    close((step * away).sum(-1) / lengths, np.ones(active.sum()))


@pytest.mark.parametrize("loss", [angular_loss, of_roles], ids=["all", "roles"])
def test_collapse_costs_log_of_one_plus_n_times_a_function_of_the_angle(loss):
    collapsed = np.tile([[0.6, 0.8, 0, 0, 0, 0]], (2 * N, 1))
    n = 2 * (N - 1) if loss is angular_loss else N - 1
    for angle in (20.0, 30.0, 40.0, 55.0):
        t = math.tan(math.radians(angle)) ** 2
        expected = math.log(1 + n * math.exp(6 * t - 2))
        close(value(loss, collapsed, PAIRED, angle=angle), expected)


@pytest.mark.parametrize(("angle", "sign"), [(29.9, -1), (30.0, 0), (30.1, 1)])
def test_thirty_degrees_is_where_collapse_costs_as_much_as_in_n_pairs(angle, sign):
    collapsed = np.tile([[0.6, 0.8, 0, 0, 0, 0]], (2 * N, 1))
    excess = value(of_roles, collapsed, PAIRED, angle=angle) - math.log(N)
    assert np.sign(np.round(excess, 12)) == sign


def test_a_collapsed_hinge_is_zero():
    collapsed = np.tile([[0.6, 0.8, 0, 0, 0, 0]], (2 * N, 1))
    close(value(angular_hinge_loss, collapsed, PAIRED, angle=40.0), 0)


@pytest.mark.parametrize("loss", [angular_loss, of_roles], ids=["all", "roles"])
def test_angular_loss_has_its_floor_at_the_simplex(loss):
    corners = np.repeat(np.pad(np.eye(N) - 1 / N, ((0, 0), (0, 1))), 2, 0)
    n = 2 * (N - 1) if loss is angular_loss else N - 1
    floor = math.log(1 + n * math.exp(-2 * (1 + T40) - 8 * T40 / (N - 1)))
    reached, grad = evaluate(loss, corners, PAIRED, angle=40.0)
    close(reached, floor)
    close(grad, np.zeros((2 * N, 6)))
    for seed in range(20):
        noise = 0.1 * np.random.default_rng(seed).normal(size=(2 * N, 6))
        assert value(loss, corners + noise, PAIRED, angle=40.0) > floor


# Two roles


def test_other_positives_alone_are_the_cross_entropy_of_the_tensorflow_baseline():
    x = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=-1, keepdims=True)
    a, p = x[0::2], x[1::2]
    own = 2 * (1 + T40) * (a * p).sum(-1)
    logits = np.where(np.eye(N), own[:, None], 4 * T40 * (a + p) @ p.T)
    expected = np.log(np.exp(logits).sum(-1)) - own
    close(value(of_roles, EMBEDDINGS, PAIRED, angle=40.0), expected.mean())


@pytest.mark.parametrize("check", [True, False])
def test_replicated_references_get_the_gradient_of_one_device(check):
    """Their own rows of similarities are the same everywhere, and used by parts."""
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(n, 8)).astype(np.float32) for n in (32, 16))
    y, names = rng.permutation(np.arange(32) // 4), np.arange(16) // 2

    def gradient(axis_name, z, x, y):
        compute = rankjax.objective(angular_hinge_loss, axis_name=axis_name)
        references = functools.partial(
            rankjax.References, labels=names, replicated=True
        )
        return jax.grad(lambda z: compute(x, y, references=references(z)))(z)

    def inside(z, x, y):
        return jax.lax.pmean(gradient("batch", z, x, y), "batch")

    rows, whole = PartitionSpec("batch"), PartitionSpec()
    spread = jax.shard_map(
        inside,
        mesh=Mesh(np.array(jax.devices()), ("batch",)),
        in_specs=(whole, rows, rows),
        out_specs=whole,
        check_vma=check,
    )
    expected = jax.jit(functools.partial(gradient, None))(z, x, y)
    np.testing.assert_allclose(jax.jit(spread)(z, x, y), expected, rtol=1e-4, atol=1e-6)
