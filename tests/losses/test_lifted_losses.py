"""Lifted structure losses: their slow loops, and what the papers claim, in doubles."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case

import rankjax
from rankjax import similarity
from rankjax.losses.lifted import (
    generalized_lifted_structure_loss,
    lifted_structure_loss,
)
from rankjax.losses.triplet import batch_hard_triplet_loss

# Slow loops


def lifted(x, y, margin=1.0):
    """Over pairs i < j, as the paper writes it."""
    d = -reference.similarity_matrix("negative_euclidean", x)
    values = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            negatives = [k for k in range(len(x)) if y[k] != y[i]]
            if y[i] == y[j] and negatives:
                total = sum(math.exp(margin - d[i, k]) for k in negatives)
                total += sum(math.exp(margin - d[j, k]) for k in negatives)
                values.append(max(0.0, d[i, j] + math.log(total)) ** 2 / 2)
    return reference.mean(values)


def generalized_lifted(s, y, margin=1.0):
    values = []
    for a in range(len(s)):
        positives, negatives = reference.sides(y, a)
        if positives and negatives:
            pull = math.log(sum(math.exp(-s[a, p]) for p in positives))
            push = math.log(sum(math.exp(margin + s[a, n]) for n in negatives))
            values.append(max(0.0, pull + push))
    return reference.mean(values)


def on(name, function):
    return lambda x, y: function(reference.similarity_matrix(name, x), y)


CASES = {
    "lifted_structure": Case(lifted, params={"margin": 1.5}),
    "generalized_lifted_structure": Case(
        on("negative_euclidean", generalized_lifted), params={"margin": 1.5}
    ),
    "generalized_lifted_structure, cosine": Case(
        on("cosine", generalized_lifted),
        loss=generalized_lifted_structure_loss,
        similarity=similarity.cosine,
        params={"margin": 0.5},
    ),
}


# Properties

LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 6))
PAIRED = np.repeat(np.arange(5), 2)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def _value_and_grad(loss):
    compute = rankjax.objective(loss)
    return jax.jit(
        jax.value_and_grad(lambda x, y, params: compute(x, y, params=params))
    )


def evaluate(loss, x, y, **params):
    """Mean and gradient; compiled once per loss and shape."""
    return _value_and_grad(loss)(x, y, params)


@functools.cache
def _anchor_terms(loss):
    """Terms [anchor] of a loss on given similarities."""
    own = np.eye(10, dtype=bool)
    same = LABELS[:, None] == LABELS
    masks = jnp.asarray(same & ~own), jnp.asarray(~same)
    return jax.jit(lambda s, m: loss(rankjax.Pairs(s, *masks), margin=m))


def close(actual, expected, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("margin", [-2.0, 0.0, 1.0])
def test_generalized_lifted_lies_between_batch_hard_and_the_log_of_the_counts(margin):
    s = reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    lifted_terms = _anchor_terms(generalized_lifted_structure_loss)(s, margin)
    hard = _anchor_terms(batch_hard_triplet_loss)(s, margin)
    np.testing.assert_array_equal(lifted_terms.count, hard.count)
    some = np.asarray(hard.count) > 0
    assert some.sum() == 9
    counts = [[len(side) for side in reference.sides(LABELS, a)] for a in range(10)]
    slack = np.log(np.maximum(counts, 1)).sum(1)
    gap = np.asarray(lifted_terms.total - hard.total)[some]
    assert np.all(gap >= -1e-12)
    assert np.all(gap <= slack[some] + 1e-12)
    assert gap.max() > 0.1


def test_generalized_lifted_is_batch_hard_with_one_positive_and_one_negative():
    x, y = EMBEDDINGS[:3], np.array([0, 0, 1])
    hard = evaluate(batch_hard_triplet_loss, x, y, margin=1.0)
    smooth = evaluate(generalized_lifted_structure_loss, x, y, margin=1.0)
    assert hard[0] > 0.1
    close(smooth[0], hard[0])
    close(smooth[1], hard[1])


def test_an_anchor_alone_in_its_class_is_a_negative_and_nothing_else():
    """The mean is over the nine others, each of which has it among its negatives."""
    terms = _anchor_terms(generalized_lifted_structure_loss)
    s = reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    value = evaluate(generalized_lifted_structure_loss, EMBEDDINGS, LABELS, margin=1.0)
    assert terms(s, 1.0).count[9] == 0
    close(value[0], terms(s, 1.0).total.sum() / 9)


@pytest.mark.parametrize(
    "loss", [lifted_structure_loss, generalized_lifted_structure_loss]
)
def test_translation_changes_nothing_and_gradients_sum_to_zero(loss):
    value, grad = evaluate(loss, EMBEDDINGS, LABELS, margin=1.0)
    moved = evaluate(loss, EMBEDDINGS + 3, LABELS, margin=1.0)
    assert value > 0.1
    close(moved[0], value)
    close(moved[1], grad)
    close(grad.sum(0), np.zeros(6))


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_identical_embeddings_have_the_known_loss(margin):
    collapsed = np.tile([[0.6, 0.8, 0, 0, 0, 0]], (10, 1))
    value, grad = evaluate(lifted_structure_loss, collapsed, PAIRED, margin=margin)
    close(value, (margin + math.log(2 * 8)) ** 2 / 2)
    close(grad, np.zeros((10, 6)))
    value, _ = evaluate(
        generalized_lifted_structure_loss, collapsed, PAIRED, margin=margin
    )
    close(value, margin + math.log(8))


def test_lifted_structure_bounds_the_squared_hinge_of_the_hardest_negative():
    """The smooth J is at least the one with maxima, by at most the log of the count."""
    d = -reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    hardest, count = [], 16
    for i in range(0, 10, 2):
        negatives = [k for k in range(10) if PAIRED[k] != PAIRED[i]]
        near = max(1.0 - d[e, k] for e in (i, i + 1) for k in negatives)
        hardest.append(d[i, i + 1] + near)
    lower = np.mean([max(0.0, j) ** 2 / 2 for j in hardest])
    upper = np.mean([max(0.0, j + math.log(count)) ** 2 / 2 for j in hardest])
    value = evaluate(lifted_structure_loss, EMBEDDINGS, PAIRED, margin=1.0)[0]
    assert 0 < lower < value < upper


def test_far_classes_cost_nothing():
    x = np.repeat(100.0 * np.eye(5, 6), 2, axis=0)
    for loss in (lifted_structure_loss, generalized_lifted_structure_loss):
        value, grad = evaluate(loss, x, PAIRED, margin=1.0)
        assert value == 0
        assert not np.any(grad)
