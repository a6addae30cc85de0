"""The losses as slow loops over float64 NumPy arrays, written from the papers.

Each takes unreduced inputs (embeddings, labels, valid) and returns the mean over the
paper's terms, 0 where there are none. Row numbers are the order of the batch.
"""

import itertools
import math

import numpy as np


def similarity_matrix(name, x, z=None):
    z = x if z is None else z
    s = np.zeros((len(x), len(z)))
    for i, j in itertools.product(range(len(x)), range(len(z))):
        a, b = x[i], z[j]
        if name == "dot":
            s[i, j] = a @ b
        elif name == "cosine":
            s[i, j] = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        elif name == "negative_squared_euclidean":
            s[i, j] = -((a - b) ** 2).sum()
        elif name == "negative_euclidean":
            s[i, j] = -math.sqrt(((a - b) ** 2).sum())
    return s


def on(name, function, **defaults):
    """A loss of similarities as one of embeddings."""

    def slow(x, y, **settings):
        return function(similarity_matrix(name, x), y, **{**defaults, **settings})

    return slow


def mean(values):
    return sum(values) / len(values) if values else 0.0


def mean_nonzero(values):
    return mean([v for v in values if v > 0])


def sides(y, i):
    """Positives and negatives of row i."""
    others = [j for j in range(len(y)) if j != i]
    return [j for j in others if y[j] == y[i]], [j for j in others if y[j] != y[i]]


def contrastive(x, y, margin=1.0, positive_margin=0.0, squared=True):
    d = -similarity_matrix("negative_euclidean", x)
    power, half = (2, 0.5) if squared else (1, 1.0)
    pull, push = [], []
    for i in range(len(x)):
        positives, negatives = sides(y, i)
        for j in positives:
            pull.append(half * max(0.0, d[i, j] - positive_margin) ** power)
        for j in negatives:
            push.append(half * max(0.0, margin - d[i, j]) ** power)
    return mean(pull) + mean(push)


def hinge(gap, margin):
    return math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)


def triplets(s, y, margin=0.2, rule="all"):
    """One value per triplet that the rule selects."""
    values = []
    for a in range(len(s)):
        positives, negatives = sides(y, a)
        for p in positives:
            beyond = [n for n in negatives if s[a, n] < s[a, p]]
            if rule == "all":
                chosen = negatives
            elif rule == "semi_hard":
                chosen = [n for n in beyond if s[a, n] > s[a, p] - margin]
            elif rule == "tensorflow":
                if beyond:
                    chosen = [max(beyond, key=lambda n: s[a, n])]
                else:
                    chosen = (
                        [min(negatives, key=lambda n: s[a, n])] if negatives else []
                    )
            values += [hinge(s[a, n] - s[a, p], margin) for n in chosen]
    return values


def batch_hard(s, y, margin=None):
    values = []
    for a in range(len(s)):
        positives, negatives = sides(y, a)
        if positives and negatives:
            hardest_positive = min(s[a, p] for p in positives)
            hardest_negative = max(s[a, n] for n in negatives)
            values.append(hinge(hardest_negative - hardest_positive, margin))
    return mean(values)


def n_pairs(s, y, negatives="positives", direction="row", scale=1.0):
    s = scale * s
    occurrence = [sum(y[k] == y[i] for k in range(i)) for i in range(len(y))]
    values = []
    for i in range(len(s)):
        role = occurrence[i] % 2
        if direction != "symmetric" and role != (direction == "column"):
            continue
        same, different = sides(y, i)
        positives = [j for j in same if occurrence[j] % 2 != role]
        if negatives == "positives":
            different = [j for j in different if occurrence[j] % 2 != role]
        if positives:
            denominator = sum(math.exp(s[i, j]) for j in positives + different)
            values.append(math.log(denominator) - mean([s[i, j] for j in positives]))
    return mean(values)


def angular(s, y, angle=45.0):
    t = math.tan(math.radians(angle)) ** 2
    values = []
    for a in range(len(s)):
        positives, negatives = sides(y, a)
        for p in positives:
            if negatives:
                f = [
                    4 * t * (s[a, n] + s[p, n]) - 2 * (1 + t) * s[a, p]
                    for n in negatives
                ]
                values.append(math.log(1 + sum(math.exp(v) for v in f)))
    return mean(values)


def angular_hinge(x, y, angle=45.0):
    """From the figure of the paper: the midpoint, not the pairwise form."""
    t = math.tan(math.radians(angle)) ** 2
    values = []
    for a in range(len(x)):
        positives, negatives = sides(y, a)
        for p in positives:
            centre = (x[a] + x[p]) / 2
            base = ((x[a] - x[p]) ** 2).sum()
            for n in negatives:
                values.append(max(0.0, base - 4 * t * ((x[n] - centre) ** 2).sum()))
    return mean(values)
