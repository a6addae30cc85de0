import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankjax import data
from rankjax.data import AUGMENTATIONS, images
from rankjax.data.augmentation import affine_coefficients, random_boxes
from rankjax.errors import UsageError

_SQUARE = (32, 32)


class Augmentation(data.Augmentation):
    """With the images as one array."""

    def __call__(self, images, draws, size):
        return np.array(super().__call__(images, draws, size))


def _draws(augmentation, rows, seed=0):
    return np.random.default_rng(seed).random((rows, augmentation.draws))


def _noise(channels, rows=6):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, 32, 32, channels), np.uint8)


def _coordinates(height, width):
    """A photo whose red and green are the column and the row, and blue 100."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 100)], -1).astype(np.uint8)


@pytest.fixture(params=["installed", "pillow"])
def backend(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(images, "cv2", None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_shape_and_type_stay_and_every_row_changes_by_itself(name, channels):
    rows = 40
    images = np.repeat(_noise(channels)[:1], rows, axis=0)
    before, augmentation = images.copy(), Augmentation(name)
    changed = augmentation(images, _draws(augmentation, rows), _SQUARE)
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    # Some rows are left as they are, of what does not change all of them.
    assert len(np.unique(changed.reshape(rows, -1), axis=0)) > rows / 3
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (8, 100)])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images_that_are_not_square_keep_their_shape_and_place(name, size):
    image = np.repeat(np.arange(size[1])[None, :, None], size[0], 0).astype(np.uint8)
    augmentation = Augmentation(name)
    changed = augmentation([image] * 40, _draws(augmentation, 40), size)
    assert changed.shape == (40, *size, 1)
    if name == "affine":
        middle = changed[:, size[0] // 2, size[1] // 2, 0]
        assert abs(middle - size[1] / 2).max() <= size[1] / 16 * 1.2 + 1


_CHAIN = "random_resized_crop+color_jitter+random_erasing"


@pytest.mark.parametrize("name", [*AUGMENTATIONS, _CHAIN])
def test_an_image_and_its_draws_give_the_same_bytes_in_any_company(name):
    augmentation = Augmentation(name)
    images, draws = _noise(3), _draws(augmentation, 6)
    together = augmentation(images, draws, _SQUARE)
    for row in range(6):
        alone = augmentation(images[row : row + 1], draws[row : row + 1], _SQUARE)
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize(
    "name", ["none", "affine", "resize_crop_flip", "random_resized_crop"]
)
def test_flat_image_stays_flat_so_no_border_is_filled(name):
    flat = np.full((20, 32, 32, 1), 200, np.uint8)
    augmentation = Augmentation(name)
    changed = augmentation(flat, _draws(augmentation, 20), _SQUARE)
    np.testing.assert_array_equal(changed, flat)


@pytest.mark.parametrize(
    "name", ["resize_crop_flip", "random_resized_crop", "pad_crop_flip"]
)
def test_about_half_are_mirrored(name):
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 8, (400, 32, 32, 1))
    augmentation = Augmentation(name)
    changed = augmentation(ramp, _draws(augmentation, 400), _SQUARE).astype(int)
    mirrored = changed[:, 16, 10, 0] > changed[:, 16, 21, 0]
    assert 160 < mirrored.sum() < 240


@pytest.mark.usefixtures("backend")
def test_random_resized_crop_shows_a_part_of_the_asked_area_and_shape():
    augmentation = Augmentation(
        "random_resized_crop", {"scale": (0.25, 0.5), "ratio": (0.5, 2.0)}
    )
    photos = [_coordinates(150, 250)] * 300
    changed = augmentation(photos, _draws(augmentation, 300), (40, 40)).astype(float)
    # The middle of a result's pixel is that of 1/40 of the part.
    wide = np.abs(changed[:, 20, 38, 0] - changed[:, 20, 1, 0]) * 40 / 37
    high = (changed[:, 38, 20, 1] - changed[:, 1, 20, 1]) * 40 / 37
    areas, ratios = wide * high / (150 * 250), wide / high
    assert 0.24 < areas.min() < 0.28 < 0.45 < areas.max() < 0.52
    assert 0.48 < ratios.min() < 0.6 < 1.8 < ratios.max() < 2.1
    # Straight: columns in rows, and rows in columns, do not change.
    assert np.ptp(changed[:, :, 20, 0], axis=1).max() <= 1
    assert (changed[..., 2] == 100).all()
    # Everywhere: some parts touch each side of the photo.
    for channel, last in ((0, 249), (1, 149)):
        assert changed[..., channel].min() < 3
        assert changed[..., channel].max() > last - 3


def test_random_resized_crop_falls_back_to_the_centre():
    options = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    augmentation = Augmentation("random_resized_crop", options)
    draws = _draws(augmentation, 1)
    draws[:, -1] = 0.9  # not mirrored
    (changed,) = augmentation([_coordinates(60, 100)], draws, (60, 60))
    np.testing.assert_array_equal(changed, _coordinates(60, 100)[:, 20:80])


@pytest.mark.usefixtures("backend")
def test_resize_crop_flip_cuts_the_size_out_of_the_resized_photo():
    augmentation = Augmentation("resize_crop_flip", {"resize_to": 64})
    draws = np.array([[0.0, 0.0, 0.9], [0.999, 0.999, 0.9], [0.0, 0.0, 0.1]])
    photos = [_coordinates(128, 256)] * 3
    first, last, mirrored = augmentation(photos, draws, (56, 56)).astype(int)
    # Resized to 64 x 128: a pixel's middle is at twice its place and a half.
    assert abs(first[1, 1] - (2.5, 2.5, 100)).max() <= 1
    assert abs(last[-2, -2] - (252.5, 124.5, 100)).max() <= 1
    np.testing.assert_array_equal(mirrored, first[:, ::-1])
    default = Augmentation("resize_crop_flip")
    photo = _coordinates(256, 256)
    (kept,) = default([photo], np.array([[0.999, 0.0, 0.9]]), (224, 224))
    np.testing.assert_array_equal(kept, photo[32:, :224])


def test_pad_crop_moves_by_the_padding_at_most_and_brings_in_black():
    augmentation = Augmentation("pad_crop_flip", {"padding": 3})
    image = np.full((1, 20, 10, 3), 50, np.uint8)
    for draw, rows in ((0.0, np.s_[:3]), (0.9999, np.s_[-3:])):
        (changed,) = augmentation(image, np.array([[draw, 0.5, 0.9]]), (20, 10))
        black = (changed == 0).all((1, 2))
        assert black[rows].all()
        assert black.sum() == 3
    draws = _draws(augmentation, 500)
    moved = augmentation(np.repeat(image, 500, 0), draws, (20, 10))
    shifts = np.unique((moved[:, :, 5, 0] == 0).sum(1))
    np.testing.assert_array_equal(shifts, [0, 1, 2, 3])


def test_colour_jitter_multiplies_brightness_as_drawn_and_leaves_grey_alone():
    only = {"contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    augmentation = Augmentation("color_jitter", {"brightness": 0.5, **only})
    image = np.full((1, 4, 4, 3), (100, 60, 20), np.uint8)
    draws = np.array([[0.75, 0.5, 0.5, 0.5, 0.0]])
    np.testing.assert_allclose(
        augmentation(image, draws, (4, 4))[0, 0, 0], (125, 75, 25), atol=1
    )
    hue = Augmentation("color_jitter", {**only, "brightness": 0.0, "hue": 0.5})
    red = np.full((1, 4, 4, 3), (200, 0, 0), np.uint8)
    # A third of the circle on from red is green.
    draws[0, 3] = 0.5 + 1 / 3
    np.testing.assert_allclose(hue(red, draws, (4, 4))[0, 0, 0], (0, 200, 0), atol=6)
    saturation = Augmentation("color_jitter", {"brightness": 0.0, "contrast": 0.0})
    grey = _noise(1)
    draws = _draws(saturation, 6)
    np.testing.assert_array_equal(saturation(grey, draws, _SQUARE), grey)


def test_erased_share_area_and_shape_are_as_asked():
    augmentation = Augmentation(
        "random_erasing", {"probability": 0.3, "area": (0.1, 0.2), "aspect": (0.5, 2.0)}
    )
    images = np.zeros((1000, 40, 60, 3), np.uint8)
    changed = augmentation(images, _draws(augmentation, 1000), (40, 60))
    erased = (changed == (124, 116, 104)).all(-1)
    assert (changed[~erased] == 0).all()
    hit = erased.any((1, 2))
    assert 0.25 < hit.mean() < 0.35
    areas = erased[hit].mean((1, 2))
    assert 0.09 < areas.min() < 0.12 < 0.18 < areas.max() < 0.21
    high, wide = erased[hit].any(2).sum(1), erased[hit].any(1).sum(1)
    np.testing.assert_array_equal(high * wide, erased[hit].sum((1, 2)))  # rectangles
    assert 0.45 < (wide / high).min() < 0.6 < 1.7 < (wide / high).max() < 2.2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)).map(sorted),
    st.integers(0, 2**32),
)
def test_boxes_that_fit_lie_inside(height, width, area, ratio, seed):
    draws = np.random.default_rng(seed).random((20, 22))
    shapes = np.array([[height, width]] * 20)
    boxes, fits = random_boxes(draws, shapes, tuple(area), tuple(ratio))
    top, left, high, wide = boxes[fits].T
    assert (np.minimum.reduce([top, left, high - 1, wide - 1], initial=0) == 0).all()
    assert (top + high <= height).all()
    assert (left + wide <= width).all()


def test_wrong_settings_are_named():
    with pytest.raises(UsageError, match="no augmentation 'afine'; did you mean affin"):
        Augmentation("afine")
    with pytest.raises(UsageError, match=r"no option of .*crop 'scales'; did .* scale"):
        Augmentation("random_resized_crop", {"scales": (0, 1)})
    with pytest.raises(ValueError, match="random_resized_crop must be the first"):
        Augmentation("color_jitter+random_resized_crop")
    for name, options, message in (
        ("random_resized_crop", {"scale": (0.5, 0.2)}, "in \\(0, 1\\].*\\(0.5, 0.2\\)"),
        (
            "resize_crop_flip",
            {"resize_to": 20},
            "at least the image's size, 32, got 20",
        ),
        ("affine", {"scale": 1.0}, "scale must be in \\[0, 0.9\\], got 1.0"),
        ("affine", {"rotation": -5}, "rotation must be in \\[0, 180\\], got -5"),
        ("elastic", {"strength": 0.2}, "strength must be in \\[0, 0.125\\], got 0.2"),
        ("pad_crop_flip", {"padding": -1}, "padding must not be negative, got -1"),
        (
            "color_jitter",
            {"brightness": 2.0},
            "brightness must be in \\[0, 1\\], got 2",
        ),
        ("color_jitter", {"hue": 0.6}, "hue must be in \\[0, 0.5\\], got 0.6"),
        ("random_erasing", {"probability": 2}, "probability must be in"),
    ):
        augmentation = Augmentation(name, options)
        with pytest.raises(ValueError, match=message):
            augmentation(_noise(3), _draws(augmentation, 6), _SQUARE)


def test_coefficients_undo_the_described_map():
    rotation, scale, shear, shift = 30.0, 1.5, 0.2, np.array([3.0, -2.0])
    a, b, c, d, e, f = affine_coefficients(20, rotation, scale, shear, shift, margin=4)
    angle = np.deg2rad(rotation)
    for x, y in ((10.0, 10.0), (2.5, 17.0)):
        # Sheared, turned, scaled about the centre and moved by hand.
        u, v = x - 10 + shear * (y - 10), y - 10
        u, v = (
            np.cos(angle) * u - np.sin(angle) * v,
            np.sin(angle) * u + np.cos(angle) * v,
        )
        u, v = 10 + scale * u + shift[0], 10 + scale * v + shift[1]
        back = (a * u + b * v + c, d * u + e * v + f)
        np.testing.assert_allclose(back, (x + 4, y + 4), atol=1e-3)


def test_elastic_moves_each_pixel_between_the_moves_of_the_corners_around_it():
    strength = 0.1
    augmentation = Augmentation("elastic", {"strength": strength})
    draws = _draws(augmentation, 3)
    photo = _coordinates(*_SQUARE)
    changed = augmentation(np.stack([photo] * 3), draws, _SQUARE)
    for image, draw in zip(changed, draws, strict=True):
        moves = strength * 32 * (2 * draw.reshape(5, 5, 2) - 1)
        for row in range(4, 28):
            for column in range(4, 28):
                i, j = (row + 0.5) / 8, (column + 0.5) / 8
                top, left = int(i), int(j)
                down, right = i - top, j - left
                around = moves[top : top + 2, left : left + 2]
                along = around[:, 0] * (1 - right) + around[:, 1] * right
                move = along[0] * (1 - down) + along[1] * down
                place = np.clip(move + np.array((column, row)), 0, 31)
                assert abs(image[row, column, :2] - place).max() < 1.1


def test_affine_and_elastic_of_no_strength_leave_images_as_they_are():
    still = dict.fromkeys(("rotation", "scale", "shear", "shift", "strength"), 0)
    augmentation = Augmentation("affine+elastic", still)
    for channels in (1, 3):
        noise = _noise(channels)
        changed = augmentation(noise, _draws(augmentation, 6), _SQUARE)
        np.testing.assert_array_equal(changed, noise)
