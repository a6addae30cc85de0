"""N-pair losses: slow loops, and what the paper claims, in double precision."""

import functools
import math

import jax
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close, evaluate

import rankjax
from rankjax import similarity
from rankjax.losses.n_pairs import n_pairs_loss, n_pairs_ovo_loss


def one_versus_one(s, y, negatives="positives", direction="row", scale=1.0):
    s = scale * s
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
    "n_pairs": Case(reference.on("dot", reference.n_pairs), params={"scale": 0.7}),
    "n_pairs, all negatives, symmetric": Case(
        lambda x, y: reference.n_pairs(
            2 * reference.similarity_matrix("cosine", x), y, "all", "symmetric"
        ),
        loss=both_ways,
        similarity=similarity.cosine,
    ),
    "n_pairs, column": Case(
        reference.on("dot", reference.n_pairs, direction="column"),
        loss=functools.partial(n_pairs_loss, direction="column"),
        params={"scale": 0.7},
    ),
    "n_pairs_ovo": Case(reference.on("dot", one_versus_one), params={"scale": 0.7}),
    "n_pairs_ovo, all negatives, symmetric": Case(
        reference.on("cosine", one_versus_one, negatives="all", direction="symmetric"),
        loss=functools.partial(
            n_pairs_ovo_loss, negatives="all", direction="symmetric"
        ),
        similarity=similarity.cosine,
        params={"scale": 3.0},
    ),
}

N = 5  # pairs
PAIRED = np.repeat(np.arange(N), 2)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(2 * N, 6))
A, P = EMBEDDINGS[0::2], EMBEDDINGS[1::2]


pytestmark = pytest.mark.usefixtures("double_precision")


def interleave(anchors, positives):
    return np.stack([anchors, positives], 1).reshape(-1, anchors.shape[1])


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
