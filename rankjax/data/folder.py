"""Folders of images: one folder per class, or as re-identification's sets have it."""

from pathlib import Path

from rankjax.data.own_files import Row, load_rows
from rankjax.data.pool import Choice
from rankjax.data.sources import SUFFIXES
from rankjax.data.splits import Dataset
from rankjax.errors import UsageError


def load_folder(path: Path, *, name: str, choice: Choice) -> Dataset:
    """Images in `path`/CLASS/ or in `path`/{train,validation,test}/CLASS/, as RGB.

    Beside `test` there may be `gallery`. Without folders `train` and `test`, half of
    the classes, chosen by the seed, is for training and the rest for testing.

    Raises:
      UsageError: no such folder, a class folder without images, too few classes, or a
        class in two splits.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    splits = ["train", "validation", "test", "gallery"]
    if not ((path / "train").is_dir() and (path / "test").is_dir()):
        splits = [""]
    rows = [
        Row(file, folder.name, split)
        for split in splits
        for folder in _class_folders(path / split)
        for file in _images(folder)
    ]
    return load_rows(rows, name=name, choice=choice)


def load_reid(path: Path, *, name: str, choice: Choice) -> Dataset:
    """Images in `path`/{bounding_box_train,query,bounding_box_test}/, like Market-1501.

    Names begin with person and camera, `0002_c1`; person -1 is junk.

    Raises:
      UsageError: there is no such folder or no image in it.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    from rankjax.data.builders.archives import Archives
    from rankjax.data.builders.layouts import reid_of

    examples = reid_of(path.name)(Archives(path.parent))
    rows = [
        Row(path.parent / each.file, each.label, each.split, str(each.camera))
        for each in examples
    ]
    return load_rows(rows, name=name, choice=choice)


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(
        each for each in root.iterdir() if each.is_dir() and each.name[0] != "."
    )


def _images(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and file.name[0] != "."
    )
    if not files:
        raise UsageError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return files
