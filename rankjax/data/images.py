"""Images: decoded, resized, kept in memory, and inspected for damage.

With simplejpeg and OpenCV (the extra `fast`) JPEGs are decoded, and images resized, two
to ten times as fast as with Pillow, which does all that these do not. Which file is
damaged, the orientation and the size are the same either way, and so are the pixels of
a decoded JPEG. Resized pixels differ a little, since the filters do.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps

from rankjax.errors import RunError
from rankjax.files import open_regular, read_regular

cv2: Any = None
simplejpeg: Any = None
with contextlib.suppress(ImportError):
    simplejpeg = import_module("simplejpeg")
with contextlib.suppress(ImportError):
    cv2 = import_module("cv2")
    cv2.setNumThreads(0)  # the loader's threads share the cores already

Image.init()
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow calls the kinds of images that are read."""
_FORMAT_OF = Image.registered_extensions()
MOST_PIXELS = 2 * 2**30 // 12  # Pillow's limit; simplejpeg has none
SUFFIXES = tuple(s for s, form in sorted(_FORMAT_OF.items()) if form in FORMATS)
"""File names that end so are images, whole or damaged."""

Alpha = Literal["white", "black", "drop"]
"""What transparent pixels of an image are blended on; `drop` keeps their hidden colours
instead."""

Fit = Literal["crop", "squash", "letterbox"]
"""How an image of any shape becomes one of another: its centre is cut out, it is
stretched, or its margins are filled with the colour of its edges."""

Fetch = Callable[[np.ndarray], Sequence[bytes]]
"""Indices of images -> the contents of their files."""

_KEEP_BYTES = 2**30
_CHUNK = 64  # images that a thread inspects at once
# What a whole file has in its last bytes.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}


class DamagedImage(ValueError):
    """Bytes that are not a whole image; the message says what is wrong with them."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file, or a broken link, is an image: by its suffix or its first bytes.

    Files of unknown or no suffix are images if they begin like one of the formats in
    `SUFFIXES`, and those of other suffixes that Pillow knows if it recognizes them.
    """
    form = _FORMAT_OF.get(os.path.splitext(path)[1].lower())
    if not os.path.isfile(path):
        return os.path.islink(path) and form in FORMATS
    if form in FORMATS:
        return True
    try:
        with Image.open(path, formats=(*FORMATS, *([form] if form else []))):
            return True
    except Exception:  # Pillow's readers raise errors of a dozen kinds.
        return False


