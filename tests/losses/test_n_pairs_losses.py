"""N-pair losses: slow loops, and what the paper claims, in double precision."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close, evaluate, value

import rankjax
from rankjax import similarity
from rankjax.losses.n_pairs import n_pairs_loss, n_pairs_ovo_loss


def on(name, function, **settings):
    return lambda x, y: function(reference.similarity_matrix(name, x), y, **settings)


def one_versus_one(s, y, negatives="positives", direction="row"):
    role = [sum(y[k] == y[i] for k in range(i)) % 2 for i in range(len(y))]
    values = []
    for a in range(len(s)):
        if direction != "symmetric" and role[a] != (direction == "column"):
            continue
        same, different = reference.sides(y, a)
        if negatives == "positives":
            different = [n for n in different if role[n] != role[a]]
        for p in [j for j in same if role[j] != role[a]]:
            gaps = [s[a, n] - s[a, p] for n in different]
            values.append(sum(math.log1p(math.exp(gap)) for gap in gaps))
    return reference.mean(values)


both_ways = functools.partial(
    n_pairs_loss, negatives="all", direction="symmetric", scale=2.0
)
CASES = {
    "n_pairs": Case(on("dot", reference.n_pairs), params={"scale": 0.7}),
    "n_pairs, all negatives, symmetric": Case(
        lambda x, y: reference.n_pairs(
            2 * reference.similarity_matrix("cosine", x), y, "all", "symmetric"
        ),
        loss=both_ways,
        similarity=similarity.cosine,
    ),
    "n_pairs, column": Case(
        on("dot", reference.n_pairs, direction="column"),
        loss=functools.partial(n_pairs_loss, direction="column"),
        params={"scale": 0.7},
    ),
    "n_pairs_ovo": Case(on("dot", one_versus_one), params={"scale": 0.7}),
    "n_pairs_ovo, all negatives, symmetric": Case(
        on("cosine", one_versus_one, negatives="all", direction="symmetric"),
        loss=functools.partial(
            n_pairs_ovo_loss, negatives="all", direction="symmetric"
        ),
        similarity=similarity.cosine,
        params={"scale": 3.0},
    ),
    "n_pairs_ovo, column": Case(
        on("dot", one_versus_one, direction="column"),
        loss=functools.partial(n_pairs_ovo_loss, direction="column"),
        params={"scale": 0.7},
    ),
}

N = 5  # pairs
PAIRED = np.repeat(np.arange(N), 2)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(2 * N, 6))
A, P = EMBEDDINGS[0::2], EMBEDDINGS[1::2]

column = functools.partial(n_pairs_loss, direction="column")
symmetric = functools.partial(n_pairs_loss, direction="symmetric")
all_negatives = functools.partial(n_pairs_loss, negatives="all")


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def interleave(anchors, positives):
    return np.stack([anchors, positives], 1).reshape(-1, anchors.shape[1])


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(s):
    return np.mean(-np.log(np.diag(softmax(s))))


# One against all


def test_n_pairs_is_the_cross_entropy_of_anchors_times_positives():
    s = A @ P.T
    loss, grad = evaluate(n_pairs_loss, EMBEDDINGS, PAIRED)
    close(loss, cross_entropy(s))
    error = (softmax(s) - np.eye(N)) / N
    close(grad[0::2], error @ P)
    close(grad[1::2], error.T @ A)


def test_two_pairs_give_a_softplus():
    s = A[:2] @ P[:2].T
    gaps = np.array([s[0, 1] - s[0, 0], s[1, 0] - s[1, 1]])
    loss = value(n_pairs_loss, EMBEDDINGS[:4], PAIRED[:4])
    close(loss, np.log1p(np.exp(gaps)).mean())


def test_one_vector_added_to_all_positives_changes_nothing():
    moved = interleave(A, P + RNG.normal(size=6))
    expected = value(n_pairs_loss, EMBEDDINGS, PAIRED)
    close(value(n_pairs_loss, moved, PAIRED), expected)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_n_pairs_lies_within_log_n_of_the_worst_violation(scale):
    s = scale * A @ P.T
    violation = np.where(np.eye(N), -np.inf, s - np.diag(s)[:, None]).max(-1)
    least = np.maximum(violation, 0)
    loss = value(n_pairs_loss, EMBEDDINGS, PAIRED, scale=scale)
    assert least.mean() <= loss <= least.mean() + math.log(N)


def test_scale_multiplies_the_similarity():
    loss = value(n_pairs_loss, EMBEDDINGS, PAIRED, scale=2.25)
    close(loss, cross_entropy(2.25 * A @ P.T))


def test_column_compares_positives_with_anchors_and_symmetric_is_the_mean():
    row, col, both = (
        value(loss, EMBEDDINGS, PAIRED) for loss in (n_pairs_loss, column, symmetric)
    )
    close(col, cross_entropy(P @ A.T))
    close(both, (row + col) / 2)


def test_symmetric_n_pairs_is_unchanged_when_all_pairs_swap_roles():
    swapped = interleave(P, A)
    close(value(symmetric, swapped, PAIRED), value(symmetric, EMBEDDINGS, PAIRED))
    close(value(column, swapped, PAIRED), value(n_pairs_loss, EMBEDDINGS, PAIRED))


def test_cosine_n_pairs_has_its_floor_at_the_simplex():
    corners = np.pad(np.eye(N) - 1 / N, ((0, 0), (0, 1)))  # unit length: by the cosine
    run = functools.partial(evaluate, n_pairs_loss, measure=similarity.cosine)
    floor = math.log(1 + (N - 1) * math.exp(-N / (N - 1)))
    loss, grad = run(interleave(corners, corners), PAIRED)
    close(loss, floor)
    close(grad, np.zeros((2 * N, 6)))
    for seed in range(20):
        noise = 0.1 * np.random.default_rng(seed).normal(size=(N, 6))
        assert run(interleave(corners, corners + noise), PAIRED)[0] > floor


def test_two_towers_equal_one_batch_of_pairs():
    names = np.arange(N)
    compute = rankjax.objective(n_pairs_loss)
    towers = jax.value_and_grad(
        lambda a, p: compute(a, names, references=rankjax.References(p, names)), (0, 1)
    )
    loss, grads = towers(A, P)
    expected, grad = evaluate(n_pairs_loss, EMBEDDINGS, PAIRED)
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
    close(value(n_pairs_loss, EMBEDDINGS, labels), np.mean(rows))
    answers = {2: [0, 3], 6: [0, 3], 5: [1, 7], 9: [4]}
    candidates = [0, 1, 3, 4, 7, 8]  # an example alone in its class is a negative
    columns = [
        np.log(np.exp(s[a, candidates]).sum()) - s[a, positives].mean()
        for a, positives in answers.items()
    ]
    close(value(column, EMBEDDINGS, labels), np.mean(columns))
    close(value(symmetric, EMBEDDINGS, labels), np.mean(rows + columns))


# One against one


def test_ovo_is_at_least_mc():
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(2 * N, 6))
        mc, ovo = (value(f, x, PAIRED) for f in (n_pairs_loss, n_pairs_ovo_loss))
        assert mc < ovo


def test_ovo_of_two_pairs_is_mc():
    mc, ovo = (
        evaluate(f, EMBEDDINGS[:4], PAIRED[:4], scale=0.7)
        for f in (n_pairs_loss, n_pairs_ovo_loss)
    )
    close(ovo[0], mc[0])
    close(ovo[1], mc[1])


def test_ovo_sums_a_softplus_per_negative():
    s = A @ P.T
    gaps = s - np.diag(s)[:, None]
    terms = np.where(np.eye(N), 0, np.log1p(np.exp(gaps)))
    loss, grad = evaluate(n_pairs_ovo_loss, EMBEDDINGS, PAIRED)
    close(loss, terms.sum(-1).mean())
    weight = np.where(np.eye(N), 0, 1 / (1 + np.exp(-gaps)))
    weight = (weight - np.diag(weight.sum(-1))) / N
    close(grad[0::2], weight @ P)
    close(grad[1::2], weight.T @ A)


# Collapse

COLLAPSE = {
    "n-pairs": (n_pairs_loss, {"scale": 7.0}, math.log(N)),
    "n-pairs, all": (all_negatives, {}, math.log(1 + 2 * (N - 1))),
    "one against one": (n_pairs_ovo_loss, {"scale": 7.0}, (N - 1) * math.log(2)),
}


@pytest.mark.parametrize("name", COLLAPSE)
def test_identical_unit_length_embeddings_have_the_known_loss(name):
    loss, params, expected = COLLAPSE[name]
    collapsed = np.tile([[0.6, 0.8, 0, 0, 0, 0]], (2 * N, 1))
    close(value(loss, collapsed, PAIRED, **params), expected)


# The length of embeddings

CORRECT = interleave(np.eye(N, 6), np.eye(N, 6) + 0.05 * RNG.normal(size=(N, 6)))


def _norm_curve(weight):
    """Losses of a correctly ranked batch at lengths 1/4 to 16."""
    penalties = [(weight, rankjax.squared_norm)] if weight else []
    compute = rankjax.objective(n_pairs_loss, regularizers=penalties)
    lengths = 2.0 ** np.arange(-2, 5)
    return jax.jit(jax.vmap(lambda c: compute(c * CORRECT, PAIRED)))(lengths)


def test_longer_embeddings_always_lower_the_loss_of_a_correct_ranking():
    s = CORRECT[0::2] @ CORRECT[1::2].T
    assert np.all(s.argmax(-1) == np.arange(N))
    losses = _norm_curve(0.0)
    assert np.all(np.diff(losses) < 0)
    assert 0 < losses[-1] < 1e-99  # its digits survive beside scores of 256


def test_a_penalty_on_the_length_puts_the_optimum_at_a_finite_one():
    curve = _norm_curve(0.01)
    best = int(np.argmin(curve))
    assert 0 < best < len(curve) - 1
    assert np.all(np.diff(curve)[:best] < 0)
    assert np.all(np.diff(curve)[best:] > 0)


# Invariances


def test_gradients_of_a_row_of_similarities_sum_to_zero():
    def loss(s):
        return rankjax.mean(
            n_pairs_loss(
                rankjax.Pairs(s, jnp.eye(N, dtype=bool), ~np.eye(N, dtype=bool))
            )
        )

    grad = jax.jit(jax.grad(loss))(A @ P.T)
    assert np.abs(grad).max() > 0.01
    close(grad.sum(-1), np.zeros(N))
    close(grad, (softmax(A @ P.T) - np.eye(N)) / N)


def test_several_positives_are_floored_at_the_log_of_their_number():
    """Perfectly separated classes of four: two positives of an anchor share one."""
    names = np.repeat(np.arange(3), 4)
    corners = np.eye(3, 6)[names]
    far = value(n_pairs_loss, 30 * corners, names)
    close(far, math.log(2))
