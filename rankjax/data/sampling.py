"""Class-balanced batches: P classes with K images each, as a function of the step."""

import threading
from collections.abc import Callable

import numpy as np

from rankjax.data.randomness import Stream, generator


def class_balanced_batches(
    labels: np.ndarray, *, classes: int, per_class: int, seed: int
) -> Callable[[int], np.ndarray]:
    """Batches of `classes` x `per_class` images, a pure function of the seed and step.

    Classes are dealt from shuffled decks, one deck after the other: every class comes
    once before any comes twice, and never twice in one batch, also where a batch
    takes the end of one deck and the start of the next. Within a class `per_class`
    images are drawn without replacement, anew each time; a class with fewer images
    gives all of them and then repeats them as evenly as it can. A class with a single
    image has no positive and is left out.

    So a deck (usable classes / `classes` steps) shows every usable class once and of a
    class with n images the share min(1, per_class / n).

    Args:
      labels: int [n], the class of every image; any integers.
      classes: classes in a batch.
      per_class: images of each class, at least 2.
      seed: the order; another seed gives another.

    Returns:
      A function from a step (0, 1, ...) to int64 indices [classes * per_class] into
      `labels`, the images of one class side by side. Threads may share it.

    Raises:
      ValueError: `per_class` < 2, `classes` < 1, or fewer usable classes than
        `classes`.
    """
    if per_class < 2:
        raise ValueError(f"per_class must be at least 2, got {per_class}")
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(
        np.asarray(labels)[order], return_index=True, return_counts=True
    )
    starts, counts = starts[counts > 1], counts[counts > 1]
    if len(starts) < classes:
        raise ValueError(
            f"classes must be at most {len(starts)}, the number of classes with two or "
            f"more images, got {classes}"
        )
    deal = _dealer(len(starts), classes, seed)

    def batch(step: int) -> np.ndarray:
        rng = generator(seed, Stream.IMAGES, step)
        rows = np.empty((classes, per_class), np.int64)
        for row, dealt in zip(rows, deal(step), strict=True):
            count = counts[dealt]
            if count >= per_class:
                drawn = rng.choice(count, per_class, replace=False)
            else:
                drawn = np.resize(rng.permutation(count), per_class)
            row[:] = order[starts[dealt] + drawn]
        return rows.reshape(-1)

    return batch


def _dealer(total: int, hand: int, seed: int) -> Callable[[int], np.ndarray]:
    """Step -> `hand` of `total` distinct numbers, each deck of all before the next."""
    decks: dict[int, np.ndarray] = {}
    lock = threading.Lock()

    def deck(number: int) -> np.ndarray:
        # A deck depends on the one before it where a batch spans both, so the chain
        # is followed back to a deck that is known or that starts with a batch.
        first = number
        while first not in decks and first * total % hand:
            first -= 1
        for current in range(first, number + 1):
            if current not in decks:
                decks[current] = shuffle(current)
            decks.pop(current - 3, None)
        for old in [key for key in decks if not number - 3 < key <= number]:
            del decks[old]
        return decks[number]

    def shuffle(number: int) -> np.ndarray:
        cards = generator(seed, Stream.CLASSES, number).permutation(total)
        begun = number * total % hand
        if not begun:
            return cards
        # Cards already in the shared batch may not come up again in the rest of it.
        seen = np.isin(cards, decks[number - 1][total - begun :])
        front = np.flatnonzero(~seen)[: hand - begun]
        return np.concatenate([cards[front], np.delete(cards, front)])

    def deal(step: int) -> np.ndarray:
        number, start = divmod(step * hand, total)
        with lock:
            cards = deck(number)[start : start + hand]
            if len(cards) < hand:
                cards = np.append(cards, deck(number + 1)[: hand - len(cards)])
        return cards

    return deal
