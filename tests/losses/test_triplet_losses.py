"""Triplet losses: their slow loops, and what the papers claim, in double precision."""

import functools
import math

import numpy as np
import pytest
import reference
from cases import Case
from evaluation import close, evaluate

import rankjax
from rankjax import mining, similarity
from rankjax.losses.hierarchical import hierarchical_margins, hierarchical_triplet_loss
from rankjax.losses.quadruplet import quadruplet_loss
from rankjax.losses.selectively_contrastive import selectively_contrastive_triplet_loss
from rankjax.losses.triplet import batch_hard_triplet_loss, triplet_loss

# Slow loops


def triplets(name, reduce=reference.mean, **defaults):
    every = reference.on(name, reference.triplets, **defaults)
    return lambda x, y, **settings: reduce(every(x, y, **settings))


def all_triplets(y):
    for a in range(len(y)):
        positives, negatives = reference.sides(y, a)
        for p in positives:
            for n in negatives:
                yield a, p, n


def swapped(s, y, margin=0.2):
    """Balntas et al.: of the negative's two sides the shorter counts."""
    return reference.mean(
        [
            reference.hinge(max(s[a, n], s[p, n]) - s[a, p], margin)
            for a, p, n in all_triplets(y)
        ]
    )


def swapped_semi_hard(s, y, margin=0.2):
    gaps = [max(s[a, n], s[p, n]) - s[a, p] for a, p, n in all_triplets(y)]
    return reference.mean([g + margin for g in gaps if -margin < g < 0])


def selectively_contrastive(
    s, y, hard_weight=1.0, temperature=0.1, hard_above=math.inf
):
    values = []
    for a in range(len(s)):
        positives, negatives = reference.sides(y, a)
        if positives and negatives:
            sp = max(s[a, p] for p in positives)
            sn = max(s[a, n] for n in negatives)
            if sn > sp or sn > hard_above:
                values.append(hard_weight * sn)
            else:
                ep, en = math.exp(sp / temperature), math.exp(sn / temperature)
                values.append(-math.log(ep / (ep + en)))
    return reference.mean(values)


def tuplet_margin(s, y, slack=5.73, scale=64.0):
    """By the angles themselves."""
    values = []
    for a in range(len(s)):
        positives, negatives = reference.sides(y, a)
        for p in positives if negatives else []:
            target = math.cos(math.acos(s[a, p]) - math.radians(slack))
            total = sum(math.exp(scale * (s[a, n] - target)) for n in negatives)
            values.append(math.log(1 + total))
    return reference.mean(values)


def quadruplet(s, y, margin=0.2, pair_margin=0.2):
    apart, fourth = [], []
    for a, p, n in all_triplets(y):
        apart.append(max(0.0, s[a, n] - s[a, p] + margin))
        others = [s[n, m] for m in range(len(s)) if y[m] not in (y[a], y[n])]
        if others:
            fourth.append(max(0.0, max(others) - s[a, p] + pair_margin))
    return reference.mean(apart) + reference.mean(fourth)


TABLE = np.random.default_rng(5).uniform(-0.5, 2.0, (8, 8)).astype(np.float32)


def hierarchical(s, y, margins=TABLE):
    table = np.broadcast_to(margins, (8, 8))
    return reference.mean(
        [
            max(0.0, s[a, n] - s[a, p] + table[y[a], y[n]]) / 2
            for a, p, n in all_triplets(y)
        ]
    )


