"""Random streams that are addressed, not advanced: any draw can be redone alone."""

import enum

import numpy as np


class Stream(enum.IntEnum):
    """What a stream is for; two purposes never share numbers under one seed."""

    CLASSES = 1
    IMAGES = 2
    AUGMENTATION = 3
    SPLIT = 4
    GLYPHS = 5


def generator(
    seed: int, stream: Stream, major: int = 0, minor: int = 0
) -> np.random.Generator:
    """The generator at address (seed, stream, major, minor), on every machine the same.

    Raises:
      ValueError: `seed` is not in 0 .. 2**64 - 1.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0 .. 2**64 - 1, got {seed}")
    # The low word of the counter is left for the draws themselves.
    return np.random.Generator(
        np.random.Philox(
            key=np.array([seed, stream], np.uint64),
            counter=np.array([0, 0, minor, major], np.uint64),
        )
    )
