import dataclasses
import inspect
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_archives
import without_report
from PIL import Image

from rankjax.data import CATALOGUE, load
from rankjax.data.archives import LAYOUTS, RENDERED, Archives, lfw_pairs
from rankjax.data.splits import LoadOptions
from rankjax.data.tfds import load_benchmark
from rankjax.errors import RunError

_SHARED = Path(__file__).parents[3] / "shared" / "data"
OMNIGLOT_SMALL = Path(os.getenv("RANKJAX_SHARED_DATA", _SHARED)) / "omniglot_small"
MAKERS = dict(inspect.getmembers(tiny_archives, inspect.isfunction))


def counted(found):
    """What a tiny archive must be counted as."""
    return {k: (len(rows), len({row[0] for row in rows})) for k, rows in found.items()}


def read(name, folder, counts, size=20, **options):
    """A benchmark, by way of its builder, with other counts than the real ones."""
    return load_benchmark(
        dataclasses.replace(CATALOGUE[name], counts=counts),
        data_dir=folder / "data",
        manual_dir=folder,
        options=LoadOptions((size, size), **options),
    )


def rows_of(split):
    """A row for each image, as the makers have them."""
    images = split.images.read(np.arange(len(split.images))).astype(int)
    green = 1 if images.shape[-1] == 3 else None
    return [
        (
            split.class_names[label],
            round(image[10, 10, 0] / 10),
            round(image[10, 10, green] / 10) if green else 0,
            group,
            camera,
        )
        for label, image, group, camera in zip(
            split.labels,
            images,
            itertools.repeat("") if split.supers is None else split.supers,
            itertools.repeat(-1) if split.cameras is None else split.cameras,
            strict=False,
        )
    ]


