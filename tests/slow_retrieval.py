"""Figures of rankings by loops over queries and ranks."""

import math

import numpy as np


def slow_metrics(
    scores, is_positive, is_skipped, recall_at, precision_at=(), trapezoid=False
):
    """Loops over queries and ranks; a negative comes before an equal positive."""
    found = {}

    def add(name, value):
        found.setdefault(name, []).append(value)

    for row, positive, skipped in zip(scores, is_positive, is_skipped, strict=True):
        seen = [j for j in range(len(row)) if not skipped[j]]
        hits = [positive[j] for j in sorted(seen, key=lambda j: (-row[j], positive[j]))]
        r = sum(hits)
        if r == 0:
            continue
        precisions = [sum(hits[: p + 1]) / (p + 1) for p in range(len(hits))]
        for k in recall_at:
            add(f"recall_at_{k}", any(hits[:k]))
        add("mrr", 1 / (hits.index(True) + 1))
        add("map_at_r", sum(precisions[p] for p in range(r) if hits[p]) / r)
        add("r_precision", sum(hits[:r]) / r)
        add("map", sum(precisions[p] for p in range(len(hits)) if hits[p]) / r)
        gain = sum(hit / math.log2(2 + p) for p, hit in enumerate(hits))
        add("ndcg", gain / sum(1 / math.log2(2 + p) for p in range(r)))
        for k in precision_at:
            add(f"precision_at_{k}", sum(hits[:k]) / k)
            n = min(r, k)
            add(f"modified_precision_at_{k}", sum(hits[:n]) / n)
        if not trapezoid:
            continue
        # The loop of Market-1501's evaluation: recall rises by 1 / r at each hit, and
        # precision goes there in a straight line from what it was one rank before.
        area, before = 0, 1
        for p, hit in enumerate(hits):
            area += hit / r * (before + precisions[p]) / 2
            before = precisions[p]
        add("map_trapezoid", area)
    return {name: np.mean(values) for name, values in found.items()}
