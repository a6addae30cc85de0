"""Images read by index, and how they are decoded and kept."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

_KEEP_BYTES = 2**30

Decode = Callable[[np.ndarray], np.ndarray]
Shape = tuple[int, int, int]


class ImageSource(Protocol):
    """Images of one size that are read by index, from any thread."""

    def __len__(self) -> int:
        """The number of images."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), height, width, channels]."""


class DecodedImages:
    """Images that are decoded when first read, and kept if all fit in 1 GiB."""

    def __init__(self, decode: Decode, count: int, shape: Shape) -> None:
        """`decode` takes indices below `count` and gives uint8 [n, *shape]."""
        self._decode, self._count = decode, count
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


def decode_image(file: bytes | Path, shape: Shape) -> np.ndarray:
    """An encoded image as uint8 [*shape]: short side resized, centre cut out.

    Raises:
      OSError, ValueError, SyntaxError: not a whole image; PIL raises any of these.
    """
    height, width, channels = shape
    mode = "L" if channels == 1 else "RGB"
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        image.draft(mode, (width, height))
        upright = ImageOps.exif_transpose(image).convert(mode)
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(upright).reshape(shape)
