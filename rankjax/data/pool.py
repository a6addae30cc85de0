"""All images of a data set, and how they are split."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rankjax.data.damage import Look, look_at, look_at_headers, some
from rankjax.data.decoding import Alpha
from rankjax.data.randomness import Stream, generator
from rankjax.data.sources import EncodedImages, Fetch, Fit, default_fit
from rankjax.data.splits import Dataset, Split
from rankjax.errors import RunError, UsageError

_FEWEST_CLASSES_TO_HOLD_OUT_OF = 20
_MOST_CUT = 0.4  # of an image on average; 3:2 photos lose a third to a square
_SAMPLE = 64

Counts = Mapping[str, tuple[int | None, int | None]]


@dataclass(frozen=True)
class Choice:
    """How the user wants a data set split and read.

    Attributes:
      size: height and width of images as they are judged.
      short_side: what is cut out of; see `rankjax.data.sources.fit`.
      fit: how images of other shapes become images of `size`; `auto` cuts out or
        squashes, as is the custom, unless that loses too much of the images.
      alpha: see `rankjax.data.decoding.decode`.
      seed: which classes are for validation, where the data set does not say.
      fold: the part of the training classes that validates; None for the data set's
        own validation classes, or a tenth.
      folds: into how many parts they are cut.
      on_damage: whether an image that cannot be decoded raises an error, is left out,
        or is kept.
      check_images: what tells whether it can: headers and ends of a person's own files,
        or decoding all.
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