def read_file(path: Path) -> bytes:
    """A file's content.

    Raises:
      RunError: it cannot be read, by its name.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise RunError(f"cannot read the image {path}: {error}") from error


def decode(
    content: bytes,
    *,
    channels: int,
    at_least: int | None = None,
    alpha: Alpha = "white",
) -> np.ndarray:
    """An encoded image of any format that Pillow reads, as 8 bits per channel.

    The image is turned upright as its orientation in EXIF or XMP says. Of 16 bits the
    upper eight are kept, of a TIFF's 32 bits all if no value is above 255, and the
    upper eight of 16 if none is above 65,535. Grey, CMYK and palette images become RGB,
    and colours become grey by their luma (ITU-R 601). An animation gives its first
    frame.

    JPEG has no checksum: changed bits in a file of the right length can decode to
    wrong pixels without any sign.

    Args:
      content: the whole file.
      channels: 1 for grey, 3 for RGB.
      at_least: if given, a JPEG whose short side is twice as long or longer is decoded
        to the half, quarter or eighth of its size that is still so long, which takes
        less time.
      alpha: what transparent pixels are blended on.

    Returns:
      uint8 [height, width, channels].

    Raises:
      DamagedImage: empty, cut off, corrupt, of no known format, of more than
        `MOST_PIXELS`, or with 32 bits per pixel, whose range is not known.
    """
    if not content:
        raise DamagedImage("it is empty")
    if simplejpeg is not None and content.startswith(b"\xff\xd8"):
        # What it refuses, also for trifles, Pillow decides: one rule on all machines.
        with contextlib.suppress(ValueError):
            return _decode_jpeg(content, channels, at_least)
    try:
        with Image.open(io.BytesIO(content)) as image:
            size = (at_least, at_least) if at_least else None
            image.draft("L" if channels == 1 else None, size)
            upright = ImageOps.exif_transpose(image)
            return _to_bytes(upright, channels, alpha, wide=image.format == "TIFF")
    except Exception as error:  # Pillow's readers raise errors of a dozen kinds.
        raise DamagedImage(str(error).partition(" <_io")[0] or repr(error)) from error


def _decode_jpeg(content: bytes, channels: int, at_least: int | None) -> np.ndarray:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    if colours not in ("Gray", "YCbCr") or height * width > MOST_PIXELS:
        raise ValueError("it is left to Pillow")
    times = min(height, width) // (at_least or min(height, width))
    times = next(each for each in (8, 4, 2, 1) if times >= each or each == 1)
    pixels = simplejpeg.decode_jpeg(
        content,
        "GRAY" if channels == 1 else "RGB",
        min_height=-(-height // times),
        min_width=-(-width // times),
    )
    if b"Exif\0\0" in content or b"http://ns.adobe.com/xap/" in content:
        exif = Image.open(io.BytesIO(content)).getexif()
        if exif.get(ExifTags.Base.Orientation, 1) != 1:
            stored = to_pil(pixels)
            stored.getexif()[ExifTags.Base.Orientation] = exif[
                ExifTags.Base.Orientation
            ]
            return _array(ImageOps.exif_transpose(stored))
    return pixels


def _to_bytes(
    image: Image.Image, channels: int, alpha: Alpha, *, wide: bool
) -> np.ndarray:
    """uint8 [h, w, channels]; `wide` if mode I means 32 bits of unknown range."""
    if image.mode == "F":
        raise ValueError("32 bits per pixel have no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 2**16:
            raise ValueError("32 bits per pixel have no known range")
        is_small = wide and image.mode == "I" and values.max() < 2**8
        hidden = image.info.get("transparency")
        image = Image.fromarray((values >> (0 if is_small else 8)).astype(np.uint8))
        if hidden is not None:
            image.putalpha(Image.fromarray(values != hidden).convert("L"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if alpha != "drop":
            ground = Image.new("RGBA", image.size, alpha)
            image = Image.alpha_composite(ground, image)
    return _array(image.convert("L" if channels == 1 else "RGB"))


def _array(image: Image.Image) -> np.ndarray:
    """An image of bytes, uint8 [h, w, 1 or 3]."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 [h, w, 1 or 3] as Pillow has it."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def png(image: np.ndarray) -> bytes:
    """uint8 [h, w] or [h, w, 3] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [h, w, c] to uint8 [height, width, c], edges on edges.

    Pillow's bilinear filter is a triangle as wide as a pixel of the result. OpenCV's is
    bilinear between neighbours, which misses next to no pixel until the image shrinks
    to less than a quarter of its area, and the mean of the area beyond that.
    """
    if image.shape[:2] == (height, width):
        return image
    if cv2 is None:
        return _array(to_pil(image).resize((width, height), Image.Resampling.BILINEAR))
    shrinks = image.shape[0] * image.shape[1] > 4 * height * width
    rule = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=rule)
    return resized.reshape(height, width, -1)


