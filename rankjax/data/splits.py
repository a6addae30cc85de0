"""Rows of images to splits whose classes are disjoint: tests are on unseen classes."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rankjax.data.images import (
    Alpha,
    EncodedImages,
    Fetch,
    Fit,
    ImageInfo,
    ImageSource,
    default_fit,
    inspect_images,
    read_file,
)
from rankjax.data.random import Stream, generator
from rankjax.errors import RunError, UsageError
from rankjax.files import printable

Protocol = Literal[
    "leave-one-out", "query-gallery", "reid", "revisited", "verification"
]
SPLITS = ("train", "validation", "test", "gallery")
JUNK = "-1"
LISTS = ("easy", "hard", "junk")

_FEWEST_CLASSES_TO_HOLD_OUT_OF = 20
_MOST_CUT = 0.4  # of an image on average; 3:2 photos lose a third to a square
_SAMPLE = 64
_MOST_NAMES = 5

Counts = Mapping[str, tuple[int | None, int | None]]
"""Images and classes that splits must have, None for any number: of `train` (with
validation), `test`, `gallery` and `all`."""


class Record(NamedTuple):
    """An image that a reader of many gives by its number.

    Attributes:
      read: numbers -> the encoded images.
      number: of the image.
    """

    read: Callable[[Sequence[int]], Sequence[bytes]]
    number: int


class Row(NamedTuple):
    """An image and what is known of it, which every kind of source yields.

    Attributes:
      image: its file, a function that gives the content of one, or a record.
      label: the name of its class, or an integer. The order of classes is that of their
        labels.
      split: one of `SPLITS`; empty for all images where none is given.
      camera: a number, or a name, of the camera that took it; empty for unknown.
      super_class: the name of its class's super-class; empty for unknown.
      name: what messages call the image; by default its path.
      others: for training, the image that belongs with it and then those that do not,
        None for one that is missing; or empty.
    """

    image: Path | Record | Callable[[], bytes]
    label: str | int
    split: str = ""
    camera: str | int = ""
    super_class: str | int = ""
    name: str = ""
    others: tuple[Path | None, ...] = ()


@dataclass(frozen=True)
class Partners:
    """For each image of a split, one that belongs with it and some that do not.

    Attributes:
      images: m images.
      rows: int32 [n, 1 + k], which of them is the image's positive, and which its
        negatives; -1 for none.
      guide: float32 [m, any], what another model makes of them; or None.
    """

    images: ImageSource
    rows: np.ndarray
    guide: np.ndarray | None = None


@dataclass(frozen=True)
class Split:
    """Images that are read by index, and their labels.

    Attributes:
      images: n images.
      labels: int32 [n], 0 .. len(class_names) - 1 within the split.
      class_names: for display.
      cameras: int32 [n], which camera took the image; None where that is not known.
      super_labels: int32 [n], groups of classes; None where there are none.
      super_names: of the groups, for display.
      partners: of images for training; None where no source names any.
      guide: float32 [n, any], what another model makes of the images; or None.
    """

    images: ImageSource
    labels: np.ndarray
    class_names: tuple[str, ...]
    cameras: np.ndarray | None = None
    super_labels: np.ndarray | None = None
    partners: Partners | None = None
    guide: np.ndarray | None = None
    super_names: tuple[str, ...] = ()

    @property
    def supers(self) -> np.ndarray | None:
        """The name of each image's super-class, str [n]; None where there are none."""
        if self.super_labels is None:
            return None
        return np.array(self.super_names)[self.super_labels]


@dataclass(frozen=True)
class VerificationPairs:
    """Pairs of test images that are to be told alike or different.

    Attributes:
      indices: int32 [p, 2], into the test split.
      same: bool [p], whether both images are of one class.
      folds: int32 [p], 0 .. number of folds - 1; a fold's threshold is chosen on the
        other folds.
    """

    indices: np.ndarray
    same: np.ndarray
    folds: np.ndarray

    def among(self, kept: np.ndarray) -> "VerificationPairs":
        """The pairs of which both images are kept, in a test split of those alone."""
        whole = kept[self.indices].all(1)
        indices = (np.cumsum(kept) - 1)[self.indices[whole]].astype(np.int32)
        return VerificationPairs(indices, self.same[whole], self.folds[whole])


