"""How far a clustering agrees with classes."""

from typing import Any

import numpy as np
from scipy import special

from rankjax.metrics import checks
from rankjax.metrics.clustering import Clusters


def clustering_scores(labels: Any, clusters: Any) -> dict[str, float]:
    """Agreement of a clustering with classes, all 1 where they are the same.

    With n_ij points of class i in cluster j, a_i and b_j the sizes, p = n_ij / n and so
    on, mutual information I = sum p_ij log(p_ij / (p_i p_j)) and entropies H:

    - `nmi`: 2 I / (H(labels) + H(clusters)).
    - `ami`: (I - E I) / ((H(labels) + H(clusters)) / 2 - E I) with the exact
      expectation E over all labellings of the same sizes (Vinh, Epps, Bailey,
      "Information Theoretic Measures for Clusterings Comparison", JMLR 2010).
    - `ari`: the share of pairs of points on which both agree, adjusted for chance
      likewise (Hubert and Arabie, Journal of Classification 1985).
    - `f1`: of pairs, 2 P R / (P + R), with P the share of one class among pairs in one
      cluster and R the share in one cluster among pairs of one class (Oh Song et al.,
      "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016).

    NMI grows with the number of clusters whatever their quality; AMI and ARI do not.
    One class in one cluster scores 1, and either alone an NMI and AMI of 0. Values are
    those of scikit-learn, but no table of classes by clusters is built.

    Args:
      labels: [n] integers of any size.
      clusters: [n] integers, or what `kmeans` returned.

    Raises:
      ValueError: a wrong length, or none at all.
      TypeError: labels or clusters are not integers.
    """
    if isinstance(clusters, Clusters):
        clusters = clusters.assignment
    labels = checks.as_labels("labels", labels)
    clusters = checks.as_labels("clusters", clusters, len(labels))
    n = len(labels)
    _, row, a = np.unique(labels, return_inverse=True, return_counts=True)
    _, column, b = np.unique(clusters, return_inverse=True, return_counts=True)
    cells, joint = np.unique(row * len(b) + column, return_counts=True)
    row, column = np.divmod(cells, len(b))
    return {
        **_information(joint, a[row], b[column], a, b, n),
        **_pairs(joint, a, b, n),
    }


def _information(
    joint: np.ndarray,
    of_class: np.ndarray,
    of_cluster: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    n: int,
) -> dict[str, float]:
    if len(a) == len(b) == 1 or len(joint) == len(a) == len(b):
        return {"nmi": 1.0, "ami": 1.0}
    if len(a) == 1 or len(b) == 1:
        return {"nmi": 0.0, "ami": 0.0}
    ratio = np.log(joint) - np.log(of_class) - np.log(of_cluster) + np.log(n)
    information = max(float(joint @ ratio) / n, 0.0)
    mean = (_entropy(a, n) + _entropy(b, n)) / 2
    expected = _expected_information(a, b, n)
    # Both may vanish, where no labelling of these sizes is better than another.
    least = np.finfo(float).eps
    above, most = (
        np.copysign(max(abs(x), least), x)
        for x in (information - expected, mean - expected)
    )
    nmi = information / mean if information > least else 0.0
    return {"nmi": nmi, "ami": float(above / most)}


def _entropy(sizes: np.ndarray, n: int) -> float:
    return float(sizes @ (np.log(n) - np.log(sizes))) / n


def _expected_information(a: np.ndarray, b: np.ndarray, n: int) -> float:
    """Sum over classes, clusters and n_ij, with n_ij hypergeometric."""
    total = 0.0
    b, clusters = np.unique(b, return_counts=True)
    factorial = special.gammaln(np.arange(n + 1) + 1.0)
    for size, classes in zip(*np.unique(a, return_counts=True), strict=True):
        low, high = np.maximum(1, size + b - n), np.minimum(size, b)
        numbers = high - low + 1
        which = np.repeat(np.arange(len(b)), numbers)
        joint = np.arange(len(which)) + (low - np.cumsum(numbers) + numbers)[which]
        other = b[which]
        log_probability = (
            (factorial[b] + factorial[n - b])[which]
            + (factorial[size] + factorial[n - size] - factorial[n])
            - factorial[joint]
            - factorial[size - joint]
            - factorial[other - joint]
            - factorial[n - size - other + joint]
        )
        ratio = np.log(joint / other * (n / size))
        terms = joint / n * ratio * np.exp(log_probability)
        total += classes * float(terms @ clusters[which])
    return total


def _pairs(joint: np.ndarray, a: np.ndarray, b: np.ndarray, n: int) -> dict[str, float]:
    """Counts of pairs as Python's integers, whose products do not overflow."""
    both, one_class, one_cluster, every = (
        int((x * (x - 1) // 2).sum()) for x in (joint, a, b, np.array([n]))
    )
    apart = every - one_class - one_cluster + both
    only_class, only_cluster = one_class - both, one_cluster - both
    if not only_class and not only_cluster:
        return {"ari": 1.0, "f1": 1.0}
    agreement = 2 * (both * apart - only_class * only_cluster)
    most = one_class * (only_class + apart) + one_cluster * (only_cluster + apart)
    return {"ari": agreement / most, "f1": 2 * both / (one_class + one_cluster)}
