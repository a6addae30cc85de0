"""Figures that explain losses, mining and measures, drawn by the library itself.

Those of claims are beside their claims, those of benchmarks in `experiments.bench`.
"""

import importlib
import pkgutil

from experiments.bench import figures as _benchmarks  # noqa: F401
from experiments.study import claims as _claims  # noqa: F401
from experiments.study.registry import FIGURES, show, write

__all__ = ["FIGURES", "show", "write"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)
