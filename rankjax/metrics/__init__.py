"""Measures of an embedding."""

from rankjax.metrics.neighbours import Neighbours, nearest
from rankjax.metrics.protocols import Search, leave_one_out, query_gallery
from rankjax.metrics.retrieval import Retrieval, retrieval, retrieval_metrics

__all__ = [
    "Neighbours",
    "Retrieval",
    "Search",
    "leave_one_out",
    "nearest",
    "query_gallery",
    "retrieval",
    "retrieval_metrics",
]
