"""Softmax, sigmoid and neighbour losses: slow loops, and what their papers claim."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close, evaluate

import rankjax
from rankjax.losses.decoupled_contrastive import decoupled_contrastive_loss
from rankjax.losses.multi_sup_con import multi_sup_con_loss
from rankjax.losses.nca import nca_loss, soft_nearest_neighbor_loss
from rankjax.losses.softmax import nt_xent_loss, sup_con_loss

COSINE, SQUARED = "cosine", "negative_squared_euclidean"


def slow_nt_xent(x, y, temperature=0.07):
    s = reference.similarity_matrix(COSINE, x) / temperature
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            gaps = [math.exp(s[a, n] - s[a, p]) for n in negatives]
            values.append(math.log(1 + sum(gaps)))
    return reference.mean(values)


def slow_sup_con(x, y, temperature=0.1, mean="outside"):
    s = reference.similarity_matrix(COSINE, x) / temperature
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        if positives:
            total = sum(math.exp(s[a, j]) for j in positives + negatives)
            q = [math.exp(s[a, p]) / total for p in positives]
            if mean == "outside":
                values.append(-reference.mean([math.log(v) for v in q]))
            else:
                values.append(-math.log(reference.mean(q)))
    return reference.mean(values)


def slow_multi_sup_con(x, y, temperature=0.1, threshold=0.5):
    s = reference.similarity_matrix(COSINE, x) / temperature
    sets = [{label} if y.ndim == 1 else set(np.flatnonzero(label)) for label in y]
    values = []
    for a in range(len(x)):
        others = [j for j in range(len(x)) if j != a]
        share = {j: len(sets[a] & sets[j]) / len(sets[a] | sets[j]) for j in others}
        positives = [j for j in others if share[j] >= threshold and share[j] > 0]
        if positives:
            total = sum(math.exp(s[a, j]) for j in others)
            log_q = [s[a, p] - math.log(total) for p in positives]
            weights = [share[p] for p in positives]
            values.append(-reference.mean(np.multiply(weights, log_q).tolist()))
    return reference.mean(values)


def slow_decoupled_contrastive(x, y, temperature=0.1, sigma=None):
    s = reference.similarity_matrix(COSINE, x)
    found = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        total = sum(math.exp(s[a, n] / temperature) for n in negatives)
        found += [(s[a, p], math.log(total)) for p in positives if negatives]
    closeness = [math.exp(p / sigma) if sigma else 1.0 for p, _ in found]
    unit = reference.mean(closeness)
    return reference.mean(
        [
            total - (2 - c / unit) * p / temperature
            for (p, total), c in zip(found, closeness, strict=True)
        ]
    )


def slow_sigmoid(x, y, scale=10.0, bias=-10.0):
    s = reference.similarity_matrix(COSINE, x)
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        signs = [(p, 1) for p in positives] + [(n, -1) for n in negatives]
        probabilities = [
            1 / (1 + math.exp(-z * (scale * s[a, j] + bias))) for j, z in signs
        ]
        if signs:
            values.append(-sum(math.log(v) for v in probabilities))
    return reference.mean(values)


def slow_nca(x, y, scale=1.0, log=True):
    s = scale * reference.similarity_matrix(SQUARED, x)
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        if positives:
            total = sum(math.exp(s[a, j]) for j in positives + negatives)
            p = sum(math.exp(s[a, j]) for j in positives) / total
            values.append(-math.log(p) if log else 1 - p)
    return reference.mean(values)


def slow_soft_nearest_neighbor(x, y, temperature=1.0):
    return slow_nca(x, y, scale=1 / temperature)


inside = functools.partial(sup_con_loss, mean="inside")
error = functools.partial(nca_loss, log=False)
weighted = functools.partial(decoupled_contrastive_loss, sigma=0.5)
any_overlap = functools.partial(multi_sup_con_loss, threshold=0.2)

CASES = {
    "nt_xent": Case(slow_nt_xent, params={"temperature": 0.5}),
    "sup_con": Case(slow_sup_con, params={"temperature": 0.4}),
    "sup_con, inside": Case(
        functools.partial(slow_sup_con, mean="inside"),
        loss=inside,
        params={"temperature": 0.4},
    ),
    "multi_sup_con": Case(slow_multi_sup_con, params={"temperature": 0.4}),
    "multi_sup_con, several labels": Case(
        slow_multi_sup_con,
        loss=multi_sup_con_loss,
        params={"temperature": 0.4},
        many_labels=True,
    ),
    "multi_sup_con, any overlap": Case(
        functools.partial(slow_multi_sup_con, threshold=0.2),
        loss=any_overlap,
        params={"temperature": 0.4},
        many_labels=True,
    ),
    "decoupled_contrastive": Case(
        slow_decoupled_contrastive, params={"temperature": 0.4}
    ),
    "decoupled_contrastive, weighted": Case(
        functools.partial(slow_decoupled_contrastive, sigma=0.5), loss=weighted
    ),
    "sigmoid": Case(slow_sigmoid, params={"scale": 4.0, "bias": -2.0}),
    "soft_nearest_neighbor": Case(
        slow_soft_nearest_neighbor, params={"temperature": 3.0}
    ),
    "nca": Case(slow_nca, params={"scale": 0.3}),
    "nca, expected error": Case(
        functools.partial(slow_nca, log=False), loss=error, params={"scale": 0.3}
    ),
}

N = 5  # pairs
PAIRED = np.repeat(np.arange(N), 2)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(2 * N, 6))
LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
SIMILARITIES = RNG.uniform(-1, 1, (2 * N, 2 * N))


pytestmark = pytest.mark.usefixtures("double_precision")


def sides(labels):
    same = labels[:, None] == labels
    return same & ~np.eye(len(labels), dtype=bool), ~same


# NT-Xent


def test_nt_xent_keeps_the_digits_of_a_small_loss():
    s = np.where(PAIRED[:, None] == PAIRED, 0.9, 0.4).astype(np.float32)
    pairs = rankjax.Pairs(jnp.asarray(s), *map(jnp.asarray, sides(PAIRED)))
    actual = nt_xent_loss(pairs, temperature=np.float32(0.02))
    assert actual.total.dtype == np.float32
    close(actual.total, np.full(2 * N, 8 * math.exp(-25)), rtol=1e-5, atol=0)


# Several labels


def test_a_positive_at_the_threshold_counts_and_one_below_it_only_repels():
    x = np.eye(3)
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], bool)  # they share a half
    at, above = (
        evaluate(multi_sup_con_loss, x, labels, temperature=1.0, threshold=t)
        for t in (0.5, 0.51)
    )
    close(at[0], 0.5 * math.log(2))
    close(above[0], 0)
    assert not np.any(above[1])


def test_order_of_rows_and_labels_and_padding_do_not_matter_to_sets_of_labels():
    labels = np.random.default_rng(7).random((8, 6)) < 0.4
    x, rows = EMBEDDINGS[:8], np.array([3, 9, 0, 6, 1, 8, 2, 5])
    compute = rankjax.objective(any_overlap)
    run = jax.jit(jax.value_and_grad(lambda x, y, valid: compute(x, y, valid=valid)))
    loss, grad = run(x, labels, np.ones(8, bool))
    assert loss > 0
    padded, names = np.full((10, 6), np.nan), np.ones((10, 6), bool)
    padded[rows], names[rows] = x, labels[:, ::-1]
    moved_loss, moved_grad = run(padded, names, np.isin(np.arange(10), rows))
    close(moved_loss, loss)
    close(moved_grad[rows], grad)
    assert not np.any(np.asarray(moved_grad)[[4, 7]])


# Decoupled


@pytest.mark.parametrize("sigma", [0.1, 0.5, 10.0])
def test_von_mises_fisher_weights_average_to_one_and_favour_far_positives(sigma):
    positive, negative = map(jnp.asarray, sides(LABELS))

    @jax.grad
    def slopes(s):
        pairs = rankjax.Pairs(s, positive, negative)
        found = decoupled_contrastive_loss(pairs, temperature=0.3, sigma=sigma)
        return jnp.sum(found.then(found.sums).total)

    weights = -0.3 * slopes(jnp.asarray(SIMILARITIES))[positive]
    near = np.exp(SIMILARITIES[positive] / sigma)
    close(weights, 2 - near / near.mean())
    close(weights.mean(), 1)


# Neighbours


def test_soft_nearest_neighbour_of_far_points_grows_with_their_distance():
    """Where a constant added to the sums would flatten it, gradient and all."""
    for d in (10.0, 100.0):
        x = np.array([[0.0], [2 * d], [d]])
        names = np.array([0, 0, 1])
        loss, grad = evaluate(soft_nearest_neighbor_loss, x, names, temperature=1.0)
        close(loss, (2 * d) ** 2 - d**2)
        close(grad, [[-3 * d], [3 * d], [0.0]])
