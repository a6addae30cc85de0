"""The survey's claims, a file each: prediction, statistic, judge, and its figure."""

import importlib
import pkgutil

from experiments.study.claims.claim import CLAIMS

__all__ = ["CLAIMS"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    if _module.name.rpartition(".")[2].startswith("c"):
        importlib.import_module(_module.name)
