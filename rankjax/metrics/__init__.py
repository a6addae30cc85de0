"""Measures of an embedding."""

from rankjax.metrics.clustering import Clusters, clustering_scores, kmeans
from rankjax.metrics.health import health
from rankjax.metrics.retrieval import nearest, retrieval_metrics
from rankjax.metrics.uncertainty import (
    Comparison,
    Interval,
    bootstrap,
    compare_methods,
    compare_models,
)
from rankjax.metrics.verification import Verification, open_set, verification

__all__ = [
    "Clusters",
    "Comparison",
    "Interval",
    "Verification",
    "bootstrap",
    "clustering_scores",
    "compare_methods",
    "compare_models",
    "health",
    "kmeans",
    "nearest",
    "open_set",
    "retrieval_metrics",
    "verification",
]
