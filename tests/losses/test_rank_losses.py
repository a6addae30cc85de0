"""Losses that count who is ahead of each positive: AP, recall and what is near them."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close

from rankjax.losses.blackbox_ap import blackbox_ap_loss
from rankjax.losses.pnp import pnp_loss
from rankjax.losses.recall_at_k import recall_at_k_loss
from rankjax.pairs import Pairs


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def over_anchors(s, y, value):
    """Mean over rows with a positive of value(row, positives, negatives)."""
    rows = [(s[a], *reference.sides(y, a)) for a in range(len(s))]
    return reference.mean([value(*row) for row in rows if row[1]])


def over_positives(s, y, value):
    """The same of the mean over positives of value(row, i, others, negatives)."""

    def anchor(row, positives, negatives):
        return reference.mean(
            [
                value(row, i, [j for j in positives if j != i], negatives)
                for i in positives
            ]
        )

    return over_anchors(s, y, anchor)


def cosines(x):
    return reference.similarity_matrix("cosine", x)


def exact_ap(row, positives, negatives):
    """Precision at each positive, averaged; a tie counts against it."""
    precisions = []
    for i in positives:
        hits = sum(row[j] >= row[i] for j in positives)
        precisions.append(hits / (hits + sum(row[j] >= row[i] for j in negatives)))
    return reference.mean(precisions)


def smooth_ap(x, y, temperature=0.01):
    def value(row, i, others, negatives):
        ahead = lambda j: sigmoid((row[j] - row[i]) / temperature)  # noqa: E731
        hits = 1 + sum(map(ahead, others))
        return 1 - hits / (hits + sum(map(ahead, negatives)))

    return over_positives(cosines(x), y, value)


def sup_step(t, temperature=0.01, slope=100.0, delta=0.05):
    if t < 0:
        return sigmoid(t / temperature)
    if t <= delta:
        return 0.5 + sigmoid(t / temperature)
    return 0.5 + sigmoid(delta / temperature) + slope * (t - delta)


def sup_ap(x, y, **settings):
    def value(row, i, others, negatives):
        hits = 1 + sum(row[j] >= row[i] for j in others)
        ahead = sum(sup_step(row[j] - row[i], **settings) for j in negatives)
        return 1 - hits / (hits + ahead)

    return over_positives(cosines(x), y, value)


def calibration(x, y, positive_above=0.9, negative_below=0.6):
    s, pull, push = cosines(x), [], []
    for a in range(len(s)):
        positives, negatives = reference.sides(y, a)
        pull += [max(0.0, positive_above - s[a, j]) for j in positives]
        push += [max(0.0, s[a, j] - negative_below) for j in negatives]
    return reference.mean(pull) + reference.mean(push)


def roadmap(x, y, balance=0.5, positive_above=0.9, negative_below=0.6, **of_steps):
    apart = calibration(x, y, positive_above, negative_below)
    return (1 - balance) * sup_ap(x, y, **of_steps) + balance * apart


def soft_rank(row, i, candidates, temperature):
    return 1 + sum(
        sigmoid((row[j] - row[i]) / temperature) for j in candidates if j != i
    )


def recall_at_k(
    x, y, k=(1, 2, 4, 8, 16), step=0.0, temperature=0.01, rank_temperature=1.0
):
    def value(row, positives, negatives):
        ranks = [
            soft_rank(row, i, positives + negatives, temperature) for i in positives
        ]
        recalls = []
        for size in k:
            found = sum(sigmoid((size + step - r) / rank_temperature) for r in ranks)
            recalls.append(min(found, size) / min(size, len(positives)))
        return 1 - reference.mean(recalls)

    return over_anchors(cosines(x), y, value)


def surrogate_precision(x, y, k=5, **settings):
    return recall_at_k(x, y, (k,), step=0.5, **settings)


def blackbox_ap(x, y, margin=0.02):
    def value(row, positives, negatives):
        moved = row.copy()
        moved[positives] -= margin / 2
        moved[negatives] += margin / 2
        return 1 - exact_ap(moved, positives, negatives)

    return over_anchors(cosines(x), y, value)


PENALTIES = {
    "O": lambda n, b, alpha: n,
    "Iu": lambda n, b, alpha: (1 + n) * math.log(1 + n),
    "Ib": lambda n, b, alpha: (b * n - math.log(1 + b * n)) / b**2,
    "Ds": lambda n, b, alpha: math.log(1 + n),
    "Dq": lambda n, b, alpha: 1 - (1 + n) ** -alpha,
}


def pnp(x, y, variant="O", temperature=0.01, b=2.0, alpha=1.0):
    def value(row, i, others, negatives):
        n = sum(sigmoid((row[j] - row[i]) / temperature) for j in negatives)
        return PENALTIES[variant](n, b, alpha)

    return over_positives(cosines(x), y, value)


SUP = {"temperature": 0.1, "slope": 20.0, "delta": 0.08}
CALIBRATION = {"positive_above": 0.8, "negative_below": 0.3}
CASES = {
    "smooth_ap": Case(smooth_ap, params={"temperature": 0.05}),
    "sup_ap": Case(sup_ap, params=SUP),
    "calibration": Case(calibration, params=CALIBRATION),
    "roadmap": Case(roadmap, params={**SUP, **CALIBRATION, "balance": 0.3}),
    "recall_at_k": Case(
        recall_at_k, params={"rank_temperature": 0.7, "temperature": 0.05}
    ),
    "surrogate_precision": Case(
        surrogate_precision, params={"rank_temperature": 0.7, "temperature": 0.05}
    ),
    "blackbox_ap": Case(blackbox_ap),
    "pnp": Case(pnp, params={"temperature": 0.05}),
    **{
        f"pnp, {variant}": Case(
            functools.partial(pnp, variant=variant),
            loss=functools.partial(pnp_loss, variant=variant),
            params={"temperature": 0.05, "b": 1.5, "alpha": 0.7},
        )
        for variant in ("Iu", "Ib", "Ds", "Dq")
    },
}


# Classes of 1, 2, 3, 4 and 6 rows in no order, twice the same up to their names.
LABELS = np.array([3, 0, 4, 4, 2, 4, 1, 3, 4, 2, 3, 1, 4, 3, 2, 4])
RNG = np.random.default_rng(5)
SAME = LABELS[:, None] == LABELS
MASKS = SAME & ~np.eye(16, dtype=bool), ~SAME


pytestmark = pytest.mark.usefixtures("double_precision")


@functools.cache
def _anchor_terms(loss):
    def total(s, positive, negative, params):
        return loss(Pairs(s, positive, negative), **params).total

    return jax.jit(total)


@functools.cache
def _slopes(loss):
    def total(s, positive, negative, params):
        return jnp.sum(loss(Pairs(s, positive, negative), **params).total)

    return jax.jit(jax.grad(total))


def slopes(loss, s, masks=MASKS, **params):
    """Gradient [anchor, reference] of the sum of the terms."""
    return _slopes(loss)(s, *map(jnp.asarray, masks), params)


def anchors(loss, s, masks=MASKS, **params):
    """Terms [anchor] on given similarities; one per anchor with a positive."""
    return _anchor_terms(loss)(s, *map(jnp.asarray, masks), params)


def spread(rows=16, seed=0, step=0.1):
    """Similarities [row, row] whose values in a row are all `step` or more apart."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(rows) for _ in range(rows)]) * step - 0.7


