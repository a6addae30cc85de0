"""Which images make a batch: pure functions of the seed and the step."""

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankjax.data.random import Stream, generator
from rankjax.data.splits import Split


@dataclass
class Batches:
    """Batches as a pure function of the step, and what an epoch of them shows.

    Attributes:
      make: step (0, 1, ...) -> int64 [batch], indices of images. Threads may share it.
      epoch: steps of an epoch, which need not be whole.
      classes: share of the classes that an epoch shows.
      images: expected share of the images that an epoch shows.
    """

    make: Callable[[int], np.ndarray]
    epoch: float
    classes: float
    images: float

    def __call__(self, step: int) -> np.ndarray:
        """The batch of a step."""
        return self.make(step)


Draw = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]
"""Chooses so many of the images of a class."""


def draw_some(rng: np.random.Generator, images: np.ndarray, count: int) -> np.ndarray:
    """So many of the images, none twice; of fewer, all as evenly as can be."""
    if len(images) >= count:
        return images[rng.choice(len(images), count, replace=False)]
    return images[np.resize(rng.permutation(len(images)), count)]


def _members(labels: np.ndarray, fewest: int) -> tuple[list[np.ndarray], int]:
    """The images of each class that has `fewest` or more, and the number of classes."""
    order = np.argsort(labels, kind="stable")
    starts = np.unique(np.asarray(labels)[order], return_index=True)[1]
    members = np.split(order, starts[1:])
    return [images for images in members if len(images) >= fewest], len(members)


def class_balanced_batches(
    labels: np.ndarray,
    *,
    classes: int,
    per_class: int,
    seed: int,
    replacement: bool = False,
) -> Batches:
    """Batches of P `classes` with K = `per_class` images of each.

    Classes come in shuffled passes: every class comes once before any comes twice, and
    never twice in one batch. Within a class K images are drawn anew each time, by
    default without replacement; a class with fewer images gives all of them and then
    repeats them as evenly as it can. A class with a single image has no positive and is
    left out.

    So an epoch (usable classes / P steps) shows every usable class once and of a class
    with n images the share min(1, K / n), or with replacement 1 - (1 - 1 / n)^K.

    Args:
      labels: int [n], the class of every image; any integers.
      classes: classes in a batch.
      per_class: images of each class, at least 2.
      seed: the order; another seed gives another.
      replacement: draw each image of a class from all of them, so that one may come
        twice.

    Returns:
      `Batches` of `classes` x `per_class` images, those of one class side by side.

    Raises:
      ValueError: `per_class` < 2, `classes` < 1, or fewer usable classes than
        `classes`.
    """
    if not replacement:
        return _in_passes(labels, classes, per_class, seed)

    def draw(rng: np.random.Generator, images: np.ndarray, count: int) -> np.ndarray:
        return images[rng.integers(len(images), size=count)]

    def shown(images: int) -> float:
        return images * (1 - (1 - 1 / images) ** per_class)

    return _in_passes(labels, classes, per_class, seed, draw=draw, shown=shown)


def n_pair_batches(
    labels: np.ndarray, *, classes: int, seed: int, per_class: int = 2
) -> Batches:
    """One pair of each of `classes` classes (Sohn, NIPS 2016).

    As `class_balanced_batches` with two images a class.

    Raises:
      ValueError: `per_class` is not 2; otherwise as there.
    """
    if per_class != 2:
        raise ValueError(f"per_class must be 2 for pairs, got {per_class}")
    return class_balanced_batches(labels, classes=classes, per_class=2, seed=seed)


def proxy_balanced_batches(
    labels: np.ndarray, *, classes: int, per_class: int, seed: int
) -> Batches:
    """`class_balanced_batches` for losses that compare images with proxies.

    A class needs no second image, and one is enough: every proxy has positives
    in one batch of an epoch (classes / P steps), whatever the size of its class.

    Raises:
      ValueError: `per_class` < 1, `classes` < 1, or fewer classes than that.
    """
    return _in_passes(labels, classes, per_class, seed, fewest=1)


def random_batches(
    labels: np.ndarray, *, classes: int, per_class: int, seed: int
) -> Batches:
    """`classes` x `per_class` images, whatever their class.

    Images come in shuffled passes, none twice in a batch; an epoch (images / batch
    steps) shows every image once. With many classes few images of a batch have a
    positive. Several hosts may get images of one class.

    Raises:
      ValueError: a batch of fewer than 1 image, or more than there are.
    """
    batch = classes * per_class
    if not 1 <= batch <= len(labels):
        raise ValueError(
            f"classes x per_class must be from 1 to the {len(labels)} images, got "
            f"{classes} x {per_class}"
        )
    passes = shuffled_passes(len(labels), batch, seed)
    return Batches(passes, len(labels) / batch, 1.0, 1.0)


