"""Ranking losses and metric learning for JAX."""

import importlib
from typing import Any

from rankjax import losses, mining, parallel, regularizers, similarity
from rankjax.inputs import References
from rankjax.objective import Objective, objective
from rankjax.pairs import Features, Pairs, from_tuples, masks_from_pairs
from rankjax.regularizers import squared_norm
from rankjax.simple import one_call
from rankjax.terms import (
    BatchSums,
    Reduction,
    Terms,
    class_balanced_mean,
    mean,
    mean_active,
    mean_per_anchor,
    total,
)

__version__ = "0.1.0"

_ONE_CALL = {f"{name}_loss": one_call(loss) for name, loss in losses.LOSSES.items()}


def __getattr__(name: str) -> Any:
    if name in _ONE_CALL:
        return _ONE_CALL[name]
    # Measures import SciPy, which takes a fifth of a second that losses can do without.
    if name == "metrics":
        return importlib.import_module("rankjax.metrics")
    raise AttributeError(f"module 'rankjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ONE_CALL, "metrics"})


__all__ = [
    "Features",
    "Objective",
    "Pairs",
    "BatchSums",
    "Reduction",
    "References",
    "Terms",
    "class_balanced_mean",
    "from_tuples",
    "losses",
    "masks_from_pairs",
    "mean",
    "mean_active",
    "mean_per_anchor",
    "metrics",
    "mining",
    "objective",
    "parallel",
    "regularizers",
    "similarity",
    "squared_norm",
    "total",
    *_ONE_CALL,
]
