"""Batches that mind what is known beside the class: cameras and super-classes."""

import numpy as np

from rankjax.data.randomness import Stream, generator
from rankjax.data.sampling.balanced import (
    Batches,
    Members,
    dealt_batches,
    draw_some,
    need_pairs,
)
from rankjax.data.sampling.deck import dealer


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
      classes: as in `class_balanced_batches`.
      per_class: as there.
      seed: as there.

    Raises:
      ValueError: as there, or `cameras` is not as long as `labels`.
    """
    need_pairs(per_class)
    members = Members(labels)
    cameras = _beside(labels, cameras, "cameras")

    def draw(rng: np.random.Generator, number: int) -> np.ndarray:
        shuffled = rng.permutation(members.of(number))
        # Images by how many of the same camera are before them, then as shuffled.
        by_camera = np.argsort(cameras[shuffled], kind="stable")
        sorted_cameras = cameras[shuffled][by_camera]
        turns = np.empty(len(shuffled), np.int64)
        turns[by_camera] = np.arange(len(shuffled)) - np.searchsorted(
            sorted_cameras, sorted_cameras
        )
        return np.resize(shuffled[np.argsort(turns, kind="stable")], per_class)

    return dealt_batches(members, draw, classes, seed, members.shown(per_class))


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
    Super-classes are dealt from decks, and the classes of each from decks of its
    own. A super-class with fewer than P / S classes of two images or more is left out.

    An epoch (usable super-classes / S steps) shows every usable super-class once, P / S
    of its classes, and of their images as `class_balanced_batches` does. So a class
    among few siblings comes more often than one among many.

    Args:
      labels: int [n].
      super_labels: int [n], the super-class of every image.
      classes: P, classes in a batch.
      per_class: images of each.
      seed: the order.
      super_classes: S, which must divide P.

    Raises:
      ValueError: as `class_balanced_batches`; S does not divide P; fewer usable
        super-classes than S; or a class in two super-classes.
    """
    need_pairs(per_class)
    members = Members(labels)
    super_labels = _beside(labels, super_labels, "super_labels")
    if super_classes < 1 or classes < 1 or classes % super_classes:
        raise ValueError(
            f"super_classes must divide the {classes} classes, got {super_classes}"
        )
    each = classes // super_classes
    parents = super_labels[members.order[members.starts]]
    if (np.repeat(parents, members.counts) != _grouped(super_labels, members)).any():
        raise ValueError("super_labels must be the same for all images of a class")
    families = [np.flatnonzero(parents == parent) for parent in np.unique(parents)]
    families = [family for family in families if len(family) >= each]
    if len(families) < super_classes:
        raise ValueError(
            f"super_classes must be at most {len(families)}, the number of those with "
            f"{each} or more classes, got {super_classes}"
        )
    deal = dealer(len(families), super_classes, seed)
    deals = [
        dealer(len(family), each, seed, minor=1 + number)
        for number, family in enumerate(families)
    ]

    def make(step: int) -> np.ndarray:
        rng = generator(seed, Stream.IMAGES, step)
        # A super-class comes once a deck, so its turn is the number of the deck.
        turns = (step * super_classes + np.arange(super_classes)) // len(families)
        drawn = [
            draw_some(rng, members.of(number), per_class)
            for family, turn in zip(deal(step), turns.tolist(), strict=True)
            for number in families[family][deals[family](turn)]
        ]
        return np.concatenate(drawn).astype(np.int64)

    shown = members.shown(per_class)
    return Batches(
        make,
        epoch=len(families) / super_classes,
        classes=each * len(families) / members.labels_total,
        images=sum(each * shown[family].mean() for family in families) / members.total,
    )


def _beside(labels: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != np.shape(labels):
        raise ValueError(
            f"{name} has shape {values.shape}, must be {np.shape(labels)} as labels"
        )
    return values


def _grouped(values: np.ndarray, members: Members) -> np.ndarray:
    """Values of the images of all usable classes, class by class."""
    return values[np.concatenate([members.of(i) for i in range(len(members))])]
