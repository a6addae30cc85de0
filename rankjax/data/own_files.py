"""A person's own images: files with a class each, and what else is known of them."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rankjax.data.damage import some
from rankjax.data.pool import Choice, Pool
from rankjax.data.randomness import Stream, generator
from rankjax.data.sources import read_file
from rankjax.data.splits import Dataset
from rankjax.errors import RunError, UsageError
from rankjax.files import printable

SPLITS = ("train", "validation", "test", "gallery")
SPLIT_OF = {split: split for split in SPLITS} | {
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "query": "test",
}
"""The split that a folder or a value in a list means, by its name in small letters."""

_JUNK = "-1"


class Row(NamedTuple):
    """An image file.

    Attributes:
      path: of the file.
      label: the name of its class.
      split: one of `SPLITS`, or empty for all images.
      camera, group: the camera that took it and the super-class of its class, or empty.
    """

    path: Path
    label: str
    split: str = ""
    camera: str = ""
    group: str = ""


def tell_left_out(name: str, left_out: Mapping[str, Sequence[str]]) -> None:
    """Counts and names on stderr what a data set does not take, by the reason."""
    for reason, paths in left_out.items():
        if paths:
            line = f"left out of {name}: {len(paths):,} {reason}: {some(paths)}"
            print(line, file=sys.stderr)


def load_rows(rows: Sequence[Row], *, name: str, choice: Choice) -> Dataset:
    """A data set of files, as RGB.

    Without splits, half of the classes, chosen by the seed, is for training and the
    rest for testing. With a gallery, the test images are its queries; with cameras too
    the protocol is re-identification's, and class -1 of the gallery is junk.

    Raises:
      UsageError: a class in two splits (but for test and gallery), a file with two
        classes, or too few classes.
      RunError: a file that is missing or listed twice, unless damage is to be skipped.
    """
    rows = _checked(rows, name, choice)
    names, labels = np.unique([row.label for row in rows], return_inverse=True)
    splits = np.array([row.split for row in rows])
    parts = {
        split: np.flatnonzero(splits == split) for split in SPLITS if split in splits
    }
    if not parts:
        order = generator(choice.seed, Stream.SPLIT, 1).permutation(len(names))
        to_train = np.isin(labels, order[: len(names) // 2])
        parts = {"train": np.flatnonzero(to_train), "test": np.flatnonzero(~to_train)}
    _check_parts(rows, name, parts)
    cameras = _numbered([row.camera for row in rows], "camera", name)
    pool = Pool(
        lambda indices: [read_file(rows[i].path) for i in indices],
        lambda index: printable(str(rows[index].path)),
        labels,
        [printable(each) for each in names.tolist()],
        3,
        cameras=cameras,
        super_labels=_numbered([row.group for row in rows], "super", name),
        path=lambda index: rows[index].path,
    )
    if "gallery" not in parts:
        return pool.divide(name, parts, choice)
    if cameras is None:
        return pool.divide(name, parts, choice, protocol="query-gallery")
    junk = names[labels[parts["gallery"]]] == _JUNK
    return pool.divide(
        name, parts, choice, protocol="reid", recall_at=(1, 5, 10), junk=junk
    )


def _check_parts(
    rows: Sequence[Row], name: str, parts: Mapping[str, np.ndarray]
) -> None:
    """Raises a UsageError for splits that are empty or have a class in common."""
    for split in ("train", "test"):
        if len(parts.get(split, ())):
            continue
        if not any(row.split for row in rows):
            classes = some(sorted({row.label for row in rows})) or "none"
            raise UsageError(
                f"{name} needs two or more classes to be split, got {classes}"
            )
        raise UsageError(
            f"{name} must have images of the splits train and test (or query), or no "
            f"splits, got {', '.join(parts)} only"
        )
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.label, row)
        if other.split != row.split and {other.split, row.split} != {"test", "gallery"}:
            path = os.path.abspath(row.path)
            raise UsageError(
                f"class {row.label} of {name} is in two splits, with {other.path} and "
                f"{row.path}; a network is tested on classes that it was not trained "
                "on. Put all images of a class into one folder and leave out the "
                "folders of splits, or name them in a list, --dataset list:FILE, below "
                f"the line path,label with lines such as {path},{row.label}"
            )


def _checked(rows: Sequence[Row], name: str, choice: Choice) -> list[Row]:
    """Each file once; names what is missing or there twice."""
    kept: dict[str, Row] = {}
    faults = []
    for row in rows:
        path = os.path.normpath(row.path)
        first = kept.setdefault(path, row)
        if first[1:] != row[1:]:
            raise UsageError(f"{name} lists {row.path} twice, as {first} and as {row}")
        if first is not row:
            faults.append(f"{row.path}: listed twice")
        elif not os.path.exists(row.path):
            faults.append(f"{row.path}: missing")
            if choice.on_damage == "skip":
                kept[path] = row._replace(label="")
    if faults and choice.on_damage == "stop":
        raise RunError(
            f"{faults[0]}, of {len(faults)} faults in {name}; --on-damage skip leaves "
            "such images out"
        )
    if faults:
        print(f"left out of {name}:", *faults, sep="\n", file=sys.stderr)
    return [row for row in kept.values() if row.label]


def _numbered(names: Sequence[str], what: str, name: str) -> np.ndarray | None:
    """Numbers for names; None if all are empty."""
    if not any(names):
        return None
    if not all(names):
        raise UsageError(f"{name} must give a {what} to all images or to none")
    return np.unique(names, return_inverse=True)[1]