def camera_balanced_batches(
    labels: np.ndarray,
    cameras: np.ndarray,
    *,
    classes: int,
    per_class: int,
    seed: int,
) -> Batches:
    """`class_balanced_batches` with the images of a class from many cameras.

    K images of a class are from K cameras where the class has so many; otherwise from
    all of its cameras as evenly as they have images. For person re-identification,
    where images of one camera are not compared. Which cameras and which of their images
    is drawn anew each time. The epoch is as without cameras.

    Args:
      labels: int [n].
      cameras: int [n], which camera took the image.
      classes, per_class, seed: as in `class_balanced_batches`.

    Raises:
      ValueError: as there, or `cameras` is not as long as `labels`.
    """
    cameras = _beside(labels, cameras, "cameras")

    def draw(rng: np.random.Generator, images: np.ndarray, count: int) -> np.ndarray:
        shuffled = rng.permutation(images)
        # Images by how many of the same camera are before them, then as shuffled.
        by_camera = np.argsort(cameras[shuffled], kind="stable")
        sorted_cameras = cameras[shuffled][by_camera]
        turns = np.empty(len(shuffled), np.int64)
        turns[by_camera] = np.arange(len(shuffled)) - np.searchsorted(
            sorted_cameras, sorted_cameras
        )
        return np.resize(shuffled[np.argsort(turns, kind="stable")], count)

    return _in_passes(labels, classes, per_class, seed, draw=draw)


def hierarchical_batches(
    labels: np.ndarray,
    super_labels: np.ndarray,
    *,
    classes: int,
    per_class: int,
    seed: int,
    super_classes: int = 2,
) -> Batches:
    """Some super-classes, some classes of each, some images of each.

    Negatives are then mostly of the anchor's own super-class, which are the hard ones:
    the batches of FastAP (Cakir et al., CVPR 2019), which takes two super-classes.
    Super-classes come in shuffled passes, and so do the classes of each. A super-class
    with fewer than P / S classes of two images or more is left out.

    An epoch (usable super-classes / S steps) shows every usable super-class once, P / S
    of its classes, and of their images as `class_balanced_batches` does. So a class
    among few siblings comes more often than one among many.

    Args:
      labels: int [n].
      super_labels: int [n], the super-class of every image.
      classes, per_class, seed: as in `class_balanced_batches`.
      super_classes: S, which must divide P.

    Raises:
      ValueError: as `class_balanced_batches`; S does not divide P; fewer usable
        super-classes than S; or a class in two super-classes.
    """
    _at_least("per_class", per_class, 2)
    members, labels_total = _members(labels, 2)
    super_labels = _beside(labels, super_labels, "super_labels")
    if super_classes < 1 or classes < 1 or classes % super_classes:
        raise ValueError(
            f"super_classes must divide the {classes} classes, got {super_classes}"
        )
    each = classes // super_classes
    if any(np.ptp(super_labels[images]) for images in members):
        raise ValueError("super_labels must be the same for all images of a class")
    parents = np.array([super_labels[images[0]] for images in members])
    families = [np.flatnonzero(parents == parent) for parent in np.unique(parents)]
    families = [family for family in families if len(family) >= each]
    if len(families) < super_classes:
        raise ValueError(
            f"super_classes must be at most {len(families)}, the number of those with "
            f"{each} or more classes, got {super_classes}"
        )
    family_passes = shuffled_passes(len(families), super_classes, seed)
    class_passes = [
        shuffled_passes(len(family), each, seed, minor=1 + number)
        for number, family in enumerate(families)
    ]

    def make(step: int) -> np.ndarray:
        rng = generator(seed, Stream.IMAGES, step)
        # A super-class comes once a pass, so its turn is the number of the pass.
        turns = (step * super_classes + np.arange(super_classes)) // len(families)
        numbers = [
            families[family][class_passes[family](turn)]
            for family, turn in zip(family_passes(step), turns.tolist(), strict=True)
        ]
        chosen = np.concatenate(numbers).tolist()
        return np.concatenate([draw_some(rng, members[i], per_class) for i in chosen])

    shown = np.array([min(len(images), per_class) for images in members])
    return Batches(
        make,
        epoch=len(families) / super_classes,
        classes=each * len(families) / labels_total,
        images=sum(each * shown[family].mean() for family in families) / len(labels),
    )


