"""What reports are made of."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from rankjax.metrics import Retrieval, Search, Verification
from rankjax.report.thumbnails import Shown


@dataclass(frozen=True)
class ReportInputs:
    """One finished run, seen through classes it was not trained on.

    Attributes:
      title: name of the experiment.
      command: the command that reproduces the run.
      config: flat, JSON-able settings.
      versions: package name to version.
      summary: metrics of "test" (the trained network on `images`), and of the
        baselines "untrained", and "raw_pixels" or "features", on the same images.
      history: rows of metrics.jsonl; a row may hold any subset of the keys.
      images: uint8 [n, h, w, c], c is 1 or 3; or what is indexed like that, and read
        when it is; None where there are no pictures.
      labels: int [n], indices into `class_names`.
      class_names: any text, also text that no font can draw.
      embeddings: float [n, dim], of any length.
      baselines: like `embeddings`, by the names of `summary`.
      seed: seeds every choice the report makes.
    """

    title: str
    command: str
    config: dict[str, object]
    versions: dict[str, str]
    summary: dict[str, dict[str, float]]
    history: list[dict[str, float]]
    images: Any
    labels: np.ndarray
    class_names: tuple[str, ...]
    embeddings: np.ndarray
    baselines: dict[str, np.ndarray]
    seed: int = 0

    def __post_init__(self):
        """Check that the arrays belong together.

        Raises:
          ValueError: an array has a wrong shape, type, length or content.
        """
        images, labels, names = self.images, self.labels, len(self.class_names)
        count = len(labels if images is None else images)
        if images is None:
            pass
        elif images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
            raise ValueError(
                f"images is {images.dtype} {images.shape}, must be uint8 [n, h, w, c]"
            )
        elif images.shape[3] not in (1, 3):
            raise ValueError(f"images has {images.shape[3]} channels, must be 1 or 3")
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels is {labels.dtype} {labels.shape}, must be int [{count}]"
            )
        if labels.min() < 0 or labels.max() >= names:
            raise ValueError(
                f"labels spans {labels.min()} to {labels.max()}, "
                f"must be indices of the {names} class_names"
            )
        for name, rows in {"embeddings": self.embeddings, **self.baselines}.items():
            if rows.ndim != 2 or len(rows) != count:
                raise ValueError(f"{name} is {rows.shape}, must be [{count}, dim]")
            if not np.isfinite(rows).all():
                raise ValueError(f"{name} holds NaN or infinity, must be finite")
        if "test" not in self.summary:
            raise ValueError(f"summary has {sorted(self.summary)}, must have 'test'")


class Table(NamedTuple):
    """A table of text, for a page and for a terminal; the first column names the row.

    Attributes:
      heading: what it is of.
      note: how to read it.
      head: names of columns.
      rows: cells.
      words: numbers of columns, after the first, that hold words.
      bold: rows and columns of cells that stand out on a page.
    """

    heading: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()
    bold: Container[tuple[int, int]] = ()


class SearchResult(NamedTuple):
    """A search, its figures, and the rows of `Shown` that its two sides are."""

    search: Search
    retrieval: Retrieval
    query_rows: np.ndarray
    gallery_rows: np.ndarray


class PairResult(NamedTuple):
    """Pairs [p, 2] of rows of `Shown`, their scores and which are of one class."""

    pairs: np.ndarray
    scores: np.ndarray
    same: np.ndarray
    verification: Verification


@dataclass(frozen=True)
class EvaluationInputs:
    """One embedding, evaluated.

    Attributes:
      title: what was evaluated.
      result: one sentence, plain text.
      facts: numbers by what they count.
      tables: metrics first, then whatever else was measured.
      health: the last table.
      outcome: of a search or of pairs; None where no query has a positive.
      shown: all rows.
      embeddings: float [n, dim] of all rows.
      settings, command, versions: what it takes to do it again.
      baselines: float [n, dim] of all rows by name, whose similarities are shown first.
      history: of the run, where the page is a run's.
      seed: seeds every choice the page makes.
    """

    title: str
    result: str
    facts: Mapping[str, str]
    tables: Sequence[Table]
    health: Table | None
    outcome: SearchResult | PairResult | None
    shown: Shown
    embeddings: np.ndarray
    command: str
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    history: list[dict[str, float]] | None = None
    seed: int = 0
