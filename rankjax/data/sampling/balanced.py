"""Batches of so many images of each class, and batches of any images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rankjax.data.randomness import Stream, generator
from rankjax.data.sampling.deck import dealer


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


class Members:
    """The images of every class that has `fewest` or more, in about 10 bytes each."""

    def __init__(self, labels: np.ndarray, *, fewest: int = 2) -> None:
        labels = np.asarray(labels)
        self.total = len(labels)
        small = np.min_scalar_type(max(self.total - 1, 0))
        self.order = np.argsort(labels, kind="stable").astype(small)
        classes, starts, counts = np.unique(
            labels[self.order], return_index=True, return_counts=True
        )
        self.labels_total, usable = len(classes), counts >= fewest
        self.classes = classes[usable]
        self.starts, self.counts = starts[usable], counts[usable]

    def __len__(self) -> int:
        """The number of usable classes."""
        return len(self.counts)

    def of(self, number: int) -> np.ndarray:
        """The images of the usable class of that number."""
        start = self.starts[number]
        return self.order[start : start + self.counts[number]]

    def shown(self, per_class: int, *, replacement: bool = False) -> np.ndarray:
        """Expected number of images that one draw shows of each usable class."""
        if replacement:
            return self.counts * (1 - (1 - 1 / self.counts) ** per_class)
        return np.minimum(self.counts, per_class)

    def need(self, classes: int) -> None:
        """Raises a ValueError if there are fewer usable classes."""
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if len(self) < classes:
            kind = "with two or more images, " if len(self) < self.labels_total else ""
            raise ValueError(
                f"classes must be at most {len(self)}, the number of classes {kind}got "
                f"{classes}"
            )


def class_balanced_batches(
    labels: np.ndarray,
    *,
    classes: int,
    per_class: int,
    seed: int,
    replacement: bool = False,
) -> Batches:
    """Batches of P `classes` with K images each, P = `classes` and K = `per_class`.

    Classes are dealt from shuffled decks, one deck after the other: every class comes
    once before any comes twice, and never twice in one batch, also where a batch
    takes the end of one deck and the start of the next. Within a class K images are
    drawn anew each time, by default without replacement; a class with fewer images
    gives all of them and then repeats them as evenly as it can. A class with a single
    image has no positive and is left out.

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
    need_pairs(per_class)
    members = Members(labels)

    def draw(rng: np.random.Generator, number: int) -> np.ndarray:
        if replacement:
            return members.of(number)[
                rng.integers(members.counts[number], size=per_class)
            ]
        return draw_some(rng, members.of(number), per_class)

    return dealt_batches(
        members, draw, classes, seed, members.shown(per_class, replacement=replacement)
    )


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
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    members = Members(labels, fewest=1)

    def draw(rng: np.random.Generator, number: int) -> np.ndarray:
        return draw_some(rng, members.of(number), per_class)

    return dealt_batches(members, draw, classes, seed, members.shown(per_class))


def random_batches(
    labels: np.ndarray, *, classes: int, per_class: int, seed: int
) -> Batches:
    """`classes` x `per_class` images, whatever their class.

    Images are dealt from shuffled decks, none twice in a batch; an epoch (images
    / batch steps) shows every image once. With many classes few images of a batch have
    a positive. Several hosts may get images of one class.

    Raises:
      ValueError: a batch of fewer than 1 image, or more than there are.
    """
    batch = classes * per_class
    if not 1 <= batch <= len(labels):
        raise ValueError(
            f"classes x per_class must be from 1 to the {len(labels)} images, got "
            f"{classes} x {per_class}"
        )
    return Batches(dealer(len(labels), batch, seed), len(labels) / batch, 1.0, 1.0)


def draw_some(rng: np.random.Generator, images: np.ndarray, count: int) -> np.ndarray:
    """So many of the images, none twice; of fewer, all as evenly as can be."""
    if len(images) >= count:
        return images[rng.choice(len(images), count, replace=False)]
    return images[np.resize(rng.permutation(len(images)), count)]


def dealt_batches(
    members: Members,
    draw: Callable[[np.random.Generator, int], np.ndarray],
    classes: int,
    seed: int,
    shown: np.ndarray,
) -> Batches:
    """Batches of classes dealt from decks; `shown` counts images per class and draw."""
    members.need(classes)
    deal = dealer(len(members), classes, seed)

    def make(step: int) -> np.ndarray:
        rng = generator(seed, Stream.IMAGES, step)
        drawn = [draw(rng, number) for number in deal(step)]
        return np.concatenate(drawn).astype(np.int64)

    return Batches(
        make,
        epoch=len(members) / classes,
        classes=len(members) / members.labels_total,
        images=float(shown.sum() / members.total),
    )


def need_pairs(per_class: int) -> None:
    """Raises a ValueError if images of a class make no pair."""
    if per_class < 2:
        raise ValueError(f"per_class must be at least 2, got {per_class}")
