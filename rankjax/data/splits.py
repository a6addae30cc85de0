"""Splits whose classes are disjoint: what is learnt is judged on unseen classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankjax.data.randomness import Stream, generator
from rankjax.data.sources import Decode, DecodedImages, ImageSource, Shape
from rankjax.errors import UsageError

_FEWEST_CLASSES_TO_HOLD_OUT_OF = 20


@dataclass(frozen=True)
class Split:
    """Images that are read by index, and their labels.

    Attributes:
      images: n images.
      labels: int32 [n], 0 .. len(class_names) - 1 within the split.
      class_names: for display.
    """

    images: ImageSource
    labels: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Splits without a class in common; `validation` is None for few classes."""

    name: str
    train: Split
    validation: Split | None
    test: Split


@dataclass(frozen=True)
class Pool:
    """All images of a data set, before they are split.

    Attributes:
      decode: indices into `labels` -> uint8 [n, *shape].
      labels: int [images].
      class_names: the name of label i at i.
      shape: height, width, channels.
    """

    decode: Decode
    labels: np.ndarray
    class_names: Sequence[str]
    shape: Shape

    def choose(self, classes: np.ndarray) -> Split:
        """The images of some classes, with labels counted from 0."""
        members = np.flatnonzero(np.isin(self.labels, classes))
        kept, local = np.unique(self.labels[members], return_inverse=True)
        return Split(
            DecodedImages(
                lambda indices: self.decode(members[indices]), len(members), self.shape
            ),
            local.astype(np.int32),
            tuple(self.class_names[label] for label in kept),
        )

    def divide(
        self,
        name: str,
        train: np.ndarray,
        validation: np.ndarray | None,
        test: np.ndarray,
        seed: int,
    ) -> Dataset:
        """A data set from the classes of its splits.

        Without `validation`, the last tenth of the training classes in an order
        shuffled by `seed` is held out for it, if there are 20 or more.

        Raises:
          UsageError: no class to train on or none to test on.
        """
        if not len(train) or not len(test):
            raise UsageError(f"{name} needs two or more classes to be split")
        if validation is None and len(train) >= _FEWEST_CLASSES_TO_HOLD_OUT_OF:
            shuffled = generator(seed, Stream.SPLIT).permutation(train)
            held_out = round(len(train) / 10)
            train, validation = shuffled[:-held_out], shuffled[-held_out:]
        return Dataset(
            name,
            self.choose(train),
            None if validation is None else self.choose(validation),
            self.choose(test),
        )
