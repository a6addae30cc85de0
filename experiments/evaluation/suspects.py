"""What is probably wrong in an embedding, as a list with evidence."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.evaluation.subjects import Subject
from rankjax import metrics
from rankjax.errors import RunError, UsageError
from rankjax.files import below_common, printable, read_regular, write_atomic
from rankjax.report import Card, Table

KINDS = {
    "leak": "copies in two splits",
    "other class": "copies in two classes",
    "copy": "copies in one class",
    "label": "labels that disagree with their neighbours",
    "unlike its class": "rows far from all others of their class",
    "unlike all": "rows far from everything",
}
"""What a row may be suspected of, the surest first."""

NEIGHBOURS = 50
_UNLIKE = 3.5  # robust standard deviations, see `rankjax.metrics.outliers`
_TOGETHER = _APART = 0.5  # see `mixed_classes` and `modes`


class Suspect(NamedTuple):
    """A row and what speaks against it.

    Attributes:
      row: its number.
      kind: of `KINDS`.
      figure: the larger, the more suspect among those of its kind.
      evidence: in words.
      other: the row that it is compared with.
    """

    row: int
    kind: str
    figure: float
    evidence: str
    other: int


class Suspects(NamedTuple):
    """All that is suspected.

    Attributes:
      rows: by kind, and the most suspect of a kind first; a row is there once for each
        kind.
      together: numbers of two classes that may be one, and the figure.
      apart: classes that may be two, the figure, and a row of either part.
    """

    rows: list[Suspect]
    together: list[tuple[int, int, float]]
    apart: list[tuple[int, float, tuple[int, int]]]


def find(
    subject: Subject,
    *,
    ratio: float = 2.0,
    near: float = 0.1,
    folder: Path | None = Path(),
) -> Suspects:
    """Looks for what is wrong.

    Args:
      subject: embeddings with labels, and maybe splits and paths.
      ratio: how many times as far as another class a row's own must lie for its label
        to be suspected.
      near: what part of the usual distance of nearest rows makes two rows copies.
      folder: that relative paths begin in.

    Raises:
      UsageError: there are no labels, or fewer than three rows.
      ValueError: near is out of range.
    """
    labels, n = subject.labels, len(subject.embeddings)
    if labels is None:
        raise UsageError(f"{subject.name} has no labels, which rows are compared by")
    if n < 3:
        raise UsageError(f"rows must be at least 3 to be compared, got {n}")
    neighbours = metrics.nearest(subject.embeddings, k=min(NEIGHBOURS, n - 1))
    nearer = metrics.nearer_class(subject.embeddings, labels, neighbours)
    rows = [
        *_copies(subject, labels, neighbours, near, folder),
        *_labels(subject, labels, neighbours, nearer, ratio),
        *_unlike(neighbours, "unlike its class", nearer.own, labels),
        *_unlike(neighbours, "unlike all", neighbours.similarities[:, :3].mean(1)),
    ]
    order = list(KINDS)
    rows.sort(key=lambda each: (order.index(each.kind), -each.figure, each.row))
    # Of many copies of a row the nearest is evidence enough.
    once = {(each.row, each.kind): each for each in reversed(rows)}
    rows = [each for each in rows if once[each.row, each.kind] is each]
    mixed, figures = metrics.mixed_classes(labels, neighbours)
    together = [
        (int(a), int(b), float(figure))
        for (a, b), figure in zip(mixed, figures, strict=True)
        if figure >= _TOGETHER
    ]
    parted, silhouettes, group = metrics.modes(subject.embeddings, labels)
    apart = []
    for label, figure in zip(parted, silhouettes, strict=True):
        if figure >= _APART:
            one, two = (
                int(np.flatnonzero((labels == label) & (group == part))[0])
                for part in (0, 1)
            )
            apart.append((int(label), float(figure), (one, two)))
    return Suspects(rows, together, apart)


def _copies(
    subject: Subject,
    labels: np.ndarray,
    neighbours: metrics.Neighbours,
    near: float,
    folder: Path | None,
) -> Iterator[Suspect]:
    """Of each pair of copies one row: that of train, or else the later one."""
    names, splits = subject.class_names, subject.splits
    pairs, similarities = metrics.duplicates(neighbours, near=near)
    for pair, value in zip(pairs.tolist(), similarities.tolist(), strict=True):
        kind = "copy" if labels[pair[0]] == labels[pair[1]] else "other class"
        kept, row = pair
        where = ""
        if splits is not None and splits[kept] != splits[row]:
            kind = "leak"
            if splits[kept] == "train":
                kept, row = row, kept
            where = f", {splits[kept]}"
        said = f"cosine {value:.6f} to"
        if _same_file(subject, pair, folder):
            said = "the same file as"
        said += f" one of {printable(names[labels[kept]])}{where}"
        yield Suspect(row, kind, value, said, kept)


def _labels(
    subject: Subject,
    labels: np.ndarray,
    neighbours: metrics.Neighbours,
    nearer: metrics.Nearer,
    ratio: float,
) -> Iterator[Suspect]:
    found = nearer.ratio
    for row in np.flatnonzero(found >= ratio).tolist():
        own, other = (
            printable(subject.class_names[label])
            for label in (labels[row], nearer.label[row])
        )
        near = neighbours.rows[row]
        yield Suspect(
            row,
            "label",
            float(found[row]),
            f"{found[row]:.1f} times as far from {own} (cosine {nearer.own[row]:.3f}) "
            f"as from {other} ({nearer.other[row]:.3f})",
            int(near[labels[near] == nearer.label[row]][0]),
        )


def _unlike(
    neighbours: metrics.Neighbours,
    kind: str,
    similarities: np.ndarray,
    labels: np.ndarray | None = None,
) -> Iterator[Suspect]:
    below = metrics.outliers(similarities, labels)
    for row in np.flatnonzero(below > _UNLIKE).tolist():
        yield Suspect(
            row,
            kind,
            float(below[row]),
            f"cosine {similarities[row]:.3f} to the nearest, {below[row]:.1f} robust "
            "standard deviations below the usual",
            int(neighbours.rows[row, 0]),
        )


def folder_of_paths(source: Path, subject: Subject) -> Path | None:
    """Where relative paths of a run or a file begin; None where names are no files."""
    return subject.folder if source.is_dir() else source.parent


def _same_file(subject: Subject, pair: Sequence[int], folder: Path | None) -> bool:
    """Whether both rows have files with the same content."""
    if subject.paths is None or folder is None:
        return False
    try:
        one, two = (read_regular(folder / subject.paths[row]) for row in pair)
    except OSError:
        return False
    return one == two


def by_row(suspects: Suspects) -> dict[int, list[Suspect]]:
    """All that is said of a row, the rows in the order of what comes first."""
    found: dict[int, list[Suspect]] = {}
    for each in suspects.rows:
        found.setdefault(each.row, []).append(each)
    return found


def tables(subject: Subject, suspects: Suspects, *, most: int) -> list[Table]:
    """How many rows are suspected of what, the first few, and suspect classes."""
    name, below = _namer(subject)
    classes = [printable(each) for each in subject.class_names]
    together = [
        ("may be one", f"{classes[a]} and {classes[b]}", f"{figure:.2f}")
        for a, b, figure in suspects.together
    ]
    apart = [
        (
            "may be two",
            f"{classes[label]}, such as {name(a)} and {name(b)}",
            f"{figure:.2f}",
        )
        for label, figure, (a, b) in suspects.apart
    ]
    counts = [
        (kind, f"{sum(each.kind == kind for each in suspects.rows):,}", what)
        for kind, what in KINDS.items()
    ]
    counts.append(
        (
            "may be one",
            f"{len(together):,}",
            "pairs of classes, 1 where mixed by chance",
        )
    )
    counts.append(
        ("may be two", f"{len(apart):,}", "classes, by the silhouette of two groups")
    )
    rows = []
    for kind in KINDS:
        of_kind = [each for each in suspects.rows if each.kind == kind]
        rows += [(kind, name(each.row), each.evidence) for each in of_kind[:most]]
    found = [Table("Suspects", "", ("", "number", "what"), counts, words=[2])]
    if rows:
        head = ("", f"row{below}", "evidence")
        found.append(Table("Rows", "", head, rows, words=[1, 2]))
    if together or apart:
        rows = [*together[:most], *apart[:most]]
        head = ("", "classes", "figure")
        found.append(Table("Classes", "", head, rows, words=[1]))
    return found


def cards(
    subject: Subject, *, folder: Path | None, most: int = 8
) -> dict[str, list[Card]]:
    """The first few of each kind, as a page shows them: each row and its reason.

    Nothing of pairs without labels, and of fewer than three rows: these have no
    neighbours to disagree with.
    """
    if subject.labels is None or len(subject.labels) < 3:
        return {}
    suspects = find(subject, folder=folder)
    shown, first = subject.shown(), np.unique(subject.labels, return_index=True)[1]

    found: dict[str, list[Card]] = {}
    for kind, what in KINDS.items():
        of_kind = [each for each in suspects.rows if each.kind == kind]
        found[f"{what.capitalize()}: {len(of_kind):,}"] = [
            Card(
                (each.row, each.other),
                ("query", shown.verdict(each.row, each.other)),
                each.evidence,
            )
            for each in of_kind[:most]
        ]
    plain = ("query", "query")
    found[f"Pairs of classes that may be one: {len(suspects.together):,}"] = [
        Card((int(first[a]), int(first[b])), plain, f"mixed to {figure:.2f} of chance")
        for a, b, figure in suspects.together[:most]
    ]
    found[f"Classes that may be two: {len(suspects.apart):,}"] = [
        Card(rows, plain, f"two groups with the silhouette {figure:.2f}")
        for _, figure, rows in suspects.apart[:most]
    ]
    return {heading: some for heading, some in found.items() if some}


def _namer(subject: Subject) -> tuple[Callable[[int], str], str]:
    """Names of rows for display: what follows the folder of all, which comes second."""
    if subject.paths is None:
        return str, ""
    common, paths = below_common(subject.paths)
    return lambda row: printable(paths[row]), common and f" in {printable(common)}"


def write_csv(
    path: Path, subject: Subject, suspects: Suspects, *, folder: Path | None
) -> None:
    """Every row and what is said of it, the most suspect first, as a list of images.

    Args:
      path: of the file.
      subject, suspects: the rows.
      folder: that relative paths begin in; those in the file begin in its own folder.

    Raises:
      RunError: the file cannot be written.
    """
    assert subject.labels is not None
    said = by_row(suspects)
    classes = [subject.class_names[label] for label in subject.labels]
    order = [*said, *(row for row in range(len(subject.labels)) if row not in said)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    splits = [] if subject.splits is None else ["split"]
    more = ("suspected", "figure", "evidence", "other", "label_of_other", "row")
    writer.writerow(["path", "label", *splits, "exclude", *more])
    for row in order:
        each = said.get(row, [])
        line = [_path(path, subject, row, folder), classes[row]]
        line += [] if subject.splits is None else [str(subject.splits[row])]
        line += ["", "; ".join(one.kind for one in each)]
        line += [f"{each[0].figure:.6g}" if each else ""]
        line += ["; ".join(one.evidence for one in each)]
        other = each[0].other if each else None
        if other is None:
            line += ["", ""]
        else:
            line += [_path(path, subject, other, folder), classes[other]]
        writer.writerow([*line, row])
    content = text.getvalue().encode()
    try:
        write_atomic(path, content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error


def _path(csv_file: Path, subject: Subject, row: int, folder: Path | None) -> str:
    if subject.paths is None:
        return ""
    path = str(subject.paths[row])
    if folder is None or os.path.isabs(path):
        return path
    return os.path.relpath(folder.absolute() / path, csv_file.absolute().parent)
