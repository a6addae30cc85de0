"""Figures that explain losses, mining and measures, drawn by the library itself.

Those of claims are beside their claims, those of benchmarks in `experiments.bench`.
"""

from experiments.bench import figures as benchmarks
from experiments.study import claims, published
from experiments.study.figures import (
    angles,
    bands,
    batches,
    curves,
    fields,
    measured,
    sampling,
    toys,
    training,
)
from experiments.study.registry import FIGURES, show, write

__all__ = [
    "FIGURES",
    "angles",
    "bands",
    "batches",
    "benchmarks",
    "claims",
    "curves",
    "fields",
    "measured",
    "published",
    "sampling",
    "show",
    "toys",
    "training",
    "write",
]
