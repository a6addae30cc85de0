"""Numbers dealt from shuffled decks, as a function of the step."""

import threading
from collections.abc import Callable

import numpy as np

from rankjax.data.randomness import Stream, generator


def dealer(
    total: int, hand: int, seed: int, minor: int = 0
) -> Callable[[int], np.ndarray]:
    """Step -> `hand` of `total` distinct numbers, each deck of all before the next.

    `minor` tells dealers of one seed apart. Threads may share the function.
    """
    decks: dict[int, np.ndarray] = {}
    lock = threading.Lock()

    def deck(number: int) -> np.ndarray:
        # Of a deck below two hands also the end may depend on the deck before it, so
        # the chain is followed back to one that is known or starts with a batch.
        first = number
        while total < 2 * hand and first not in decks and first * total % hand:
            first -= 1
        for current in range(first, number + 1):
            if current not in decks:
                decks[current] = shuffle(current)
            decks.pop(current - 3, None)
        for old in [key for key in decks if not number - 3 < key <= number]:
            del decks[old]
        return decks[number]

    def raw(number: int) -> np.ndarray:
        return generator(seed, Stream.CLASSES, number, minor).permutation(total)

    def shuffle(number: int) -> np.ndarray:
        cards = raw(number)
        begun = number * total % hand
        if not begun:
            return cards
        # Cards already in the shared batch may not come up again in the rest of it.
        # That moves cards of the first hand only, so a large deck's end is as it was.
        before = decks[number - 1] if number - 1 in decks else raw(number - 1)
        seen = np.isin(cards, before[total - begun :])
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