def shuffled_passes(
    total: int, count: int, seed: int, minor: int = 0
) -> Callable[[int], np.ndarray]:
    """Step -> `count` of `total` distinct numbers; all come before any comes again.

    Each pass over all numbers is shuffled by itself, and a batch may take the end of
    one and the start of the next, but no number twice. `minor` tells passes of one seed
    apart. Threads may share the function.
    """
    known: dict[int, np.ndarray] = {}
    lock = threading.Lock()

    def numbers_of(index: int) -> np.ndarray:
        # Of a pass below two batches also the end may depend on the pass before it, so
        # the chain is followed back to one that is known or starts with a batch.
        first = index
        while total < 2 * count and first not in known and first * total % count:
            first -= 1
        for current in range(first, index + 1):
            if current not in known:
                known[current] = shuffle(current)
            known.pop(current - 3, None)
        for old in known.keys() - range(index - 2, index + 1):
            del known[old]
        return known[index]

    def permutation(index: int) -> np.ndarray:
        return generator(seed, Stream.CLASSES, index, minor).permutation(total)

    def shuffle(index: int) -> np.ndarray:
        numbers = permutation(index)
        begun = index * total % count
        if begun:
            # Numbers in the shared batch may not come up again in its rest. That moves
            # those of the first batch only, so a large pass's end is as it was.
            before = known[index - 1] if index - 1 in known else permutation(index - 1)
            taken = np.isin(numbers, before[total - begun :])
            front = np.flatnonzero(~taken)[: count - begun]
            numbers = np.concatenate([numbers[front], np.delete(numbers, front)])
        return numbers

    def batch(step: int) -> np.ndarray:
        index, start = divmod(step * count, total)
        with lock:
            numbers = numbers_of(index)[start : start + count]
            if len(numbers) < count:
                rest = numbers_of(index + 1)[: count - len(numbers)]
                numbers = np.append(numbers, rest)
        return numbers

    return batch


def _in_passes(
    labels: np.ndarray,
    classes: int,
    per_class: int,
    seed: int,
    *,
    fewest: int = 2,
    draw: Draw = draw_some,
    shown: Callable[[int], float] | None = None,
) -> Batches:
    """Batches of classes in shuffled passes, of classes of `fewest` images or more.

    `shown` is how many images of a class of so many one draw is expected to show, by
    default as many as there are, up to `per_class`.
    """
    _at_least("per_class", per_class, fewest)
    _at_least("classes", classes, 1)
    members, total = _members(labels, fewest)
    if len(members) < classes:
        few = len(members) < total
        raise ValueError(
            f"classes must be at most {len(members)}, the number of classes "
            f"{'with two or more images, ' if few else ''}got {classes}"
        )
    passes = shuffled_passes(len(members), classes, seed)

    def make(step: int) -> np.ndarray:
        rng, numbers = generator(seed, Stream.IMAGES, step), passes(step).tolist()
        return np.concatenate([draw(rng, members[i], per_class) for i in numbers])

    expected = shown or (lambda images: min(images, per_class))
    return Batches(
        make,
        epoch=len(members) / classes,
        classes=len(members) / total,
        images=sum(expected(len(images)) for images in members) / len(labels),
    )


def _at_least(name: str, value: int, least: int) -> None:
    """Raises a ValueError for a smaller number."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _beside(labels: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != np.shape(labels):
        raise ValueError(
            f"{name} has shape {values.shape}, must be {np.shape(labels)} as labels"
        )
    return values


BATCHES: dict[str, Callable[..., Batches]] = {
    "class_balanced": class_balanced_batches,
    "n_pairs": n_pair_batches,
    "random": random_batches,
    "hierarchical": hierarchical_batches,
    "cross_camera": camera_balanced_batches,
    "proxy_balanced": proxy_balanced_batches,
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
      classes, per_class, seed: as in `class_balanced_batches`.
      options: further arguments of the maker.

    Raises:
      ValueError: an argument out of its range, or a split without the cameras or
        super-classes that the batches need.
    """
    maker = BATCHES[name]
    needed: dict[str, np.ndarray] = {}
    for what in ("cameras", "super_labels"):
        if what in inspect.signature(maker).parameters:
            needed[what] = getattr(split, what)
            if needed[what] is None:
                raise ValueError(
                    f"batches {name} need {what}, which the data set lacks"
                )
    given = {"classes": classes, "per_class": per_class, "seed": seed}
    return maker(split.labels, **given, **needed, **(options or {}))
