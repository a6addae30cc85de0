"""Splits whose classes are disjoint: what is learnt is judged on unseen classes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankjax.data.sources import ImageSource

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

    def among(self, kept: np.ndarray) -> "VerificationPairs":
        """The pairs of which both images are kept, in a test split of those alone."""
        whole = kept[self.indices].all(1)
        indices = (np.cumsum(kept) - 1)[self.indices[whole]].astype(np.int32)
        return VerificationPairs(indices, self.same[whole], self.folds[whole])


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