@dataclass(frozen=True)
class Pool:
    """All images of a data set, before they are split.

    Attributes:
      fetch: indices into `labels` -> the contents of image files.
      name: what the image of an index is called.
      labels: int [images].
      class_names: the name of label i at i.
      channels: 1 or 3.
      cameras, super_labels: int [images], or None.
      counts: images and classes that splits must have; `train` with validation, `all`
        for all images; None for any number.
      folder: where it is prepared, for errors.
      path: the file of an index, where images are a person's own files.
    """

    fetch: Fetch
    name: Callable[[int], str]
    labels: np.ndarray
    class_names: Sequence[str]
    channels: int
    cameras: np.ndarray | None = None
    super_labels: np.ndarray | None = None
    counts: Counts = field(default_factory=dict)
    folder: Path | None = None
    path: Callable[[int], Path] | None = None

    def choose(
        self, rows: np.ndarray, choice: Choice, among: np.ndarray | None = None
    ) -> Split:
        """The images of some rows; labels count the classes `among` other rows."""
        assert choice.fit != "auto", "divide chooses it"
        kept = np.unique(self.labels[rows if among is None else among])
        cameras, groups = (
            None if column is None else column[rows].astype(np.int32)
            for column in (self.cameras, self.super_labels)
        )
        return Split(
            EncodedImages(
                lambda indices: self.fetch(rows[indices]),
                len(rows),
                (*choice.size, self.channels),
                name=lambda index: self.name(int(rows[index])),
                short_side=choice.short_side,
                how=choice.fit,
                alpha=choice.alpha,
            ),
            np.searchsorted(kept, self.labels[rows]).astype(np.int32),
            tuple(self.class_names[label] for label in kept),
            cameras,
            groups,
        )

    def divide(
        self, name: str, parts: Mapping[str, np.ndarray], choice: Choice, **more: Any
    ) -> Dataset:
        """A data set from the rows of its splits.

        Without rows for validation, the last tenth of the training classes in an order
        shuffled by the seed is held out for it, if there are 20 or more. With `fold`,
        training and validation classes are joined, shuffled and dealt out to the folds
        like cards, as cross-validation wants (Musgrave, Belongie, Lim, "A Metric
        Learning Reality Check", ECCV 2020).

        Args:
          name: of the data set.
          parts: rows of `train` and `test`, maybe of `validation` and `gallery`.
          choice: the user's wishes.
          **more: fields of `Dataset`; `junk` and `pairs` are of these rows.

        Raises:
          UsageError: no class to train on or none to test on, or fewer than `folds`.
          RunError: the splits are not of the expected size, an image is damaged, or
            nothing is left of a split after such images are left out.
        """
        parts = {split: np.asarray(rows) for split, rows in parts.items()}
        self._verify(name, parts)
        for split in ("train", "test"):
            if not len(parts[split]):
                raise UsageError(f"{name} needs two or more classes to be split")
        looks = self._look(name, np.concatenate(list(parts.values())), choice)
        if choice.on_damage == "skip":
            parts, more = self._undamaged(name, parts, more, looks)
        if choice.fit == "auto":
            choice = replace(choice, fit=self._fit(name, looks, choice.size))
        train, validation = self._hold_out(name, parts, choice)
        test, gallery = parts["test"], parts.get("gallery")
        among = test if gallery is None else np.concatenate([test, gallery])
        return Dataset(
            name,
            self.choose(train, choice),
            None if validation is None else self.choose(validation, choice),
            self.choose(test, choice, among),
            None if gallery is None else self.choose(gallery, choice, among),
            **more,
        )

    def _verify(self, name: str, parts: Mapping[str, np.ndarray]) -> None:
        for split, expected in self.counts.items():
            named = {"train": ("train", "validation"), "all": tuple(parts)}
            found = [
                parts[each] for each in named.get(split, (split,)) if each in parts
            ]
            rows = np.concatenate([*found, np.empty(0, np.int64)]).astype(np.int64)
            have = len(rows), len(np.unique(self.labels[rows]))
            if any(e not in (None, h) for e, h in zip(expected, have, strict=True)):
                images, classes = ("any number" if e is None else e for e in expected)
                raise RunError(
                    f"{name}: {split} must have {images} images of {classes} classes, "
                    f"found {have[0]} of {have[1]}; mend the archives and delete "
                    f"{self.folder} to have it made again"
                )

    def _hold_out(
        self, name: str, parts: Mapping[str, np.ndarray], choice: Choice
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows to train and to validate on."""
        train, validation = parts["train"], parts.get("validation")
        if choice.fold is not None:
            if validation is not None:
                train = np.concatenate([train, validation])
            classes = np.unique(self.labels[train])
            if not 0 <= choice.fold < choice.folds or len(classes) < 2 * choice.folds:
                raise UsageError(
                    f"fold must be in 0 .. folds - 1, and the {len(classes)} training "
                    f"classes of {name} at least twice the folds, got fold "
                    f"{choice.fold} of {choice.folds}"
                )
            shuffled = generator(choice.seed, Stream.SPLIT, 2).permutation(classes)
            held_out = shuffled[choice.fold :: choice.folds]
        elif validation is not None:
            return train, validation
        else:
            classes = np.unique(self.labels[train])
            if len(classes) < _FEWEST_CLASSES_TO_HOLD_OUT_OF:
                return train, None
            shuffled = generator(choice.seed, Stream.SPLIT).permutation(classes)
            held_out = shuffled[-round(len(classes) / 10) :]
        is_held_out = np.isin(self.labels[train], held_out)
        return train[~is_held_out], train[is_held_out]

    def _look(self, name: str, rows: np.ndarray, choice: Choice) -> list[Look]:
        """What images are, all or some; raises a RunError at damage, if it is to."""
        if choice.on_damage == "skip" or choice.check_images == "all":
            looks = list(look_at(self.fetch, rows))
        elif self.path is not None and choice.on_damage == "stop":
            looks = list(look_at_headers(self.path, rows))
        else:
            every = max(len(rows) // _SAMPLE, 1)
            return (
                list(look_at(self.fetch, rows[::every])) if choice.fit == "auto" else []
            )
        damaged = [look for look in looks if look.damage]
        if damaged and choice.on_damage == "stop":
            raise RunError(
                f"cannot read the image {self.name(damaged[0].row)}: "
                f"{damaged[0].damage} ({len(damaged):,} of {len(looks):,} images are "
                "damaged; --on-damage skip leaves them out)"
            )
        blended = [self.name(look.row) for look in looks if "alpha" in look.kinds]
        if blended:
            what = (
                "is dropped" if choice.alpha == "drop" else f"is put on {choice.alpha}"
            )
            print(
                f"alpha of {len(blended):,} images of {name} {what} (--alpha): "
                f"{some(blended)}",
                file=sys.stderr,
            )
        return looks

    def _fit(self, name: str, looks: Sequence[Look], size: tuple[int, int]) -> Fit:
        """The custom, or `letterbox` where that would lose too much of the images."""
        ratios = np.array(
            [look.size[0] / look.size[1] for look in looks if look.size[1]]
        )
        usual = default_fit(*size)
        if not len(ratios):
            return usual
        wider = ratios * size[0] / size[1]
        lost = float(1 - np.minimum(wider, 1 / wider).mean())
        how: Fit = "letterbox" if lost > _MOST_CUT else usual
        if lost > 0.01:
            median = f"{np.median(ratios):.2f}, the median of width / height"
            print(
                f"fit of {name}: {how}; a crop loses {lost:.0%} of an image on average "
                f"({median}); --fit says otherwise",
                file=sys.stderr,
            )
        return how

    def _undamaged(
        self,
        name: str,
        parts: dict[str, np.ndarray],
        more: dict[str, Any],
        looks: Sequence[Look],
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The rows of images that can be decoded; names the others on stderr."""
        looks = [look for look in looks if look.damage]
        if looks:
            lines = [f"{self.name(look.row)}: {look.damage}" for look in looks]
            title = f"left out {len(lines)} damaged images of {name}:"
            print(title, *lines, sep="\n", file=sys.stderr)
        damaged = np.array([look.row for look in looks], np.int64)
        keep = {split: ~np.isin(part, damaged) for split, part in parts.items()}
        for split, kept in keep.items():
            if not kept.any():
                raise RunError(f"all images of {name}'s {split} split are damaged")
        if more.get("junk") is not None:
            more = more | {"junk": more["junk"][keep["gallery"]]}
        if more.get("pairs") is not None:
            more = more | {"pairs": more["pairs"].among(keep["test"])}
        return {split: part[keep[split]] for split, part in parts.items()}, more
