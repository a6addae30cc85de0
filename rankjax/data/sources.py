"""Images read by index, and how they are decoded and kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from rankjax.data.decoding import Alpha, DamagedImage, decode, resize
from rankjax.errors import RunError
from rankjax.files import read_regular

_KEEP_BYTES = 2**30

Fit = Literal["crop", "squash", "letterbox"]
"""How an image of any shape becomes one of another: its centre is cut out, it is
stretched, or its margins are filled with the colour of its edges."""

Decode = Callable[[np.ndarray], np.ndarray]
Fetch = Callable[[np.ndarray], Sequence[bytes]]
Shape = tuple[int, int, int]


class Readable(Protocol):
    """Images of one size that are read by index, from any thread."""

    def __len__(self) -> int:
        """The number of images."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """As they are judged, uint8 [len(indices), height, width, channels]."""


class ImageSource(Readable, Protocol):
    """Images that can also be had as they are; `shape` is of those judged."""

    shape: Shape

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """As they are stored, uint8 [h, w, channels] each, of any size."""


class ImageRows:
    """Images of several sources one after the other, indexed as an array is."""

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(
        self, *sources: ImageSource, kept: np.ndarray | slice = np.s_[:]
    ) -> None:
        """Those `kept` (bool [images of all]) of sources of one shape."""
        self._sources = sources
        self._starts = np.cumsum([0, *map(len, sources)])
        self._kept = np.arange(self._starts[-1])[kept]
        self.shape = (len(self._kept), *sources[0].shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The images of a row [h, w, c] or of rows [n, h, w, c], read anew."""
        wanted = self._kept[np.atleast_1d(rows)]
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        source = np.searchsorted(self._starts, wanted, "right") - 1
        for number in np.unique(source):
            there = source == number
            own = wanted[there] - self._starts[number]
            images[there] = self._sources[number].read(own)
        return images if np.ndim(rows) else images[0]


class DecodedImages:
    """Images of one size, decoded when first read, and kept if all fit in 1 GiB."""

    def __init__(self, decode: Decode, count: int, shape: Shape) -> None:
        """`decode` takes indices below `count` and gives uint8 [n, *shape]."""
        self._decode, self._count, self.shape = decode, count, shape
        self._kept: np.ndarray | None = None
        if count * int(np.prod(shape)) <= _KEEP_BYTES:
            self._kept = np.empty((count, *shape), np.uint8)
            self._known = np.zeros(count, bool)

    def __len__(self) -> int:
        return self._count

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), height, width, channels]."""
        if self._kept is None:
            return self._decode(indices)
        # Two threads may decode the same image; they write the same bytes.
        missing = np.unique(indices[~self._known[indices]])
        if len(missing):
            self._kept[missing] = self._decode(missing)
            self._known[missing] = True
        return self._kept[indices]

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """The same images as `read` gives."""
        return list(self.read(indices))


class EncodedImages(DecodedImages):
    """Image files of any size, by index.

    `read` gives them as `fit` makes them, and keeps that if all fit in 1 GiB;
    `originals` gives them whole, of their own size, and where they are not to be cut,
    of the shape that `read` gives. Of files that are decoded again and again the first
    GiB is kept.

    Attributes:
      fetch, name, short_side, how, alpha: as given.
    """

    def __init__(
        self,
        fetch: Fetch,
        count: int,
        shape: Shape,
        *,
        name: Callable[[int], str],
        short_side: int | None = None,
        how: Fit = "crop",
        alpha: Alpha = "white",
    ) -> None:
        """Reads nothing yet.

        Args:
          fetch: takes indices below `count` and gives the contents of files.
          count: number of images.
          shape: of the images that `read` gives, see `fit`.
          name: what to call the image of an index when it is damaged.
          short_side, how: see `fit`.
          alpha: see `decode`.
        """
        super().__init__(self._fitted, count, shape)
        self.fetch, self.name = fetch, name
        self.short_side, self.how, self.alpha = short_side, how, alpha
        self._files: dict[int, bytes] = {}
        self._room = _KEEP_BYTES

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """Whole images, uint8 [h, w, channels] each.

        Raises:
          RunError: a damaged image, by its name.
        """
        files = self._contents(indices, keep=True)
        images = [self._pixels(i, file, None) for i, file in files]
        if self.how == "crop":
            return images
        return [fit(each, *self._box(each), how=self.how) for each in images]

    def _box(self, image: np.ndarray) -> tuple[int, int]:
        """The smallest height and width that hold an image and have `shape`'s ratio; of
        an image that is far from it, smaller ones of four times its area."""
        (high, wide), (height, width) = image.shape[:2], self.shape[:2]
        box = max(high, wide * height // width), max(wide, high * width // height)
        shrink = min(1.0, 2 * (high * wide / (box[0] * box[1])) ** 0.5)
        return max(int(box[0] * shrink), height), max(int(box[1] * shrink), width)

    def _fitted(self, indices: np.ndarray) -> np.ndarray:
        height, width, _ = self.shape
        least = self.short_side or max(height, width)
        return np.stack(
            [
                fit(
                    self._pixels(i, file, least),
                    height,
                    width,
                    self.short_side,
                    how=self.how,
                )
                for i, file in self._contents(indices, keep=self._kept is None)
            ]
        )

    def _contents(self, indices: np.ndarray, *, keep: bool) -> list[tuple[int, bytes]]:
        wanted = indices.tolist()
        missing = [i for i in dict.fromkeys(wanted) if i not in self._files]
        fetched = (
            dict(zip(missing, self.fetch(np.array(missing)), strict=True))
            if missing
            else {}
        )
        for i, file in fetched.items():
            # Threads that take from the room at the same time overdraw it by a little.
            if keep and len(file) <= self._room:
                self._room -= len(file)
                self._files[i] = file
        return [(i, fetched[i] if i in fetched else self._files[i]) for i in wanted]

    def _pixels(self, index: int, content: bytes, at_least: int | None) -> np.ndarray:
        try:
            return decode(
                content,
                channels=self.shape[-1],
                at_least=at_least,
                alpha=self.alpha,
            )
        except DamagedImage as error:
            raise RunError(
                f"cannot read the image {self.name(index)}: {error} "
                "(on_damage=skip leaves such images out)"
            ) from error


class ChosenImages:
    """Some images of a source."""

    def __init__(self, source: ImageSource, indices: np.ndarray) -> None:
        """`indices` are int [n]."""
        self._source, self._indices, self.shape = source, indices, source.shape

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), height, width, channels]."""
        return self._source.read(self._indices[indices])

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """uint8 [h, w, channels] each."""
        return self._source.originals(self._indices[indices])


