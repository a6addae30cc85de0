"""Any number of image files: found by name, read by index, in several views each."""

import glob
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rankjax.data.augmentation import Augmentation
from rankjax.data.images import (
    DamagedImage,
    EncodedImages,
    Fit,
    cover,
    decode,
    default_fit,
    fit_image,
    read_file,
)
from rankjax.data.own import find_images, tell_left_out
from rankjax.data.random import Stream, generator
from rankjax.data.splits import SPLITS, Dataset
from rankjax.errors import RunError, UsageError
from rankjax.exported import Inputs
from rankjax.files import printable

CROPS = (1, 5)


class Listed(NamedTuple):
    """Image files.

    Attributes:
      paths: absolute, each once, in the order in which they were named.
      classes: for each the name of its folder, where all lie in folders of a folder
        that was named; empty otherwise.
      images: paths or contents, by number; `paths` but for a data set's.
      beside: what else is known of each, where folders or a data set have it: split,
        cameras, super (its super-class) and lists (what it is to each query).
    """

    paths: list[str]
    classes: list[str]
    images: Sequence[str | bytes]
    beside: dict[str, list[Any]]


def list_images(words: Sequence[str]) -> Listed:
    """The image files that words of a command line mean.

    A folder means all images in and below it, sorted, with classes as `find_images`
    has them; files that it leaves out are named on stderr. What has * or ? in it and is
    no file means all that it matches (** any folders), sorted.

    Raises:
      UsageError: a word that means no image, or a folder whose classes are ambiguous.
    """
    found: dict[str, tuple[str, str]] = {}
    for word in words:
        names = [word]
        if not os.path.lexists(word) and glob.has_magic(word):
            names = sorted(glob.glob(word, recursive=True))
        meant = [file for name in names for file in _meant(os.path.abspath(name))]
        if not meant:
            raise UsageError(
                f"{word} means no image: no file, folder or pattern of any"
            )
        for file, *more in meant:
            found.setdefault(file, (more[0], more[1]))
    loose = [file for file, (label, _) in found.items() if not label]
    if loose and len(loose) < len(found):
        print(
            f"no labels: {printable(loose[0])} lies in no class folder", file=sys.stderr
        )
    parents = {os.path.dirname(os.path.abspath(word)) for word in words}
    if loose and len(words) > len(parents) == 1 and all(map(os.path.isdir, words)):
        (folder,) = map(printable, parents)  # as of a shell's folder/*
        print(f"no labels: for folders as classes, name {folder}", file=sys.stderr)
    classes = [] if loose else [label for label, _ in found.values()]
    splits = [split for _, split in found.values()]
    # What other files lie in is no split, nor what is left of some.
    known = not loose and "test" in splits and "" not in splits
    return Listed(list(found), classes, list(found), {"split": splits} if known else {})


def list_dataset(data: Dataset) -> Listed:
    """The images of all splits of a data set.

    Raises:
      UsageError: it is one of pairs, which files of embeddings of classes have not.
    """
    if data.pairs is not None:
        raise UsageError(f"dataset must be one of classes, got {data.name}, of pairs")
    named = {name: getattr(data, name) for name in SPLITS if getattr(data, name)}
    splits = {name: split for name, split in named.items() if len(split.labels)}
    sources = [split.images for split in splits.values()]
    beside = {"split": [name for name, each in splits.items() for _ in each.labels]}
    for name, attribute in (("cameras", "cameras"), ("super", "supers")):
        parts = [getattr(split, attribute) for split in splits.values()]
        if all(part is not None for part in parts):
            beside[name] = np.concatenate(parts).tolist()
    if data.lists is not None:
        of_queries = np.zeros_like(data.lists, shape=data.lists.shape[1:] * 2)
        beside["lists"] = [*of_queries, *data.lists]
    return Listed(
        [each.name(row) for each in sources for row in range(len(each))],
        [each.class_names[i] for each in splits.values() for i in each.labels],
        _Contents(sources),
        beside,
    )


