"""Smooth-NDCG by loops, and what it claims."""

import math

import reference
from cases import Case


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
}
