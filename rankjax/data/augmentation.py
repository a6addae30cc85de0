"""Random changes to training images that keep their class."""

from collections.abc import Callable

import numpy as np
from PIL import Image

# Numbers that each image's change is made of, from the uniform distribution on [0, 1).
DRAWS = 5

# Coefficients on this grid make the transform's arithmetic exact in double precision,
# so that every machine gives the same bytes.
_GRID = 2**16


def affine_coefficients(
    size: int,
    rotation: np.ndarray | float,
    scale: np.ndarray | float,
    shear: np.ndarray | float,
    shift: np.ndarray,
    *,
    margin: int = 0,
) -> np.ndarray:
    """PIL's six numbers for maps about the centre of images, float [..., 6].

    Args:
      size: height and width of the result in pixels.
      rotation: degrees [...].
      scale: above 1 enlarges [...].
      shear: horizontal pixels per vertical pixel [...].
      shift: right and down in pixels [..., 2].
      margin: pixels that the image has more than the result on every side.
    """
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    rows = np.array([[cos + shear * sin, sin - shear * cos], [-sin, cos]]) / scale
    right, down = np.moveaxis(size / 2 + shift, -1, 0)
    offsets = size / 2 + margin - rows[:, 0] * right - rows[:, 1] * down
    table = np.stack([rows[0, 0], rows[0, 1], offsets[0], *rows[1], offsets[1]], -1)
    return np.round(table * _GRID) / _GRID


def _affine(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Rotation 10 degrees, scale .85-1.15, shear .1, shift 1/16; edges continue."""
    size = images.shape[1]
    margin = size // 4 + 1
    inside = np.clip(np.arange(-margin, size + margin), 0, size - 1)
    padded = images[:, inside[:, None], inside]
    draws = 2 * draws - 1
    coefficients = affine_coefficients(
        size,
        10 * draws[:, 0],
        1 + 0.15 * draws[:, 1],
        0.1 * draws[:, 2],
        size / 16 * draws[:, 3:],
        margin=margin,
    ).tolist()
    changed = np.empty_like(images)
    for row, six in enumerate(coefficients):
        turned = _to_pil(padded[row]).transform(
            (size, size), Image.Transform.AFFINE, six, Image.Resampling.BILINEAR
        )
        changed[row] = np.asarray(turned).reshape(images.shape[1:])
    return changed


def _crop_flip(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """A part of 20-100% of the area, sides 3:4 to 4:3, resized; half are mirrored."""
    _, height, width, _ = images.shape
    areas = 0.2 + 0.8 * draws[:, 0]
    ratios = np.exp(np.log(4 / 3) * (2 * draws[:, 1] - 1))
    places = draws[:, 2:4]
    flips = draws[:, 4] < 0.5
    # A part wider or higher than the image is cut to it.
    wide = width * np.minimum(np.sqrt(areas * ratios), 1)
    high = height * np.minimum(np.sqrt(areas / ratios), 1)
    left, top = places[:, 0] * (width - wide), places[:, 1] * (height - high)
    changed = np.empty_like(images)
    for row, image in enumerate(images):
        box = (left[row], top[row], left[row] + wide[row], top[row] + high[row])
        part = _to_pil(image).resize((width, height), Image.Resampling.BILINEAR, box)
        pixels = np.asarray(part).reshape(image.shape)
        changed[row] = pixels[:, ::-1] if flips[row] else pixels
    return changed


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _none(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return images


# uint8 [n, h, w, c] and draws [n, DRAWS] -> uint8 [n, h, w, c], each row by itself.
AUGMENTATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "none": _none,
    "affine": _affine,
    "crop_flip": _crop_flip,
}
