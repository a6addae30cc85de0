"""Figures that explain losses, mining and measures, drawn by the library itself."""

from experiments.figures import (
    angles,
    bands,
    batches,
    claims_a,
    claims_b,
    curves,
    fields,
    measured,
    published,
    sampling,
    scaling,
    toys,
    training,
)
from experiments.figures.registry import FIGURES, Entry, Shown, show, write

__all__ = [
    "FIGURES",
    "Entry",
    "Shown",
    "angles",
    "bands",
    "batches",
    "claims_a",
    "claims_b",
    "curves",
    "fields",
    "measured",
    "published",
    "sampling",
    "scaling",
    "show",
    "toys",
    "training",
    "write",
]
