"""Measures of an embedding."""

from rankjax.metrics.retrieval import nearest, retrieval_metrics

__all__ = ["nearest", "retrieval_metrics"]
