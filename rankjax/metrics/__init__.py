"""Measures of an embedding."""

from rankjax.metrics.agreement import clustering_scores
from rankjax.metrics.clustering import Clusters, kmeans
from rankjax.metrics.health import health
from rankjax.metrics.reranking import expand_gallery, expand_queries, k_reciprocal
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
    "expand_gallery",
    "expand_queries",
    "health",
    "k_reciprocal",
    "kmeans",
    "nearest",
    "open_set",
    "retrieval_metrics",
    "verification",
]
