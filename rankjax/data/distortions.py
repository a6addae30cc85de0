"""Changes of colours and parts of training images, whose size stays."""

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from rankjax.data.decoding import to_pil

Images = Sequence[np.ndarray] | np.ndarray
Size = tuple[int, int]

# ImageNet's mean, which standardised images have as zero.
_MEAN = {1: (128,), 3: (124, 116, 104)}
_ORDERS = list(permutations(range(4)))
_LEVELS = 30  # of RandAugment's magnitude


def color_jitter(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> Images:
    """Brightness, contrast, saturation and hue changed, in random order.

    As torchvision has it: factors uniform in 1 - x to 1 + x, the hue moved by up to
    `hue` of the circle each way. Defaults of MoCo v2 (Chen et al., 2020).

    Raises:
      ValueError: a factor not in [0, 1], or `hue` not in [0, 0.5].
    """
    given = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    if not 0 <= hue <= 0.5:
        raise ValueError(f"hue must be in [0, 0.5], got {hue}")
    strength = np.array([brightness, contrast, saturation, hue])
    moves = strength * (2 * draws[:, :4] - 1)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    changed = []
    for image, move, order in zip(images, moves.tolist(), draws[:, 4], strict=True):
        picture = to_pil(image)
        for kind in _ORDERS[int(order * len(_ORDERS))]:
            if kind == 3:
                picture = _turn_hue(picture, move[3])
            elif strength[kind]:
                picture = enhancers[kind](picture).enhance(1 + move[kind])
        changed.append(np.asarray(picture).reshape(image.shape))
    return changed


def rand_augment(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    operations: int = 2,
    magnitude: float = 9,
) -> Images:
    """Random ones of fourteen changes, all of one strength.

    RandAugment (Cubuk et al., NeurIPS 2020) with the ranges of torchvision: at the
    magnitude 30 rotation by 30 degrees, shear 0.3, shift 150/331 of the width, factors
    of colour, contrast, brightness and sharpness 0.1 or 1.9, 4 bits less, and all
    solarised. What comes in from outside is ImageNet's mean colour.

    Raises:
      ValueError: `operations` is not from 1 to 8, or `magnitude` not from 0 to 30.
    """
    if not 1 <= operations <= 8:
        raise ValueError(f"operations must be from 1 to 8, got {operations}")
    if not 0 <= magnitude <= _LEVELS:
        raise ValueError(f"magnitude must be from 0 to {_LEVELS}, got {magnitude}")
    kinds = (draws[:, :8] * len(_OPERATIONS)).astype(int)
    signs = np.where(draws[:, 8:] < 0.5, -1, 1)
    changed = []
    for image, chosen, sign in zip(images, kinds, signs.tolist(), strict=True):
        picture = to_pil(image)
        for kind, each in zip(chosen[:operations], sign, strict=False):
            picture = _OPERATIONS[kind](picture, magnitude / _LEVELS, each)
        changed.append(np.asarray(picture).reshape(image.shape))
    return changed


def random_erasing(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Images:
    """A random rectangle of some images is filled with ImageNet's mean colour.

    Zhong et al., AAAI 2020, filled as in "Bag of Tricks" (Luo et al., CVPRW 2019): the
    area is uniform in `area` times the image's, width over height log-uniform in
    `aspect`; the first of ten that fits, or none.

    Raises:
      ValueError: `probability` not in [0, 1], `area` not in (0, 1], or `aspect` not
        above 0, or out of order.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}")
    shapes = np.array([image.shape[:2] for image in images])
    boxes, fits = random_boxes(draws[:, 1:], shapes, area, aspect)
    changed = []
    for image, box, erased in zip(
        images, boxes, fits & (draws[:, 0] < probability), strict=True
    ):
        if erased:
            top, left, high, wide = box
            image = image.copy()
            image[top : top + high, left : left + wide] = _MEAN[image.shape[-1]]
        changed.append(image)
    return changed


def random_boxes(
    draws: np.ndarray,
    shapes: np.ndarray,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles of random area, shape and place: the first of ten that fits.

    Args:
      draws: [n, 22]: ten areas, ten shapes, down, right.
      shapes: int [n, 2], heights and widths of images.
      area: range of the share of the image's area.
      ratio: range of width over height.

    Returns:
      int [n, 4]: top, left, height and width; and bool [n], whether one fits.

    Raises:
      ValueError: `area` is not in (0, 1], or `ratio` not above 0, or out of order.
    """
    if not (0 < area[0] <= area[1] <= 1 and 0 < ratio[0] <= ratio[1]):
        raise ValueError(
            "a range of areas must be in (0, 1] and one of shapes above 0, each the "
            f"smaller number first, got {area} and {ratio}"
        )
    low, high = np.log(ratio)
    areas = area[0] + (area[1] - area[0]) * draws[:, :10]
    areas *= shapes.prod(1)[:, None]
    ratios = np.exp(low + (high - low) * draws[:, 10:20])
    sides = np.sqrt(np.stack([areas / ratios, areas * ratios], -1)).round().astype(int)
    fits = ((sides > 0) & (sides <= shapes[:, None])).all(-1)
    chosen = sides[np.arange(len(sides)), fits.argmax(1)]
    corner = (draws[:, 20:22] * (shapes - chosen + 1)).astype(int)
    return np.concatenate([corner, chosen], 1), fits.any(1)


def _turn_hue(picture: Image.Image, move: float) -> Image.Image:
    turn = round(255 * move)
    if picture.mode == "L" or not turn:
        return picture
    hue, *others = picture.convert("HSV").split()
    turned = hue.point([(value + turn) % 256 for value in range(256)])
    return Image.merge("HSV", (turned, *others)).convert("RGB")


def _enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[..., Image.Image]:
    return lambda picture, strength, sign: kind(picture).enhance(
        1 + 0.9 * sign * strength
    )


def _mapped(
    rows: Callable[[Image.Image, float], tuple[float, ...]],
) -> Callable[..., Image.Image]:
    """A map of places, by the six numbers that PIL takes."""

    def operation(picture: Image.Image, strength: float, sign: int) -> Image.Image:
        return picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            rows(picture, sign * strength),
            Image.Resampling.BILINEAR,
            fillcolor=_MEAN[len(picture.getbands())],
        )

    return operation


def _rotate(picture: Image.Image, strength: float, sign: int) -> Image.Image:
    fill = _MEAN[len(picture.getbands())]
    return picture.rotate(
        30 * strength * sign, Image.Resampling.BILINEAR, fillcolor=fill
    )


_OPERATIONS: list[Callable[[Image.Image, float, int], Image.Image]] = [
    lambda picture, strength, sign: picture,
    lambda picture, strength, sign: ImageOps.autocontrast(picture),
    lambda picture, strength, sign: ImageOps.equalize(picture),
    lambda picture, strength, sign: ImageOps.solarize(
        picture, round(256 * (1 - strength))
    ),
    lambda picture, strength, sign: ImageOps.posterize(
        picture, 8 - round(4 * strength)
    ),
    _rotate,
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Sharpness),
    _mapped(lambda picture, by: (1, 0.3 * by, 0, 0, 1, 0)),
    _mapped(lambda picture, by: (1, 0, 0, 0.3 * by, 1, 0)),
    _mapped(lambda picture, by: (1, 0, 150 / 331 * by * picture.width, 0, 1, 0)),
    _mapped(lambda picture, by: (1, 0, 0, 0, 1, 150 / 331 * by * picture.height)),
]
