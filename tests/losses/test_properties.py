"""What the papers claim of their losses, in double precision."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import rankjax
from rankjax import losses, mining, similarity
from rankjax.rows import View

RNG = np.random.default_rng(0)
N = 5  # pairs
PAIRED = np.repeat(np.arange(N), 2)
EMBEDDINGS = RNG.normal(size=(2 * N, 6))
TRIPLETS = RNG.normal(size=(200, 3, 6))  # anchor, positive, negative
LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
ROW = np.arange(10)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def _value_and_grad(loss, measure=None, reduction=rankjax.mean):
    compute = rankjax.objective(loss, similarity=measure, reduction=reduction)
    return jax.jit(jax.value_and_grad(lambda x, y, **given: compute(x, y, **given)))


def evaluate(loss, x, y, *, measure=None, reduction=rankjax.mean, given=None, **params):
    """Mean and gradient; compiled once per loss, similarity, shape and names."""
    run = _value_and_grad(loss, measure, reduction)
    return run(x, y, params=params, **(given or {}))


def value(*args, **kwargs):
    return evaluate(*args, **kwargs)[0]


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


def close(actual, expected, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


unsquared = functools.partial(losses.contrastive_loss, squared=False)


# Contrastive


@pytest.mark.parametrize("distance", [0.3, 0.9, 1.5])
def test_contrastive_gradients_have_the_closed_forms(distance):
    direction = np.array([0.6, 0.0, 0.8])
    x = np.stack([np.ones(3) + distance * direction, np.ones(3)])
    pair = np.array([[False, True], [False, False]])
    nothing = np.zeros((2, 2), bool)
    run = functools.partial(evaluate, losses.contrastive_loss, x, None, margin=1.0)
    difference = x[0] - x[1]
    loss, grad = run(given={"positive": pair, "negative": nothing})
    close(loss, distance**2 / 2)
    close(grad, [difference, -difference])
    push = max(0.0, 1.0 - distance) * difference / distance
    loss, grad = run(given={"positive": nothing, "negative": pair})
    close(loss, max(0.0, 1.0 - distance) ** 2 / 2)
    close(grad, [-push, push])


# Triplets


def test_gradients_of_an_active_squared_triplet_are_differences_of_its_points():
    a, p, n = np.moveaxis(TRIPLETS, 1, 0)
    argument = ((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + 2.0
    active = argument > 0
    assert 20 < active.sum() < 180
    loss, grad = each_triplet(losses.triplet_loss, TRIPLETS, margin=2.0)
    close(loss, np.maximum(argument, 0))
    expected = np.stack([2 * (n - p), 2 * (p - a), 2 * (a - n)], 1)
    close(grad, np.where(active[:, None, None], expected, 0))
    close(grad.sum(1), np.zeros((200, 6)))


@functools.cache
def _anchor_terms(loss):
    """Terms [anchor] of a loss on given similarities."""
    masks = (
        (LABELS[:, None] == LABELS) & (ROW[:, None] != ROW),
        LABELS[:, None] != (LABELS),
    )
    return jax.jit(lambda s: loss(rankjax.Pairs(s, *map(jnp.asarray, masks))))


hard_hinge = functools.partial(losses.batch_hard_triplet_loss, margin=0.5)
all_hinge = functools.partial(losses.triplet_loss, margin=0.5)


def _triplet_hinges(s, margin):
    """Hinges of all triplets, one list per anchor."""
    hinges = []
    for a in range(10):
        positives, negatives = reference.sides(LABELS, a)
        gaps = [s[a, n] - s[a, p] for p in positives for n in negatives]
        hinges.append([max(0.0, gap + margin) for gap in gaps])
    return hinges


def test_batch_hard_is_the_maximum_over_the_triplets_of_each_anchor():
    s = reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    hinges = _triplet_hinges(s, 0.5)
    terms = _anchor_terms(hard_hinge)(s)
    close(terms.total, [max(h, default=0.0) for h in hinges])
    close(terms.count, [float(bool(h)) for h in hinges])


def test_batch_hard_of_an_anchor_is_at_least_its_mean_over_all_triplets():
    s = reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    hard, every = _anchor_terms(hard_hinge)(s), _anchor_terms(all_hinge)(s)
    some = every.count > 0
    assert some.sum() == 9
    assert np.all(hard.total[some] >= (every.total / every.count)[some])
    assert np.all(hard.total[some] >= (every.total / np.maximum(every.active, 1))[some])


@functools.cache
def _select(rule, margin):
    """The chosen negatives [row, reference], one positive per row."""

    def select(row, negatives, positive):
        own = ~negatives
        return rule(View(row, own, negatives, positive, own), margin)

    return jax.jit(jax.vmap(select))


def _rows():
    """Similarities [row, reference] on a grid, negatives, and positives' similarity."""
    rng = np.random.default_rng(1)
    negative = rng.random((300, 8)) < 0.5
    return rng.integers(-9, 0, (300, 8)) / 8, negative, rng.integers(-9, 0, 300) / 8


