"""Which images of a data set cannot be decoded, and which are unlike the others."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from rankjax.data.decoding import DamagedImage, decode
from rankjax.data.sources import Fetch
from rankjax.errors import RunError

_CHUNK = 64


class Look(NamedTuple):
    """What one image turned out to be.

    Attributes:
      row: index of the image.
      size: width and height; zeros if it cannot be decoded.
      kinds: what is unusual: `animated`, `16-bit`, `CMYK`, `greyscale`.
      damage: why it cannot be decoded; empty if it can.
    """

    row: int
    size: tuple[int, int]
    kinds: tuple[str, ...]
    damage: str


def look_at(fetch: Fetch, indices: np.ndarray) -> Iterator[Look]:
    """Decodes images, all of each, in threads; looks come in the order of indices."""

    def look(chunk: np.ndarray) -> list[Look]:
        return [_look(fetch, row) for row in chunk.tolist()]

    starts = range(0, len(indices), _CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for looks in threads.map(look, [indices[i : i + _CHUNK] for i in starts]):
            yield from looks


def _look(fetch: Fetch, row: int) -> Look:
    try:
        (content,) = fetch(np.array([row]))
        height, width, _ = decode(content, channels=3).shape
    except (DamagedImage, RunError) as error:
        return Look(row, (0, 0), (), str(error))
    with Image.open(io.BytesIO(content)) as image:
        return Look(row, (width, height), tuple(_kinds(image)), "")


def _kinds(image: Image.Image) -> Iterator[str]:
    if getattr(image, "is_animated", False):
        yield "animated"
    if image.mode.startswith("I"):
        yield "16-bit"
    if image.mode == "CMYK":
        yield "CMYK"
    if image.mode in ("1", "L", "LA"):
        yield "greyscale"
