"""Which images of a data set cannot be decoded, and which are unlike the others."""

import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from rankjax.data.decoding import DamagedImage, decode
from rankjax.errors import RunError

if TYPE_CHECKING:
    from rankjax.data.splits import Pool

_CHUNK = 64


class Look(NamedTuple):
    """What one image turned out to be.

    Attributes:
      row: in the pool.
      size: width and height; zeros if it cannot be decoded.
      kinds: what is unusual: `animated`, `16-bit`, `CMYK`, `greyscale`.
      damage: why it cannot be decoded; empty if it can.
    """

    row: int
    size: tuple[int, int]
    kinds: tuple[str, ...]
    damage: str


def look_at(pool: "Pool", rows: np.ndarray) -> Iterator[Look]:
    """Decodes images one after another, in threads."""

    def look(chunk: np.ndarray) -> list[Look]:
        return [_look(pool, row) for row in chunk.tolist()]

    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for looks in threads.map(look, chunks):
            yield from looks


def find_damaged(pool: "Pool", rows: np.ndarray) -> list[int]:
    """The rows whose images cannot be decoded; names them on stderr."""
    looks = [look for look in look_at(pool, rows) if look.damage]
    lines = [f"{pool.name(look.row)}: {look.damage}" for look in looks]
    if lines:
        print(
            f"left out {len(lines)} damaged images:", *lines, sep="\n", file=sys.stderr
        )
    return [look.row for look in looks]


def _look(pool: "Pool", row: int) -> Look:
    try:
        (content,) = pool.fetch(np.array([row]))
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


def count_kinds(looks: Sequence[Look]) -> Counter[str]:
    """How many images are unusual, by kind; damaged ones are counted too."""
    kinds = Counter(kind for look in looks for kind in look.kinds)
    kinds["damaged"] = sum(bool(look.damage) for look in looks)
    return kinds
