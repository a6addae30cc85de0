"""Which images of a data set cannot be decoded, and which are unlike the others."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from rankjax.data.decoding import MOST_PIXELS, DamagedImage, decode
from rankjax.data.sources import Fetch, read_file
from rankjax.errors import RunError

_CHUNK, _MOST_NAMES = 64, 5
# What a whole file has in its last bytes.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}


class Look(NamedTuple):
    """What one image turned out to be.

    Attributes:
      row: index of the image.
      size: width and height, upright; zeros if it cannot be decoded.
      kinds: what is unusual: `animated`, `16-bit`, `CMYK`, `greyscale`, `alpha`.
      damage: why it cannot be decoded; empty if it can.
    """

    row: int
    size: tuple[int, int]
    kinds: tuple[str, ...]
    damage: str


def look_at(fetch: Fetch, indices: np.ndarray) -> Iterator[Look]:
    """Decodes images, all of each, in threads; looks come in the order of indices."""

    def look(row: int) -> Look:
        try:
            (content,) = fetch(np.array([row]))
        except RunError as error:
            return _unread(row, error)
        return _decoded(row, content)

    return _each(look, indices)


def look_at_headers(paths: Callable[[int], Path], rows: np.ndarray) -> Iterator[Look]:
    """Reads the headers and ends of image files, in threads, in the order of rows.

    A file whose header or end is not that of a whole image is decoded to make sure.
    """
    return _each(lambda row: _header(row, paths(row)), rows)


def some(names: Sequence[object]) -> str:
    """The first five names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    listed = ", ".join(map(str, names[:_MOST_NAMES]))
    return f"{listed} and {more:,} more" if more > 0 else listed


def _each(look: Callable[[int], Look], rows: np.ndarray) -> Iterator[Look]:
    starts = range(0, len(rows), _CHUNK)
    chunks = [rows[start : start + _CHUNK].tolist() for start in starts]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for looks in threads.map(lambda chunk: [*map(look, chunk)], chunks):
            yield from looks


def _header(row: int, path: Path) -> Look:
    try:
        if path.is_file():
            with open(path, "rb") as file, Image.open(file) as image:
                file.seek(0, os.SEEK_END)
                file.seek(-min(64, file.tell()), os.SEEK_END)
                end = _ENDS.get(image.format or "")
                if (
                    end
                    and end in file.read()
                    and image.width * image.height <= MOST_PIXELS
                ):
                    return Look(row, _upright_size(image), tuple(_kinds(image)), "")
    except Exception:  # Pillow's readers raise errors of a dozen kinds.
        pass
    try:
        return _decoded(row, read_file(path))
    except RunError as error:
        return _unread(row, error)


def _unread(row: int, error: RunError) -> Look:
    """The cause alone, since the error names the image, as its user does."""
    return Look(row, (0, 0), (), str(error.__cause__ or error))


def _decoded(row: int, content: bytes) -> Look:
    try:
        height, width, _ = decode(content, channels=3).shape
    except DamagedImage as error:
        return Look(row, (0, 0), (), str(error))
    with Image.open(io.BytesIO(content)) as image:
        return Look(row, (width, height), tuple(_kinds(image)), "")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    # The method of PNG files would decode the whole image.
    exif = Image.Image.getexif(image)
    turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def _kinds(image: Image.Image) -> Iterator[str]:
    if getattr(image, "is_animated", False):
        yield "animated"
    if image.mode.startswith("I"):
        yield "16-bit"
    if image.mode == "CMYK":
        yield "CMYK"
    if image.mode in ("1", "L", "LA"):
        yield "greyscale"
    if image.has_transparency_data:
        yield "alpha"
