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
    graded_ndcg,
    precision_recall,
    retrieval,
    retrieval_metrics,
)
from rankjax.metrics.revisited import revisited
from rankjax.metrics.suspects import (
    Nearer,
    duplicates,
    mixed_classes,
    modes,
    nearer_class,
    outliers,
)
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
    template_embeddings,
    verification,
)

__all__ = [
    "Clusters",
    "Comparison",
    "Compressed",
    "Interval",
    "Nearer",
    "Neighbours",
    "Retrieval",
    "Search",
    "Side",
    "Verification",
    "bootstrap",
    "clustering_scores",
    "compare_models",
    "compress",
    "duplicates",
    "expand_gallery",
    "expand_queries",
    "global_average_precision",
    "graded_ndcg",
    "health",
    "k_reciprocal",
    "kmeans",
    "leave_one_out",
    "mixed_classes",
    "modes",
    "nearer_class",
    "nearest",
    "open_set",
    "outliers",
    "precision_recall",
    "query_gallery",
    "retrieval",
    "retrieval_metrics",
    "revisited",
    "search_of",
    "some_queries",
    "template_embeddings",
    "verification",
]
