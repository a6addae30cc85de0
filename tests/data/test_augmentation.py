import numpy as np
import pytest

from rankjax.data import AUGMENTATIONS
from rankjax.data.augmentation import DRAWS, affine_coefficients


def _draws(rows, seed=0):
    return np.random.default_rng(seed).random((rows, DRAWS))


def _photo(channels):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (6, 32, 32, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["affine", "crop_flip"])
def test_shape_and_type_stay_and_every_row_changes_by_itself(name, channels):
    images = np.repeat(_photo(channels)[:1], 6, axis=0)
    before = images.copy()
    changed = AUGMENTATIONS[name](images, _draws(6))
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert len(np.unique(changed.reshape(6, -1), axis=0)) == 6
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_image_and_its_draws_give_the_same_bytes_in_any_company(name):
    images, draws = _photo(3), _draws(6)
    together = AUGMENTATIONS[name](images, draws)
    for row in range(6):
        alone = AUGMENTATIONS[name](images[row : row + 1], draws[row : row + 1])
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_flat_image_stays_flat_so_no_border_is_filled(name):
    flat = np.full((20, 32, 32, 1), 200, np.uint8)
    changed = AUGMENTATIONS[name](flat, _draws(20))
    np.testing.assert_array_equal(changed, flat)


def test_crop_flip_mirrors_about_half():
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 8, (400, 32, 32, 1))
    changed = AUGMENTATIONS["crop_flip"](ramp, _draws(400)).astype(int)
    mirrored = changed[:, 0, 0, 0] > changed[:, 0, -1, 0]
    assert 160 < mirrored.sum() < 240


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
