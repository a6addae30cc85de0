"""Random changes to training images that keep their class."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rankjax.data.decoding import mirror, resize, to_pil
from rankjax.data.distortions import (
    Images,
    Size,
    color_jitter,
    rand_augment,
    random_boxes,
    random_erasing,
)
from rankjax.errors import unknown_name

# Coefficients on this grid make the transform's arithmetic exact in double precision,
# so that every machine gives the same bytes.
_GRID = 2**16


def affine_coefficients(
    size: int | Size,
    rotation: np.ndarray | float,
    scale: np.ndarray | float,
    shear: np.ndarray | float,
    shift: np.ndarray,
    *,
    margin: int = 0,
) -> np.ndarray:
    """PIL's six numbers for maps about the centre of images, float [..., 6].

    Args:
      size: height and width of the result in pixels; one number if it is square.
      rotation: degrees [...].
      scale: above 1 enlarges [...].
      shear: horizontal pixels per vertical pixel [...].
      shift: right and down in pixels [..., 2].
      margin: pixels that the image has more than the result on every side.
    """
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    rows = np.array([[cos + shear * sin, sin - shear * cos], [-sin, cos]]) / scale
    middle = np.broadcast_to(size, 2)[::-1] / 2
    right, down = np.moveaxis(middle + shift, -1, 0)
    centre = middle.reshape(2, *[1] * (rows.ndim - 2)) + margin
    offsets = centre - rows[:, 0] * right - rows[:, 1] * down
    table = np.stack([rows[0, 0], rows[0, 1], offsets[0], *rows[1], offsets[1]], -1)
    return np.round(table * _GRID) / _GRID


def affine(images: Images, draws: np.ndarray, size: Size) -> Images:
    """Rotation 10 degrees, scale .85-1.15, shear .1, shift 1/16; edges continue."""
    height, width = size
    margin = max(size) // 4 + 1
    rows, columns = (
        np.clip(np.arange(-margin, side + margin), 0, side - 1) for side in size
    )
    padded = np.asarray(images)[:, rows[:, None], columns]
    draws = 2 * draws - 1
    coefficients = affine_coefficients(
        size,
        10 * draws[:, 0],
        1 + 0.15 * draws[:, 1],
        0.1 * draws[:, 2],
        np.array([width, height]) / 16 * draws[:, 3:],
        margin=margin,
    ).tolist()
    return [
        np.asarray(
            to_pil(image).transform(
                (width, height), Image.Transform.AFFINE, six, Image.Resampling.BILINEAR
            )
        ).reshape(height, width, -1)
        for image, six in zip(padded, coefficients, strict=True)
    ]


def resize_crop_flip(
    images: Images, draws: np.ndarray, size: Size, *, resize_to: int = 0
) -> Images:
    """The short side resized to `resize_to`, a random part cut out, half mirrored.

    `resize_to` is in pixels; 0 is 8/7 of the longer side of the result, so that 224 is
    cut out of 256, the custom of deep metric learning.

    Raises:
      ValueError: `resize_to` is smaller than the result.
    """
    height, width = size
    short = resize_to or round(max(size) * 8 / 7)
    if short < max(size):
        raise ValueError(
            f"resize_to must be at least the image's size, {max(size)}, got {resize_to}"
        )
    changed = []
    for image, (down, right, flip) in zip(images, draws, strict=True):
        shape = np.array(image.shape[:2])
        whole = resize(image, *(shape * short // shape.min()).tolist())
        top = int(down * (whole.shape[0] - height + 1))
        left = int(right * (whole.shape[1] - width + 1))
        changed.append(_mirror(whole[top : top + height, left : left + width], flip))
    return changed


def random_resized_crop(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Images:
    """A part of random area and shape, resized; half are mirrored.

    Szegedy et al., CVPR 2015, as torchvision has it: the area is uniform in `scale`
    times the image's, width over height log-uniform in `ratio`, the place uniform.
    Of ten such parts the first that fits is taken; if none does, the largest one in
    the centre whose shape is in `ratio`.

    Raises:
      ValueError: `scale` is not in (0, 1], or `ratio` not above 0, or out of order.
    """
    shapes = np.array([image.shape[:2] for image in images])
    boxes, fits = random_boxes(draws[:, :-1], shapes, scale, ratio)
    changed = []
    for row, image in enumerate(images):
        top, left, high, wide = boxes[row] if fits[row] else _central(image, ratio)
        part = image[top : top + high, left : left + wide]
        changed.append(_mirror(resize(part, *size), draws[row, -1]))
    return changed


def pad_crop_flip(
    images: Images, draws: np.ndarray, size: Size, *, padding: int = 10
) -> Images:
    """Moved by up to `padding` pixels each way, black coming in; half are mirrored.

    Person re-identification's custom (Luo et al., "Bag of Tricks", CVPRW 2019).

    Raises:
      ValueError: `padding` is negative.
    """
    if padding < 0:
        raise ValueError(f"padding must not be negative, got {padding}")
    height, width = size
    places = (draws[:, :2] * (2 * padding + 1)).astype(int)
    changed = []
    for image, (top, left), flip in zip(images, places, draws[:, 2], strict=True):
        padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
        changed.append(_mirror(padded[top : top + height, left : left + width], flip))
    return changed


def none(images: Images, draws: np.ndarray, size: Size) -> Images:
    """Images as they are judged."""
    return images


class Stage(NamedTuple):
    """A change, the uniform numbers that it takes of an image, and where it starts."""

    change: Callable[..., Images]
    draws: int
    whole: bool = False  # begins with images as they are stored, of any size


AUGMENTATIONS: dict[str, Stage] = {
    "none": Stage(none, 0),
    "affine": Stage(affine, 5),
    "resize_crop_flip": Stage(resize_crop_flip, 3, whole=True),
    "random_resized_crop": Stage(random_resized_crop, 23, whole=True),
    "pad_crop_flip": Stage(pad_crop_flip, 3),
    "color_jitter": Stage(color_jitter, 5),
    "rand_augment": Stage(rand_augment, 16),
    "random_erasing": Stage(random_erasing, 23),
}
"""What an `Augmentation` is made of, by name."""


class Augmentation:
    """Changes one after the other, each image by itself.

    Attributes:
      draws: numbers that an image's change is made of, uniform on [0, 1).
      whole: whether it begins with images as they are stored, of any size, rather than
        as they are judged.
    """

    def __init__(self, names: str, options: Mapping[str, Any] | None = None) -> None:
        """Looks up the changes.

        Args:
          names: keys of `AUGMENTATIONS` joined by `+`, such as
            `random_resized_crop+color_jitter`.
          options: arguments of any of them.

        Raises:
          UsageError: no such change, or an argument that none of them has.
          ValueError: one that begins with whole images but is not the first.
        """
        stages: list[Stage] = []
        left = dict(options or {})
        known: list[str] = []
        for name in names.split("+"):
            if name not in AUGMENTATIONS:
                raise unknown_name("augmentation", name, list(AUGMENTATIONS))
            stage = AUGMENTATIONS[name]
            if stage.whole and stages:
                raise ValueError(f"augmentation {name} must be the first, got {names}")
            known += arguments(name)
            given = {key: left.pop(key) for key in arguments(name) if key in left}
            stages.append(stage._replace(change=partial(stage.change, **given)))
        if left:
            raise unknown_name(f"option of {names}", next(iter(left)), known)
        self._stages = stages
        self.draws = sum(stage.draws for stage in stages)
        self.whole = stages[0].whole

    def __call__(self, images: Images, draws: np.ndarray, size: Size) -> Images:
        """Changes images.

        Args:
          images: uint8 [h, w, c] each; of the height and width `size` unless `whole`.
          draws: [n, `draws`] in [0, 1).
          size: height and width of the result.

        Returns:
          n images, uint8 [height, width, c], each from its own original and draws.
        """
        ends = np.cumsum([stage.draws for stage in self._stages])[:-1]
        for stage, own in zip(self._stages, np.split(draws, ends, 1), strict=True):
            images = stage.change(images, own, size)
        return images


def arguments(name: str) -> dict[str, Any]:
    """The options of a change and their defaults."""
    found = signature(AUGMENTATIONS[name].change).parameters.values()
    return {p.name: p.default for p in found if p.kind is Parameter.KEYWORD_ONLY}


def _central(
    image: np.ndarray, ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """The largest part in the centre with width over height in `ratio`."""
    height, width = image.shape[:2]
    high = min(height, round(width / ratio[0]))
    wide = min(width, round(height * ratio[1]))
    return (height - high) // 2, (width - wide) // 2, high, wide


def _mirror(image: np.ndarray, draw: float) -> np.ndarray:
    return mirror(image) if draw < 0.5 else image
