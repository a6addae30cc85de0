"""Encoded images to pixels, and pixels to other sizes, by the fastest one installed.

With simplejpeg and OpenCV (the extra `fast`) JPEGs are decoded, and images resized, two
to ten times as fast as with Pillow, which does all that these do not. Which file is
damaged, the orientation and the size are the same either way, and so are the pixels of
a decoded JPEG. Resized pixels differ a little, since the filters do.
"""

import contextlib
import io
import os
from importlib import import_module
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps


def _optional(name: str) -> Any:
    with contextlib.suppress(ImportError):
        return import_module(name)
    return None


cv2, simplejpeg = _optional("cv2"), _optional("simplejpeg")
if cv2 is not None:
    cv2.setNumThreads(0)  # the loader's threads share the cores already

Image.init()
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_FORMAT_OF = Image.registered_extensions()
MOST_PIXELS = 2 * 2**30 // 12  # Pillow's limit; simplejpeg has none
SUFFIXES = tuple(s for s, form in sorted(_FORMAT_OF.items()) if form in _FORMATS)
"""File names that end so are images, whole or damaged."""

Alpha = Literal["white", "black", "drop"]
"""What transparent pixels of an image are blended on; `drop` keeps their hidden colours
instead."""

_TO_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


class DamagedImage(ValueError):
    """Bytes that are not a whole image; the message says what is wrong with them."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file, or a broken link, is an image: by its suffix or its first bytes.

    Files of unknown or no suffix are images if they begin like one of the formats in
    `SUFFIXES`, and those of other suffixes that Pillow knows if it recognizes them.
    """
    form = _FORMAT_OF.get(os.path.splitext(path)[1].lower())
    if not os.path.isfile(path):
        return os.path.islink(path) and form in _FORMATS
    if form in _FORMATS:
        return True
    try:
        with Image.open(path, formats=(*_FORMATS, *([form] if form else []))):
            return True
    except Exception:  # Pillow's readers raise errors of a dozen kinds.
        return False


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
    upper eight of 16 if none is above 65,535. Transparent pixels are blended on
    white. Grey, CMYK and palette images become RGB, and colours become grey by their
    luma (ITU-R 601). An animation gives its first frame.

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
        # What it refuses, also for trifles, Pillow judges: one rule on all machines.
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


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [h, w, c] to uint8 [height, width, c], edges on edges.

    Pillow's bilinear filter is a triangle as wide as a pixel of the result. OpenCV's is
    bilinear between neighbours, which misses next to no pixel until the image shrinks
    to less than a quarter of its area, and the mean of the area beyond that.
    """
    if image.shape[:2] == (height, width):
        return image
    if cv2 is None:
        resized = to_pil(image).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized).reshape(height, width, -1)
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


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 [h, w, 1 or 3] as Pillow has it."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


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
        turn = _TO_UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1))
        if turn is not None:
            pixels = np.ascontiguousarray(turn(pixels))
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
        image = Image.fromarray((values >> (0 if is_small else 8)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if alpha != "drop":
            ground = Image.new("RGBA", image.size, alpha)
            image = Image.alpha_composite(ground, image)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)
