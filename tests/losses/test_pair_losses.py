"""Losses that judge each pair by itself, or against the other pairs of the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close

import rankjax
from rankjax import mining, similarity
from rankjax.losses.contrastive import (
    contrastive_loss,
)
from rankjax.losses.margin import margin_loss
from rankjax.losses.positive_negative import positive_negative_loss

# Slow loops from the papers


def _split(s, y):
    """Values of all positive and of all negative pairs."""
    rows = [(s[i], *reference.sides(y, i)) for i in range(len(y))]
    return (
        [row[j] for row, positives, _ in rows for j in positives],
        [row[j] for row, _, negatives in rows for j in negatives],
    )


def _cosine(x, y):
    return _split(reference.similarity_matrix("cosine", x), y)


def _signal_to_noise(x, y, margin=1.0, positive_margin=0.0):
    ratio = np.array([[np.var(r - a) / np.var(a) for r in x] for a in x])
    positives, negatives = _split(ratio, y)
    return reference.mean([max(0.0, d - positive_margin) for d in positives]) + (
        reference.mean([max(0.0, margin - d) for d in negatives])
    )


def _threshold_consistent(
    x,
    y,
    positive_margin=0.9,
    negative_margin=0.5,
    positive_weight=1.0,
    negative_weight=1.0,
):
    positives, negatives = _cosine(x, y)
    loose = [positive_margin - s for s in positives if s <= positive_margin]
    close = [s - negative_margin for s in negatives if s >= negative_margin]
    return positive_weight * reference.mean(loose) + (
        negative_weight * reference.mean(close)
    )


def _intra_pair_variance(x, y, positive_epsilon=0.01, negative_epsilon=0.01):
    positives, negatives = _cosine(x, y)
    least = (1 - positive_epsilon) * reference.mean(positives)
    most = (1 + negative_epsilon) * reference.mean(negatives)
    return reference.mean([max(0.0, least - s) ** 2 for s in positives]) + (
        reference.mean([max(0.0, s - most) ** 2 for s in negatives])
    )


def _margin(x, y, beta=1.2, nu=0.0, margin=0.2):
    d = -reference.similarity_matrix("negative_euclidean", x)
    values = []
    for i in range(len(y)):
        boundary = beta if isinstance(beta, float) else beta[y[i]]
        for j in range(len(y)):
            if i != j:
                sign = 1 if y[i] == y[j] else -1
                hinge = max(0.0, margin + sign * (d[i, j] - boundary))
                values.append(hinge + nu * boundary)
    return reference.mean(values)


def _binomial_deviance(x, y, alpha=2.0, threshold=0.5, negative_cost=25.0):
    positives, negatives = _cosine(x, y)
    push = alpha * negative_cost
    return reference.mean(
        [np.log1p(np.exp(-alpha * (s - threshold))) for s in positives]
    ) + reference.mean([np.log1p(np.exp(push * (s - threshold))) for s in negatives])


def _positive_negative(x, y, margin=1.0, name="negative_euclidean", semi_hard=False):
    d = -reference.similarity_matrix(name, x)
    values = []
    for a in range(len(y)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            for n in negatives:
                band = d[a, p] < d[a, n] < d[a, p] + (margin or 0)
                if band or not semi_hard:
                    gap = d[a, p] - min(d[a, n], d[p, n])
                    values.append(reference.hinge(gap, margin))
    return reference.mean(values)


TABLE = np.array([0.9, 1.7, 2.2, 1.3, 3.0, 1.0, 2.0, 2.5], np.float32)
CASES = {
    "contrastive": Case(
        reference.contrastive, params={"margin": 1.5, "positive_margin": 0.5}
    ),
    "contrastive, not squared": Case(
        functools.partial(reference.contrastive, squared=False),
        loss=functools.partial(contrastive_loss, squared=False),
        params={"margin": 2.5, "positive_margin": 0.5},
    ),
    "signal_to_noise_contrastive": Case(
        _signal_to_noise, params={"margin": 1.5, "positive_margin": 0.5}
    ),
    "threshold_consistent_margin": Case(
        _threshold_consistent,
        params={
            "positive_margin": 0.7,
            "negative_margin": 0.1,
            "positive_weight": 2.0,
            "negative_weight": 0.5,
        },
    ),
    "intra_pair_variance": Case(
        _intra_pair_variance,
        params={"positive_epsilon": 0.1, "negative_epsilon": 0.2},
    ),
    "margin": Case(_margin, params={"margin": 0.5, "beta": 2.0, "nu": 0.1}),
    "margin, a boundary per class": Case(
        functools.partial(_margin, beta=TABLE, nu=0.1),
        loss=functools.partial(margin_loss, beta=TABLE, nu=0.1),
        table=True,
    ),
    "binomial_deviance": Case(
        _binomial_deviance,
        params={"alpha": 1.5, "threshold": 0.2, "negative_cost": 3.0},
    ),
    "positive_negative": Case(_positive_negative, params={"margin": 0.5}),
    "positive_negative, soft, on cosine": Case(
        functools.partial(_positive_negative, margin=None, name="cosine"),
        loss=functools.partial(positive_negative_loss, margin=None),
        similarity=similarity.cosine,
    ),
    "positive_negative, semi-hard": Case(
        functools.partial(_positive_negative, semi_hard=True),
        loss=functools.partial(positive_negative_loss, selection=mining.semi_hard),
    ),
}

# Properties

LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
ROW = np.arange(10)
POSITIVE = (LABELS[:, None] == LABELS) & (ROW[:, None] != ROW)
NEGATIVE = LABELS[:, None] != LABELS
EMBEDDINGS = np.random.default_rng(0).normal(size=(10, 6))


pytestmark = pytest.mark.usefixtures("double_precision")


def test_each_class_learns_its_own_boundary():
    d = np.random.default_rng(1).uniform(0, 2, (10, 10))
    table = np.array([0.7, 1.1, 1.5, 1.2, 9.0])
    boundary = table[LABELS][:, None]
    near, far = NEGATIVE & (d < boundary + 0.2), POSITIVE & (d > boundary - 0.2)
    compute = rankjax.objective(margin_loss, similarity=lambda a, r: jnp.asarray(-d))

    @jax.value_and_grad
    def of(beta):
        return compute(EMBEDDINGS, LABELS, params={"beta": beta})

    value, found = of(table)
    hinges = (boundary + 0.2 - d)[near].sum() + (d - boundary + 0.2)[far].sum()
    close(value, hinges / 90)
    slope = (near * 1.0 - far).sum(1) / 90
    close(found, [slope[c == LABELS].sum() for c in range(5)])


def test_labels_beyond_a_table_of_boundaries_make_the_loss_not_a_number():
    compute = rankjax.objective(margin_loss)
    y = np.array([0, 0, 1, 1, 7])
    for label, valid, finite in [(8, True, False), (-1, True, False), (8, False, True)]:
        labels = np.where(y == 1, label, y)
        valid = np.where(y == 1, valid, True)
        value = compute(EMBEDDINGS[:5], labels, valid=valid, params={"beta": TABLE})
        assert np.isfinite(value) == finite, (label, valid)
    with pytest.raises(ValueError, match=r"^beta must be a number or \[class\], got"):
        compute(EMBEDDINGS[:5], y, params={"beta": TABLE[None]})
