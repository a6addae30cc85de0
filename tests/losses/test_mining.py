"""Miners and selections against slow loops, on batches that are full of ties."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rankjax
from rankjax import losses, mining
from rankjax.parallel import AXIS

ROWS, REFERENCES = 40, 8
RNG = np.random.default_rng(0)
SIMILARITY = RNG.integers(-4, 1, (ROWS, REFERENCES)).astype(np.float32) / 2
SIDES = RNG.integers(0, 3, (ROWS, REFERENCES))  # 0 positive, 1 negative, 2 neither
SIDES[:3] = [[0], [1], [2]]  # without negatives, without positives, without either
PAIRS = rankjax.Pairs(
    *map(jnp.asarray, (SIMILARITY, SIDES == 0, SIDES == 1)),
)


def first(row, among, best):
    """The mask of the lowest index with the best value."""
    chosen = np.zeros(len(row), bool)
    where = np.flatnonzero(among)
    if len(where):
        chosen[min(where, key=lambda j: (best * row[j], j))] = True
    return chosen


FARTHEST, NEAREST = 1, -1

MINERS = {
    "hardest": (
        mining.hardest,
        lambda row, p, n: (first(row, p, FARTHEST), first(row, n, NEAREST)),
    ),
    "easy_positive": (
        mining.easy_positive,
        lambda row, p, n: (first(row, p, NEAREST), n),
    ),
    "thresholds": (
        functools.partial(mining.thresholds, positive_below=-0.5, negative_above=-1.0),
        lambda row, p, n: (p & (row < -0.5), n & (row > -1.0)),
    ),
    "thresholds, of positives": (
        functools.partial(mining.thresholds, positive_below=-0.5),
        lambda row, p, n: (p & (row < -0.5), n),
    ),
    "thresholds, none": (mining.thresholds, lambda row, p, n: (p, n)),
}


@pytest.mark.parametrize("name", MINERS)
def test_miner_equals_a_slow_loop_and_ties_go_to_the_lowest_index(name):
    miner, rule = MINERS[name]
    mined = jax.jit(miner)(PAIRS)
    for i in range(ROWS):
        positive, negative = rule(SIMILARITY[i], SIDES[i] == 0, SIDES[i] == 1)
        np.testing.assert_array_equal(mined.positive[i], positive)
        np.testing.assert_array_equal(mined.negative[i], negative)


@pytest.mark.parametrize("name", MINERS)
def test_mining_never_adds_a_pair_nor_changes_a_similarity(name):
    mined = jax.jit(MINERS[name][0])(PAIRS)
    assert not np.any(mined.positive & ~PAIRS.positive)
    assert not np.any(mined.negative & ~PAIRS.negative)
    np.testing.assert_array_equal(mined.similarity, PAIRS.similarity)


def test_narrowing_never_adds_a_pair():
    everything = jnp.ones((ROWS, REFERENCES), bool)
    kept = PAIRS.narrow(everything, everything)
    np.testing.assert_array_equal(kept.positive, PAIRS.positive)
    np.testing.assert_array_equal(kept.negative, PAIRS.negative)
    assert not np.any(PAIRS.narrow(~everything, everything).positive)


SELECTIONS = {
    "all_negatives": (mining.all_negatives, lambda row, n, p: n),
    "semi_hard": (
        mining.semi_hard,
        lambda row, n, p: n & (row < p) & (row > p - 1.0),
    ),
    "semi_hard_or_easiest": (
        mining.semi_hard_or_easiest,
        lambda row, n, p: (
            first(row, n & (row < p), NEAREST)
            if np.any(n & (row < p))
            else first(row, n, FARTHEST)
        ),
    ),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection_equals_a_slow_loop_and_ties_go_to_the_lowest_index(name):
    selection, rule = SELECTIONS[name]
    positives = np.linspace(-2, 0, 5, dtype=np.float32)
    select = jax.vmap(lambda s, n, p: selection(s, n, p, 1.0), (None, None, 0))
    chosen = jax.jit(jax.vmap(select, (0, 0, None)))(SIMILARITY, SIDES == 1, positives)
    for i in range(ROWS):
        for j, positive in enumerate(positives):
            expected = rule(SIMILARITY[i], SIDES[i] == 1, positive)
            np.testing.assert_array_equal(chosen[i, j], expected)


def test_semi_hard_without_a_margin_is_refused():
    soft = functools.partial(
        losses.triplet_loss, margin=None, selection=mining.semi_hard
    )
    with pytest.raises(ValueError, match=r"^semi_hard needs a margin, got None"):
        soft(PAIRS)


# Ties between duplicates. The coordinates are small integers and the rows sixteen, so
# that every sum is exact whatever its order, and equal distances are equal bit by bit.

LABELS = np.array([0, 1, 2, 3] * 4)
DUPLICATES = np.random.default_rng(1).integers(-1, 2, (16, 3)).astype(np.float32)
DUPLICATES[8:] = DUPLICATES[:8]

TIED = {
    "batch-hard": (functools.partial(losses.batch_hard_triplet_loss, margin=1.0), None),
    "triplets, hardest mining": (losses.triplet_loss, mining.hardest),
    "triplets, semi-hard or easiest": (
        functools.partial(
            losses.triplet_loss, selection=mining.semi_hard_or_easiest, margin=1.0
        ),
        None,
    ),
}


def _evaluate(compute):
    return jax.jit(jax.value_and_grad(compute))(DUPLICATES, LABELS)


@functools.cache
def _gradient(name):
    """One device, all rows at once."""
    loss, miner = TIED[name]
    compute = rankjax.objective(loss, mining=miner)
    return jax.tree.map(np.asarray, _evaluate(compute))


def _close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("block", [1, 3])
def test_blocks_cannot_change_a_tie(name, block):
    loss, miner = TIED[name]
    compute = rankjax.objective(loss, mining=miner, block=block)
    _close(_evaluate(compute), _gradient(name))


@pytest.mark.parametrize("name", TIED)
def test_eight_devices_cannot_change_a_tie(name):
    loss, miner = TIED[name]
    compute = rankjax.objective(loss, mining=miner, axis_name=AXIS)

    def step(x, rows, labels):
        device_rows = lambda x: x.reshape(8, 2, 3)[rows[0]]  # noqa: E731
        value, grad = jax.value_and_grad(lambda x: compute(device_rows(x), labels))(x)
        return value, jax.lax.pmean(grad, AXIS)

    spread = jax.pmap(step, AXIS, in_axes=(None, 0, 0), out_axes=None)
    devices = np.arange(8)[:, None]
    _close(spread(DUPLICATES, devices, LABELS.reshape(8, 2)), _gradient(name))


def test_the_batch_of_the_tie_tests_is_full_of_ties():
    distance = ((DUPLICATES[:, None] - DUPLICATES) ** 2).sum(-1)
    same = LABELS[:, None] == LABELS
    for row, alike in zip(distance, same, strict=True):
        negatives = row[~alike]
        assert np.sum(negatives == negatives.min()) > 1


def test_of_duplicates_the_lowest_alone_receives_the_gradient():
    """An anchor at 0; two positives at 2 and three negatives at 1, all identical."""
    x = np.zeros((8, 1), np.float32)
    x[[2, 5]] = 2
    x[[3, 4, 7]] = 1
    positive = np.zeros((8, 8), bool)
    negative = np.zeros((8, 8), bool)
    positive[0, [2, 5]] = True
    negative[0, [3, 4, 7]] = True
    compute = rankjax.objective(
        functools.partial(losses.batch_hard_triplet_loss, margin=0.5)
    )
    value, grad = jax.value_and_grad(compute)(x, positive=positive, negative=negative)
    np.testing.assert_allclose(value, 2 - 1 + 0.5, rtol=1e-6)
    expected = np.zeros((8, 1))
    expected[2], expected[3] = 1, -1  # the anchor's two pulls cancel
    np.testing.assert_allclose(grad, expected, atol=1e-6)


# Gradients


@pytest.mark.parametrize("name", MINERS)
def test_no_gradient_flows_through_what_a_miner_chose(name):
    """The gradient is that of the loss on the chosen pairs, as if they were given."""
    miner = MINERS[name][0]

    def loss(similarity, mine):
        pairs = mine(dataclasses.replace(PAIRS, similarity=similarity))
        return jnp.sum(losses.triplet_loss(pairs, margin=1.0).total)

    chosen = miner(PAIRS)
    frozen = lambda pairs: pairs.narrow(chosen.positive, chosen.negative)  # noqa: E731
    grad = jax.jit(jax.grad(loss), static_argnums=1)
    expected = grad(SIMILARITY, frozen)
    assert np.any(expected)
    np.testing.assert_array_equal(grad(SIMILARITY, miner), expected)


@pytest.mark.parametrize("name", SELECTIONS)
def test_no_gradient_flows_through_what_a_selection_chose(name):
    """A triplet's gradient is 1 at its negative and -1 at its positive, nothing else.

    Also by the margin: the band's width chooses, and the hinge alone has a slope.
    """
    selection = SELECTIONS[name][0]
    row = jnp.array([-1.0, -1.25, -0.5, -1.75, -1.25], jnp.float32)
    sides = jnp.array([True, False, False, False, False])
    pairs = rankjax.Pairs(row[None], sides[None], ~sides[None])

    def loss(row, margin):
        terms = losses.triplet_loss(
            dataclasses.replace(pairs, similarity=row[None]),
            margin=margin,
            selection=selection,
        )
        return jnp.sum(terms.total)

    chosen = {
        "all_negatives": [1, 2, 3, 4],
        "semi_hard": [1, 3, 4],
        "semi_hard_or_easiest": [1],
    }[name]
    by_row, by_margin = jax.jit(jax.grad(loss, (0, 1)))(row, jnp.float32(1.0))
    expected = np.zeros(5)
    expected[chosen] = 1
    expected[0] = -len(chosen)
    np.testing.assert_allclose(by_row, expected)
    np.testing.assert_allclose(by_margin, len(chosen))
