"""Small pictures of rows, alone and as the figures of a run."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from rankjax.data.images import DamagedImage, decode, to_pil
from rankjax.files import read_regular
from rankjax.report.charts import LIGHT

_LARGE, _SMALL = 192, 48  # pixels, at most


@dataclass(frozen=True)
class Shown:
    """Rows as a page shows them: by their picture, or else by the name of their class.

    Attributes:
      labels: int [n], indices into `class_names`.
      class_names: any text.
      read: rows -> uint8 [h, w, c] each, c 1 or 3; None where there are no pictures.
      paths: of the rows, any text, or None.
      folder: where they are files, which are then shown, and relative ones begin; else
        None.
    """

    labels: np.ndarray
    class_names: Sequence[str]
    read: Callable[[np.ndarray], Any] | None
    paths: Sequence[str] | None = None
    folder: Path | None = None
    _small: dict[int, Image.Image] = field(default_factory=dict, init=False, repr=False)

    def name(self, row: int) -> str:
        """The name of the row's class."""
        return self.class_name(self.labels[row])

    def class_name(self, label: int) -> str:
        """The name of a class; no name is empty."""
        return self.class_names[label] or "(empty)"

    def note(self, row: int, *more: str) -> str:
        """What there is to say of a row: its class, more, and its path."""
        path = [] if self.paths is None else [self.paths[row]]
        return ", ".join([self.name(row), *more, *path])

    def verdict(self, query: int, row: int) -> str:
        """`hit` where the two are of one class, else `miss`."""
        return "hit" if self.labels[row] == self.labels[query] else "miss"

    def thumbnail(self, row: int) -> Image.Image:
        """The row's picture, in grey or colour, shrunk where it is large."""
        if row not in self._small:
            self._small[row] = to_pil(self._pixels(row))
            self._small[row].thumbnail((_LARGE, _LARGE))
        return self._small[row]

    def _pixels(self, row: int) -> np.ndarray:
        """Those of its file, as long as that is there, else what is read."""
        if self.folder is not None and self.paths is not None:
            with suppress(OSError, ValueError, DamagedImage):
                content = read_regular(self.folder / self.paths[row])
                pixels = decode(content, channels=3, at_least=_LARGE)
                grey = (pixels == pixels[..., :1]).all()
                return pixels[..., :1] if grey else pixels
        assert self.read is not None
        return self.read(np.array([row]))[0]

    def uri(self, row: int, side: int = _SMALL) -> str:
        """The thumbnail as a URI; drawings stay exact, photographs stay small."""
        small = self.thumbnail(row)
        if max(small.size) > side:
            small = small.copy()
            small.thumbnail((side, side))
        return uri_of(small, "png" if small.mode == "L" else "jpeg")


def uri_of(image: Image.Image, kind: str) -> str:
    """A picture as a URI, as "png", "jpeg" or "webp"."""
    buffer = io.BytesIO()
    quality = {"jpeg": 88, "webp": 60}.get(kind)
    image.save(
        buffer, kind, **({"quality": quality} if quality else {"optimize": True})
    )
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def sheet(
    read: Callable[[np.ndarray], Any], rows: np.ndarray, side: int
) -> Image.Image:
    """Small pictures of rows, line by line in a square of squares.

    Args:
      read: rows -> uint8 [h, w, c] each, c 1 or 3.
      rows: int [n], at least one.
      side: of each square, in pixels; pictures are enlarged to it or shrunk.

    Returns:
      Pixels of red, green, blue and opacity, 0 where there is no picture.
    """
    columns = int(np.ceil(np.sqrt(len(rows))))
    whole = Image.new("RGBA", (columns * side, columns * side))
    for at, row in enumerate(rows.tolist()):
        picture = ImageOps.pad(
            to_pil(read(np.array([row]))[0]).convert("RGBA"), (side, side)
        )
        whole.paste(picture, (at % columns * side, at // columns * side))
    return whole


class Found(NamedTuple):
    """A query, rows found for it in order, what to say of it, and the rows' cosines."""

    query: int
    rows: np.ndarray
    note: str = ""
    cosines: np.ndarray | None = None


def gallery_figure(shown: Shown, groups: Mapping[str, Sequence[Found]]) -> bytes:
    """Queries and what they found in two columns, a PNG of 1,800 pixels across."""
    pitch, line = 91, 108
    heights = [76 + line * -(-len(group) // 2) for group in groups.values()]
    sheet = Image.new("RGB", (1800, 80 + sum(heights)), LIGHT.paper)
    top = 24
    for (caption, group), height in zip(groups.items(), heights, strict=True):
        _write(sheet, 48, top + 14, caption, 27, LIGHT.muted)
        for place, (query, rows, *_) in enumerate(group):
            x, y = 48 + 872 * (place % 2), top + 68 + line * (place // 2)
            _frame(sheet, x, y, "query", shown.thumbnail(query))
            for rank, row in enumerate(rows.tolist()):
                kind = shown.verdict(query, row)
                _frame(sheet, x + 118 + pitch * rank, y, kind, shown.thumbnail(row))
        top += height
    for x, kind, text in ((48, "hit", "same class"), (284, "miss", "another class")):
        _frame(sheet, x, top + 12, kind, side=28)
        _write(sheet, x + 46, top + 10, text, 26, LIGHT.muted)
    buffer = io.BytesIO()
    sheet.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _write(
    sheet: Image.Image, x: int, y: int, text: str, size: int, colour: str
) -> None:
    font = ImageFont.load_default(size)
    ImageDraw.Draw(sheet).text((x, y), text, fill=colour, font=font)


def _frame(
    sheet: Image.Image,
    x: int,
    y: int,
    kind: str,
    image: Image.Image | None = None,
    side: int = 82,
) -> None:
    """A square around an image; that of a `miss` has a cross on its corner."""
    if image is not None:
        image = ImageOps.contain(image, (side - 8, side - 8))
        sheet.paste(
            image, (x + (side - image.width) // 2, y + (side - image.height) // 2)
        )
    draw = ImageDraw.Draw(sheet)
    colour = {"query": LIGHT.ink, "hit": LIGHT.hit, "miss": LIGHT.miss}[kind]
    draw.rectangle((x, y, x + side - 1, y + side - 1), outline=colour, width=4)
    if kind == "miss":
        left, top = x + side - 14, y - 8
        draw.ellipse((left, top, left + 22, top + 22), fill=colour)
        for a, b in ((7, 15), (15, 7)):
            draw.line((left + 7, top + a, left + 15, top + b), fill="white", width=3)
