"""Losses on soft histograms of similarity: FastAP, SoftBin-AP, the histogram loss."""

import functools
import itertools

import jax
import numpy as np
import pytest
import reference
from cases import Case

from rankjax.losses.fast_ap import fast_ap_loss, soft_bin_ap_loss
from rankjax.losses.histogram import histogram_loss
from rankjax.objective import objective


def triangles(value, low, high, nodes):
    """How much of a value falls to each node, by the distance to it in steps."""
    step = (high - low) / (nodes - 1)
    return np.array(
        [max(0.0, 1 - abs(value - (low + n * step)) / step) for n in range(nodes)]
    )


def quantized_ap(x, y, low, high, nodes, distances):
    """Average precision at each node, by how much recall grows there."""
    s, values = reference.similarity_matrix("cosine", x), []
    for a in range(len(s)):
        positives, negatives = reference.sides(y, a)
        if not positives:
            continue
        hits = sum(triangles(distances(s[a, j]), low, high, nodes) for j in positives)
        every = hits + sum(
            triangles(distances(s[a, j]), low, high, nodes) for j in negatives
        )
        precision = [
            hits[: n + 1].sum() / max(every[: n + 1].sum(), 1e-300)
            for n in range(nodes)
        ]
        values.append(1 - (hits * precision).sum() / len(positives))
    return reference.mean(values)


def fast_ap(x, y, bins=10):
    return quantized_ap(x, y, 0.0, 4.0, bins + 1, lambda s: 2 - 2 * s)


def soft_bin_ap(x, y, bins=20, low=-1.0, high=1.0):
    return quantized_ap(x, y, -high, -low, bins, lambda s: -min(max(s, low), high))


def histogram(x, y, bins=150):
    s = reference.similarity_matrix("cosine", x)
    sums, counts = np.zeros((2, bins + 1)), np.zeros(2)
    for i, j in itertools.permutations(range(len(s)), 2):
        side = int(y[i] != y[j])
        sums[side] += triangles(s[i, j], -1.0, 1.0, bins + 1)
        counts[side] += 1
    if not counts.all():
        return 0.0
    positive, negative = sums / counts[:, None]
    return sum(negative[r] * positive[: r + 1].sum() for r in range(bins + 1))


CASES = {
    "fast_ap": Case(fast_ap),
    "fast_ap, one bin": Case(
        functools.partial(fast_ap, bins=1),
        loss=functools.partial(fast_ap_loss, bins=1),
    ),
    "soft_bin_ap": Case(soft_bin_ap, params={"low": -0.9, "high": 1.1}),
    "soft_bin_ap, a part": Case(
        functools.partial(soft_bin_ap, bins=25, low=-0.5),
        loss=functools.partial(soft_bin_ap_loss, bins=25, low=-0.5),
        params={"high": 0.7},
    ),
    "histogram": Case(histogram),
}


RNG = np.random.default_rng(11)


pytestmark = pytest.mark.usefixtures("double_precision")


def test_a_batch_without_positive_or_without_negative_pairs_has_no_histogram_terms():
    x = RNG.normal(size=(12, 4))
    run = jax.jit(objective(histogram_loss))
    assert run(x, np.arange(12)) == 0
    assert run(x, np.zeros(12, int)) == 0