def over_rows(value, s):
    sides = [reference.sides(LABELS, a) for a in range(16)]
    return np.array([value(s[a], p, n) if p else 0.0 for a, (p, n) in enumerate(sides)])


def imprecision(row, positives, negatives):
    return 1 - exact_ap(row, positives, negatives)


def test_recall_of_a_list_never_exceeds_its_length():
    """Six positives tie, each at rank 1 + 5/2: all are in a list of four."""
    masks = np.arange(7)[None] < 6, np.zeros((1, 7), bool)
    loss = functools.partial(recall_at_k_loss, k=(4,))
    close(anchors(loss, np.zeros((1, 7)), masks, rank_temperature=1e-2), [0.0])


def test_blackbox_ap_without_margin_is_one_minus_the_exact_average_precision():
    for step in (0.1, 0.0):
        s = spread(step=step)
        close(anchors(blackbox_ap_loss, s, margin=0.0), over_rows(imprecision, s))


def permutation_ranks(scores):
    """Ranks 1 to n that have the least inner product with the scores."""
    every = itertools.permutations(range(1, len(scores) + 1))
    return np.array(min(every, key=lambda ranks: np.dot(ranks, scores)))


@pytest.mark.parametrize("reach", [0.3, 4.0])
def test_blackbox_gradient_is_that_of_the_interpolation(reach):
    """The paper's, with rankings found by trying all permutations."""
    rng = np.random.default_rng(7)
    s = rng.uniform(-0.03, 0.03, (12, 6))
    positive = rng.random((12, 6)) < 0.5
    positive[:, 0], positive[:, 1] = True, False
    masks = positive, ~positive
    expected = np.zeros_like(s)
    for a, row in enumerate(s):
        scores = row + np.where(positive[a], -0.01, 0.01)
        ranks = permutation_ranks(scores)
        among = permutation_ranks(scores[positive[a]])
        incoming = np.zeros(6)
        incoming[positive[a]] = among / ranks[positive[a]] ** 2 / len(among)
        moved = permutation_ranks(scores + reach * incoming)
        expected[a] = -(ranks - moved) / reach
    assert np.any(expected, -1).sum() > 5
    close(slopes(blackbox_ap_loss, s, masks, interpolation=reach), expected)


def test_blackbox_gradient_vanishes_where_the_ranking_is_right_by_the_margin():
    for gap, flat in ((0.03, True), (0.01, False)):
        s = np.where(SAME, gap, 0.0) + np.linspace(0, 1e-3, 16)
        assert (not np.any(slopes(blackbox_ap_loss, s))) == flat


def test_blackbox_ap_differentiates_forwards_as_backwards():
    total = lambda s: jnp.sum(anchors(blackbox_ap_loss, s))  # noqa: E731
    s, direction = spread(), RNG.normal(size=(16, 16))
    forward = jax.jvp(total, (s,), (direction,))[1]
    assert abs(forward) > 0.1
    close(forward, np.vdot(slopes(blackbox_ap_loss, s), direction))