@dataclass(frozen=True)
class Dataset:
    """Splits for training and testing on classes that training never saw.

    Attributes:
      name: what it was loaded as.
      train: what is learnt from.
      validation: classes held out of training, each image searched for among all
        others; None for few classes.
      test: the images to evaluate on; with a gallery, the queries.
      gallery: what the queries are searched in. It shares the numbers and names of
        classes with `test`; a class without a query is a distractor.
      protocol: of the evaluation. `leave-one-out`: each test image against all others.
        `query-gallery`: `test` against `gallery`. `reid`: the same, but images of the
        query's class and camera do not count, nor does junk. `verification`: `pairs`.
        `revisited`: `test` against `gallery`, by `lists`; nothing is for training.
      recall_at: the values of K that the field reports.
      junk: bool [gallery], images that are neither right nor wrong; None for no such.
      pairs: of the protocol `verification`.
      lists: int8 [gallery, test], of the protocol `revisited`: what an image is to a
        query, 1 to 3 in the order of `LISTS` and 0 for wrong.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    gallery: Split | None = None
    protocol: Protocol = "leave-one-out"
    recall_at: tuple[int, ...] = (1, 2, 4, 8)
    junk: np.ndarray | None = None
    pairs: VerificationPairs | None = None
    lists: np.ndarray | None = None


@dataclass(frozen=True)
class LoadOptions:
    """How a data set is to be split and its images read; see `rankjax.data.load`.

    Attributes:
      size: height and width of images as they are evaluated.
      short_side, fit, alpha, seed, fold, folds, on_damage, check_images: as there.
    """

    size: tuple[int, int]
    short_side: int | None = None
    fit: Fit | Literal["auto"] = "auto"
    alpha: Alpha = "white"
    seed: int = 0
    fold: int | None = None
    folds: int = 4
    on_damage: Literal["stop", "skip", "keep"] = "stop"
    check_images: Literal["headers", "all"] = "headers"


def split_rows(
    name: str,
    rows: Sequence[Row],
    options: LoadOptions,
    *,
    channels: int = 3,
    class_names: Mapping[int, str] | None = None,
    counts: Counts | None = None,
    recall_at: tuple[int, ...] | None = None,
    pairs: VerificationPairs | None = None,
    lists: np.ndarray | None = None,
    folder: Path | None = None,
    instead: Callable[[ImageSource, np.ndarray], ImageSource] | None = None,
) -> Dataset:
    """A data set of images.

    Where rows name no splits, half of the classes, chosen by the seed, is for training
    and the rest for testing. Without rows for validation, the last tenth of the
    training classes in an order shuffled by the seed is held out for it, if there are
    20 or more. With a `fold`, training and validation classes are joined, shuffled and
    parted into folds in turn, as cross-validation wants (Musgrave, Belongie, Lim, "A
    Metric Learning Reality Check", ECCV 2020).

    With a gallery, the test images are its queries; with cameras too the protocol is
    re-identification's, and class -1 of the gallery is junk.

    Args:
      name: of the data set.
      rows: its images.
      options: the user's.
      channels: 1 or 3.
      class_names: of labels that are integers; by default their digits.
      counts: images and classes that splits must have.
      recall_at: the values of K to report, if others than the protocol's convention.
      pairs: of the rows of the test split, in their order.
      lists: see `Dataset`, of the rows of both splits, in their order; there are no
        others.
      folder: where the data set is prepared, for errors.
      instead: maps the images of a split, and which rows they are, to what is read
        instead of them, such as their features.

    Raises:
      UsageError: no class to test on, fewer than `folds`, or a partner that is not for
        training or contradicts the labels.
      RunError: the splits are not of the expected size, an image is damaged, or
        nothing is left of a split after such images are left out.
    """
    labels, numbers = np.unique([row.label for row in rows], return_inverse=True)
    names = [(class_names or {}).get(each, str(each)) for each in labels.tolist()]
    parts = _parts(name, rows, numbers, names, options.seed)
    _check_counts(name, parts, numbers, counts or {}, folder)

    _check_partners(name, rows, parts)
    partners = dict.fromkeys(path for row in rows for path in row.others if path)
    known = {row.image for row in rows} if partners else set()
    listed = [*rows, *(Row(path, "") for path in partners if path not in known)]

    def fetch(indices: np.ndarray) -> list[bytes]:
        return contents_of([listed[i] for i in indices.tolist()])

    every = np.concatenate([*parts.values(), np.arange(len(rows), len(listed))])
    infos = _inspect(name, listed, fetch, every, options)
    if options.on_damage == "skip":
        kept = _undamaged(name, listed, parts, infos)
        left = {each: np.isin(parts[each], kept[each]) for each in kept}
        pairs = pairs and pairs.among(left["test"])
        if lists is not None:
            lists = lists[np.ix_(left["gallery"], left["test"])]
        parts = kept
    fit = options.fit
    if fit == "auto":
        fit = _choose_fit(name, infos, options.size)
    parts = _with_validation(name, parts, numbers, options)
    cameras = _numbers([row.camera for row in rows])
    super_names, super_labels = np.unique(
        [row.super_class for row in rows], return_inverse=True
    )
    has_supers = any(row.super_class != "" for row in rows)

    def encoded(chosen: np.ndarray) -> EncodedImages:
        return EncodedImages(
            lambda indices: fetch(chosen[indices]),
            len(chosen),
            (*options.size, channels),
            name=lambda index: image_name(listed[chosen[index]]),
            short_side=options.short_side,
            fit=fit,
            alpha=options.alpha,
        )

    def split(*among: str) -> Split | None:
        """The first split of some; its labels count the classes of all these."""
        if among[0] not in parts:
            return None
        chosen, together = parts[among[0]], [parts[s] for s in among if s in parts]
        classes, images = np.unique(numbers[np.concatenate(together)]), encoded(chosen)
        return Split(
            instead(images, chosen) if instead else images,
            np.searchsorted(classes, numbers[chosen]).astype(np.int32),
            tuple(printable(names[label]) for label in classes),
            None if cameras is None else cameras[chosen].astype(np.int32),
            super_labels[chosen].astype(np.int32) if has_supers else None,
            super_names=tuple(map(printable, map(str, super_names))),
        )

    protocol: Protocol = "leave-one-out" if pairs is None else "verification"
    if "gallery" in parts:
        protocol = "query-gallery" if cameras is None else "reid"
        protocol = protocol if lists is None else "revisited"
    is_reid = protocol == "reid"
    junk = labels[numbers[parts["gallery"]]] == JUNK if is_reid else None
    train, test = split("train"), split("test", "gallery")
    assert train is not None
    assert test is not None
    if partners:
        place_of = {row.image: place for place, row in enumerate(listed)}
        number_of = {path: i for i, path in enumerate(partners)}
        others = [rows[i].others for i in parts["train"]]
        numbered = [[number_of.get(path, -1) for path in each] for each in others]
        images = encoded(np.array([place_of[path] for path in partners]))
        train = replace(train, partners=Partners(images, np.array(numbered, np.int32)))
    return Dataset(
        name,
        train,
        split("validation"),
        test,
        split("gallery", "test"),
        protocol,
        recall_at or ((1, 5, 10) if is_reid else (1, 2, 4, 8)),
        junk,
        pairs,
        lists,
    )


def some(names: Sequence[object]) -> str:
    """The first five names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    listed = ", ".join(printable(str(name)) for name in names[:_MOST_NAMES])
    return f"{listed} and {more:,} more" if more > 0 else listed


def image_name(row: Row) -> str:
    """What messages call an image."""
    return row.name or printable(str(row.image))


def tell_without_partners(rows: Sequence[Row]) -> None:
    """Names on stderr images that are left out because a partner is."""
    if rows:
        names = some([image_name(row) for row in rows])
        print(f"left out, as a partner is: {names}", file=sys.stderr)


def contents_of(rows: Sequence[Row]) -> list[bytes]:
    """The encoded images; a RunError names a file that cannot be read."""
    contents: dict[int, bytes] = {}
    together: dict[Any, list[tuple[int, int]]] = {}
    for place, (image, *_) in enumerate(rows):
        if isinstance(image, Record):
            together.setdefault(image.read, []).append((place, image.number))
        else:
            contents[place] = read_file(image) if isinstance(image, Path) else image()
    for read, wanted in together.items():
        places, numbers = zip(*wanted, strict=True)
        contents |= zip(places, read(numbers), strict=True)
    return [contents[place] for place in range(len(rows))]


def _numbers(values: Sequence[str | int]) -> np.ndarray | None:
    """Numbers as they are, and numbers for names; None if they are all empty."""
    if {*values} <= {""}:
        return None
    if isinstance(values[0], int):
        return np.array(values)
    return np.unique(values, return_inverse=True)[1]


def _parts(
    name: str,
    rows: Sequence[Row],
    labels: np.ndarray,
    class_names: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:
    """The indices of the rows of each split."""
    splits = np.array([row.split for row in rows])
    parts = {
        split: np.flatnonzero(splits == split) for split in SPLITS if split in splits
    }
    if not parts:
        order = generator(seed, Stream.SPLIT, 1).permutation(len(class_names))
        to_train = np.isin(labels, order[: len(class_names) // 2])
        parts = {"train": np.flatnonzero(to_train), "test": np.flatnonzero(~to_train)}
        if not to_train.any():
            raise UsageError(
                f"{name} needs two or more classes to be split, got "
                f"{some(class_names) or 'none'}"
            )
    if "test" not in parts:
        raise UsageError(
            f"{name} must have images of the split test (or query), or no splits, got "
            f"{', '.join(parts)} only"
        )
    return {"train": np.empty(0, np.int64)} | parts


def _check_partners(
    name: str, rows: Sequence[Row], parts: Mapping[str, np.ndarray]
) -> None:
    """Raises a UsageError where a partner for training cannot be meant.

    It is for another split; a positive of another class, or a negative of the same one,
    by rows of their own; or both a positive and a negative of one image.
    """
    if not any(row.others for row in rows):
        return
    own: dict[str, tuple[str, str | int]] = {}
    for split, part in parts.items():
        for i in part.tolist():
            own[os.path.normpath(str(rows[i].image))] = split, rows[i].label
    for row in (rows[i] for i in parts["train"]):
        for place, path in enumerate(row.others):
            if path is None:
                continue
            what = "negative" if place else "positive"
            split, label = own.get(os.path.normpath(path), ("train", None))
            wrong = ""
            if split != "train":
                wrong = f"which is of the split {split}; name splits in the list"
            elif label is not None and (label == row.label) == (what == "negative"):
                wrong = f"whose own class is {label}"
            elif place and path == row.others[0]:
                wrong = "which is its positive"
            if wrong:
                raise UsageError(
                    f"{name} names {path} as a {what} of {row.image}, of class "
                    f"{row.label}, {wrong}"
                )


def _check_counts(
    name: str,
    parts: Mapping[str, np.ndarray],
    labels: np.ndarray,
    counts: Counts,
    folder: Path | None,
) -> None:
    for split, expected in counts.items():
        among = {"train": ["train", "validation"], "all": [*parts]}.get(split, [split])
        rows = np.array([i for each in among for i in parts.get(each, ())], int)
        have = len(rows), len(np.unique(labels[rows]))
        if any(e not in (None, h) for e, h in zip(expected, have, strict=True)):
            images, classes = ("any number" if e is None else e for e in expected)
            raise RunError(
                f"{name}: {split} must have {images} images of {classes} classes, "
                f"found {have[0]} of {have[1]}; mend the archives and delete {folder} "
                "to have it made again"
            )


def _with_validation(
    name: str, parts: dict[str, np.ndarray], labels: np.ndarray, options: LoadOptions
) -> dict[str, np.ndarray]:
    """The same, with classes held out of training for validation if there are enough,
    or as the fold has it."""
    train, fold = parts["train"], options.fold
    if fold is not None and "validation" in parts:
        train = np.concatenate([train, parts["validation"]])
    elif "validation" in parts:
        return parts
    classes = np.unique(labels[train])
    if fold is not None:
        if not 0 <= fold < options.folds or len(classes) < 2 * options.folds:
            raise UsageError(
                f"fold must be in 0 .. folds - 1, and the {len(classes)} training "
                f"classes of {name} at least twice the folds, got fold {fold} of "
                f"{options.folds}"
            )
        shuffled = generator(options.seed, Stream.SPLIT, 2).permutation(classes)
        held_out = shuffled[fold :: options.folds]
    elif len(classes) < _FEWEST_CLASSES_TO_HOLD_OUT_OF:
        return parts
    else:
        shuffled = generator(options.seed, Stream.SPLIT).permutation(classes)
        held_out = shuffled[-round(len(classes) / 10) :]
    is_held_out = np.isin(labels[train], held_out)
    return parts | {"train": train[~is_held_out], "validation": train[is_held_out]}


def _inspect(
    name: str,
    rows: Sequence[Row],
    fetch: Fetch,
    chosen: np.ndarray,
    options: LoadOptions,
) -> list[ImageInfo]:
    """What images are, all or some; raises a RunError at damage, if it is to."""

    def path_of(index: int) -> Path:
        path = rows[index].image
        assert isinstance(path, Path)
        return path

    are_files = isinstance(rows[0].image, Path)
    if options.on_damage == "skip" or options.check_images == "all":
        infos = list(inspect_images(fetch, chosen))
    elif are_files and options.on_damage == "stop":
        infos = list(inspect_images(fetch, chosen, path_of))
    elif options.fit == "auto":
        return list(inspect_images(fetch, chosen[:: max(len(chosen) // _SAMPLE, 1)]))
    else:
        return []
    damaged = [info for info in infos if info.damage]
    if damaged and options.on_damage == "stop":
        raise RunError(
            f"cannot read the image {image_name(rows[damaged[0].row])}: "
            f"{damaged[0].damage} ({len(damaged):,} of {len(infos):,} images are "
            "damaged; experiments.train --on-damage skip leaves them out)"
        )
    blended = [image_name(rows[info.row]) for info in infos if "alpha" in info.kinds]
    if blended:
        ground = "dropped" if options.alpha == "drop" else f"put on {options.alpha}"
        print(
            f"alpha of {len(blended):,} images of {name} is {ground} (--alpha): "
            f"{some(blended)}",
            file=sys.stderr,
        )
    return infos


def _choose_fit(name: str, infos: Sequence[ImageInfo], size: tuple[int, int]) -> Fit:
    """The convention, or `letterbox` where that would lose too much of the images."""
    sizes = [info.size for info in infos if info.size[1]]
    usual = default_fit(*size)
    if not sizes:
        return usual
    ratios = np.divide(*np.transpose(sizes))
    wider = ratios * size[0] / size[1]
    lost = float(1 - np.minimum(wider, 1 / wider).mean())
    fit: Fit = "letterbox" if lost > _MOST_CUT else usual
    if lost > 0.01:
        median = f"{np.median(ratios):.2f}, the median of width / height"
        print(
            f"fit of {name}: {fit}; a crop loses {lost:.0%} of an image on average "
            f"({median}); --fit says otherwise",
            file=sys.stderr,
        )
    return fit


def _undamaged(
    name: str,
    rows: Sequence[Row],
    parts: Mapping[str, np.ndarray],
    infos: Sequence[ImageInfo],
) -> dict[str, np.ndarray]:
    """The rows of images that can be decoded; names the others on stderr."""
    damaged = {info.row: info.damage for info in infos if info.damage}
    if damaged:
        lines = [f"{image_name(rows[i])}: {what}" for i, what in damaged.items()]
        title = f"left out {len(lines)} damaged images of {name}:"
        print(title, *lines, sep="\n", file=sys.stderr)
    paths = {rows[i].image for i in damaged}
    alone = [i for i, row in enumerate(rows) if not paths.isdisjoint(row.others)]
    tell_without_partners([rows[i] for i in alone])
    lost = [*damaged, *alone]
    kept = {split: part[~np.isin(part, lost)] for split, part in parts.items()}
    for split, part in kept.items():
        if len(parts[split]) and not len(part):
            raise RunError(f"all images of {name}'s {split} split are damaged")
    return kept
