"""Folders of images: one folder per class, or as re-identification's sets have it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rankjax.data.damage import some
from rankjax.data.decoding import is_image
from rankjax.data.own_files import SPLIT_OF, Row, load_rows, tell_left_out
from rankjax.data.pool import Choice
from rankjax.data.splits import Dataset
from rankjax.errors import RunError, UsageError


class FolderImages(NamedTuple):
    """What is below a folder.

    Attributes:
      rows: the images, sorted; the label and the split are empty where there are none.
      left_out: other files and folders, by the reason.
    """

    rows: list[Row]
    left_out: dict[str, list[str]]


def find_images(root: Path) -> FolderImages:
    """The images below a folder, and their classes and splits by the folders.

    Images lie in `root`/CLASS/ or, if `root` has a folder train and images lie that
    deep, in `root`/SPLIT/CLASS/. An image that lies higher has no label. Links are
    followed; names that begin with a dot are left out.

    Raises:
      UsageError: an image lies deeper, so that its class is not known.
      RunError: a folder that cannot be read.
    """
    left_out: dict[str, list[str]] = {}
    files = [
        Path(path).relative_to(root).parts for path in _walk(str(root), (), left_out)
    ]
    split_of = {p[0]: SPLIT_OF.get(p[0].casefold(), "") for p in files if len(p) > 1}
    # Trains may be a class, beside cars.
    has_splits = "train" in split_of.values() and any(
        len(parts) > 2 and split_of[parts[0]] for parts in files
    )
    rows = []
    for parts in files:
        split = split_of.get(parts[0], "") if has_splits else ""
        inner = parts[1:] if split else parts
        labelled = split or not has_splits
        if labelled and len(inner) > 2:
            raise _ambiguous(root, parts, files)
        label = inner[0] if labelled and len(inner) == 2 else ""
        rows.append(Row(root.joinpath(*parts), label, split))
    return FolderImages(rows, left_out)


def load_folder(path: Path, *, name: str, choice: Choice) -> Dataset:
    """Images in `path`/CLASS/ or in `path`/SPLIT/CLASS/, as RGB.

    The splits are train, test or query, and maybe validation (val, valid, dev) and
    gallery, in capitals or not. Without folders `train` and `test`, half of the
    classes, chosen by the seed, is for training and the rest for testing.

    Raises:
      UsageError: no such folder, no image in it, images deeper than in a class folder,
        two folders of one split, too few classes, or a class in two splits.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    rows, left_out = find_images(path)
    loose = [str(row.path.relative_to(path)) for row in rows if not row.label]
    tell_left_out(name, left_out | {"images that lie in no class folder": loose})
    rows = [row for row in rows if row.label]
    flat = {SPLIT_OF.get(row.label.casefold()) for row in rows if not row.split}
    if not rows or {"train", "test"} <= flat:
        raise UsageError(
            f"{path} holds no image in a folder of a class, such as {path}/CLASS/1.jpg"
        )
    folders: dict[str, str] = {}
    for row in rows:
        folder = row.path.relative_to(path).parts[0]
        if row.split and folders.setdefault(row.split, folder) != folder:
            raise UsageError(
                f"{path / folders[row.split]} and {path / folder} are both the split "
                f"{row.split}: join them or rename one"
            )
    return load_rows(rows, name=name, choice=choice)


def load_reid(path: Path, *, name: str, choice: Choice) -> Dataset:
    """Images in `path`/{bounding_box_train,query,bounding_box_test}/, like Market-1501.

    Names begin with person and camera, `0002_c1`; person -1 is junk.

    Raises:
      UsageError: there is no such folder or no image in it.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    left_out: dict[str, list[str]] = {}
    rows, others = [], []
    for file in _walk(str(path), (), left_out):
        found = person_of(file)
        if found is None:
            others.append(os.path.relpath(file, path))
        else:
            split, person, camera = found
            rows.append(Row(Path(file), person, split, str(camera)))
    if not rows:
        raise UsageError(
            f"{path} must have images such as "
            "bounding_box_train/0002_c1s1_000451_03.jpg, query/0001_c1... and "
            f"bounding_box_test/0001_c2..., got {some(others) or 'none'}"
        )
    tell_left_out(name, left_out | {"images with no person and camera": others})
    return load_rows(rows, name=name, choice=choice)


def person_of(file: str) -> tuple[str, str, int] | None:
    """Split, person and camera by a file's name and folder; None if it has others."""
    splits = {"train": "train", "query": "test", "test": "gallery"}
    folder, image = file.split("/")[-2:]
    split = splits.get(folder.removeprefix("bounding_box_"))
    match = re.match(r"(-?\d+)_c(\d+)", image)
    return (split, match[1], int(match[2])) if split and match else None


def _walk(
    folder: str, above: tuple[str, ...], left_out: dict[str, list[str]]
) -> Iterator[str]:
    """The images below a folder, sorted; the rest goes into `left_out`."""
    above = (*above, os.path.realpath(folder))
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise RunError(f"cannot read the folder {folder}: {error}") from error
    for name in names:
        path = os.path.join(folder, name)
        if name[0] == ".":
            left_out.setdefault("hidden files and folders", []).append(path)
        elif os.path.isdir(path) and os.path.realpath(path) in above:
            left_out.setdefault("links to a folder that they lie in", []).append(path)
        elif os.path.isdir(path):
            inside = list(_walk(path, above, left_out))
            if not inside:
                left_out.setdefault("folders without images", []).append(path)
            yield from inside
        elif is_image(path):
            yield path
        else:
            left_out.setdefault("files that are not images", []).append(path)


def _ambiguous(
    root: Path, deep: tuple[str, ...], files: list[tuple[str, ...]]
) -> UsageError:
    """The error for an image whose class may be any of several folders' names."""

    def alike(parts: tuple[str, ...]) -> tuple[bool, bool]:
        """Another folder that may be of the same class comes first."""
        inside = {*parts[:-1]} & {*deep[:-1]}
        return parts[:-1] != deep[:-1], bool(inside)

    other = max(files, key=alike)
    first, second = (root.joinpath(*parts) for parts in (deep, other))
    label = "/".join(deep[:-1])
    return UsageError(
        f"{first} and {second} may be of one class or of two: images must lie in "
        f"{root}/CLASS/. Or name each in a list in {root}, --dataset list:FILE, below "
        f"the line path,label with lines such as {'/'.join(deep)},{label}"
    )