def test_every_entry_is_made_by_a_test_or_downloads_nothing():
    need_files = {name for name, entry in CATALOGUE.items() if entry.files}
    assert need_files - set(RENDERED) == set(LAYOUTS) == need_files & set(MAKERS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_labels_and_splits_are_those_of_the_archive(name, tmp_path):
    found = MAKERS[name](tmp_path)
    data = read(name, tmp_path, counted(found))
    splits = {"train": data.train, "test": data.test, "gallery": data.gallery}
    assert {split for split, value in splits.items() if value} == set(found)
    for split, rows in found.items():
        assert sorted(rows_of(splits[split])) == sorted(rows), split
        assert splits[split].labels.dtype == np.int32
    assert not set(data.train.class_names) & set(data.test.class_names)
    if data.gallery:
        assert data.gallery.class_names == data.test.class_names
    # What is prepared is enough.
    for file in tmp_path.iterdir():
        if file.is_file():
            file.unlink()
    again = read(name, tmp_path, counted(found))
    np.testing.assert_array_equal(again.test.labels, data.test.labels)


needs_omniglot = pytest.mark.skipif(
    not OMNIGLOT_SMALL.is_dir(), reason=f"there is no {OMNIGLOT_SMALL}"
)


@needs_omniglot
def test_real_archives_have_the_counts_of_the_catalogue(tmp_path):
    folders = {"data_dir": tmp_path, "manual_dir": OMNIGLOT_SMALL}
    data = load("omniglot_small", image_size=28, **folders)
    splits = data.train, data.validation, data.test
    assert [len(split.class_names) for split in splits] == [122, 14, 106]
    for split in splits:
        assert set(np.bincount(split.labels)) == {20}
        ink = 255 - split.images.read(np.arange(len(split.images)))
        assert 0.03 < ink.mean() / 255 < 0.2
    groups = [set(split.super_labels) for split in (data.train, data.test)]
    assert [len(group) for group in groups] == [5, 3]
    assert not groups[0] & groups[1]


@needs_omniglot
@pytest.mark.slow
def test_what_is_learnt_of_five_real_alphabets_tells_characters_of_three(tmp_path):
    folders = ["--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    folders += ["--manual-dir", str(OMNIGLOT_SMALL)]
    short = ["--steps", "200", "--eval-every", "200", "--devices", "1"]
    assert without_report.main(["omniglot_small", *short, *folders]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["raw_pixels"]["recall_at_1"] < 0.35
    assert summary["test"]["recall_at_1"] > 0.5


def test_photos_are_evaluated_by_the_centre_of_a_larger_one(tmp_path, monkeypatch):
    """224 of 256 are 28 of 32: two pixels of each side are cut off."""
    found = tiny_archives.cub(tmp_path)
    framed = np.full((32, 32, 3), 255, np.uint8)
    framed[2:-2, 2:-2] = 0
    file = io.BytesIO()
    Image.fromarray(framed).save(file, "PNG")
    with tarfile.open(tmp_path / "CUB_200_2011.tgz") as archive:
        names = [name for name in archive.getnames() if name.endswith(".jpg")]
    files = dict.fromkeys(names, file.getvalue())
    tiny_archives.write_tgz(tmp_path / "CUB_200_2011.tgz", files)
    entry = dataclasses.replace(CATALOGUE["cub"], counts=counted(found))
    monkeypatch.setitem(CATALOGUE, "cub", entry)

    def first(**options):
        data = load("cub", data_dir=tmp_path / "d", manual_dir=tmp_path, **options)
        return data.test.images.read(np.array([0]))[0]

    assert first(image_size=28).max() == 0
    assert first(image_size=28, short_side=28).max() > 100
    assert first(image_size=None).shape == (224, 224, 3)
    with pytest.raises(ValueError, match="short_side must be at least image_size, 28"):
        first(image_size=28, short_side=27)


def test_junk_and_distractors_are_told_apart(tmp_path):
    data = read("market1501", tmp_path, counted(tiny_archives.market1501(tmp_path)))
    names = np.array(data.gallery.class_names)[data.gallery.labels]
    np.testing.assert_array_equal(data.junk, names == "-1")
    assert data.protocol == "reid"
    assert data.junk.sum() == 2
    asked = {data.test.class_names[label] for label in data.test.labels}
    assert set(names) - asked == {"-1", "0000"}


def test_pairs_are_those_of_the_list(tmp_path):
    data = read("lfw", tmp_path, counted(tiny_archives.lfw(tmp_path)))
    images = rows_of(data.test)
    pairs = [[images[i][:3:2] for i in pair] for pair in data.pairs.indices]
    assert pairs == [
        [("Ann_Li", 0), ("Ann_Li", 1)],
        [("Bo", 1), ("Dan", 0)],
        [("Bo", 1), ("Bo", 0)],
        [("Cy_Doe", 1), ("Dan", 0)],
    ]
    assert data.pairs.same.tolist() == [True, False, True, False]
    assert data.pairs.folds.tolist() == [0, 0, 1, 1]
    assert data.protocol == "verification"


@pytest.mark.parametrize("name", ["in_shop", "market1501", "omniglot"])
def test_archives_may_be_in_a_folder_of_the_benchmark_and_unpacked(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    found = MAKERS[name](folder)
    assert len(read(name, tmp_path, counted(found)).test.labels) == len(found["test"])
    shutil.rmtree(tmp_path / "data")
    for file in list(folder.glob("*.zip")):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
        file.unlink()
    assert len(read(name, tmp_path, counted(found)).test.labels) == len(found["test"])


def test_other_counts_are_an_error_that_names_both(tmp_path):
    tiny_archives.cub(tmp_path)
    with pytest.raises(
        RunError, match="cub: train must have 5864 images of 100 classes, found 6 of 2"
    ):
        read("cub", tmp_path, CATALOGUE["cub"].counts)


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_archives_are_named_with_their_place(name, tmp_path):
    with pytest.raises(RunError) as error:
        read(name, tmp_path, {})
    for file in CATALOGUE[name].files:
        assert file in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0.5, 0])
def test_archive_that_is_cut_off_is_an_error_and_leaves_nothing(kept, tmp_path):
    found = tiny_archives.cub(tmp_path)
    file = tmp_path / "CUB_200_2011.tgz"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(RunError, match="could not prepare cub"):
        read("cub", tmp_path, counted(found))
    file.write_bytes(whole)
    assert len(read("cub", tmp_path, counted(found)).test.labels) == 6


def test_killed_preparation_is_done_again(tmp_path):
    found = tiny_archives.sop(tmp_path)
    here = Path(__file__).parent
    code = (
        "import sys, time; from pathlib import Path; sys.path[:0] = sys.argv[2:];"
        "import test_archives as t;"
        "real = t.LAYOUTS['sop']\n"
        "def slow(archives):\n"
        "    for example in real(archives):\n"
        "        yield example; time.sleep(1)\n"
        "t.LAYOUTS['sop'] = slow; t.read('sop', Path(sys.argv[1]), {})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, here, here.parent],
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.rglob("incomplete.*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read("sop", tmp_path, counted(found)).test.labels) == 6


def tear(archive, ending):
    """Cuts off the images whose names end so."""
    with zipfile.ZipFile(archive) as file:
        files = {name: file.read(name) for name in file.namelist()}
    files = {k: v[:-20] if k.endswith(ending) else v for k, v in files.items()}
    tiny_archives.write_zip(archive, files)


def test_damaged_image_of_an_archive_is_named_or_left_out(tmp_path, capfd):
    tiny_archives.in_shop(tmp_path)
    tear(tmp_path / "img.zip", "05_1_front.jpg")
    with pytest.raises(RunError, match=r"image img/.*05_1_front\.jpg"):
        read("in_shop", tmp_path, {}).gallery.images.read(np.arange(3))
    data = read("in_shop", tmp_path, {"gallery": (3, 2)}, on_damage="skip")
    assert len(data.gallery.labels) == 2
    assert len(data.test.labels) == 2
    errors = capfd.readouterr().err
    assert "left out 1 damaged images of in_shop" in errors
    assert "id_00000007/05_1_front.jpg" in errors


def test_pairs_and_junk_follow_what_is_left_out(tmp_path):
    tiny_archives.market1501(tmp_path)
    tear(tmp_path / "Market-1501-v15.09.15.zip", "-1_c1s1_000006_01.jpg")
    data = read("market1501", tmp_path, {}, on_damage="skip")
    assert len(data.gallery.labels) == len(data.junk) == 7
    assert data.junk.sum() == 1

    pairs = read("lfw", tmp_path, counted(tiny_archives.lfw(tmp_path))).pairs
    kept = np.array([True, True, False, True, True, True, True])  # without Bo_0001
    left = pairs.among(kept)
    rows = np.flatnonzero(kept)[left.indices]
    np.testing.assert_array_equal(rows, pairs.indices[[0, 1, 3]])
    assert left.same.tolist() == [True, False, False]
    assert left.folds.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\t", b","),
        lambda text: (
            b"name,imagenum1,imagenum2,\n"
            + b"".join(
                b",".join([*line.split(), b""][:4]) + b"\n"
                for line in text.splitlines()[1:]
            )
        ),
    ],
)
def test_pairs_are_the_same_with_a_byte_order_mark_or_as_csv(tmp_path, change):
    tiny_archives.lfw(tmp_path)
    expected = lfw_pairs(Archives(tmp_path))
    assert [pair[2:] for pair in expected] == [
        (True, 0),
        (False, 0),
        (True, 1),
        (False, 1),
    ]
    file = tmp_path / "pairs.txt"
    file.write_bytes(change(file.read_bytes()))
    assert lfw_pairs(Archives(tmp_path)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "must begin with the numbers of folds and of pairs, .* got ''"),
        (b"2\t1\n", "has 0 pairs, not 2 x 2 x 1"),
        (b"2\t1\nBo\t1\n", "in every line, got 'Bo 1'"),
        (b"2\t1\nBo\tx\t1\n", "in every line, got 'Bo x 1'"),
        (b"2\t1\nJos\xe9\t1\t2\n", "pairs.txt is not text in UTF-8: .* byte 0xe9"),
        (b"Bo\t1\t2\n", "the heading of a CSV file, got 'Bo 1 2'"),
        (b"name,a,b\nBo,1,2\n", "has 1 pairs, not 2 x"),
    ],
)
def test_pairs_that_are_none_are_named(tmp_path, text, said):
    (tmp_path / "pairs.txt").write_bytes(text)
    with pytest.raises(ValueError, match=said):
        lfw_pairs(Archives(tmp_path))
