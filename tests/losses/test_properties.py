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


def interleave(anchors, positives):
    return np.stack([anchors, positives], 1).reshape(-1, anchors.shape[1])


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(s):
    return np.mean(-np.log(np.diag(softmax(s))))


unsquared = functools.partial(losses.contrastive_loss, squared=False)
column = functools.partial(losses.n_pairs_loss, direction="column")
symmetric = functools.partial(losses.n_pairs_loss, direction="symmetric")
all_negatives = functools.partial(losses.n_pairs_loss, negatives="all")


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
    return jax.jit(jax.vmap(lambda s, n, p: rule(s, n, p, margin)))


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

T40 = math.tan(math.radians(40)) ** 2
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
    "n-pairs": (losses.n_pairs_loss, {"scale": 7.0}, math.log(N)),
    "n-pairs, all": (all_negatives, {}, math.log(1 + 2 * (N - 1))),
    "angular": (
        losses.angular_loss,
        {"angle": 40.0},
        math.log(1 + 2 * (N - 1) * math.exp(6 * T40 - 2)),
    ),
    "angular hinge": (losses.angular_hinge_loss, {"angle": 40.0}, 0.0),
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


# N-pairs

A, P = EMBEDDINGS[0::2], EMBEDDINGS[1::2]


def test_n_pairs_is_the_cross_entropy_of_anchors_times_positives():
    s = A @ P.T
    loss, grad = evaluate(losses.n_pairs_loss, EMBEDDINGS, PAIRED)
    close(loss, cross_entropy(s))
    error = (softmax(s) - np.eye(N)) / N
    close(grad[0::2], error @ P)
    close(grad[1::2], error.T @ A)


def test_two_pairs_give_a_softplus():
    s = A[:2] @ P[:2].T
    gaps = np.array([s[0, 1] - s[0, 0], s[1, 0] - s[1, 1]])
    loss = value(losses.n_pairs_loss, EMBEDDINGS[:4], PAIRED[:4])
    close(loss, np.log1p(np.exp(gaps)).mean())


def test_one_vector_added_to_all_positives_changes_nothing():
    moved = interleave(A, P + RNG.normal(size=6))
    expected = value(losses.n_pairs_loss, EMBEDDINGS, PAIRED)
    close(value(losses.n_pairs_loss, moved, PAIRED), expected)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_n_pairs_lies_within_log_n_of_the_worst_violation(scale):
    s = scale * A @ P.T
    violation = np.where(np.eye(N), -np.inf, s - np.diag(s)[:, None]).max(-1)
    least = np.maximum(violation, 0)
    loss = value(losses.n_pairs_loss, EMBEDDINGS, PAIRED, scale=scale)
    assert least.mean() <= loss <= least.mean() + math.log(N)


def test_scale_multiplies_the_similarity():
    loss = value(losses.n_pairs_loss, EMBEDDINGS, PAIRED, scale=2.25)
    close(loss, cross_entropy(2.25 * A @ P.T))


def test_column_compares_positives_with_anchors_and_symmetric_is_the_mean():
    row, col, both = (
        value(loss, EMBEDDINGS, PAIRED)
        for loss in (losses.n_pairs_loss, column, symmetric)
    )
    close(col, cross_entropy(P @ A.T))
    close(both, (row + col) / 2)


def test_symmetric_n_pairs_is_unchanged_when_all_pairs_swap_roles():
    swapped = interleave(P, A)
    close(value(symmetric, swapped, PAIRED), value(symmetric, EMBEDDINGS, PAIRED))
    close(
        value(column, swapped, PAIRED), value(losses.n_pairs_loss, EMBEDDINGS, PAIRED)
    )


def test_cosine_n_pairs_has_its_floor_at_the_simplex():
    corners = np.pad(np.eye(N) - 1 / N, ((0, 0), (0, 1)))  # unit length: by the cosine
    run = functools.partial(evaluate, losses.n_pairs_loss, measure=similarity.cosine)
    floor = math.log(1 + (N - 1) * math.exp(-N / (N - 1)))
    loss, grad = run(interleave(corners, corners), PAIRED)
    close(loss, floor)
    close(grad, np.zeros((2 * N, 6)))
    for seed in range(20):
        noise = 0.1 * np.random.default_rng(seed).normal(size=(N, 6))
        assert run(interleave(corners, corners + noise), PAIRED)[0] > floor


def test_two_towers_equal_one_batch_of_pairs():
    names = np.arange(N)
    compute = rankjax.objective(losses.n_pairs_loss)
    towers = jax.value_and_grad(
        lambda a, p: compute(a, names, references=p, reference_labels=names), (0, 1)
    )
    loss, grads = towers(A, P)
    expected, grad = evaluate(losses.n_pairs_loss, EMBEDDINGS, PAIRED)
    close(loss, expected)
    close(interleave(*grads), grad)


def test_rows_of_larger_and_odd_classes_alternate_between_the_roles():
    labels = np.array([0, 1, 0, 0, 2, 1, 0, 1, 3, 2])
    s = EMBEDDINGS @ EMBEDDINGS.T
    answers = {0: [2, 6], 3: [2, 6], 1: [5], 7: [5], 4: [9]}  # 8 has none
    candidates = [2, 5, 6, 9]
    rows = [
        np.log(np.exp(s[a, candidates]).sum()) - s[a, positives].mean()
        for a, positives in answers.items()
    ]
    close(value(losses.n_pairs_loss, EMBEDDINGS, labels), np.mean(rows))
    answers = {2: [0, 3], 6: [0, 3], 5: [1, 7], 9: [4]}
    candidates = [0, 1, 3, 4, 7, 8]  # an example alone in its class is a negative
    columns = [
        np.log(np.exp(s[a, candidates]).sum()) - s[a, positives].mean()
        for a, positives in answers.items()
    ]
    close(value(column, EMBEDDINGS, labels), np.mean(columns))
    close(value(symmetric, EMBEDDINGS, labels), np.mean(rows + columns))


# Angular


def hinge(x, angle=40.0):
    return each_triplet(losses.angular_hinge_loss, x, angle=angle)


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
    f = np.log(np.expm1(each_triplet(losses.angular_loss, x, angle=40.0)[0]))
    close(hinge(x)[0], np.maximum(f + 2 - 6 * T40, 0))


def test_combined_loss_is_n_pairs_plus_the_weighted_angular_loss():
    n_pairs = evaluate(losses.n_pairs_loss, EMBEDDINGS, PAIRED)
    angular = evaluate(
        losses.angular_loss, EMBEDDINGS, PAIRED, measure=similarity.dot, angle=40.0
    )
    combined = evaluate(
        losses.n_pairs_angular_loss,
        EMBEDDINGS,
        PAIRED,
        angle=40.0,
        angular_weight=0.7,
    )
    close(combined[0], n_pairs[0] + 0.7 * angular[0])
    close(combined[1], n_pairs[1] + 0.7 * angular[1])
