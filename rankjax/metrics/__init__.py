"""Measures of an embedding."""

from rankjax.metrics.clustering import Clusters, clustering_scores, kmeans
from rankjax.metrics.health import health
from rankjax.metrics.retrieval import nearest, retrieval_metrics

__all__ = [
    "Clusters",
    "clustering_scores",
    "health",
    "kmeans",
    "nearest",
    "retrieval_metrics",
]
