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

from rankjax.losses.blackbox_ap import blackbox_ap_loss
from rankjax.losses.pnp import pnp_loss
from rankjax.losses.recall_at_k import recall_at_k_loss, surrogate_precision_loss
from rankjax.losses.smooth_ap import smooth_ap_loss
from rankjax.losses.sup_ap import calibration_loss, roadmap_loss, sup_ap_loss
from rankjax.objective import objective
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


def roadmap(x, y):
    return 0.5 * sup_ap(x, y) + 0.5 * calibration(x, y)


def soft_rank(row, i, candidates, temperature):
    return 1 + sum(
        sigmoid((row[j] - row[i]) / temperature) for j in candidates if j != i
    )


def recall_at_k(x, y, k=(1, 2, 4, 8, 16), step=0.0):
    def value(row, positives, negatives):
        ranks = [soft_rank(row, i, positives + negatives, 0.01) for i in positives]
        recalls = []
        for size in k:
            found = sum(sigmoid(size + step - r) for r in ranks)
            recalls.append(min(found, size) / min(size, len(positives)))
        return 1 - reference.mean(recalls)

    return over_anchors(cosines(x), y, value)


def surrogate_precision(x, y, k=5):
    return recall_at_k(x, y, (k,), step=0.5)


def blackbox_ap(x, y, margin=0.02):
    def value(row, positives, negatives):
        moved = row.copy()
        moved[positives] -= margin / 2
        moved[negatives] += margin / 2
        return 1 - exact_ap(moved, positives, negatives)

    return over_anchors(cosines(x), y, value)


PENALTIES = {
    "O": lambda n: n,
    "Iu": lambda n: (1 + n) * math.log(1 + n),
    "Ib": lambda n: (2 * n - math.log(1 + 2 * n)) / 4,
    "Ds": lambda n: math.log(1 + n),
    "Dq": lambda n: 1 - 1 / (1 + n),
}


def pnp(x, y, variant="O"):
    def value(row, i, others, negatives):
        n = sum(sigmoid((row[j] - row[i]) / 0.01) for j in negatives)
        return PENALTIES[variant](n)

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
EMBEDDINGS = RNG.normal(size=(16, 4))
SAME = LABELS[:, None] == LABELS
MASKS = SAME & ~np.eye(16, dtype=bool), ~SAME


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def close(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=atol)


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


def recall(row, positives, negatives, k):
    best = sorted(positives + negatives, key=lambda j: -row[j])[:k]
    return len(set(best) & set(positives)) / min(k, len(positives))


def test_cold_smooth_ap_is_one_minus_the_exact_average_precision():
    expected = over_rows(imprecision, spread())
    assert 0 < expected.min(where=expected > 0, initial=1) < expected.max() < 1
    close(anchors(smooth_ap_loss, spread(), temperature=1e-3), expected)


def test_cold_recall_with_its_step_between_two_ranks_is_exact():
    for k in (1, 3):
        expected = over_rows(lambda *row: 1 - recall(*row, k), spread())  # noqa: B023
        assert len(set(expected)) > 1
        loss = functools.partial(surrogate_precision_loss, k=k)
        cold = anchors(loss, spread(), temperature=1e-3, rank_temperature=1e-2)
        close(cold, expected)


def test_cold_recall_with_its_step_at_a_rank_counts_that_rank_half():
    def value(row, positives, negatives):
        lists = [recall(row, positives, negatives, k) for k in (2, 3)]
        sizes = [min(k, len(positives)) for k in (2, 3)]
        found = (lists[0] * sizes[0] + lists[1] * sizes[1]) / 2
        return 1 - found / sizes[1]

    loss = functools.partial(recall_at_k_loss, k=(3,))
    cold = anchors(loss, spread(), temperature=1e-3, rank_temperature=1e-2)
    close(cold, over_rows(value, spread()))


def test_recall_averages_over_its_lists():
    lists = [
        anchors(functools.partial(recall_at_k_loss, k=k), spread())
        for k in ((1,), (4,), (1, 4))
    ]
    close(lists[2], (lists[0] + lists[1]) / 2)


def test_recall_of_a_list_never_exceeds_its_length():
    """Six positives tie, each at rank 1 + 5/2: all are in a list of four."""
    masks = np.arange(7)[None] < 6, np.zeros((1, 7), bool)
    loss = functools.partial(recall_at_k_loss, k=(4,))
    close(anchors(loss, np.zeros((1, 7)), masks, rank_temperature=1e-2), [0.0])


@pytest.mark.parametrize("loss", [smooth_ap_loss, sup_ap_loss])
def test_every_order_of_rows_and_uneven_classes_have_one_loss(loss):
    run = jax.jit(objective(loss))
    expected = {smooth_ap_loss: smooth_ap, sup_ap_loss: sup_ap}[loss]
    expected = expected(EMBEDDINGS, LABELS)
    for order in (np.argsort(LABELS, kind="stable"), RNG.permutation(16)):
        close(run(EMBEDDINGS[order], LABELS[order]), expected)


