"""What a run is evaluated on while it trains."""

from collections import Counter
from typing import NamedTuple, Self

import numpy as np

from rankjax.data import Dataset, Split
from rankjax.errors import UsageError
from rankjax.train import evaluate

_FEWEST_CLASSES_TO_CHOOSE_BY = 10


class Validation(NamedTuple):
    """What a run is evaluated on while it trains.

    Attributes:
      split: the images: of classes held out of training, or those that it trains on.
      name: `validation` or `training`, which of the two.
      chooses: whether a step is to be called the best by it. Among few classes all
        steps find nearly everything, and which finds most is chance; and training
        images are found best by the network that knows them by heart.
    """

    split: Split
    name: str
    chooses: bool

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """What a data set has for it."""
        if data.validation is None:
            return cls(data.train, "training", False)
        classes = len(np.unique(data.validation.labels))
        enough = classes >= _FEWEST_CLASSES_TO_CHOOSE_BY
        return cls(data.validation, "validation", enough)

    def figures(self, embeddings: np.ndarray) -> dict[str, float]:
        """Figures of `evaluate` by `NAME/FIGURE`."""
        found = evaluate(embeddings, self.split.labels, seed=0)
        return {f"{self.name}/{key}": value for key, value in found.items()}

    def words(self) -> str:
        """What a report says of it."""
        classes = len(np.unique(self.split.labels))
        where = f"on {classes:,} {self.name} classes"
        return where if self.chooses else f"{where}; the last step counts as the best"


def check_evaluation(data: Dataset) -> None:
    """Raises a UsageError for a data set that a run cannot be evaluated on."""
    if len(np.unique(data.train.labels)) < 2:
        raise UsageError(
            f"{data.name} must have two classes to train on, got 1; where no splits "
            "are named half of the classes are kept for tests, so that it takes four"
        )
    sides = [data.test] if data.gallery is None else [data.test, data.gallery]
    for what, labels in (
        ("validate", Validation.of(data).split.labels),
        ("test", np.concatenate([side.labels for side in sides])),
    ):
        if not len(labels) or np.bincount(labels).max() < 2:
            raise UsageError(
                f"{data.name} must have two images of one class to {what} on, got "
                f"{len(labels)} images of {len(np.unique(labels))} classes"
            )
    if data.protocol in ("query-gallery", "reid") and not _some_match(data):
        raise UsageError(
            f"{data.name} must have a query whose class is in the gallery, on another "
            f"camera if there are any; its {len(data.test.labels)} queries have none"
        )


def _some_match(data: Dataset) -> bool:
    """Whether a query's class is in the gallery, on another camera if there are any."""
    queries, gallery = data.test, data.gallery
    assert gallery is not None
    of_class = Counter(gallery.labels.tolist())
    if queries.cameras is None or gallery.cameras is None:
        return any(of_class[label] for label in queries.labels.tolist())
    both = zip(gallery.labels.tolist(), gallery.cameras.tolist(), strict=True)
    of_camera = Counter(both)
    seen = zip(queries.labels.tolist(), queries.cameras.tolist(), strict=True)
    return any(of_class[label] > of_camera[label, camera] for label, camera in seen)
