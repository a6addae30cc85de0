"""Decoding is tested with whatever is installed, and with Pillow alone."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from rankjax.data import images
from rankjax.data.images import DamagedImage, EncodedImages, decode, fit_image, resize
from rankjax.errors import RunError


@pytest.fixture(params=["installed", "pillow"], autouse=True)
def backend(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(images, "simplejpeg", None)
        monkeypatch.setattr(images, "cv2", None)
    return request.param


def _smooth(height=30, width=40, channels=3):
    y, x, c = np.mgrid[:height, :width, :channels]
    return (3 * x + 2 * y + 40 * c).astype(np.uint8)


def _file(pixels, form="PNG", **options):
    content = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(content, form, **options)
    return content.getvalue()


def _jpeg(pixels, **options):
    return _file(pixels, "JPEG", quality=95, subsampling=0, **options)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG"])
def test_whole_image_keeps_its_size_and_colours(form):
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[:, 8:] = (250, 130, 10)
    got = decode(_file(pixels, form), channels=3)
    assert got.dtype == np.uint8
    np.testing.assert_allclose(got[:, ::19], pixels[:, ::19], atol=4)
    assert got.shape == (12, 20, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_give_their_upper_eight(channels):
    values = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    got = decode(_file(values), channels=channels)
    expected = [[0, 0, 1], [128, 254, 255]]
    for channel in range(channels):
        np.testing.assert_array_equal(got[..., channel], expected)


def test_grey_becomes_rgb_and_colour_becomes_luma():
    grey = _smooth(channels=1)[..., 0]
    got = decode(_file(grey), channels=3)
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, 2))
    colours = _smooth()
    luma = colours @ [0.299, 0.587, 0.114]
    for form in ("PNG", "JPEG"):
        content = _file(colours) if form == "PNG" else _jpeg(colours)
        got = decode(content, channels=1)
        assert got.shape == (30, 40, 1)
        np.testing.assert_allclose(got[..., 0], luma, atol=1 if form == "PNG" else 6)


def test_cmyk_and_palettes_become_rgb():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow make red
    np.testing.assert_allclose(
        decode(_jpeg(cmyk), channels=3)[0, 0], [255, 0, 0], atol=4
    )
    colours = np.full((6, 6, 3), (10, 200, 30), np.uint8)
    palette = Image.fromarray(colours).convert("P", colors=4)
    for options in ({}, {"transparency": 0}, {"transparency": b"\x00\x80"}):
        assert decode(_file(palette, **options), channels=3).shape == (6, 6, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("alpha", "ground"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_are_blended_on_the_chosen_ground(
    form, alpha, ground, channels
):
    share = np.linspace(0, 1, 256)[None].repeat(8, 0)
    grey = np.stack([np.full(share.shape, 90), 255 * share], -1).round().astype("u1")
    expected = 90 * share + ground * (1 - share)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    for pixels in (grey, grey[..., [0, 0, 0, 1]]):
        if form == "TIFF" and pixels.shape[-1] == 2:
            continue  # Pillow writes no such file
        content = _file(pixels, form, **options)
        got = decode(content, channels=channels, alpha=alpha)
        assert got.shape == (8, 256, channels)
        np.testing.assert_allclose(got[..., 0], expected, atol=1.01)
        assert (decode(content, channels=channels, alpha="drop") == 90).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_one_transparent_colour_is_blended_too(mode):
    image = Image.new(mode, (6, 4))
    transparency = (0, 0, 0) if mode == "RGB" else 0
    content = _file(image, transparency=transparency)
    assert (decode(content, channels=3) == 255).all()
    assert (decode(content, channels=3, alpha="drop") == 0).all()


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    for form in ("GIF", "PNG", "TIFF"):
        content = _file(frames[0], form, save_all=True, append_images=frames[1:])
        assert (decode(content, channels=3) == (255, 0, 0)).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_upright_as_exif_says(form, orientation):
    # Row 0 and column 0 of what is stored are, by the EXIF standard, the upright
    # image's: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, ...
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    got = decode(_file(np.ascontiguousarray(stored), form, exif=exif), channels=3)
    np.testing.assert_allclose(got, upright, atol=6)


@pytest.mark.parametrize("before", [0, 70_000])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_image_is_turned_upright_as_xmp_says_wherever_it_stands(form, before):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999'
        b'/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/'
        b'1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    if form == "JPEG":
        content = _jpeg(_smooth(16, 32))
        body = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        marked = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
        filler = b"\xff\xee" + (35_002).to_bytes(2, "big") + b"x" * 35_000
        content = content[:2] + filler * (before // 35_000) + marked + content[2:]
    else:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        content = _file(_smooth(16, 32), "PNG", pnginfo=info)
    assert decode(content, channels=3).shape == (32, 16, 3)


def test_one_limit_of_pixels_for_all_decoders(monkeypatch):
    assert images.MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(images, "MOST_PIXELS", 30 * 40 - 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", (30 * 40 - 1) / 2)
    for content in (_JPEG, _PNG):
        with pytest.raises(DamagedImage, match="exceeds limit"):
            decode(content, channels=3, at_least=4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 7, 255], [0, 7, 255]), ([0, 256, 65_535], [0, 1, 255])],
)
def test_tiff_of_32_bits_keeps_eight_that_hold_its_values(values, expected):
    content = _file(Image.fromarray(np.array([values], np.int32)), "TIFF")
    assert Image.open(io.BytesIO(content)).mode == "I"
    np.testing.assert_array_equal(decode(content, channels=1)[0, :, 0], expected)


def test_dark_images_of_16_bits_stay_dark():
    values = np.array([[0, 200, 255]], np.uint16)
    pgm = b"P5 3 1 65535\n" + values.astype(">u2").tobytes()
    for content in (_file(values), _file(values, "TIFF"), pgm):
        assert (decode(content, channels=1) == 0).all()


_JPEG, _PNG = _jpeg(_smooth()), _file(_smooth())
_DAMAGED = {
    "empty": b"",
    "text": b"<html>404</html>",
    "header of a jpeg": _JPEG[:30],
    "half a jpeg": _JPEG[: len(_JPEG) // 2],
    "half a png": _PNG[: len(_PNG) // 2],
    "png with a wrong checksum": _PNG[:60] + b"x" + _PNG[61:],
    "float pixels": _file(Image.new("F", (3, 3)), "TIFF"),
    "32 bit pixels": _file(Image.fromarray(np.full((3, 3), 70_000, np.int32)), "TIFF"),
}


@pytest.mark.parametrize("case", _DAMAGED)
def test_damaged_image_is_refused_in_one_line_with_its_name(case):
    with pytest.raises(DamagedImage, match=r"^[^\n]{5,}$"):
        decode(_DAMAGED[case], channels=3)
    source = EncodedImages(
        lambda indices: [_DAMAGED[case]] * len(indices),
        9,
        (8, 8, 3),
        name=lambda index: f"photos/é {index}.jpg",
    )
    for read in (source.read, source.originals):
        with pytest.raises(RunError, match=r"cannot read the image photos/é 4.jpg: "):
            read(np.array([4]))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([_JPEG, _PNG]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    st.one_of(st.none(), st.integers(0, 2000)),
)
def test_any_bytes_decode_or_are_damaged_alike_on_all_machines(whole, changes, length):
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            try:
                results.append(decode(bytes(content[:length]), channels=3).tolist())
            except DamagedImage as error:
                results.append(str(error))
            patch.setattr(images, "simplejpeg", None)
    assert results[0] == results[1]


@pytest.mark.parametrize(("at_least", "times"), [(None, 1), (16, 1), (15, 2), (3, 8)])
def test_jpeg_is_decoded_to_a_half_a_quarter_or_an_eighth(at_least, times):
    got = decode(_JPEG, channels=3, at_least=at_least)
    assert got.shape == (-(-30 // times), -(-40 // times), 3)


@pytest.mark.parametrize("size", [(15, 20), (10, 10), (60, 80), (7, 33)])
def test_resized_image_has_its_corners_where_they_were(size):
    height, width = size
    got = resize(_smooth(), height, width).astype(float)
    assert got.shape == (height, width, 3)
    # The middle of pixel i lies at (i + 1/2) times the scale, less half a pixel.
    x = (np.arange(width) + 0.5) * 40 / width - 0.5
    y = (np.arange(height) + 0.5) * 30 / height - 0.5
    expected = 3 * x + 2 * y[:, None]
    edge = 2 + 60 // min(size)  # where the filter meets the border
    inner = np.s_[edge:-edge, edge:-edge] if min(size) > 2 * edge else np.s_[3:4, 3:4]
    np.testing.assert_allclose(got[..., 0][inner], expected[inner], atol=1.5)


def test_crop_is_cut_from_the_centre_and_squash_is_stretched():
    ramp = np.repeat(np.arange(0, 240, 2, np.uint8)[None, :, None], 60, 0)  # 60 x 120
    np.testing.assert_array_equal(fit_image(ramp, 60, 60)[0, :, 0], ramp[0, 30:90, 0])
    np.testing.assert_array_equal(fit_image(ramp, 60, 30)[0, :, 0], ramp[0, 45:75, 0])
    # Short side 80 of which 60 are kept: from column (160 - 60) / 2 of 160 on.
    got = fit_image(ramp, 60, 60, 80)[0, :, 0]
    np.testing.assert_allclose(got, (np.arange(50, 110) + 0.5) * 1.5 - 1, atol=1.5)
    got = fit_image(ramp, 60, 30, fit="squash")[0, :, 0]
    np.testing.assert_allclose(got[1:-1], (np.arange(30) * 8 + 3)[1:-1], atol=1.5)


@pytest.mark.parametrize("how", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 999), (999, 1), (33, 32), (40, 40)])
@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 31)])
def test_image_of_any_shape_fits_any_size(shape, size, how):
    image = np.full((*shape, 3), (9, 8, 7), np.uint8)
    for short_side in (None, 70):
        got = fit_image(image, *size, short_side, fit=how)
        assert got.shape == (*size, 3)
        assert (got == (9, 8, 7)).all()


def test_letterbox_shows_all_and_continues_the_edges():
    image = np.full((20, 60, 3), (200, 100, 50), np.uint8)
    image[5:15, 5:55] = 0
    got = fit_image(image, 30, 30, fit="letterbox")
    assert (got[:10] == (200, 100, 50)).all()
    assert (got[20:] == (200, 100, 50)).all()
    assert (got[14:16, 4:26] == 0).all()
    assert (got[10:20, :2] == (200, 100, 50)).all()
    upright = fit_image(image.swapaxes(0, 1), 30, 30, fit="letterbox")
    np.testing.assert_allclose(upright.swapaxes(0, 1), got, atol=1)


@pytest.mark.parametrize("how", ["squash", "letterbox"])
def test_originals_of_images_that_are_not_cut_have_the_ratio_of_the_result(how):
    source = EncodedImages(lambda i: [_PNG] * len(i), 1, (8, 24, 3), name=str, fit=how)
    (whole,) = source.originals(np.array([0]))
    assert whole.shape == (30, 90, 3)
    thin = _file(np.zeros((9000, 1, 3), np.uint8))
    source = EncodedImages(lambda i: [thin] * len(i), 1, (8, 8, 3), name=str, fit=how)
    (whole,) = source.originals(np.array([0]))
    assert whole.shape == (189, 189, 3)


def test_files_are_fetched_once_and_originals_are_whole():
    fetched = []

    def fetch(indices):
        fetched.extend(indices.tolist())
        return [_PNG for _ in indices]

    source = EncodedImages(fetch, 5, (16, 16, 3), name=str)
    assert [image.shape for image in source.originals(np.array([3, 1, 3]))] == [
        (30, 40, 3)
    ] * 3
    assert source.read(np.array([1, 2])).shape == (2, 16, 16, 3)
    source.read(np.array([2, 1]))
    source.originals(np.array([1]))
    assert fetched == [3, 1, 2]