def test_an_anchor_is_no_positive_of_its_own():
    """A pair with one negative nearer than the other: a precision of one half."""
    s = np.array([[1.0, 0.1, 0.5], [0.1, 1.0, 0.5], [0.5, 0.5, 1.0]])
    same = np.array([0, 0, 1])[:, None] == [0, 0, 1]
    masks = same & ~np.eye(3, dtype=bool), ~same
    close(anchors(smooth_ap_loss, s, masks, temperature=1e-3), [0.5, 0.5, 0.0])
    close(anchors(blackbox_ap_loss, s, masks), [0.5, 0.5, 0.0])
    close(anchors(pnp_loss, s, masks, temperature=1e-3), [1.0, 1.0, 0.0])


@pytest.mark.parametrize("ties", [False, True])
def test_sup_ap_bounds_one_minus_the_average_precision(ties):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        s = rng.uniform(-1, 1, (16, 16))
        s = np.round(4 * s) / 4 if ties else s
        exact = over_rows(imprecision, s)
        assert np.all(anchors(sup_ap_loss, s) >= exact - 1e-12)


def test_smooth_ap_is_no_bound():
    """A negative just ahead counts as one half, and not as one."""
    masks = np.array([[True, False]]), np.array([[False, True]])
    exact = 1 - exact_ap(np.array([0.0, 1e-6]), [0], [1])
    ahead = np.array([[0.0, 1e-6]])
    assert anchors(smooth_ap_loss, ahead, masks)[0] < exact - 0.1
    assert anchors(sup_ap_loss, ahead, masks)[0] >= exact


def test_sup_ap_keeps_its_gradient_where_smooth_ap_saturates():
    masks = np.array([[True, False]]), np.array([[False, True]])
    s = np.array([[-0.9, 0.9]])
    assert np.all(np.abs(slopes(smooth_ap_loss, s, masks)) < 1e-60)
    n = 0.5 + sigmoid(5.0) + 100 * (1.8 - 0.05)  # the term is n / (1 + n)
    close(slopes(sup_ap_loss, s, masks), np.array([[-1, 1]]) * 100 / (1 + n) ** 2)


def test_sup_ap_has_no_gradient_between_positives():
    masks = np.ones((1, 5), bool), np.zeros((1, 5), bool)
    masks[0][0, 4], masks[1][0, 4] = False, True
    s = np.array([[0.5, 0.51, 0.52, -0.5, -0.49]])
    actual = slopes(sup_ap_loss, s, masks)
    assert np.all(np.abs(actual[0, :3]) < 1e-30)
    n = 0.5 + sigmoid(1.0)  # ahead of the last of four, whose term is n / (4 + n)
    slope = sigmoid(1.0) * sigmoid(-1.0) / 0.01 * 4 / (4 + n) ** 2 / 4
    close(actual[0, 3:], [-slope, slope])


def test_roadmap_at_either_end_of_its_balance_is_one_of_its_parts():
    run = jax.jit(lambda b: objective(roadmap_loss)(EMBEDDINGS, LABELS, params=b))
    close(run({"balance": 0.0}), sup_ap(EMBEDDINGS, LABELS))
    close(run({"balance": 1.0}), calibration(EMBEDDINGS, LABELS))


def test_calibration_is_zero_exactly_where_all_pairs_are_calibrated():
    run = jax.jit(lambda s: calibration_loss(Pairs(s, *map(jnp.asarray, MASKS))))
    good = np.where(SAME, 0.95, 0.55)
    assert not any(np.any(terms.total) for terms in run(good))
    positives, negatives = run(good - 0.1)
    close(positives.total, 0.05 * MASKS[0].sum(1))
    assert not np.any(negatives.total)


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


@pytest.mark.parametrize("variant", PENALTIES)
def test_cold_pnp_is_a_function_of_how_many_negatives_are_ahead(variant):
    def value(row, positives, negatives):
        ahead = [sum(row[j] > row[i] for j in negatives) for i in positives]
        return reference.mean([PENALTIES[variant](n) for n in ahead])

    loss = functools.partial(pnp_loss, variant=variant)
    close(anchors(loss, spread(), temperature=1e-3), over_rows(value, spread()))


def test_pnp_weighs_violations_as_its_variants_are_named():
    """The slope per negative of one positive with 1, 2, 4 and 8 negatives ahead."""
    order = {"O": 0, "Iu": 1, "Ib": 1, "Ds": -1, "Dq": -1}
    column, count = np.arange(9)[None], np.array([1, 2, 4, 8])[:, None]
    masks = np.tile(column == 0, (4, 1)), (column > 0) & (column <= count)
    for variant, direction in order.items():
        loss = functools.partial(pnp_loss, variant=variant, temperature=1.0)
        each = slopes(loss, np.zeros((4, 9)), masks)[:, 1]
        if direction:
            assert np.all(direction * np.diff(each) > 0), variant
        else:
            close(each, each[0])