def test_every_semi_hard_triplet_has_a_loss_between_zero_and_the_margin():
    s, negative, positive = _rows()
    chosen = _select(mining.semi_hard, 0.5)(s, negative, positive)
    values = (s - positive[:, None] + 0.5)[chosen]
    assert len(values) > 100
    assert np.all((values > 0) & (values < 0.5))
    assert not np.any(chosen & ~negative)


def test_tensorflow_falls_back_exactly_when_no_negative_lies_beyond_the_positive():
    s, negative, positive = _rows()
    chosen = _select(mining.semi_hard_or_easiest, 0.5)(s, negative, positive)
    np.testing.assert_array_equal(chosen.sum(-1), negative.any(-1))
    fallen = 0
    for row, among, p, pick in zip(s, negative, positive, chosen, strict=True):
        if not among.any():
            continue
        beyond = row[among & (row < p)]
        fallen += not len(beyond)
        expected = beyond.max() if len(beyond) else row[among].min()
        assert row[pick] == expected
    assert 20 < fallen < 280


# Collapse

COLLAPSE = {
    "triplet": (losses.triplet_loss, {"margin": 0.3}, 0.3),
    "triplet, soft": (
        functools.partial(losses.triplet_loss, margin=None),
        {},
        math.log(2),
    ),
    "batch-hard": (losses.batch_hard_triplet_loss, {"margin": 0.3}, 0.3),
    "batch-hard, soft": (losses.batch_hard_triplet_loss, {}, math.log(2)),
    "contrastive": (losses.contrastive_loss, {"margin": 0.6}, 0.6**2 / 2),
}


@pytest.mark.parametrize("name", COLLAPSE)
def test_identical_unit_length_embeddings_have_the_known_loss(name):
    loss, params, expected = COLLAPSE[name]
    collapsed = np.tile([[0.6, 0.8, 0, 0, 0, 0]], (2 * N, 1))
    close(value(loss, collapsed, PAIRED, **params), expected)


# Scale

unsquared_losses = pytest.mark.parametrize(
    "loss",
    [unsquared, losses.triplet_loss, losses.batch_hard_triplet_loss],
    ids=["contrastive", "triplet", "batch-hard"],
)


@unsquared_losses
def test_unsquared_distance_losses_scale_with_embeddings_and_margin(loss):
    run = functools.partial(value, loss, measure=similarity.negative_euclidean)
    once, thrice = (run(c * EMBEDDINGS, PAIRED, margin=c * 2.5) for c in (1.0, 3.0))
    assert once > 0
    close(thrice, 3 * once)


def test_squared_contrastive_loss_scales_with_the_square():
    run = functools.partial(value, losses.contrastive_loss)
    once, thrice = (run(c * EMBEDDINGS, PAIRED, margin=c * 2.5) for c in (1.0, 3.0))
    close(thrice, 9 * once)
