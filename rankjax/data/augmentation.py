"""Random changes to training images that keep their class."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

from rankjax.data.images import mirror, resize, to_pil
from rankjax.errors import unknown_name

Images = Sequence[np.ndarray] | np.ndarray
Size = tuple[int, int]

# ImageNet's mean, which standardised images have as zero.
_MEAN = {1: (128,), 3: (124, 116, 104)}
_ORDERS = list(permutations(range(4)))
_FIELDS = 4  # in a row and in a column of an elastic change
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


def warped(
    image: np.ndarray, size: Size, how: Image.Transform, data: Any
) -> np.ndarray:
    """uint8 [h, w, c] to uint8 [*size, c], by what `Image.transform` of PIL takes."""
    moved = to_pil(image).transform(size[::-1], how, data, Image.Resampling.BILINEAR)
    return np.asarray(moved).reshape(*size, -1)


def views(images: Images, draws: np.ndarray, size: Size) -> Images:
    """One of the views [views, ...] of each row of a file of features."""
    return [
        image[int(draw * len(image))]
        for image, draw in zip(images, draws[:, 0], strict=True)
    ]


def affine(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    rotation: float = 10,
    scale: float = 0.15,
    shear: float = 0.1,
    shift: float = 1 / 16,
) -> Images:
    """Turned, enlarged or made smaller, sheared and moved; edges continue.

    Args:
      images, draws, size: as of `Augmentation`.
      rotation: degrees at most, either way.
      scale: at most, either way; .15 is from .85 to 1.15.
      shear: horizontal pixels per vertical pixel at most, either way.
      shift: share of the image's width and height at most, either way.

    Raises:
      ValueError: `rotation` is not in [0, 180], `scale` not in [0, 0.9], `shear` not in
        [0, 1], or `shift` not in [0, 0.5].
    """
    _check("rotation", rotation, most=180)
    _check("scale", scale, most=0.9)
    _check("shear", shear, most=1)
    _check("shift", shift, most=0.5)
    height, width = size
    margin = max(size) // 4 + 1
    draws = 2 * draws - 1
    coefficients = affine_coefficients(
        size,
        rotation * draws[:, 0],
        1 + scale * draws[:, 1],
        shear * draws[:, 2],
        np.array([width, height]) * shift * draws[:, 3:],
        margin=margin,
    ).tolist()
    return [
        warped(image, size, Image.Transform.AFFINE, six)
        for image, six in zip(_continued(images, margin), coefficients, strict=True)
    ]


def elastic(
    images: Images, draws: np.ndarray, size: Size, *, strength: float = 0.05
) -> Iterator[np.ndarray]:
    """Bent as handwriting differs: the corners of 4 x 4 fields move; edges continue.

    `strength` is the share of the image's width and height that a corner moves at most,
    either way; between corners the moves are interpolated.

    Raises:
      ValueError: `strength` is not in [0, 1/8]; above, corners could change places.
    """
    _check("strength", strength, most=1 / (2 * _FIELDS))
    height, width = size
    margin = max(size) // 4 + 1
    rows, columns = (np.linspace(0, side, _FIELDS + 1) for side in size)
    corners = np.stack(np.meshgrid(columns, rows), -1)  # right and down
    moves = (2 * draws - 1).reshape(len(draws), *corners.shape)
    moved = corners + margin + strength * np.array([width, height]) * moves
    moved = np.round(moved * _GRID) / _GRID
    x, y = (np.round(edges).astype(int).tolist() for edges in (columns, rows))
    fields = [(i, j) for i in range(_FIELDS) for j in range(_FIELDS)]
    boxes = [(x[j], y[i], x[j + 1], y[i + 1]) for i, j in fields]
    for image, at in zip(_continued(images, margin), moved, strict=True):
        mesh = []
        for box, (i, j) in zip(boxes, fields, strict=True):
            if box[0] < box[2] and box[1] < box[3]:  # of tiny images some are empty
                quad = at[[i, i + 1, i + 1, i], [j, j, j + 1, j + 1]]
                mesh.append((box, quad.ravel().tolist()))
        yield warped(image, size, Image.Transform.MESH, mesh)


def resize_crop_flip(
    images: Images, draws: np.ndarray, size: Size, *, resize_to: int = 0
) -> Iterator[np.ndarray]:
    """The short side resized to `resize_to`, a random part cut out, half mirrored.

    `resize_to` is in pixels; 0 is 8/7 of the longer side of the result, so that 224 is
    cut out of 256, the convention of deep metric learning.

    Raises:
      ValueError: `resize_to` is smaller than the result.
    """
    height, width = size
    short = resize_to or round(max(size) * 8 / 7)
    if short < max(size):
        raise ValueError(
            f"resize_to must be at least the image's size, {max(size)}, got {resize_to}"
        )
    for image, (down, right, flip) in zip(images, draws, strict=True):
        shape = np.array(image.shape[:2])
        whole = resize(image, *(shape * short // shape.min()).tolist())
        top = int(down * (whole.shape[0] - height + 1))
        left = int(right * (whole.shape[1] - width + 1))
        yield _mirror(whole[top : top + height, left : left + width], flip)


def random_resized_crop(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Iterator[np.ndarray]:
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
    for row, image in enumerate(images):
        top, left, high, wide = boxes[row] if fits[row] else _central(image, ratio)
        part = image[top : top + high, left : left + wide]
        yield _mirror(resize(part, *size), draws[row, -1])


def pad_crop_flip(
    images: Images, draws: np.ndarray, size: Size, *, padding: int = 10
) -> Iterator[np.ndarray]:
    """Moved by up to `padding` pixels each way, black coming in; half are mirrored.

    Person re-identification's convention (Luo et al., "Bag of Tricks", CVPRW 2019).

    Raises:
      ValueError: `padding` is negative.
    """
    if padding < 0:
        raise ValueError(f"padding must not be negative, got {padding}")
    height, width = size
    places = (draws[:, :2] * (2 * padding + 1)).astype(int)
    for image, (top, left), flip in zip(images, places, draws[:, 2], strict=True):
        padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
        yield _mirror(padded[top : top + height, left : left + width], flip)


def none(images: Images, draws: np.ndarray, size: Size) -> Images:
    """Images as they are evaluated."""
    return images


def color_jitter(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> Iterator[np.ndarray]:
    """Brightness, contrast, saturation and hue changed, in random order.

    As torchvision has it: factors uniform in 1 - x to 1 + x, the hue moved by up to
    `hue` of the circle each way. Defaults of MoCo v2 (Chen et al., 2020).

    Raises:
      ValueError: a factor not in [0, 1], or `hue` not in [0, 0.5].
    """
    given = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, value in given.items():
        _check(name, value, most=1)
    _check("hue", hue, most=0.5)
    strength = np.array([brightness, contrast, saturation, hue])
    moves = strength * (2 * draws[:, :4] - 1)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for image, move, order in zip(images, moves.tolist(), draws[:, 4], strict=True):
        picture = to_pil(image)
        for kind in _ORDERS[int(order * len(_ORDERS))]:
            turn = round(255 * move[3])
            if kind == 3 and turn and picture.mode == "RGB":
                circle, *others = picture.convert("HSV").split()
                circle = circle.point([(value + turn) % 256 for value in range(256)])
                picture = Image.merge("HSV", (circle, *others)).convert("RGB")
            elif kind < 3 and strength[kind]:
                picture = enhancers[kind](picture).enhance(1 + move[kind])
        yield np.asarray(picture).reshape(image.shape)


def random_erasing(
    images: Images,
    draws: np.ndarray,
    size: Size,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Iterator[np.ndarray]:
    """A random rectangle of some images is filled with ImageNet's mean colour.

    Zhong et al., AAAI 2020, filled as in "Bag of Tricks" (Luo et al., CVPRW 2019): the
    area is uniform in `area` times the image's, width over height log-uniform in
    `aspect`; the first of ten that fits, or none.

    Raises:
      ValueError: `probability` not in [0, 1], `area` not in (0, 1], or `aspect` not
        above 0, or out of order.
    """
    _check("probability", probability, most=1)
    shapes = np.array([image.shape[:2] for image in images])
    boxes, fits = random_boxes(draws[:, 1:], shapes, area, aspect)
    for image, box, erased in zip(
        images, boxes, fits & (draws[:, 0] < probability), strict=True
    ):
        if erased:
            top, left, high, wide = box
            image = image.copy()
            image[top : top + high, left : left + wide] = _MEAN[image.shape[-1]]
        yield image


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


class Transform(NamedTuple):
    """A change, the uniform numbers that it takes of an image, and where it starts."""

    apply: Callable[..., Iterable[np.ndarray]]
    draws: int
    whole: bool = False  # begins with images as they are stored, of any size


AUGMENTATIONS: dict[str, Transform] = {
    "none": Transform(none, 0),
    "affine": Transform(affine, 5),
    "elastic": Transform(elastic, 2 * (_FIELDS + 1) ** 2),
    "resize_crop_flip": Transform(resize_crop_flip, 3, whole=True),
    "random_resized_crop": Transform(random_resized_crop, 23, whole=True),
    "pad_crop_flip": Transform(pad_crop_flip, 3),
    "color_jitter": Transform(color_jitter, 5),
    "random_erasing": Transform(random_erasing, 23),
}
"""What an `Augmentation` is made of, by name; and `views`, of features alone."""

_VIEWS = Transform(views, 1, whole=True)


class Augmentation:
    """Changes one after the other, each image by itself.

    Attributes:
      draws: numbers that an image's change is made of, uniform on [0, 1).
      whole: whether it begins with images as they are stored, of any size, rather than
        as they are evaluated.
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
        transforms: list[Transform] = []
        left = dict(options or {})
        known: list[str] = []
        for name in names.split("+"):
            if name not in AUGMENTATIONS and names != "views":
                raise unknown_name("augmentation", name, list(AUGMENTATIONS))
            transform = AUGMENTATIONS.get(name, _VIEWS)
            if transform.whole and transforms:
                raise ValueError(f"augmentation {name} must be the first, got {names}")
            known += arguments(name)
            given = {key: left.pop(key) for key in arguments(name) if key in left}
            apply = partial(transform.apply, **given)
            transforms.append(transform._replace(apply=apply))
        if left:
            raise unknown_name(f"option of {names}", next(iter(left)), known)
        self._transforms = transforms
        self.draws = sum(each.draws for each in transforms)
        self.whole = transforms[0].whole

    def __call__(self, images: Images, draws: np.ndarray, size: Size) -> Images:
        """Changes images.

        Args:
          images: uint8 [h, w, c] each; of the height and width `size` unless `whole`.
          draws: [n, `draws`] in [0, 1).
          size: height and width of the result.

        Returns:
          n images, uint8 [height, width, c], each from its own original and draws.
        """
        ends = np.cumsum([each.draws for each in self._transforms])[:-1]
        for each, own in zip(self._transforms, np.split(draws, ends, 1), strict=True):
            images = list(each.apply(images, own, size))
        return images


def arguments(name: str) -> dict[str, Any]:
    """The options of a change and their defaults."""
    found = signature(AUGMENTATIONS.get(name, _VIEWS).apply).parameters.values()
    return {p.name: p.default for p in found if p.kind is Parameter.KEYWORD_ONLY}


def _check(name: str, value: float, *, most: float) -> None:
    """Raises a ValueError for a number that is not in [0, most]."""
    if not 0 <= value <= most:
        raise ValueError(f"{name} must be in [0, {most:g}], got {value}")


def _continued(images: Images, margin: int) -> np.ndarray:
    """Images of one size with their edges repeated all around."""
    images = np.asarray(images)
    rows, columns = (
        np.clip(np.arange(-margin, side + margin), 0, side - 1)
        for side in images.shape[1:3]
    )
    return images[:, rows[:, None], columns]


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
