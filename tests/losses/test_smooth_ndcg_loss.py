"""Smooth-NDCG by loops, and what it claims."""

import functools
import math

import jax
import numpy as np
import reference
from cases import EMBEDDINGS, LABELS, Case

import rankjax
from rankjax.losses import smooth_ndcg_loss


def smooth_ndcg(x, y, temperature=0.01):
    s = reference.similarity_matrix("cosine", x)
    values = []
    for a in range(len(x)):
        positives, negatives = reference.sides(y, a)
        gain = 0.0
        for i in positives:
            rank = 1.0
            for j in positives + negatives:
                if j != i:
                    t = (s[a, i] - s[a, j]) / temperature
                    rank += 1 / (1 + math.exp(min(t, 700)))
            gain += 1 / math.log2(1 + rank)
        ideal = sum(1 / math.log2(2 + k) for k in range(len(positives)))
        if positives:
            values.append(1 - gain / ideal)
    return reference.mean(values)


CASES = {
    "smooth_ndcg": Case(smooth_ndcg, params={"temperature": 0.3}),
    "smooth_ndcg, warm": Case(
        functools.partial(smooth_ndcg, temperature=0.5),
        loss=functools.partial(smooth_ndcg_loss, temperature=0.5),
    ),
}


def test_towards_temperature_zero_it_is_one_minus_ndcg():
    s = reference.similarity_matrix("cosine", EMBEDDINGS)
    values = []
    for a in range(16):
        positives, negatives = reference.sides(LABELS, a)
        order = sorted(positives + negatives, key=lambda j: -s[a, j])
        gains = [1 / math.log2(2 + k) for k in range(15)]
        got = sum(g for g, j in zip(gains, order, strict=True) if j in positives)
        if positives:
            values.append(1 - got / sum(gains[: len(positives)]))
    with jax.enable_x64(True):
        compute = rankjax.objective(smooth_ndcg_loss)
        x = EMBEDDINGS.astype(np.float64)
        value = compute(x, LABELS, params={"temperature": 1e-6})
    np.testing.assert_allclose(value, np.mean(values), rtol=1e-9)


def test_it_is_zero_where_every_positive_comes_first():
    x = np.repeat(np.eye(4), 4, axis=0)
    x += 0.1 * np.random.default_rng(0).normal(size=x.shape)
    y = np.repeat(np.arange(4), 4)
    loss = rankjax.smooth_ndcg_loss(x.astype(np.float32), y, temperature=1e-7)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