class Held:
    """Images in memory, as `rankjax.data.ImageSource` has them."""

    def __init__(self, images: np.ndarray) -> None:
        """`images` is uint8 [n, height, width, channels]."""
        self._images, self.dtype = images, images.dtype
        height, width, channels = images.shape[1:]
        self.shape = height, width, channels

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Some of them."""
        return self._images[indices]

    def originals(self, indices: np.ndarray) -> list[np.ndarray]:
        """The same."""
        return list(self._images[indices])


class _Contents(Sequence[bytes]):
    """The encoded images of sources one after the other, read when asked for."""

    def __init__(self, sources: Sequence[EncodedImages], start: int = 0) -> None:
        self._sources, self._start = sources, start
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1]) - self._start

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _Contents(self._sources, self._start + (key.start or 0))
        row = self._start + key
        number = int(np.searchsorted(self._ends, row, "right"))
        source = self._sources[number]
        return source.fetch(np.array([row - self._ends[number] + len(source)]))[0]


def _meant(path: str) -> list[tuple[str, str, str]]:
    """The files that a path means, each with its class and split."""
    if path.endswith((".csv", ".parquet")) and os.path.isfile(path):
        raise UsageError(f"{path} is no image; of a list, write --dataset list:{path}")
    if not os.path.isdir(path):
        return [(path, "", "")] if os.path.exists(path) else []
    try:
        rows, left_out = find_images(Path(path))
    except UsageError as error:
        every = os.path.join(path, "**", "*.jpg")
        raise UsageError(
            f"{error}; a pattern such as {every!r} means images without labels"
        ) from error
    tell_left_out(path, left_out)
    return [(str(row.image), str(row.label), row.split) for row in rows]


class Views:
    """Image files as a network takes them: views of an image stand side by side.

    Attributes:
      per_image: number of views.
      augmented: the last ones of them, random parts, half of them mirrored.
      damaged: what is wrong with images that were skipped, by index; their views are
        black.
    """

    def __init__(
        self,
        images: Sequence[str | bytes],
        inputs: Inputs,
        *,
        flip: bool = False,
        crops: int = 1,
        augmented: int = 0,
        first: int = 0,
        skip_damaged: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        """Reads nothing yet.

        Args:
          images: paths of files, or their contents.
          inputs: what the network takes.
          flip: also each view's mirror image.
          crops: 1 for the centre, or 5 for the corners too, of an image that is an
            eighth larger than the network's where `inputs` do not make it larger.
          augmented: further views, by `random_resized_crop` of a fifth of the image or
            more; which depends on the image's number and the view's alone.
          first: the number of the first image.
          skip_damaged: instead of raising a RunError at an image that cannot be read.
          names: of the images, for errors of `experiments.embed`.
        """
        self._images, self._inputs = images, inputs
        self._flip, self._crops, self._skip = flip, crops, skip_damaged
        self._first, self.augmented, self._names = first, augmented, names
        self._augment = Augmentation("random_resized_crop", {"scale": (0.2, 1.0)})
        self.per_image = crops * (1 + flip) + augmented
        self.damaged: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._images) * self.per_image

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), height, width, channels].

        Raises:
          RunError: a damaged image, by its name.
        """
        number, view = np.divmod(indices, self.per_image)
        views = {i: self._of(i) for i in dict.fromkeys(number.tolist())}
        return np.stack([views[i][v] for i, v in zip(number, view, strict=True)])

    def _of(self, index: int) -> list[np.ndarray]:
        inputs = self._inputs
        shape = inputs[:3]
        least = inputs.short_side or max(shape[:2])
        if self._crops > 1:
            least = max(least, _larger(max(shape[:2])))
        given = self._images[index]
        try:
            content = given if isinstance(given, bytes) else read_file(Path(given))
            read = partial(
                decode, content, channels=inputs.channels, alpha=inputs.alpha
            )
            image = read(at_least=least)
            # Parts are cut out of more; the plain view is as without them.
            large = read(at_least=2 * least) if self.augmented else image
        except RunError as error:
            if not self._skip:
                raise
            self.damaged[index] = str(error)
            return [np.zeros(shape, np.uint8)] * self.per_image
        except DamagedImage as error:
            if not self._skip:
                name = f"number {index + 1}" if isinstance(given, bytes) else given
                hint = ""
                if self._names:
                    name = printable(self._names[index])
                    hint = " (experiments.embed --on-damage skip leaves it out)"
                what = f"cannot read the image {name}: {error}{hint}"
                raise RunError(what) from error
            self.damaged[index] = str(error)
            return [np.zeros(shape, np.uint8)] * self.per_image
        views = _crops(image, inputs) if self._crops > 1 else [_centre(image, inputs)]
        views += [view[:, ::-1] for view in views] * self._flip
        if not self.augmented:
            return views
        rng = generator(0, Stream.AUGMENTATION, self._first + index)
        draws = rng.random((self.augmented, self._augment.draws))
        return [*views, *self._augment([large] * self.augmented, draws, shape[:2])]


def fit_of(inputs: Inputs) -> Fit:
    """How images become those that a network takes."""
    return inputs.fit or default_fit(*inputs[:2])


def _centre(image: np.ndarray, inputs: Inputs) -> np.ndarray:
    return fit_image(
        image, inputs.height, inputs.width, inputs.short_side, fit=fit_of(inputs)
    )


def _crops(image: np.ndarray, inputs: Inputs) -> list[np.ndarray]:
    """The centre and the four corners."""
    height, width = inputs[:2]
    larger, fit = (_larger(height), _larger(width)), fit_of(inputs)
    if fit == "crop":
        side = max(inputs.short_side or 0, min(larger))
        image = cover(image, height, width, side)
    else:
        image = fit_image(image, *larger, fit=fit)
    bottom, right = image.shape[0] - height, image.shape[1] - width
    corners = [
        (bottom // 2, right // 2),
        *((0, 0), (0, right), (bottom, 0), (bottom, right)),
    ]
    return [image[y : y + height, x : x + width] for y, x in corners]


def _larger(side: int) -> int:
    return side * 9 // 8