def fit(
    image: np.ndarray,
    height: int,
    width: int,
    short_side: int | None = None,
    *,
    how: Fit = "crop",
) -> np.ndarray:
    """An image as it is evaluated, uint8 [height, width, c].

    Args:
      image: uint8 [h, w, c].
      height, width: of the result.
      short_side: of a crop: what the side that fits is resized to, before the centre is
        cut out; by default the shorter of `height` and `width`. 256 and 224 are the
        custom for photos.
      how: `crop`, the custom for photos; `squash`, the custom in person
        re-identification; or `letterbox`, which fills margins with the median colour of
        the image's edges there.
    """
    if how == "squash":
        return resize(image, height, width)
    if how == "crop":
        image = cover(image, height, width, short_side)
        top, left = (np.array(image.shape[:2]) - (height, width)) // 2
        return image[top : top + height, left : left + width]
    scale = min(height / image.shape[0], width / image.shape[1])
    high, wide = (max(round(side * scale), 1) for side in image.shape[:2])
    image = resize(image, high, wide)
    edges = image[[0, -1]] if high < height else image[:, [0, -1]]
    whole = np.empty((height, width, image.shape[2]), np.uint8)
    whole[:] = np.median(edges, (0, 1))
    top, left = (height - high) // 2, (width - wide) // 2
    whole[top : top + high, left : left + wide] = image
    return whole


def cover(
    image: np.ndarray, height: int, width: int, short_side: int | None = None
) -> np.ndarray:
    """The whole image at the size at which `fit` cuts [height, width] out of it."""
    high, wide = image.shape[:2]
    goal, side = max(short_side or 0, min(height, width)), min(height, width)
    least = height * goal // side, width * goal // side
    if high * width < wide * height:
        return resize(image, least[0], wide * least[0] // high)
    return resize(image, high * least[1] // wide, least[1])


def default_fit(height: int, width: int) -> Fit:
    """The custom for benchmarks: squares are cut out, other shapes are squashed to."""
    return "crop" if height == width else "squash"


def read_file(path: Path) -> bytes:
    """A file's content.

    Raises:
      RunError: it cannot be read, by its name.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise RunError(f"cannot read the image {path}: {error}") from error
