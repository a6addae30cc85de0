"""What reports are made of."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rankjax.metrics import Retrieval, Search, Verification
from rankjax.report.thumbnails import Shown


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


class Card(NamedTuple):
    """Rows side by side, with frames "query", "hit" or "miss", and a note on them."""

    rows: Sequence[int]
    frames: Sequence[str]
    note: str


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
      changed: settings that are not the default, which come first.
      baselines: float [n, dim] of all rows by name, whose similarities are shown first.
      other, other_name: another search for the same queries, to compare with.
      suspects: what is probably wrong, by a heading.
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
    changed: Container[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    other: SearchResult | None = None
    other_name: str = ""
    suspects: Mapping[str, Sequence[Card]] = field(default_factory=dict)
    history: list[dict[str, float]] | None = None
    seed: int = 0
