"""What sweeps train on: classes of vectors, small enough for hundreds of networks.

A bench makes its data from a seed and from numbers that may differ from cell to cell
(`settings`). Training, validation and test classes are disjoint.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Part(NamedTuple):
    """Classes of equally many rows.

    NumPy's arrays, or JAX's in a compiled program.

    Attributes:
      inputs: [classes, per_class, dim] float32.
      labels: [classes, per_class] int32; not the class's number where there is noise.
      groups: [classes, per_class] int32: the mode that a row was drawn from, or the
        group of classes that its class is in.
    """

    inputs: Any
    labels: Any
    groups: Any


class Data(NamedTuple):
    """Parts with disjoint classes."""

    train: Part
    validation: Part
    test: Part


@dataclasses.dataclass(frozen=True)
class Bench:
    """Data for cells.

    Attributes:
      name: for tables and files.
      make: data from a seed and the settings.
      settings: the numbers that `make` takes, with defaults.
      layers: widths of the network, from input to embedding.
      about: one line.
    """

    name: str
    make: Callable[[int, Mapping[str, float]], Data]
    settings: Mapping[str, float]
    layers: tuple[int, ...]
    about: str


_SIGNAL, _DIM, _JUDGED, _PER_CLASS = 10, 32, 40, 12


def drawn(classes: int = 64, *, per_class: int = 32) -> Bench:
    """Classes of one or several modes each, seen through a random warp.

        centre_c ~ N(0, I), mode_cm = centre_c + radius N(0, I) (centre_c for one mode)
        row = warp([mode_cm + spread_c N(0, I), nuisance N(0, I)])

    in 10 dimensions that tell the class and 22 that do not, mixed by a random rotation
    and two random tanh layers. All classes of a seed share them: what a network learns
    of them serves unseen classes.

    Settings: `modes` of a class; `radius`; `spread`; `spread_ratio`, by which the
    spread of every second class is multiplied (`groups` is then the class's parity, and
    its mode otherwise); `noise`, the share of training rows that get the label of
    another class; `nuisance`.

    Args:
      classes: to train on; 40 more validate and another 40 test.
      per_class: rows of each class to train on; those judged have 12.
    """

    def part(
        rng: np.random.Generator, count: int, size: int, s: Mapping[str, float]
    ) -> Part:
        modes = int(s["modes"])
        centre = rng.normal(size=(count, 1, _SIGNAL))
        offset = rng.normal(size=(count, modes, _SIGNAL)) * (s["radius"] * (modes > 1))
        mode = rng.integers(modes, size=(count, size))
        wide = np.arange(count) % 2
        spread = s["spread"] * np.where(wide, s["spread_ratio"], 1.0)
        signal = centre + np.take_along_axis(offset, mode[..., None], 1)
        signal += spread[:, None, None] * rng.normal(size=(count, size, _SIGNAL))
        nuisance = s["nuisance"] * rng.normal(size=(count, size, _DIM - _SIGNAL))
        labels = np.repeat(np.arange(count)[:, None], size, 1)
        groups = mode if s["spread_ratio"] == 1 else np.repeat(wide[:, None], size, 1)
        return Part(np.concatenate([signal, nuisance], -1), labels, groups)

    def make(seed: int, settings: Mapping[str, float]) -> Data:
        rng = np.random.default_rng(seed)
        rotation = np.linalg.qr(rng.normal(size=(_DIM, _DIM)))[0]
        inner = rotation @ rng.normal(size=(_DIM, 2 * _DIM)) / _DIM**0.5
        outer = rng.normal(size=(2 * _DIM, _DIM)) / (2 * _DIM) ** 0.5

        def seen(part: Part) -> Part:
            rows = np.tanh(np.tanh(part.inputs @ inner / 2) @ outer)
            return Part(
                rows.astype(np.float32),
                part.labels.astype(np.int32),
                part.groups.astype(np.int32),
            )

        sizes = [(classes, per_class), (_JUDGED, _PER_CLASS), (_JUDGED, _PER_CLASS)]
        data = Data(*(seen(part(rng, *size, settings)) for size in sizes))
        return data._replace(train=noisy(rng, data.train, settings["noise"]))

    return Bench(
        name="modes" if classes == 64 else f"modes-{classes}",
        make=make,
        settings={
            "modes": 2,
            "radius": 0.7,
            "spread": 0.3,
            "spread_ratio": 1.0,
            "noise": 0.0,
            "nuisance": 1.0,
        },
        layers=(_DIM, 128, 128, 16),
        about=f"{classes} drawn classes to train on, {_JUDGED} unseen ones to test on",
    )


def noisy(rng: np.random.Generator, part: Part, share: float) -> Part:
    """The part, in which a share of the rows has the label of another class."""
    classes = len(part.labels)
    wrong = rng.random(part.labels.shape) < share
    others = (part.labels + rng.integers(1, classes, part.labels.shape)) % classes
    return part._replace(labels=np.where(wrong, others, part.labels).astype(np.int32))
