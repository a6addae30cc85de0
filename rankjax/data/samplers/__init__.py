"""Which images make a batch: pure functions of the seed and the step."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rankjax.data.samplers.balanced import (
    Batches,
    camera_balanced_batches,
    class_balanced_batches,
    hierarchical_batches,
    n_pair_batches,
    proxy_balanced_batches,
    random_batches,
)
from rankjax.data.samplers.mined import (
    MinedBatches,
    greedy_class_batches,
    hard_class_batches,
)
from rankjax.data.splits import Split

__all__ = [
    "BATCHES",
    "Batches",
    "MinedBatches",
    "camera_balanced_batches",
    "class_balanced_batches",
    "greedy_class_batches",
    "hard_class_batches",
    "hierarchical_batches",
    "make_batches",
    "n_pair_batches",
    "proxy_balanced_batches",
    "random_batches",
]

BATCHES: dict[str, Callable[..., Batches]] = {
    "class_balanced": class_balanced_batches,
    "n_pairs": n_pair_batches,
    "random": random_batches,
    "hierarchical": hierarchical_batches,
    "cross_camera": camera_balanced_batches,
    "proxy_balanced": proxy_balanced_batches,
    "hard_classes": hard_class_batches,
    "greedy_classes": greedy_class_batches,
}
"""The batches that `make_batches` knows."""


def make_batches(
    name: str,
    split: Split,
    *,
    classes: int,
    per_class: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> Batches:
    """Batches of a split by a name of `BATCHES`, with the labels that they look at.

    Args:
      name: a key of `BATCHES`.
      split: what the batches are of.
      classes: classes in a batch.
      per_class: images of each.
      seed: the order.
      options: further arguments of the maker.

    Raises:
      ValueError: an argument out of its range, or a split without the cameras or
        super-classes that the batches need.
    """
    maker = BATCHES[name]
    needed: dict[str, np.ndarray] = {}
    for what in ("cameras", "super_labels"):
        if what in inspect.signature(maker).parameters:
            values = getattr(split, what)
            if values is None:
                raise ValueError(
                    f"batches {name} need {what}, which the data set lacks"
                )
            needed[what] = values
    return maker(
        split.labels,
        classes=classes,
        per_class=per_class,
        seed=seed,
        **needed,
        **(options or {}),
    )
