"""Features of a frozen backbone, from a file, as the images of a run.

`experiments.embed` writes the file. A network's head trains on it as on images of one
position; see `FrozenFeatures`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import Data
from experiments.evaluation.npz import (
    check_complete,
    classes,
    numeric_embeddings,
    read_columns,
    tell_unused,
)
from experiments.pretrained import job_of
from rankjax.data import CATALOGUE, Dataset, Split
from rankjax.data.images import ImageRows, ImageSource
from rankjax.data.own import SPLIT_OF
from rankjax.data.splits import LoadOptions, Row, some, split_rows
from rankjax.errors import UsageError
from rankjax.files import printable

_KEYS = (
    *("embeddings", "labels", "class_names", "paths", "split", "cameras", "views"),
)
_THUMBNAIL = 64


class Features:
    """Rows of a file of features, see `rankjax.data.ImageSource`.

    Attributes:
      files: the images that the features are of, of which only names may be left.
      pictures: the same; None where they are not there.
      job: how `experiments.embed` made the file; empty in files of others.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        values: np.ndarray,
        rows: np.ndarray,
        files: ImageSource,
        job: dict[str, Any],
        *,
        there: bool,
    ) -> None:
        """Those `rows` of `values`, float32 [n, views, dim], the plain view first."""
        self._values, self._rows = values, rows
        self.files, self.pictures = files, files if there else None
        self.job = job
        self.shape = (1, 1, values.shape[2])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The plain views, float32 [len(indices), 1, 1, dim]."""
        return self._values[self._rows[indices], 0][:, None, None]

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """All views of each, float32 [views, 1, 1, dim]."""
        return self._values[self._rows[indices]][:, :, None, None]

    def sentence(self) -> str:
        """What they are, and whether images can follow."""
        views, dim = self._values.shape[1:]
        words = f"{dim:,} numbers an image, {views} view{'s' * (views > 1)}"
        if not self.job:
            return (
                f"features: {words}; their file does not tell which network made them, "
                "hence this run will not embed images"
            )
        means = " (means of views, of which this run's embeddings of images will not be"
        more = f"{means})" if self.job["flip"] or self.job["crops"] > 1 else ""
        return f"features: {words}, by {network_name(self.job)}{more}"


def pictures_of(
    splits: Sequence[Split], kept: np.ndarray | slice = np.s_[:]
) -> ImageRows | None:
    """The images of splits, or those their features are of; None if they are gone."""
    sources = [getattr(split.images, "pictures", split.images) for split in splits]
    return None if None in sources else ImageRows(*sources, rows=kept)


def names_of(splits: Sequence[Split]) -> np.ndarray | None:
    """What the images of splits are called; None where they have no names."""
    sources: list[Any]
    sources = [getattr(split.images, "pictures", split.images) for split in splits]
    if not all(hasattr(source, "name") for source in sources):
        return None
    return np.array([source.name(i) for source in sources for i in range(len(source))])


def folder_of(names: np.ndarray | None) -> Path | None:
    """Where names of images begin that are files; None where they are not."""
    known = names is not None and len(names) and Path(str(names[0])).is_file()
    return Path() if known else None


def network_name(job: dict[str, Any]) -> str:
    """What made a file of features, for display."""
    made = job.get("pretrained")
    return f"{made.model} of {job['network']}" if made else str(job["network"])


def load_features(file: Path, data: Data, seed: int) -> Dataset:
    """The rows of a file of `experiments.embed`, or of any framework, as a data set.

    Splits are those of the column `split`, or as of a plain folder of images.

    Args:
      file: .npz with embeddings [n, dim] and labels [n], and maybe class_names, paths,
        split, cameras, and views [n, views, dim]; or Parquet with embedding and label.
      data: the settings; those of images are not used.
      seed: of the splits.

    Raises:
      UsageError: there is no such file, or its arrays are missing or do not fit.
      RunError: it is damaged.
    """
    if not file.is_file():
        folder = f"; of the images in it, write folder:{file}" if file.is_dir() else ""
        raise UsageError(f"there is no file of features {file}{folder}")
    arrays, others, comment = read_columns(file, _KEYS)
    job = job_of(file, comment)
    if not job:  # what our own files tell beside is for evaluation
        tell_unused(file, others)
    if not {"embeddings", "labels"} <= arrays.keys():
        raise UsageError(
            f"{file} must have embeddings and labels, got {', '.join(arrays) or 'none'}"
        )
    values = numeric_embeddings(file, arrays["embeddings"])[:, None]
    n = len(values)
    for name in ("labels", "paths", "split", "cameras"):
        if name in arrays and arrays[name].shape != (n,):
            raise UsageError(
                f"{file}: {name} must have shape {(n,)}, got {arrays[name].shape}"
            )
    views = arrays.get("views")
    if views is not None:
        shape = (n, values.shape[2])
        if file.suffix == ".parquet":  # whose lists are of one level
            views = views.reshape(n, -1, values.shape[2])
        if views.ndim != 3 or views.shape[::2] != shape or views.dtype.kind != "f":
            raise UsageError(
                f"{file}: views must be floating [{n}, views, {shape[1]}], got "
                f"{views.dtype} {views.shape}"
            )
        if not np.isfinite(views).all():
            raise UsageError(f"{file}: views must be finite, got NaN or infinity")
        values = np.concatenate([values, views], 1)
    limits, largest = np.finfo(np.float32), np.abs(values).max(2)
    lost = (largest > limits.max) | ((largest > 0) & (largest < limits.tiny))
    if lost.any():
        raise UsageError(
            f"{file}: embeddings and views must be numbers that float32 holds, got a "
            f"row whose largest is {largest[lost].flat[0]:.3g}; scale them"
        )
    values = np.ascontiguousarray(values, np.float32)
    rows = _rows(file, arrays, n)
    missing = [row.image for row in rows if not Path(str(row.image)).is_file()]

    def instead(images: ImageSource, chosen: np.ndarray) -> Features:
        return Features(values, chosen, images, job, there=not missing)

    entry = CATALOGUE.get(job.get("dataset", ""))
    return split_rows(
        f"features:{file.name}",
        rows,
        LoadOptions(
            (_THUMBNAIL, _THUMBNAIL),
            fit="crop",
            seed=seed,
            fold=data.fold,
            folds=data.folds,
            on_damage="keep",
        ),
        recall_at=entry.recall_at if entry else None,
        instead=instead,
    )


def guided(train: Split, file: Path) -> Split:
    """A split for training, with what another model makes of each of its images.

    Args:
      train: its images are found in the file by their paths, and so are partners.
      file: .npz with embeddings [m, any] and paths [m], or Parquet with embedding and
        path, as `experiments.embed` writes them, of these images and maybe others.

    Raises:
      UsageError: its arrays are missing or do not fit, or an image is missing.
      RunError: it cannot be read.
    """
    arrays, *_ = read_columns(file, ("embeddings", "paths"))
    if len(arrays) < 2:
        raise UsageError(
            f"guide {file} must have embeddings and paths, got "
            f"{', '.join(arrays) or 'none'}"
        )
    values = numeric_embeddings(file, arrays["embeddings"]).astype(np.float32)
    if arrays["paths"].shape != (len(values),):
        raise UsageError(
            f"guide {file}: paths must have shape {(len(values),)}, got "
            f"{arrays['paths'].shape}"
        )
    row_of: dict[str, int] = {}
    close = 0.01 * np.abs(values).max(initial=0)  # than bfloat16 makes of one image
    for row, path in enumerate(arrays["paths"].astype(str).tolist()):
        # A data set's own names stay as they are.
        for name in (path, os.path.abspath(file.parent / path)):
            other = row_of.setdefault(printable(name), row)
            if np.abs(values[other] - values[row]).max() > close:
                raise UsageError(
                    f"guide {file} has {path} twice, with embeddings that differ"
                )

    def of(images: Any) -> np.ndarray:
        images = getattr(images, "pictures", images)
        if not hasattr(images, "name"):
            raise UsageError("guide needs images with names, and features have none")
        names = [images.name(i) for i in range(len(images))]
        rows = [
            row_of.get(name, row_of.get(os.path.abspath(name), -1)) for name in names
        ]
        missing = [name for name, row in zip(names, rows, strict=True) if row < 0]
        if missing:
            raise UsageError(
                f"guide {file} must have all {len(names):,} images for training, "
                f"{len(missing):,} are missing: {some(missing)}"
            )
        return values[rows]

    partners = train.partners
    if partners is not None:
        partners = replace(partners, guide=of(partners.images))
    return replace(train, partners=partners, guide=of(train.images))


def _rows(file: Path, arrays: dict[str, np.ndarray], n: int) -> list[Row]:
    try:
        check_complete(arrays)
        labels, _, names = classes(arrays, n)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from error
    if labels is None or len({*names}) < len(names):
        raise UsageError(f"{file}: class_names must differ, and labels be there")
    splits = arrays.get("split", np.full(n, "")).astype(str).tolist()
    unknown = sorted({split for split in splits if split.casefold() not in SPLIT_OF})
    if "split" in arrays and unknown:
        raise UsageError(
            f"{file}: split must be one of {', '.join(SPLIT_OF)}, got {some(unknown)}"
        )
    splits = [SPLIT_OF.get(split.casefold(), "") for split in splits]
    sides = ["evaluated" if split in ("test", "gallery") else split for split in splits]
    first: dict[int, str] = {}
    for label, side in zip(labels.tolist(), sides, strict=True):
        if first.setdefault(label, side) != side:
            raise UsageError(
                f"{file}: {printable(names[label])!r} is in two splits; a network "
                "is tested on classes that it was not trained on"
            )
    paths = arrays.get("paths", np.full(n, "")).astype(str).tolist()
    cameras = arrays.get("cameras", np.full(n, "")).tolist()
    parent = file.absolute().parent
    return [
        Row(parent / path, names[label], split, camera)
        for path, label, split, camera in zip(
            paths, labels.tolist(), splits, cameras, strict=True
        )
    ]
