"""Lifted structure losses: their slow loops, and what the papers claim, in doubles."""

import math

import reference
from cases import Case

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


CASES = {
    "lifted_structure": Case(lifted, params={"margin": 1.5}),
    "generalized_lifted_structure": Case(
        reference.on("negative_euclidean", generalized_lifted), params={"margin": 1.5}
    ),
}
