"""What is evaluated: embeddings, and what their protocol has to know of the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankjax.data import Protocol
from rankjax.errors import UsageError
from rankjax.metrics import Search, Side, search_of

if TYPE_CHECKING:
    from rankjax.report import Shown

RECALL_AT: dict[Protocol, tuple[int, ...]] = {
    "leave-one-out": (1, 2, 4, 8),
    "query-gallery": (1, 10, 20, 30),
    "reid": (1, 5, 10),
}


@dataclass(frozen=True)
class Pairs:
    """Pairs to be told alike or different.

    Attributes:
      indices: [p, 2] rows.
      same: bool [p].
      folds: [p] integers, or None.
    """

    indices: np.ndarray
    same: np.ndarray
    folds: np.ndarray | None


@dataclass(frozen=True)
class Subject:
    """Embeddings of rows, from a run or from a file.

    Attributes:
      name: for titles.
      embeddings: [n, dim].
      labels: int [n], indices into the next two; or bool [n, classes], where rows have
        several; None where only pairs are known.
      label_values: [classes] integers or strings, the labels as they were given.
      class_names: of the classes.
      queries: [q] rows, or None where no row is a query more than another.
      gallery: [g] rows, rising, without junk; some may be queries, too.
      junk: rows that nobody is to meet.
      cameras: [n] integers, or None.
      pairs: or None.
      protocol: what all this is for.
      recall_at: what the field reports; what is above the gallery is left out.
      read: pictures of rows, see `rankjax.report.Shown`.
      paths: str [n], their files or other names; None where they are not known.
      folder: where paths are files of the pictures, and begin; else None.
      splits: str [n], or None.
      supers: str [n], the names of super-classes, or None.
      lists: [n, q] what a row is to each query, 1 easy, 2 hard, 3 junk and 0 wrong; or
        None.
      rows: int [n], which rows of their file they are; None for all.
    """

    name: str
    embeddings: np.ndarray
    labels: np.ndarray | None
    label_values: np.ndarray
    class_names: Sequence[str]
    protocol: Protocol
    queries: np.ndarray | None = None
    gallery: np.ndarray | None = None
    junk: int = 0
    cameras: np.ndarray | None = None
    pairs: Pairs | None = None
    recall_at: tuple[int, ...] | None = None
    read: Callable[[np.ndarray], Any] | None = None
    paths: np.ndarray | None = None
    folder: Path | None = None
    splits: np.ndarray | None = None
    supers: np.ndarray | None = None
    lists: np.ndarray | None = None
    rows: np.ndarray | None = None

    @property
    def named(self) -> bool:
        """Whether classes have names, and not just numbers."""
        numbers = self.label_values.tolist()
        return list(self.class_names) != [f"class {number}" for number in numbers]

    @property
    def label_sets(self) -> bool:
        """Whether rows have several labels."""
        return self.labels is not None and self.labels.ndim == 2

    def shown(self) -> "Shown":
        """The rows as a page shows them."""
        # Training imports this module, and need not wait for what draws pages.
        from rankjax.report import Shown

        if self.labels is None or self.label_sets:
            n = len(self.embeddings)
            return Shown(np.arange(n), [f"row {i}" for i in range(n)], self.read)
        paths = None if self.paths is None else self.paths.tolist()
        if paths is None and self.rows is not None:
            paths = [f"row {row} of the file" for row in self.rows]
        return Shown(self.labels, self.class_names, self.read, paths, self.folder)

    def search(self, protocol: Protocol) -> tuple[Search, np.ndarray, np.ndarray]:
        """The search of a protocol, and the rows that its queries and gallery are.

        Raises:
          UsageError: there are no labels.
          ValueError: the data lacks what the protocol needs.
        """
        if self.labels is None:
            raise UsageError(f"protocol {protocol} needs labels, {self.name} has none")
        every = np.arange(len(self.labels))
        sides, rows, itself = [every], (every, every), None
        if protocol != "leave-one-out" and self.queries is not None:
            assert self.gallery is not None
            rows = (self.queries, self.gallery)
            sides = list(rows)
            # Images that are both leave themselves out.
            place = np.minimum(
                np.searchsorted(self.gallery, self.queries), len(self.gallery) - 1
            )
            own = np.where(self.gallery[place] == self.queries, place, -1)
            itself = own if (own >= 0).any() else None
        return search_of(protocol, *map(self._side, sides), itself=itself), *rows

    def _side(self, rows: np.ndarray) -> Side:
        assert self.labels is not None
        cameras = None if self.cameras is None else self.cameras[rows]
        return Side(self.embeddings[rows], self.labels[rows], cameras)

    def recall_levels(
        self, protocol: Protocol, asked: Sequence[int], most: int
    ) -> tuple[int, ...]:
        """The values of K asked for, or the usual ones up to what a query can meet."""
        if asked:
            return tuple(dict.fromkeys(asked))
        usual = RECALL_AT[protocol]
        if self.recall_at is not None and protocol == self.protocol:
            usual = self.recall_at
        return tuple(k for k in usual if k <= most)
