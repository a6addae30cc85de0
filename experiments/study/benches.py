"""What sweeps train on: classes of vectors, small enough for hundreds of networks.

A bench makes its data from a seed and from numbers that may differ from cell to cell
(`settings`). Training, validation and test classes are disjoint. Drawn classes are
synthetic; benches of pictures are features that are never trained: random filters of
7 x 7 pixels, rectified, averaged over a 4 x 4 grid, and their 64 principal components
over the training classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.data.glyphs import LEVELS, render, split_classes


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


@dataclasses.dataclass(frozen=True, eq=False)
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


_SIGNAL, _DIM, _UNSEEN, _PER_CLASS = 10, 32, 40, 12


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
      per_class: rows of each class to train on; unseen ones have 12.
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

        def warped(part: Part) -> Part:
            rows = np.tanh(np.tanh(part.inputs @ inner / 2) @ outer)
            return Part(
                rows.astype(np.float32),
                part.labels.astype(np.int32),
                part.groups.astype(np.int32),
            )

        sizes = [(classes, per_class), (_UNSEEN, _PER_CLASS), (_UNSEEN, _PER_CLASS)]
        data = Data(*(warped(part(rng, *size, settings)) for size in sizes))
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
        about=f"{classes} drawn classes to train on, {_UNSEEN} unseen ones to test on",
    )


def noisy(rng: np.random.Generator, part: Part, share: float) -> Part:
    """The part, in which a share of the rows has the label of another class."""
    classes = len(part.labels)
    wrong = rng.random(part.labels.shape) < share
    others = (part.labels + rng.integers(1, classes, part.labels.shape)) % classes
    return part._replace(labels=np.where(wrong, others, part.labels).astype(np.int32))


_COMPONENTS, _TRAINED_ON, _ROWS = 64, 12, 8
"""Of features; rows of a class to train on; and of one that validates or tests."""


def glyphs(level: str = "lite", *, classes: int | None = None) -> Bench:
    """Rendered characters. `modes` has both cases of letters as one class.

    Training classes are those with 12 images or more; 40 classes validate and 80 test,
    with 8 images each, drawn anew for every seed from the data set's own split. Groups
    are the two cases at the level `modes`, and elsewhere the half of the classes whose
    features spread less and the half whose features spread more.
    Settings: `noise` as for drawn classes.

    Args:
      level: one of `rankjax.data.glyphs.LEVELS`.
      classes: to train on, drawn for every seed; by default all.
    """
    return Bench(
        name=f"glyphs-{level}" + ("" if classes is None else f"-{classes}"),
        make=functools.partial(_glyphs, level, classes),
        settings={"noise": 0.0},
        layers=(_COMPONENTS, 128, 128, 32),
        about=f"random features of rendered characters, level {level}",
    )


def digits() -> Bench:
    """Handwritten 8 x 8 digits: 0 to 4 to train on, 5 to 9 to test on.

    Five classes leave none to validate on: validation is other rows of 0 to 4. A weak
    test; it serves to see whether a result is one of drawn and rendered data alone.
    """
    return Bench(
        name="digits",
        make=_digits,
        settings={"noise": 0.0},
        layers=(64, 128, 128, 16),
        about="scikit-learn's digits, five classes to train on and five to test on",
    )


@functools.cache
def _glyph_features(level: str) -> tuple[Part, dict[str, np.ndarray]]:
    drawn = render(LEVELS[level])
    classes = int(drawn.labels[-1]) + 1
    split = split_classes(classes)
    images = drawn.images.astype(np.float32)[..., None] / 255
    inputs = _components(_filtered(images), np.isin(drawn.labels, split["train"]))
    if level == "modes":
        groups = np.array([chr(point).isupper() for point in drawn.codepoints])
    else:
        within = [inputs[drawn.labels == c].var(0).sum() for c in range(classes)]
        groups = (within > np.median(within))[drawn.labels]
    return Part(inputs, drawn.labels, groups.astype(np.int32)), split


def _filtered(images: np.ndarray) -> np.ndarray:
    """[n, 32, 32, 1] to [n, 512]: responses of 32 random filters in each part."""
    kernel = np.random.default_rng(0).normal(size=(7, 7, 1, 32)).astype(np.float32)
    kernel -= kernel.mean((0, 1), keepdims=True)

    @jax.jit
    def responses(some: jax.Array) -> jax.Array:
        dims = ("NHWC", "HWIO", "NHWC")
        found = lax.conv_general_dilated(
            some, jnp.asarray(kernel), (2, 2), "SAME", dimension_numbers=dims
        )
        grid = jax.nn.relu(found).reshape(len(some), 4, 4, 4, 4, 32)
        return jnp.mean(grid, (2, 4)).reshape(len(some), -1)

    some = [np.asarray(responses(part)) for part in np.array_split(images, 16)]
    return np.concatenate(some)


def _components(rows: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    mean = rows[fitted_on].mean(0)
    _, values, axes = np.linalg.svd(rows[fitted_on] - mean, full_matrices=False)
    scale = values[0] / np.sqrt(np.count_nonzero(fitted_on))
    return ((rows - mean) @ axes[:_COMPONENTS].T / scale).astype(np.float32)


def _glyphs(
    level: str, classes: int | None, seed: int, settings: Mapping[str, float]
) -> Data:
    rows, split = _glyph_features(level)
    rng = np.random.default_rng(seed)
    sizes = np.bincount(rows.labels)
    train = split["train"][sizes[split["train"]] >= _TRAINED_ON]
    if classes is not None:
        train = rng.choice(train, classes, replace=False)
    part = _part(rng, rows, train, _TRAINED_ON)
    others = []
    for name, most in (("validation", 40), ("test", 80)):
        count = min(most, len(split[name]))
        others.append(_part(rng, rows, rng.choice(split[name], count, False), _ROWS))
    return Data(noisy(rng, part, settings["noise"]), *others)


def _digits(seed: int, settings: Mapping[str, float]) -> Data:
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    inputs, labels = load_digits(return_X_y=True)
    rows = Part((inputs / 16).astype(np.float32), labels, np.zeros_like(labels))
    order = rng.permutation(len(labels))
    training, others = np.split(order, [len(order) * 3 // 4])
    part = _part(rng, Part(*(x[training] for x in rows)), np.arange(5), 100)
    validation = _part(rng, Part(*(x[others] for x in rows)), np.arange(5), 30)
    test = _part(rng, rows, np.arange(5, 10), 100)
    return Data(noisy(rng, part, settings["noise"]), validation, test)


def _part(rng: np.random.Generator, rows: Part, names: np.ndarray, size: int) -> Part:
    """`size` rows of each of the named classes, of arrays [n, ...]."""
    chosen = np.stack(
        [rng.choice(np.flatnonzero(rows.labels == n), size, False) for n in names]
    )
    numbers = np.repeat(np.arange(len(names), dtype=np.int32)[:, None], size, 1)
    return Part(rows.inputs[chosen], numbers, rows.groups[chosen].astype(np.int32))
