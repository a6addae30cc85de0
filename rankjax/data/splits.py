"""Splits whose classes are disjoint: what is learnt is judged on unseen classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankjax.data.randomness import Stream, generator
from rankjax.data.sources import EncodedImages, Fetch, ImageSource, Shape
from rankjax.errors import UsageError

_FEWEST_CLASSES_TO_HOLD_OUT_OF = 20

Protocol = Literal["leave-one-out", "query-gallery", "reid", "verification"]


@dataclass(frozen=True)
class Split:
    """Images that are read by index, and their labels.

    Attributes:
      images: n images.
      labels: int32 [n], 0 .. len(class_names) - 1 within the split.
      class_names: for display.
      cameras: int32 [n], which camera took the image; None where that is not known.
      super_labels: int32 [n], groups of classes; None where there are none.
    """

    images: ImageSource
    labels: np.ndarray
    class_names: tuple[str, ...]
    cameras: np.ndarray | None = None
    super_labels: np.ndarray | None = None


@dataclass(frozen=True)
class VerificationPairs:
    """Pairs of test images that are to be told alike or different.

    Attributes:
      indices: int32 [p, 2], into the test split.
      same: bool [p], whether both images are of one class.
      folds: int32 [p], 0 .. number of folds - 1; a fold's threshold is chosen on the
        other folds.
    """

    indices: np.ndarray
    same: np.ndarray
    folds: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Splits for training and testing on classes that training never saw.

    Attributes:
      name: what it was loaded as.
      train: what is learnt from.
      validation: classes held out of training, each image judged against all others;
        None for few classes.
      test: the images to judge on; with a gallery, the queries.
      gallery: what the queries are searched in. It shares the numbers and names of
        classes with `test`; a class without a query is a distractor.
      protocol: how `test` is judged. `leave-one-out`: each image against all others.
        `query-gallery`: `test` against `gallery`. `reid`: the same, but images of the
        query's class and camera do not count, nor does junk. `verification`: `pairs`.
      recall_at: the values of K that the field reports.
      junk: bool [gallery], images that are neither right nor wrong; None for no such.
      pairs: of the protocol `verification`.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    gallery: Split | None = None
    protocol: Protocol = "leave-one-out"
    recall_at: tuple[int, ...] = (1, 2, 4, 8)
    junk: np.ndarray | None = None
    pairs: VerificationPairs | None = None


@dataclass(frozen=True)
class Pool:
    """All images of a data set, before they are split.

    Attributes:
      fetch: indices into `labels` -> the contents of image files.
      name: what the image of an index is called.
      labels: int [images].
      class_names: the name of label i at i.
      shape: height, width, channels.
      short_side: see `rankjax.data.sources.fit`.
    """

    fetch: Fetch
    name: Callable[[int], str]
    labels: np.ndarray
    class_names: Sequence[str]
    shape: Shape
    short_side: int | None = None

    def choose(self, classes: np.ndarray) -> Split:
        """The images of some classes, with labels counted from 0."""
        members = np.flatnonzero(np.isin(self.labels, classes))
        kept, local = np.unique(self.labels[members], return_inverse=True)
        return Split(
            EncodedImages(
                lambda indices: self.fetch(members[indices]),
                len(members),
                self.shape,
                name=lambda index: self.name(members[index]),
                short_side=self.short_side,
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