SQUARED, EUCLIDEAN = "negative_squared_euclidean", "negative_euclidean"
CASES = {
    "triplet": Case(triplets(SQUARED), params={"margin": 0.5}),
    "triplet, semi-hard": Case(
        triplets(SQUARED, margin=0.8, rule="semi_hard"),
        loss=functools.partial(triplet_loss, margin=0.8, selection=mining.semi_hard),
    ),
    "triplet, TensorFlow's rule": Case(
        triplets(SQUARED, margin=1.0, rule="tensorflow"),
        loss=functools.partial(
            triplet_loss, selection=mining.semi_hard_or_easiest, margin=1.0
        ),
    ),
    "triplet, soft, not squared": Case(
        triplets(EUCLIDEAN, margin=None),
        loss=functools.partial(triplet_loss, margin=None),
        similarity=similarity.negative_euclidean,
    ),
    "triplet, mean over active": Case(
        triplets(SQUARED, reduce=reference.mean_nonzero),
        loss=triplet_loss,
        reduction=rankjax.mean_active,
        params={"margin": 0.5},
    ),
    "triplet, hardest mining": Case(
        reference.on(EUCLIDEAN, reference.batch_hard, margin=0.2),
        loss=triplet_loss,
        similarity=similarity.negative_euclidean,
        mining=mining.hardest,
        params={"margin": 0.5},
    ),
    "triplet, swap": Case(
        reference.on(SQUARED, swapped),
        loss=functools.partial(triplet_loss, swap=True),
        params={"margin": 0.5},
    ),
    "triplet, swap, semi-hard": Case(
        reference.on(EUCLIDEAN, swapped_semi_hard, margin=0.8),
        loss=functools.partial(
            triplet_loss, swap=True, margin=0.8, selection=mining.semi_hard
        ),
        similarity=similarity.negative_euclidean,
    ),
    "batch_hard_triplet": Case(reference.on(EUCLIDEAN, reference.batch_hard)),
    "batch_hard_triplet, hinge": Case(
        reference.on(SQUARED, reference.batch_hard, margin=0.2),
        loss=functools.partial(batch_hard_triplet_loss, margin=0.2),
        similarity=similarity.negative_squared_euclidean,
    ),
    "selectively_contrastive_triplet": Case(
        reference.on("cosine", selectively_contrastive),
        params={"hard_weight": 0.5, "temperature": 0.3},
    ),
    "selectively_contrastive_triplet, hard above": Case(
        reference.on(
            "cosine", selectively_contrastive, hard_weight=0.7, hard_above=0.4
        ),
        loss=functools.partial(
            selectively_contrastive_triplet_loss, hard_weight=0.7, hard_above=0.4
        ),
        params={"temperature": 0.3},
    ),
    "tuplet_margin": Case(
        reference.on("cosine", tuplet_margin), params={"slack": 20.0, "scale": 8.0}
    ),
    "quadruplet": Case(
        reference.on(SQUARED, quadruplet), params={"margin": 0.5, "pair_margin": 1.5}
    ),
    "hierarchical_triplet": Case(
        reference.on(EUCLIDEAN, hierarchical, margins=0.2),
        params={"margins": 0.5},
    ),
    "hierarchical_triplet, table": Case(
        reference.on(EUCLIDEAN, hierarchical),
        loss=functools.partial(hierarchical_triplet_loss, margins=TABLE),
        table=True,
    ),
}


# Properties

RNG = np.random.default_rng(0)
LABELS = np.array([0, 0, 1, 2, 0, 1, 1, 2, 2, 3])  # the last has no positive
EMBEDDINGS = RNG.normal(size=(10, 6))
pytestmark = pytest.mark.usefixtures("double_precision")


# Quadruplets


def test_fewer_than_three_classes_leave_the_triplet_loss():
    y = LABELS % 2
    plain = evaluate(triplet_loss, EMBEDDINGS, y, margin=1.5)
    both = evaluate(quadruplet_loss, EMBEDDINGS, y, margin=1.5, pair_margin=9.0)
    close(both[0], plain[0])
    close(both[1], plain[1])


# Hierarchical


def test_a_label_outside_the_table_is_not_taken_for_another():
    small = np.zeros((3, 3))
    for y in (LABELS, LABELS - 1):
        value, _ = evaluate(hierarchical_triplet_loss, EMBEDDINGS, y, margins=small)
        assert np.isnan(value)


def margins_by_loops(x, y, levels, beta):
    """Merges nodes level by level, as the paper describes."""
    classes = range(max(y) + 1)
    rows = [x[np.array(y) == c] for c in classes]
    square = lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1)  # noqa: E731
    spread = [
        square(r, r).sum() / (len(r) ** 2 - len(r)) if len(r) > 1 else 0.0 for r in rows
    ]
    lowest = np.mean([s for s, r in zip(spread, rows, strict=True) if len(r) > 1])
    nodes = [{c} for c in classes]
    merged = np.full((len(rows), len(rows)), np.nan)
    for level in range(levels + 1):
        threshold = lowest + level * (4 - lowest) / levels
        for c in classes:
            for d in classes:
                if square(rows[c], rows[d]).mean() <= threshold:
                    one, other = (next(n for n in nodes if k in n) for k in (c, d))
                    if one is not other:
                        nodes = [n for n in nodes if n not in (one, other)]
                        nodes.append(one | other)
        for node in nodes:
            for c in node:
                for d in node:
                    if np.isnan(merged[c, d]):
                        merged[c, d] = threshold
    return beta + merged - np.array(spread)[:, None]


@pytest.mark.parametrize("levels", [1, 4, 16])
def test_margins_follow_from_merging_classes_level_by_level(levels):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(9, 4)) + np.repeat(
        2 * rng.normal(size=(3, 4)), 3, axis=0
    )
    y = np.concatenate([np.repeat(np.arange(8), 4), [8]])  # the last class has one row
    x = centres[y] + 0.3 * rng.normal(size=(33, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    table = hierarchical_margins(7 * x, y, levels=levels, beta=0.3)
    different = ~np.eye(9, dtype=bool)
    expected = margins_by_loops(x, y.tolist(), levels, 0.3)
    close(table[different], expected[different], rtol=1e-5, atol=1e-6)
    if levels == 16:
        assert len(np.unique(table[0][different[0]])) > 2


@pytest.mark.parametrize("y", [[0, 2], [-1, 0], [1, 1]])
def test_margins_refuse_labels_that_are_not_rows_of_a_table(y):
    with pytest.raises(ValueError, match="labels 0, 1"):
        hierarchical_margins(np.eye(2), y)
