"""Folders of images: one folder per class."""

from pathlib import Path

import numpy as np

from rankjax.data.randomness import Stream, generator
from rankjax.data.sources import read_file
from rankjax.data.splits import Dataset, Pool
from rankjax.errors import UsageError

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def load_folder(
    path: Path,
    *,
    name: str,
    image_size: int,
    seed: int,
    short_side: int | None = None,
) -> Dataset:
    """Images in `path`/CLASS/ or in `path`/{train,validation,test}/CLASS/, as RGB.

    Without folders `train` and `test`, half of the classes, chosen by `seed`, is for
    training and the rest for testing.

    Raises:
      UsageError: no such folder, a class folder without images, too few classes, or a
        class in two splits.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    split_by_hand = (path / "train").is_dir() and (path / "test").is_dir()
    roots = [path]
    if split_by_hand:
        roots = [path / split for split in ("train", "validation", "test")]
    members = [_class_folders(root) for root in roots]
    folders = [folder for split in members for folder in split]
    names = [folder.name for folder in folders]
    for label, folder in enumerate(folders):
        if folder.name in names[:label]:
            raise UsageError(f"class {folder.name} of {path} is in two splits")

    images = [_images(folder) for folder in folders]
    files = [file for of_class in images for file in of_class]
    labels = np.repeat(np.arange(len(names)), [len(of_class) for of_class in images])

    pool = Pool(
        lambda indices: [read_file(files[i]) for i in indices],
        lambda index: str(files[index]),
        labels,
        names,
        (image_size, image_size, 3),
        short_side,
    )
    if split_by_hand:
        sizes = [len(split) for split in members]
        train, validation, test = np.split(np.arange(len(names)), np.cumsum(sizes)[:2])
        held_out = validation if len(validation) else None
        return pool.divide(name, train, held_out, test, seed)
    order = generator(seed, Stream.SPLIT, 1).permutation(len(names))
    half = len(names) // 2
    return pool.divide(name, order[:half], None, order[half:], seed)


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
        if file.suffix.lower() in _SUFFIXES and file.name[0] != "."
    )
    if not files:
        raise UsageError(f"{folder} holds no image ({', '.join(_SUFFIXES)})")
    return files