def mirror(image: np.ndarray) -> np.ndarray:
    """uint8 [h, w, c] with left and right exchanged; NumPy takes 20 times as long."""
    if cv2 is None:
        mirrored = to_pil(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    else:
        mirrored = cv2.flip(image, 1)
    return np.asarray(mirrored).reshape(image.shape)


def fit_image(
    image: np.ndarray,
    height: int,
    width: int,
    short_side: int | None = None,
    *,
    fit: Fit = "crop",
) -> np.ndarray:
    """An image as it is evaluated, uint8 [height, width, c].

    Args:
      image: uint8 [h, w, c].
      height, width: of the result.
      short_side: of a crop: what the side that fits is resized to, before the centre is
        cut out; by default the shorter of `height` and `width`. 256 and 224 are the
        convention for photos.
      fit: `crop`, the convention for photos; `squash`, the convention in person
        re-identification; or `letterbox`, which fills margins with the median colour of
        the image's edges there.
    """
    if fit == "squash":
        return resize(image, height, width)
    if fit == "crop":
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
    """The whole image at the size at which a crop cuts [height, width] out of it."""
    high, wide = image.shape[:2]
    goal, side = max(short_side or 0, min(height, width)), min(height, width)
    least = height * goal // side, width * goal // side
    if high * width < wide * height:
        return resize(image, least[0], wide * least[0] // high)
    return resize(image, high * least[1] // wide, least[1])


def default_fit(height: int, width: int) -> Fit:
    """The convention of benchmarks: squares are cut out, other shapes squashed to."""
    return "crop" if height == width else "squash"


class Readable(Protocol):
    """Images of one size that are read by index, from any thread."""

    def __len__(self) -> int:
        """The number of images."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """As they are evaluated, uint8 [len(indices), height, width, channels]."""


class ImageSource(Readable, Protocol):
    """Images that can also be had as they are stored.

    Attributes:
      shape: height, width and channels of what `read` gives.
      dtype: of it, uint8 but for features that stand for images.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """As they are stored, uint8 [h, w, channels] each, of any size."""


class EncodedImages:
    """Image files of any size, by index; see `ImageSource`.

    `read` gives them as `fit_image` makes them, and keeps that if all fit in 1 GiB;
    `originals` gives them whole, of their own size, and where they are not to be cut,
    of the shape that `read` gives. Of files that are decoded again and again the first
    GiB is kept.

    Attributes:
      fetch, shape, name: as given.
      short_side, fit: see `fit_image`.
      alpha: see `decode`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        fetch: Fetch,
        count: int,
        shape: tuple[int, int, int],
        *,
        name: Callable[[int], str],
        short_side: int | None = None,
        fit: Fit = "crop",
        alpha: Alpha = "white",
    ) -> None:
        """Takes `count` images of `shape`; `name` is what to call a damaged one."""
        self.fetch, self.shape, self.name = fetch, shape, name
        self.short_side, self.fit, self.alpha = short_side, fit, alpha
        self._count = count
        self._files: dict[int, bytes] = {}
        self._room = _KEEP_BYTES
        self._kept: np.ndarray | None = None
        if count * int(np.prod(shape)) <= _KEEP_BYTES:
            self._kept = np.empty((count, *shape), np.uint8)
            self._known = np.zeros(count, bool)

    def __len__(self) -> int:
        return self._count

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), height, width, channels].

        Raises:
          RunError: a damaged image, by its name.
        """
        if self._kept is None:
            return self._fitted(indices)
        # Two threads may decode the same image; they write the same bytes.
        missing = np.unique(indices[~self._known[indices]])
        if len(missing):
            self._kept[missing] = self._fitted(missing)
            self._known[missing] = True
        return self._kept[indices]

    def originals(self, indices: np.ndarray) -> Sequence[np.ndarray]:
        """Whole images, uint8 [h, w, channels] each.

        Raises:
          RunError: a damaged image, by its name.
        """
        images = list(self._decoded(indices, None, keep=True))
        if self.fit == "crop":
            return images
        return [fit_image(each, *self._box(each), fit=self.fit) for each in images]

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
        images = self._decoded(indices, least, keep=self._kept is None)
        fitted = partial(fit_image, short_side=self.short_side, fit=self.fit)
        return np.stack([fitted(each, height, width) for each in images])

    def _decoded(
        self, indices: np.ndarray, at_least: int | None, *, keep: bool
    ) -> Iterator[np.ndarray]:
        """Images of `decode`; `keep` says whether to keep their files."""
        wanted = indices.tolist()
        files = {i: self._files[i] for i in wanted if i in self._files}
        if missing := [i for i in dict.fromkeys(wanted) if i not in files]:
            for i, file in zip(missing, self.fetch(np.array(missing)), strict=True):
                files[i] = file
                # Threads that take room at the same time overdraw it by a little.
                if keep and len(file) <= self._room:
                    self._room -= len(file)
                    self._files[i] = file
        read = partial(decode, channels=self.shape[-1], alpha=self.alpha)
        for i in wanted:
            try:
                yield read(files[i], at_least=at_least)
            except DamagedImage as error:
                raise RunError(
                    f"cannot read the image {self.name(i)}: {error} "
                    "(experiments.train --on-damage skip leaves such images out)"
                ) from error


class ImageRows:
    """Chosen images of sources of one shape, one source after the other; `Readable`."""

    def __init__(
        self, *sources: ImageSource, rows: np.ndarray | slice = np.s_[:]
    ) -> None:
        """`rows` are int [n] or bool [images], of all sources together."""
        self._sources = sources
        self.shape, self.dtype = sources[0].shape, sources[0].dtype
        self._starts = np.cumsum([0, *map(len, sources)])
        self._rows = np.arange(self._starts[-1])[rows]

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), height, width, channels]."""
        wanted = self._rows[indices]
        images = np.empty((len(wanted), *self.shape), self.dtype)
        source = np.searchsorted(self._starts, wanted, "right") - 1
        for number in np.unique(source):
            there = source == number
            own = wanted[there] - self._starts[number]
            images[there] = self._sources[number].read(own)
        return images


class ImageInfo(NamedTuple):
    """What is known of an image file.

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


def inspect_images(
    fetch: Fetch, rows: np.ndarray, path_of: Callable[[int], Path] | None = None
) -> Iterator[ImageInfo]:
    """What images are, found out by threads; the order is that of `rows`.

    Args:
      fetch: gives the content of images, which are decoded.
      rows: indices of images.
      path_of: the file of an index. If given, only the header and the end of each file
        are read, and an image is decoded where these are not those of a whole one.
    """

    def inspect(row: int) -> ImageInfo:
        info = _inspect_header(row, path_of(row)) if path_of else None
        return info or _inspect_content(row, fetch)

    starts = range(0, len(rows), _CHUNK)
    chunks = [rows[start : start + _CHUNK].tolist() for start in starts]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for infos in threads.map(lambda chunk: [*map(inspect, chunk)], chunks):
            yield from infos


def _inspect_header(row: int, path: Path) -> ImageInfo | None:
    """None for a file whose header or end does not tell that it is whole."""
    with (
        contextlib.suppress(Exception),  # Pillow's readers raise a dozen kinds.
        open_regular(path) as file,
        Image.open(file) as image,
    ):
        file.seek(0, os.SEEK_END)
        file.seek(-min(64, file.tell()), os.SEEK_END)
        is_whole = _ENDS[image.format or ""] in file.read()
        if is_whole and image.width * image.height <= MOST_PIXELS:
            # The method of PNG files would decode the whole image.
            exif = Image.Image.getexif(image)
            turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            size = image.size[::-1] if turned else image.size
            return ImageInfo(row, size, _kinds(image), "")
    return None


def _inspect_content(row: int, fetch: Fetch) -> ImageInfo:
    try:
        (content,) = fetch(np.array([row]))
        height, width, _ = decode(content, channels=3).shape
    except DamagedImage as error:
        return ImageInfo(row, (0, 0), (), str(error))
    except RunError as error:
        # The cause alone, since the error names the image, as its user does.
        return ImageInfo(row, (0, 0), (), str(error.__cause__ or error))
    with Image.open(io.BytesIO(content)) as image:
        return ImageInfo(row, (width, height), _kinds(image), "")


def _kinds(image: Image.Image) -> tuple[str, ...]:
    known = {
        "animated": getattr(image, "is_animated", False),
        "16-bit": image.mode.startswith("I"),
        "CMYK": image.mode == "CMYK",
        "greyscale": image.mode in ("1", "L", "LA"),
        "alpha": image.has_transparency_data,
    }
    return tuple(kind for kind, applies in known.items() if applies)
