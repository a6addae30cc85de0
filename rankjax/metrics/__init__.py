"""Measures of an embedding."""

from rankjax.metrics.clustering import Clusters, clustering_scores, kmeans
from rankjax.metrics.compression import Compressed, compress
from rankjax.metrics.health import health
from rankjax.metrics.neighbours import Neighbours, nearest
from rankjax.metrics.protocols import (
    Search,
    Side,
    leave_one_out,
    query_gallery,
    search_of,
    some_queries,
)
from rankjax.metrics.reranking import expand_gallery, expand_queries, k_reciprocal
from rankjax.metrics.retrieval import (
    Retrieval,
    precision_recall,
    retrieval,
    retrieval_metrics,
)
from rankjax.metrics.revisited import graded_ndcg, revisited
from rankjax.metrics.uncertainty import (
    Comparison,
    Interval,
    bootstrap,
    compare_models,
)
from rankjax.metrics.verification import (
    Verification,
    global_average_precision,
    open_set,
    verification,
)

__all__ = [
    "Clusters",
    "Comparison",
    "Compressed",
    "Interval",
    "Neighbours",
    "Retrieval",
    "Search",
    "Side",
    "Verification",
    "bootstrap",
    "clustering_scores",
    "compare_models",
    "compress",
    "expand_gallery",
    "expand_queries",
    "global_average_precision",
    "graded_ndcg",
    "health",
    "k_reciprocal",
    "kmeans",
    "leave_one_out",
    "nearest",
    "open_set",
    "precision_recall",
    "query_gallery",
    "retrieval",
    "retrieval_metrics",
    "revisited",
    "search_of",
    "some_queries",
    "verification",
]
