"""Chinese characters in fonts of archives."""

import dataclasses
import io

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from tiny_archives import write_tgz

from rankjax.data import CATALOGUE
from rankjax.data.splits import LoadOptions
from rankjax.data.tfds import load_benchmark

DRAWN = "一丁七万"
BLANK, LATIN = "丈", "A"


def font(height):
    """A font of bars as high as 1/100 em x `height`; the k-th is k + 1 fifths wide."""
    builder = FontBuilder(1000, isTTF=True)
    characters = [*DRAWN, BLANK, LATIN]
    names = [".notdef", *(f"u{ord(each):X}" for each in characters)]
    pens = {name: TTGlyphPen(None) for name in names}
    for k, character in enumerate([*DRAWN, LATIN]):
        pen, right, top = pens[f"u{ord(character):X}"], 200 * (k + 1), 10 * height
        pen.moveTo((0, 0))
        for corner in ((0, top), (right, top), (right, 0)):
            pen.lineTo(corner)
        pen.closePath()
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in characters})
    builder.setupGlyf({name: pen.glyph() for name, pen in pens.items()})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Bars", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    content = io.BytesIO()
    builder.save(content)
    return content.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("han")
    for number, package in enumerate(CATALOGUE["han"].files):
        regular, bold = font(20 + 4 * number), font(99)
        files = {"400Regular/X_400Regular.ttf": regular, "700Bold/X_700Bold.ttf": bold}
        write_tgz(folder / package, {f"package/{k}": v for k, v in files.items()})
    return load_benchmark(
        dataclasses.replace(CATALOGUE["han"], counts={"all": (17 * 4, 4)}),
        data_dir=folder / "data",
        manual_dir=folder,
        options=LoadOptions((48, 48)),
    )


def test_a_character_is_a_class_of_its_regular_faces_unless_it_is_blank(data):
    names = {*data.train.class_names, *data.test.class_names}
    assert {name[0] for name in names} == set(DRAWN)


def test_characters_are_drawn_at_48_pixels_with_30_to_the_em(data):
    for split in (data.train, data.test):
        images = split.images.read(np.arange(len(split.labels)))[..., 0] / 255
        for at, label in enumerate(split.labels):
            width = 30 * (DRAWN.index(split.class_names[label][0]) + 1) / 5
            height = 30 * (20 + 4 * (at % 17)) / 100
            assert images[at].sum() == pytest.approx(width * height, rel=0.15)
