"""Classes of icons: by name, over sets, without copies."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from tiny_archives import write_tgz

from rankjax.data import CATALOGUE
from rankjax.data.archives import Archives
from rankjax.data.icons import classes_of, read_icons
from rankjax.data.splits import LoadOptions
from rankjax.data.tfds import load_benchmark
from rankjax.errors import RunError

NAMES = ("house", "apple", "cloud", "spoon")
SETS = tuple("abcdefgh")


def bar(row, width):
    """Of 24 x 24, a bar of five in a row of its own."""
    return f'<rect y="{6 * row}" width="{width}" height="5"/>'


def icon_set(number, licence="MIT", category="UI 24px", **more):
    """A set that draws each name in its row, and as long as its number says."""
    bodies = {n: {"body": bar(k, 8 + 2 * number)} for k, n in enumerate(NAMES)}
    info = {"license": {"spdx": licence}, "category": category}
    return {"info": info, "width": 24, "height": 24, "icons": bodies} | more


def package(folder, sets):
    files = {
        f"package/json/{prefix}.json": json.dumps({"prefix": prefix} | content)
        for prefix, content in sets.items()
    }
    files["package/package.json"] = "{}"
    write_tgz(
        folder / CATALOGUE["icons"].files[0],
        {name: text.encode() for name, text in files.items()},
    )
    return Archives(folder)


def test_pictures_of_one_name_in_six_sets_are_a_class_and_half_of_them_are_tested(
    tmp_path,
):
    package(tmp_path, {name: icon_set(i) for i, name in enumerate(SETS)})
    data = load_benchmark(
        dataclasses.replace(CATALOGUE["icons"], counts={"test": (16, 2)}),
        data_dir=tmp_path / "data",
        manual_dir=tmp_path,
        options=LoadOptions((64, 64)),
    )
    assert {*data.train.class_names, *data.test.class_names} == set(NAMES)
    for split in (data.train, data.test):
        for at in range(len(split.labels)):
            image = split.images.read(np.array([at]))[0, :, :, 0].astype(float)
            name, number = split.class_names[split.labels[at]], at % len(SETS)
            top, right = 6 * NAMES.index(name) * 64 / 24, (8 + 2 * number) * 64 / 24
            # Ink is bright; the bar's five units of height, to its share of a pixel.
            assert image.sum() / 255 == pytest.approx(right * 5 * 64 / 24, rel=0.02)
            rows, columns = np.nonzero(image > 127)
            assert (rows.min(), columns.max() + 1) == pytest.approx((top, right), abs=1)


def test_sets_that_may_not_be_changed_and_emoji_and_animations_are_left_out(tmp_path):
    moving = {"body": "<path><animate/></path>"}
    sets = {name: icon_set(i) for i, name in enumerate(SETS[:6])}
    sets |= {"gpl": icon_set(7, "GPL-3.0"), "emo": icon_set(8, category="Emoji")}
    sets["my-emoji"] = icon_set(9)
    sets["f"]["icons"]["apple"] = moving
    sets["e"]["icons"]["cloud"]["hidden"] = True
    for content in sets.values():
        content["icons"] |= {"misc": {"body": bar(0, 3)}, "ab": {"body": bar(0, 4)}}
    found = read_icons(package(tmp_path, sets))
    assert set(found) == {"house", "spoon"}  # the others are in five sets
    assert [icon.set for icon in found["house"]] == list(SETS[:6])


def test_words_for_a_style_are_no_part_of_a_name(tmp_path):
    sets = {name: icon_set(i) for i, name in enumerate(SETS[:6])}
    plain = sets["a"]["icons"]
    sets["a"] |= {"suffixes": {"": "Line", "duo": "Duotone"}}
    sets["a"]["icons"] = {"house-duo": plain["house"], "apple-duo-2": plain["apple"]}
    sets["b"] |= {"prefixes": {"round": "Round"}}
    sets["b"]["icons"] = {"round-house": plain["house"], "apple-outline": {}}
    sets["b"]["icons"]["apple-outline"] = plain["apple"]
    sets["c"]["icons"]["house-2"] = plain["spoon"]
    found = read_icons(package(tmp_path, sets))
    assert [icon.name for icon in found["house"][:3]] == (
        ["house-duo", "round-house", "house"]
    )
    assert set(found) == {"house"}  # apple-duo is another thing in the first set


def drawing(seed):
    """Noise in cells of what drawings are compared by."""
    cells = np.random.default_rng(seed).integers(0, 16, (16, 16)) * 17
    return np.kron(cells, np.ones((4, 4))).astype(np.uint8)


def test_copies_are_in_a_class_once_and_names_that_share_three_drawings_are_one_class():
    rows = [("house", i) for i in range(8)]  # of its own
    rows += [("home", i) for i in (0, 1, 2, 10, 11, 12, 13)]  # three are the house's
    rows += [("apple", i) for i in (20, 21, 22, 23, 24, 25, 3)]  # one is the house's
    rows += [("cloud", i) for i in (30, 31, 32, 33, 34, 4)]  # the same, but of six
    drawings = np.stack([drawing(seed) for _, seed in rows])
    near = drawing(20).astype(int)
    near[:4, :4] = 255 - near[:4, :4]  # one cell of 256
    rows.append(("apple", 20))
    drawings = np.concatenate([drawings, near[None].astype(np.uint8)])
    found = classes_of([name for name, _ in rows], drawings)
    expected = {("house", i): "house" for i in (0, 1, 2, 5, 6, 7)}
    expected |= {("home", i): "house" for i in (10, 11, 12, 13)}
    expected |= {("apple", i): "apple" for i in (20, 21, 22, 23, 24, 25)}
    for place, (row, label) in enumerate(zip(rows, found, strict=True)):
        repeated = row in rows[:place]
        assert label == ("" if repeated else expected.get(row, "")), row


def test_what_draws_icons_is_named_where_it_is_missing(tmp_path, monkeypatch):
    package(tmp_path, {name: icon_set(i) for i, name in enumerate(SETS)})
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(RunError, match=r"^icons are drawn by resvg_py: pip install"):
        load_benchmark(
            CATALOGUE["icons"],
            data_dir=tmp_path / "data",
            manual_dir=tmp_path,
            options=LoadOptions((64, 64)),
        )
