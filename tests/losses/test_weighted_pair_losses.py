"""Losses that weigh a pair by the other pairs of its anchor, or of the batch."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close

import rankjax
from rankjax.losses.circle import circle_loss
from rankjax.losses.dynamic_soft_margin import dynamic_soft_margin_loss
from rankjax.losses.multi_similarity import multi_similarity_loss
from rankjax.losses.ranked_list import ranked_list_loss

# Slow loops from the papers


def _rows(s, y):
    """Similarities of each row's positives and negatives."""
    sides = [reference.sides(y, i) for i in range(len(y))]
    return [
        ([row[p] for p in ps], [row[n] for n in ns])
        for row, (ps, ns) in zip(s, sides, strict=True)
    ]


def _multi_similarity(x, y, alpha=2.0, beta=50.0, threshold=0.5):
    values = []
    for positives, negatives in _rows(reference.similarity_matrix("cosine", x), y):
        pull = 1 + sum(math.exp(-alpha * (s - threshold)) for s in positives)
        push = 1 + sum(math.exp(beta * (s - threshold)) for s in negatives)
        if positives or negatives:
            values.append(math.log(pull) / alpha + math.log(push) / beta)
    return reference.mean(values)


def _circle(x, y, margin=0.4, gamma=80.0):
    m = margin
    values = []
    for positives, negatives in _rows(reference.similarity_matrix("cosine", x), y):
        if positives and negatives:
            push = sum(math.exp(gamma * max(0, s + m) * (s - m)) for s in negatives)
            pull = sum(
                math.exp(-gamma * max(0, 1 + m - s) * (s - (1 - m))) for s in positives
            )
            values.append(math.log1p(push * pull))
    return reference.mean(values)


def _ranked_list(
    x,
    y,
    margin=0.4,
    threshold=1.2,
    positive_temperature=0.0,
    negative_temperature=10.0,
    imbalance=0.5,
):
    values, temperatures = [], (positive_temperature, negative_temperature)
    for row in _rows(-reference.similarity_matrix("negative_euclidean", x), y):
        sides = (
            [d - (threshold - margin) for d in row[0] if d > threshold - margin],
            [threshold - d for d in row[1] if d < threshold],
        )
        means = []
        for violations, temperature in zip(sides, temperatures, strict=True):
            weights = [math.exp(temperature * v) for v in violations]
            total = sum(w * v for w, v in zip(weights, violations, strict=True))
            means.append(total / sum(weights) if weights else 0.0)
        if row[0] or row[1]:
            values.append((1 - imbalance) * means[0] + imbalance * means[1])
    return reference.mean(values)


