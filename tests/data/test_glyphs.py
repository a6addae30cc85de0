"""What the glyphs looked like when results were published with them is in a table.

`python tests/data/test_glyphs.py` writes it anew. Then raise the version of
`rankjax.data.archives.Benchmark`, so that nobody reads drawings prepared before;
results from before and after can no longer be compared.
"""

import functools
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import pytest

from rankjax.data import CATALOGUE, load
from rankjax.data.glyphs import LEVELS, SIZE, render, split_classes

# What is drawn and prepared for one of these tests serves the others of the process.
pytestmark = pytest.mark.xdist_group("glyphs")

TABLE = Path(__file__).with_name("glyph_table.json")
VERSIONS = {"matplotlib": matplotlib.__version__, "pillow": PIL.__version__}
_ALL = [
    level if level == "lite" else pytest.param(level, marks=pytest.mark.slow)
    for level in LEVELS
]


@functools.cache
def drawn(level):
    return render(LEVELS[level])


def parts(level):
    """The images and labels of each split."""
    images, labels, *_ = drawn(level)
    for split, classes in split_classes(int(labels[-1]) + 1).items():
        members = np.isin(labels, classes)
        yield split, images[members], labels[members]


def describe(level):
    """Sizes and SHA-256 of a level's splits, and how hard its test split is: Recall@1
    of raw pixels by cosine similarity. The hash is over the images in order."""
    row = {
        split: {
            "classes": len(np.unique(labels)),
            "images": len(images),
            "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        }
        for split, images, labels in parts(level)
    }
    *_, (_, images, labels) = parts(level)
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    similarity = pixels @ pixels.T
    np.fill_diagonal(similarity, -np.inf)
    recall = np.mean(labels[similarity.argmax(1)] == labels)
    return row | {"pixel_recall_at_1": round(float(recall), 3)}


@pytest.mark.parametrize("level", _ALL)
def test_images_are_those_of_the_published_table(level):
    table = json.loads(TABLE.read_text())
    row, expected = describe(level), table["levels"][level]
    assert row.pop("pixel_recall_at_1") == pytest.approx(
        expected.pop("pixel_recall_at_1"), abs=0.002
    )
    assert row == expected, (
        f"glyphs/{level} differs from the table, which was made with "
        f"{table['versions']}; here are {VERSIONS}"
    )


def test_prepared_images_are_those_drawn_and_splits_have_no_class_in_common(glyphs):
    names = []
    for split, images, labels in parts("lite"):
        found = getattr(glyphs, split)
        assert found.labels.dtype == np.int32
        got = found.images.read(np.arange(len(images)))
        np.testing.assert_array_equal(got, images[..., None])
        numbers = np.unique(labels, return_inverse=True)[1]
        np.testing.assert_array_equal(found.labels, numbers)
        names += found.class_names
    assert len(names) == len(set(names))
    assert "A LATIN CAPITAL LETTER A" in names


@pytest.mark.slow
def test_another_process_renders_the_same_bytes():
    code = (
        "import hashlib; from rankjax.data.glyphs import LEVELS, render;"
        "print(hashlib.sha256(render(LEVELS['lite']).images.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    expected = hashlib.sha256(drawn("lite").images).hexdigest()
    assert out.stdout.decode().strip() == expected


@pytest.mark.parametrize("level", _ALL)
def test_no_image_is_in_two_classes_and_each_class_has_eight(level):
    drawings = [image.tobytes() for image in drawn(level).images]
    distinct = {*zip(drawings, drawn(level).labels.tolist(), strict=True)}
    assert len(distinct) == len({*drawings})
    assert np.bincount([label for _, label in distinct]).min() >= 8


def test_characters_that_look_alike_are_one_class():
    latin, greek, cyrillic = 0x41, 0x391, 0x410
    _, labels, codepoints, fonts = drawn("lite")
    assert latin in codepoints
    assert not {greek, cyrillic} & set(codepoints.tolist())
    keys = np.stack([labels, fonts], 1)
    assert len(np.unique(keys, axis=0)) == len(keys)


def test_drawings_are_centred_and_not_cut():
    ink = drawn("modes").images > 64
    for axis, off_centre in ((1, 5), (2, 12)):
        lines = ink.any(axis)
        first, last = lines.argmax(1), SIZE - 1 - lines[:, ::-1].argmax(1)
        assert first.min() > 0
        assert last.max() < SIZE - 1
        # The anti-aliased rim is not counted as ink; up and down the baseline counts.
        assert np.abs(first + last - (SIZE - 1)).max() <= off_centre


def test_both_cases_share_a_class_in_modes():
    _, labels, codepoints, _ = drawn("modes")
    (label,) = np.unique(labels[codepoints == ord("G")])
    assert set(labels[codepoints == ord("g")]) == {label}


def test_every_level_can_be_asked_for():
    names = {name for name, entry in CATALOGUE.items() if not entry.files}
    assert {name.removeprefix("glyphs/") for name in names} == {*LEVELS, "digits"}


def test_digits_are_scaled_resized_and_split_in_two(data_dir):
    data = load("digits", data_dir=data_dir, image_size=16)
    assert data.validation is None
    assert data.train.class_names == tuple("01234")
    assert data.test.class_names == tuple("56789")
    assert len(data.train.images) + len(data.test.images) == 1797
    images = data.test.images.read(np.arange(100))
    assert images.shape == (100, 16, 16, 1)
    assert images.max() == 255


if __name__ == "__main__":
    levels = {level: describe(level) for level in LEVELS}
    table = {"versions": VERSIONS, "levels": levels}
    TABLE.write_text(json.dumps(table, indent=2) + "\n")