def _dynamic_gaps(x, y):
    d = -reference.similarity_matrix("negative_euclidean", x)
    gaps = []
    for a in range(len(y)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            if negatives:
                nearest = min(min(d[a, n], d[p, n]) for n in negatives)
                gaps.append(d[a, p] - nearest)
    return gaps


def _dynamic_soft_margin(x, y, limit=2.0, bins=512):
    """Gaps are shared by two nodes; what lies outside is all at the last one."""
    gaps = _dynamic_gaps(x, y)
    nodes = np.linspace(-limit, limit, bins)
    inside = [min(max(gap, -limit), limit) for gap in gaps]
    share = np.zeros(bins)
    for gap in inside:
        share += np.maximum(0, 1 - np.abs(gap - nodes) / (nodes[1] - nodes[0]))
    cumulative = np.cumsum(share) / max(len(gaps), 1)
    weights = [np.interp(gap, nodes, cumulative) for gap in inside]
    return reference.mean([w * g for w, g in zip(weights, gaps, strict=True)])


CASES = {
    "multi_similarity": Case(
        _multi_similarity, params={"alpha": 3.0, "beta": 10.0, "threshold": 0.3}
    ),
    "circle": Case(_circle, params={"margin": 0.25, "gamma": 16.0}),
    "ranked_list": Case(
        _ranked_list,
        params={
            "margin": 0.5,
            "threshold": 2.5,
            "negative_temperature": 2.0,
            "positive_temperature": 1.0,
            "imbalance": 0.3,
        },
    ),
    "ranked_list, even weights": Case(
        functools.partial(_ranked_list, threshold=2.5, negative_temperature=0.0),
        loss=functools.partial(
            ranked_list_loss, threshold=2.5, negative_temperature=0.0
        ),
        params={"margin": 0.5, "imbalance": 0.3},
    ),
    "dynamic_soft_margin": Case(
        _dynamic_soft_margin,
        params={"limit": 3.0},
        steep=256.0,  # (bins - 1) / 2, which multiplies gaps before they are binned
    ),
    "dynamic_soft_margin, few bins": Case(
        functools.partial(_dynamic_soft_margin, limit=1.0, bins=10),
        loss=functools.partial(dynamic_soft_margin_loss, limit=1.0, bins=10),
    ),
}

# Properties

LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
ROW = np.arange(10)
POSITIVE = (LABELS[:, None] == LABELS) & (ROW[:, None] != ROW)
NEGATIVE = LABELS[:, None] != LABELS
BOTH = POSITIVE.any(1)


pytestmark = pytest.mark.usefixtures("double_precision")


def cosines(seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (10, 10))


@functools.cache
def _anchors(loss):
    """Terms [anchor], and the gradient of their sum."""

    def compute(s, params):
        terms = loss(
            rankjax.Pairs(s, *map(jnp.asarray, (POSITIVE, NEGATIVE))), **params
        )
        return terms.total.sum(), terms

    return jax.jit(jax.grad(compute, has_aux=True))


def anchors(loss, s, **params):
    params = jax.tree.map(jnp.float64, params)
    grad, terms = _anchors(loss)(jnp.asarray(s), params)
    return terms, np.asarray(grad)


def test_sharp_multi_similarity_approaches_hinges_of_the_hardest_pairs():
    s = cosines()
    settings = {"alpha": 1e4, "beta": 1e4, "threshold": 0.1}
    terms, _ = anchors(multi_similarity_loss, s, **settings)
    hardest_positive = np.where(POSITIVE, s, np.inf).min(1)
    hardest_negative = np.where(NEGATIVE, s, -np.inf).max(1)
    hinges = np.maximum(0.1 - hardest_positive, 0) + np.maximum(
        hardest_negative - 0.1, 0
    )
    close(terms.total, hinges, atol=1e-3)


def test_circle_is_the_softplus_of_two_log_sums_and_its_factors_are_constants():
    s, gamma, m = cosines(), 5.0, 0.3
    far_positive, far_negative = np.maximum(1 + m - s, 0), np.maximum(s + m, 0)
    pull = np.exp(-gamma * far_positive * (s - 1 + m)) * POSITIVE
    push = np.exp(gamma * far_negative * (s - m)) * NEGATIVE
    product = pull.sum(1) * push.sum(1)
    terms, grad = anchors(circle_loss, s, margin=m, gamma=gamma)
    close(terms.count, 1.0 * BOTH)
    close(terms.total, np.where(BOTH, np.log1p(product), 0))
    share = (product / (1 + product))[:, None] * BOTH[:, None]
    pull, push = (w / np.maximum(w.sum(1, keepdims=True), 1e-300) for w in (pull, push))
    close(grad, gamma * share * (far_negative * push - far_positive * pull))


# Ranked list

GENTLE = {"threshold": 1.0, "margin": 0.6, "imbalance": 0.25}


def _distances(seed=3):
    return np.random.default_rng(seed).uniform(0, 2, (10, 10))


def _active(d):
    return POSITIVE & (d > 0.4), NEGATIVE & (d < 1.0)


def test_the_forces_on_the_active_pairs_of_a_list_are_weights_that_sum_to_one():
    d = _distances()
    settings = {"negative_temperature": 3.0, "positive_temperature": 2.0}
    _, grad = anchors(ranked_list_loss, -d, **GENTLE, **settings)
    loose, near = _active(d)
    pull, push = np.exp(2 * (d - 0.4)) * loose, np.exp(3 * (1.0 - d)) * near
    for weights, force, mask in (
        (pull, -grad / 0.75, POSITIVE),
        (push, grad / 0.25, NEGATIVE),
    ):
        some = weights.sum(1) > 0
        close((force * mask).sum(1), 1.0 * some)
        expected = weights / np.where(some, weights.sum(1), 1)[:, None]
        close(force * mask, expected)


# Dynamic soft margin


def test_temperature_zero_weighs_active_pairs_alike_and_a_high_one_the_hardest():
    d = _distances()
    loose, near = _active(d)
    for temperature in (0.0, 1e5):
        settings = dict.fromkeys(
            ["negative_temperature", "positive_temperature"], temperature
        )
        terms, _ = anchors(ranked_list_loss, -d, **GENTLE, **settings)
        combine = np.max if temperature else np.mean
        sides = [
            [combine(v[i][active[i]]) if active[i].any() else 0.0 for i in ROW]
            for v, active in ((d - 0.4, loose), (1.0 - d, near))
        ]
        close(terms.total, 0.75 * np.array(sides[0]) + 0.25 * np.array(sides[1]))


def test_dynamic_weights_are_constants_and_only_nearest_negatives_are_pushed():
    s = cosines()
    s = (s + s.T) / 2
    loss = functools.partial(dynamic_soft_margin_loss, bins=2)

    @jax.jit
    @jax.grad
    def grad(s):
        compute = rankjax.objective(loss, similarity=lambda a, r: s)
        return compute(np.ones((10, 2)), LABELS)

    triplets = []
    for a, p in zip(*np.nonzero(POSITIVE), strict=True):
        rivals = np.where(NEGATIVE[a], s[[a, p]], -np.inf)  # of anchor and positive
        which, n = np.unravel_index(rivals.argmax(), rivals.shape)
        triplets.append((a, p, (a, p)[which], n, rivals.max() - s[a, p]))
    share = np.mean([t[-1] + 2 for t in triplets]) / 4  # of the upper of two nodes
    expected = np.zeros((10, 10))
    for a, p, row, n, gap in triplets:
        place = (gap + 2) / 4
        weight = (1 - share) + place * share
        expected[a, p] -= weight / len(triplets)
        expected[row, n] += weight / len(triplets)
    close(grad(jnp.asarray(s)), expected)
