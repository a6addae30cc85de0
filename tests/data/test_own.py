"""A person's own images: folders, lists in CSV and Parquet, re-identification's."""

import csv
import io
import os

import numpy as np
import pytest
from PIL import Image

from experiments.config import Config
from experiments.images import list_dataset, list_images
from experiments.training.images import load_data
from rankjax.data import load
from rankjax.errors import RunError, UsageError


def save(root, *names, colour=(10, 20, 30), size=(12, 8), **options):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(root / name, **options)


def fill(root, classes, images=2):
    for i in range(classes):
        for j in range(images):
            save(root, f"c{i:02d}/{j}.png", colour=(i, j, 0))


def load_folder(path, **options):
    options = {"image_size": 6, "data_dir": path / "unused"} | options
    return load(f"folder:{path}", **options)


def write_list(file, rows):
    """Rows are dictionaries; the suffix is that of the format."""
    if file.suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(
            pa.table({key: [row[key] for row in rows] for key in rows[0]}), file
        )
        return
    with open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def load_list(file, rows=None, **options):
    if rows:
        write_list(file, rows)
    return load(f"list:{file}", data_dir=file.parent, image_size=5, **options)


def classes_of(data):
    splits = (data.train, data.validation, data.test)
    return [split and set(split.class_names) for split in splits]


def reds(split):
    return split.images.read(np.arange(len(split.images)))[:, 2, 2, 0].tolist()


def test_classes_are_halved_by_seed_and_held_out(tmp_path):
    fill(tmp_path, 41)
    parts = classes_of(load_folder(tmp_path))
    assert [len(part) for part in parts] == [18, 2, 21]
    assert len(set.union(*parts)) == 41
    assert classes_of(load_folder(tmp_path)) == parts
    assert classes_of(load_folder(tmp_path, seed=1))[0] != parts[0]


def test_images_go_with_their_labels_and_are_rgb(tmp_path):
    fill(tmp_path, 6)
    data = load_folder(tmp_path)
    assert data.validation is None
    for split in (data.train, data.test):
        assert split.images.read(np.arange(6)).shape == (6, 6, 6, 3)
        assert reds(split) == [int(split.class_names[i][1:]) for i in split.labels]
        assert split.labels.dtype == np.int32
        np.testing.assert_array_equal(np.unique(split.labels), [0, 1, 2])


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((60, 60), 6, "crop"),
        ((60, 40), 6, "crop"),
        ((60, 110), 6, "letterbox"),
        ((190, 100), 6, "letterbox"),
        ((60, 110), (12, 6), "squash"),
        ((40, 20), (6, 12), "squash"),
        ((110, 30), (12, 6), "letterbox"),
    ],
)
def test_fit_is_chosen_from_the_ratios_of_images_and_said(
    shape, size, expected, tmp_path, capfd
):
    save(tmp_path, *(f"{name}/0.png" for name in "abcd"), size=shape)
    data = load_folder(tmp_path, image_size=size)
    assert {data.train.images.fit, data.test.images.fit} == {expected}
    said = [line for line in capfd.readouterr().err.splitlines() if "fit of" in line]
    assert len(said) == (shape != (60, 60) and (shape, size) != ((40, 20), (6, 12)))
    assert all(f": {expected}; " in line for line in said)
    data = load_folder(tmp_path, image_size=size, fit="squash")
    assert data.test.images.fit == "squash"
    assert "fit of" not in capfd.readouterr().err


def test_images_with_alpha_are_counted_and_named(tmp_path, capfd):
    fill(tmp_path, 2)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "c00" / "clear.png")
    clear.save(tmp_path / "c01" / "clear.webp")
    data = load_folder(tmp_path)
    said = capfd.readouterr().err
    assert "alpha of 2 images" in said
    assert "c00/clear.png" in said
    assert max(reds(data.train)) == 255
    assert max(reds(load_folder(tmp_path, alpha="drop").train)) <= 1


def test_impossible_folders_are_refused(tmp_path):
    def refused(message, path=tmp_path):
        with pytest.raises(UsageError, match=message):
            load_folder(path)

    refused("there is no folder", tmp_path / "nowhere")
    refused("holds no image in a folder of a class")
    save(tmp_path, "x.png")
    refused("holds no image in a folder of a class")
    save(tmp_path, "c/x.png")
    refused("two or more classes to be split, got c")
    (tmp_path / "c").rename(tmp_path / "only")
    save(tmp_path, "train/c/x.png")
    refused(r"test \(or query\).*got train only")
    save(tmp_path, "test/b/x.png", "val/d/x.png", "dev/e/x.png")
    refused(r"/dev and .*/val are both the split valid")


def test_class_in_two_splits_is_refused_with_the_list_that_would_work(tmp_path):
    save(tmp_path / "in", *(f"{s}/{c}/x.png" for s in ("train", "test") for c in "ab"))
    with pytest.raises(UsageError, match=r"class a of .* is in two splits") as refused:
        load_folder(tmp_path / "in")
    assert str(tmp_path / "in/train/a/x.png") in str(refused.value)
    assert str(tmp_path / "in/test/a/x.png") in str(refused.value)
    line = str(refused.value).rpartition("such as ")[2]
    lines = [line.replace("/a/", f"/{c}/")[:-1] + c for c in "ab"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    train, _, test = classes_of(load_list(tmp_path / "list.csv"))
    assert train | test == {"a", "b"}


@pytest.mark.parametrize(
    "files",
    [
        ("a/2020/x.png", "a/2021/x.png", "b/2020/x.png", "b/2021/x.png"),
        ("a/x.png", "a/more/y.png", "b/x.png"),
        ("train/a/x.png", "train/b/c/x.png", "test/d/x.png"),
        ("animals/cat/x.png", "animals/dog/x.png"),
    ],
)
def test_all_readers_refuse_ambiguous_classes_and_name_two_paths(files, tmp_path):
    save(tmp_path, *files)
    for read in (load_folder, lambda path: list_images([str(path)])):
        with pytest.raises(UsageError, match="may be of one class or of two") as error:
            read(tmp_path)
        assert sum(str(tmp_path / file) in str(error.value) for file in files) == 2
    listed = list_images([str(tmp_path / "**" / "*.png")])
    assert listed.classes == []
    assert len(listed.paths) == len(files)


@pytest.mark.parametrize(
    "folders", [{"query": "test", "Gallery": "gallery"}, {"test": "test"}]
)
def test_all_readers_take_a_test_set_alone(folders, tmp_path):
    save(tmp_path, *(f"{folder}/{label}/1.png" for folder in folders for label in "ab"))
    expected = [split for split in folders.values() for _ in "ab"]
    for listed in (
        list_images([str(tmp_path)]),
        list_dataset(load_folder(tmp_path)),
    ):
        assert sorted(listed.beside["split"]) == sorted(expected)
        assert listed.classes == [*"ab"] * len(folders)
    assert len(load_folder(tmp_path).train.labels) == 0
    data = Config().replace(dataset=f"folder:{tmp_path}").data
    with pytest.raises(UsageError, match="nothing to train on, the split train is mis"):
        load_data(data, 0)


def test_folders_of_classes_that_are_named_one_by_one_have_no_labels(tmp_path, capsys):
    save(tmp_path, "a/1.png", "b/1.png")
    words = [str(tmp_path / label) for label in "ab"]
    assert list_images(words).classes == []
    said = f"no labels: for folders as classes, name {tmp_path}\n"
    assert capsys.readouterr().err == said
    list_images([f"{word}/1.png" for word in words])
    assert capsys.readouterr().err == ""
    assert list_images([str(tmp_path)]).classes == ["a", "b"]


def test_the_list_that_is_proposed_for_ambiguous_classes_has_the_split(tmp_path):
    save(tmp_path, "train/a/x.png", "test/b/c/x.png")
    with pytest.raises(UsageError, match=r"test/CLASS/.*label,split ") as error:
        load_folder(tmp_path)
    assert str(error.value).endswith("such as test/b/c/x.png,b/c,test")


@pytest.mark.parametrize("other", ["caf\u00e9\u200b", "cafe\u0301", "caf\u00e9 "])
def test_all_readers_refuse_folders_whose_names_look_alike(other, tmp_path):
    save(tmp_path, "caf\u00e9/1.png", f"{other}/2.png", "tea/3.png", "water/4.png")
    for read in (load_folder, lambda path: list_images([str(path)])):
        with pytest.raises(UsageError, match="look alike and have different char"):
            read(tmp_path)


@pytest.mark.parametrize("root", ["", "Train", "test"])
def test_all_readers_find_the_same_images_and_classes(root, tmp_path):
    other, photos = tmp_path / "elsewhere", tmp_path / "photos"
    fill(other, 3)
    save(
        photos, *(("Train/a/x.png", "test/z/x.png") if root else ("a/x.png", "z/x.png"))
    )
    (photos / root / "linked").symlink_to(other / "c00")
    (photos / root / "b").mkdir()
    (photos / root / "b" / "y.png").symlink_to(other / "c01" / "0.png")
    (photos / root / "b" / "loop").symlink_to(photos)
    data, listed = load_folder(photos), list_images([str(photos)])
    in_data = {
        (split.images.name(i), split.class_names[label])
        for split in (data.train, data.test)
        for i, label in enumerate(split.labels)
    }
    assert in_data == set(zip(listed.paths, listed.classes, strict=True))
    assert {name for _, name in in_data} == {"a", "b", "linked", "z"}
    assert len(in_data) == 5


def test_every_image_that_the_decoder_reads_is_found_whatever_its_suffix(tmp_path):
    suffixes = {"jfif": "JPEG", "ppm": "PPM", "pgm": "PPM", "jp2": "JPEG2000"}
    suffixes |= {"avif": "AVIF", "TIF": "TIFF", "tga": "TGA", "orig": "PNG"}
    for name in "ab":
        save(tmp_path, f"{name}/plain", colour=(200, 0, 0), format="JPEG")
        for suffix, form in suffixes.items():
            save(tmp_path, f"{name}/x.{suffix}", colour=(200, 0, 0), format=form)
    data = load_folder(tmp_path)
    for split in (data.train, data.test):
        assert len(split.labels) == len(suffixes) + 1
        assert min(reds(split)) > 150


def test_whatever_is_left_out_is_counted_and_named(tmp_path, capfd):
    fill(tmp_path, 2)
    save(tmp_path, "loose.png", "c00/.hidden.png")
    (tmp_path / "c00" / "notes.txt").write_text("P1 is not an image")
    (tmp_path / "c01" / "song.mp3").write_bytes(b"ID3")
    os.mkfifo(tmp_path / "c01" / "pipe.png")
    (tmp_path / "c02").mkdir()
    save(tmp_path, "runs/mine/figures/gallery.png")
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "runs" / "mine" / name).write_text("{}")
    (tmp_path / "c01" / "back").symlink_to(tmp_path)
    data = load_folder(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 4
    said = capfd.readouterr().err.splitlines()
    for start, names in (
        ("1 images that lie in no class folder: ", ["loose.png"]),
        ("1 hidden files and folders: ", [".hidden.png"]),
        ("3 files that are not images: ", ["notes.txt", "pipe.png", "song.mp3"]),
        ("2 folders without images: ", ["c02", "runs"]),
        ("1 folders of runs: ", ["mine"]),
        ("1 links to a folder that they lie in: ", ["back"]),
    ):
        (line,) = (line for line in said if start in line)
        assert all(name in line for name in names)
    assert len(said) == 7  # and how images fit


def test_classes_below_a_folder_of_no_split_are_said_to_be_so(tmp_path, capsys):
    save(tmp_path, *(f"train/{label}/x.png" for label in "ab"), "x.png")
    save(tmp_path, "test/c/x.png", "test/c/y.png", "holdout/Anjou/x.png")
    (tmp_path / "train/a/x.HEIC").touch()
    assert load_folder(tmp_path).train.class_names == ("a", "b")
    said = capsys.readouterr().err
    assert "1 images that lie in no class folder: x.png\n" in said
    assert "1 images in folders that are no split (train, validation, test, " in said
    assert "query): holdout/Anjou/x.png\n" in said
    assert "1 images of a kind that is not read (convert HEIC to JPEG): " in said


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VAL", "Dev"])
@pytest.mark.parametrize("train", ["TRAIN", "training"])
def test_names_of_a_split_mean_the_same_in_folders_and_lists(train, name, tmp_path):
    places = ((train, "ab"), (name, "c"), ("Query", "de"), ("Gallery", "def"))
    rows = [
        {"path": f"in/{split}/{label}/x.JPG", "label": label, "split": split}
        for split, labels in places
        for label in labels
    ]
    save(tmp_path, *(row["path"] for row in rows))
    listed = load_list(tmp_path / "list.csv", rows)
    for data in (load_folder(tmp_path / "in"), listed):
        assert data.protocol == "query-gallery"
        assert classes_of(data)[:2] == [{"a", "b"}, {"c"}]
        assert data.test.labels.tolist() == [0, 1]
        assert data.gallery.class_names == ("d", "e", "f")


def test_trains_may_be_a_class_but_splits_without_classes_are_refused(tmp_path):
    save(tmp_path, "train/x.png", "car/x.png")
    train, _, test = classes_of(load_folder(tmp_path))
    assert train | test == {"train", "car"}
    assert list_images([str(tmp_path)]).classes == ["car", "train"]
    save(tmp_path, "test/x.png")
    with pytest.raises(UsageError, match="holds no image in a folder of a class"):
        load_folder(tmp_path)


def test_file_names_that_are_not_utf8_are_read(tmp_path, capfd):
    for name in (b"caf\xe9", b"b"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        with open(os.path.join(folder, b"\xff.png"), "wb") as file:
            Image.new("RGB", (9, 7)).save(file, "PNG")
        open(os.path.join(folder, b"\xfe.txt"), "wb").close()
    data = load_folder(tmp_path)
    assert reds(data.train) == [0]
    assert {*data.train.class_names, *data.test.class_names} == {"b", "cafU+DCE9"}
    assert "b/U+DCFF.png" in "".join(s.images.name(0) for s in (data.train, data.test))
    assert "2 files that are not images" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(b""), "it is empty"),
        (lambda file: file.write_bytes(b"torn"), "cannot identify"),
        (lambda file: file.write_bytes(file.read_bytes()[:-30]), ""),
        (lambda file: (file.unlink(), file.symlink_to("../pipe")), "not a regular"),
        (lambda file: (file.unlink(), file.symlink_to("nothing")), "a link to nothing"),
    ],
)
def test_what_is_no_image_is_named_and_does_not_block(damage, said, tmp_path):
    fill(tmp_path, 2)
    os.mkfifo(tmp_path / "pipe")
    damage(tmp_path / "c00" / "1.png")
    with pytest.raises(RunError, match=rf"c00/1.png(:| is) .*{said}"):
        load_folder(tmp_path)


def test_damage_is_found_in_all_splits_before_anything_is_read(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/c", "test/d"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    cut, changed = tmp_path / "test" / "c" / "1.png", tmp_path / "test" / "d" / "2.png"
    cut.write_bytes(cut.read_bytes()[:-60])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 255  # which neither the header nor the end tells
    changed.write_bytes(content)
    with pytest.raises(RunError, match=r"/c/1.png: .*\(1 of 12 images are dam.*; exp"):
        load_folder(tmp_path)
    with pytest.raises(RunError, match=r"\(2 of 12 images are damaged"):
        load_folder(tmp_path, check_images="all")
    data = load_folder(tmp_path, on_damage="skip")
    said = capfd.readouterr().err
    assert str(cut) in said
    assert str(changed) in said
    assert len(data.test.labels) == 4
    cut.unlink()
    data = load_folder(tmp_path)
    with pytest.raises(RunError, match=r"cannot read the image .*/d/2.png"):
        data.test.images.read(np.arange(5))


def test_images_with_unusual_ends_that_decode_are_not_damaged(tmp_path):
    fill(tmp_path, 2)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 9, 9)).save(buffer, "JPEG")
    (tmp_path / "c00" / "more.jpg").write_bytes(buffer.getvalue() + bytes(500))
    suffixes = ("bmp", "webp", "gif", "tiff", "ppm", "tga")
    save(tmp_path, *(f"c01/x.{suffix}" for suffix in suffixes))
    data = load_folder(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 11


def persons(folder):
    """Persons to train on, and queries and a gallery of others, with cameras."""
    rows = [
        *(
            ("a", "train", "c1", "x"),
            ("a", "train", "c2", "x"),
            ("b", "train", "c1", "x"),
        ),
        *(("k", "query", "c2", "y"), ("k", "gallery", "c1", "y")),
        *(("-1", "gallery", "c3", "y"), ("é", "gallery", "c3", "y")),
    ]
    keys = ("label", "split", "camera", "super")
    for i in range(len(rows)):
        save(folder, f"Bilder ä/{i}.png", colour=(i, 0, 0))
    return [
        {"path": f"Bilder ä/{i}.png"} | dict(zip(keys, row, strict=True))
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_column_of_a_list_is_used(kind, tmp_path):
    rows = persons(tmp_path)
    data = load_list(tmp_path / f"images.{kind}", rows)
    assert data.protocol == "reid"
    assert data.validation is None
    for split, expected in ((data.train, [0, 1, 2]), (data.test, [3])):
        assert reds(split) == expected
        names = [split.class_names[label] for label in split.labels]
        assert names == [rows[i]["label"] for i in expected]
    assert data.train.cameras.tolist() == [0, 1, 0]
    assert data.train.super_labels.tolist() == [0, 0, 0]
    assert data.test.super_labels.tolist() == [1]
    assert data.gallery.cameras.tolist() == [0, 2, 2]
    assert data.gallery.class_names == data.test.class_names == ("-1", "k", "é")
    assert data.gallery.labels.tolist() == [1, 0, 2]
    assert data.test.labels.tolist() == [1]
    assert data.junk.tolist() == [False, True, False]
    for row in rows:
        del row["camera"]
    data = load_list(tmp_path / f"images.{kind}", rows)
    assert data.protocol == "query-gallery"
    assert data.junk is None


def test_list_of_paths_and_labels_is_split_by_class_as_folders_are(tmp_path):
    fill(tmp_path / "in", 12)
    files = sorted((tmp_path / "in").rglob("*.png"))
    rows = [{"path": str(file), "label": file.parent.name} for file in files]
    listed = load_list(tmp_path / "list.csv", rows, seed=3)
    assert classes_of(listed) == classes_of(load_folder(tmp_path / "in", seed=3))
    assert listed.protocol == "leave-one-out"
    assert listed.gallery is None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_marked_in_the_column_exclude_are_left_out_and_counted(
    kind, tmp_path, capsys
):
    fill(tmp_path, 6, images=4)
    files = sorted(tmp_path.rglob("*.png"))
    marks = ["", "x", "X ", "0", " No", "1", "true", "1.0", "Yes", "0.0", "FALSE", ""]
    rows = [
        {"path": str(file), "label": file.parent.name, "exclude": mark}
        for file, mark in zip(files, marks + [""] * 12, strict=True)
    ]
    data = load_list(tmp_path / f"list.{kind}", rows)
    kept = [(row["label"], int(row["path"][-5])) for row in rows]
    kept = [kept[i] for i in range(24) if i not in (1, 2, 5, 6, 7, 8)]
    found = []
    for split in (data.train, data.test):
        names = [split.class_names[label] for label in split.labels]
        greens = split.images.read(np.arange(len(names)))[:, 2, 2, 1]
        found += zip(names, greens.tolist(), strict=True)
    assert sorted(found) == kept
    said = capsys.readouterr().err.splitlines()
    (line,) = [line for line in said if "exclude" in line]
    assert "6 images marked in the column exclude: " in line


def triplets(folder):
    """Twelve images to train on and two to test on; every second has two negatives."""
    fill(folder, 7)
    save(folder, "far/1.png", colour=(90, 0, 0))
    rows = []
    for i, j in ((i, j) for i in range(7) for j in range(2)):
        row = {"path": f"c{i:02d}/{j}.png", "label": f"c{i:02d}"}
        row |= {"split": "test" if i == 6 else "train", "positive": "", "negative": ""}
        row |= {"negative_10": "", "negative_2": ""}
        if i < 6:
            row |= {"positive": f"c{i:02d}/{1 - j}.png", "negative": "far/1.png"}
            row |= {"negative_10": "c00/0.png" if i == 5 else ""}
            row |= {"negative_2": f"c{(i + 1) % 6:02d}/{j}.png" if j else ""}
        rows.append(row)
    return rows


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_partners_of_a_list_go_with_the_images_to_train_on(kind, tmp_path):
    rows = triplets(tmp_path)
    rows.append(rows[0] | {"negative": "c03/0.png"})  # an image may have several rows
    data = load_list(tmp_path / f"list.{kind}", rows)
    partners, anchors = data.train.partners, reds(data.train)
    assert data.test.partners is None
    assert anchors == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0]
    assert partners.rows.shape == (13, 4)
    assert len(np.unique(partners.rows)) == len(partners.images) + 1
    red, green = partners.images.read(np.maximum(partners.rows, 0).ravel())[
        :, 2, 2, :2
    ].T.reshape(2, 13, 4)
    assert red[:, 0].tolist() == anchors
    assert green[:, 0].tolist() == [1, 0] * 6 + [1]
    assert red[:, 1].tolist() == [90] * 12 + [3]
    two = partners.rows[:, 2] >= 0
    assert two.tolist() == [False, True] * 6 + [False]
    assert red[two, 2].tolist() == [1, 2, 3, 4, 5, 0]
    assert (partners.rows[:, 3] >= 0).tolist() == [False] * 10 + [True, True, False]


def test_partners_that_are_damaged_are_named_and_may_be_left_out(tmp_path, capfd):
    rows = triplets(tmp_path)
    (tmp_path / "c03" / "0.png").write_bytes(b"torn")
    save(tmp_path, "near.png")
    rows[0]["positive"] = rows[4]["positive"] = "near.png"
    (tmp_path / "near.png").write_bytes(b"torn, too")
    with pytest.raises(RunError, match=r"cannot read .*\(2 of 16 images are damaged"):
        load_list(tmp_path / "list.csv", rows)
    data = load_list(tmp_path / "list.csv", rows, on_damage="skip")
    assert reds(data.train) == [0, 1, 1, 2, 4, 4, 5, 5]
    assert "left out, as a partner is: " in capfd.readouterr().err
    (tmp_path / "near.png").unlink()
    with pytest.raises(RunError, match=r"near.png is missing; exp.* --on-damage"):
        load_list(tmp_path / "list.csv", rows)
    data = load_list(tmp_path / "list.csv", rows, on_damage="skip")
    assert reds(data.train) == [0, 1, 1, 2, 4, 4, 5, 5]
    assert "left out, as a partner is: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("row", "changed", "message"),
    [
        (2, {"positive": ""}, r"must give a positive to .* it is missing in row 3$"),
        (1, {"negative": "c00/1.png"}, "names the image of row 2 as its own partner"),
        (
            0,
            {"negative": "c06/0.png"},
            "/0.png, of class c00, which is of the split test;",
        ),
        (
            0,
            {"positive": "./c06/1.png"},
            "1.png as a positive of .* which is of the split",
        ),
        (0, {"positive": "c03/0.png"}, "as a positive of .*, whose own class is c03"),
        (0, {"negative_2": "c00/1.png"}, "as a negative of .* whose own class is c00"),
        (0, {"positive": "far/1.png"}, "far/1.png as a negative .* is its positive"),
    ],
)
def test_partners_that_cannot_be_meant_are_refused(row, changed, message, tmp_path):
    rows = triplets(tmp_path)
    rows[row] |= changed
    with pytest.raises(UsageError, match=message):
        load_list(tmp_path / "list.csv", rows)
    rows = [{k: v for k, v in row.items() if k != "positive"} for row in rows]
    with pytest.raises(UsageError, match="must have the column positive beside negat"):
        load_list(tmp_path / "list.csv", rows)


def test_partners_are_of_training_where_halves_are_drawn_too(tmp_path):
    rows = [{k: v for k, v in r.items() if k != "split"} for r in triplets(tmp_path)]
    near = {"positive": "", "negative": "far/1.png"}
    near |= {"negative_2": "", "negative_10": ""}
    for row in rows:
        pair = row["path"].translate(str.maketrans({"0": "1", "1": "0"}))
        row |= near | {"positive": row["path"][:-5] + pair[-5:]}
    data = load_list(tmp_path / "list.csv", rows)
    trained, tested = (sorted(split.class_names) for split in (data.train, data.test))
    (row,) = [r for r in rows if r["path"] == f"{trained[0]}/0.png"]
    row["negative"] = f"{trained[1]}/0.png"
    load_list(tmp_path / "list.csv", rows)
    row["negative"] = f"{tested[0]}/0.png"
    with pytest.raises(UsageError, match="which is of the split test; name splits"):
        load_list(tmp_path / "list.csv", rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it must begin with the headings path,label"),
        ("\n\n", "is empty; it must begin"),
        ("path,label\n", "has headings but no rows"),
        ("path,label,Label\na.png,x,y\n", "must have the column label once"),
        ("path;label\na.png;x\n", "got path;label; commas must part the columns"),
        ('path,label\na.png,"x\nb.png,y\n', "unexpected end of data"),
        ("path\na.png\n", "must have the columns path and label"),
        ("path,label\na.png,x\nb.png,Milk, 1 l\n", "row 2 of .* 3 values, .*quotes"),
        ("path,label\na.png\n", "give a label to all images; it is missing in row 1"),
        ("path,label\nhttps://x.org/a.png,a\n", "path in row 1 of .* must be a file"),
        (
            "path,label,split\na.png,x,left\n",
            r"split in row 1 of .* must be one of train, .*query, got left",
        ),
        (
            "path,label,split\na.png,x,train\nb.png,y,\n",
            "split to all images or to none",
        ),
        (
            "path,label,exclude\na.png,x,\nb.png,y,maybe\n",
            "exclude in row 2 of .* must be one of 1, .*x, yes, true, .*, got maybe",
        ),
        ("path,label,exclude\na.png,x,1\nb.png,y,x\n", "leaves out all of its rows"),
        ("path,label\na.png,x\n./a.png,y\n", "lists .*a.png twice, as 'x' and as 'y'"),
        (
            "path,label,split\na.png,x,train\nb.png,x,test\n",
            "x of .* two splits.*leave out the column",
        ),
        ("path,label\na.png,x\n", "two or more classes to be split, got x"),
        (
            "path,label,split\na.png,x,train\nb.png,y,train\n",
            r"the split test \(or query\), or no splits, got train only",
        ),
        (b"path,label\n\xff\xfe,x\n", "not a CSV file in UTF-8"),
    ],
)
def test_list_that_cannot_be_meant_is_refused_with_what_is_wrong(
    text, message, tmp_path
):
    save(tmp_path, "a.png", "b.png")
    content = text.encode() if isinstance(text, str) else text
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_list(tmp_path / "list.csv")


def test_file_that_is_no_list_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no list"):
        load_list(tmp_path / "nothing.csv")
    (tmp_path / "list.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match="not a Parquet file"):
        load_list(tmp_path / "list.parquet")


def test_value_that_is_no_text_is_named_with_its_column_and_row(tmp_path):
    rows = [{"path": f"{i}.png", "label": [i]} for i in range(3)]
    with pytest.raises(
        UsageError, match=r"^label in row 1 of .*t must be .*got \[0\]$"
    ):
        load_list(tmp_path / "list.parquet", rows)


@pytest.mark.parametrize("column", ["path", "label", "split", "camera", "super"])
@pytest.mark.parametrize("missing", ["", "  ", None, float("nan")])
def test_missing_value_is_refused_with_the_numbers_of_rows(column, missing, tmp_path):
    rows = persons(tmp_path)
    kind = "csv" if isinstance(missing, str) else "parquet"
    if missing is not None and kind == "parquet" and column != "path":
        # Numbers with gaps are floating-point numbers in Parquet.
        for row in rows:
            row[column] = 1.0
    if column == "path" and kind == "parquet":
        missing = None
    for number in (2, 5):
        rows[number][column] = missing
    with pytest.raises(UsageError, match=f"give a {column} to all .*in row 3, 6$"):
        load_list(tmp_path / f"list.{kind}", rows)


def test_spaces_and_kinds_of_accents_do_not_count_and_unused_columns_are_named(
    tmp_path, capfd
):
    lines = ["id,Path , label,width"]
    for i in range(4):
        save(tmp_path, f"{i}.png")
        accent = "\u00e9" if i < 2 else "e\u0301\u200b"
        lines.append(f"7, {i}.png ,c{i % 2}{accent}{' ' * i},9")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    train, _, test = classes_of(load_list(tmp_path / "list.csv"))
    assert train | test == {"c0\u00e9", "c1\u00e9"}
    assert "that are not used: id, width" in capfd.readouterr().err


def test_missing_and_repeated_files_stop_or_are_left_out_and_named(tmp_path, capfd):
    rows, file = [], tmp_path / "list.csv"
    for i in range(8):
        save(tmp_path, f"{i}.png")
        rows.append({"path": f"{i}.png", "label": f"c{i % 2}"})
    (tmp_path / "6.png").unlink()
    (tmp_path / "5.png").write_bytes(b"")
    with pytest.raises(RunError, match=r"6.png is missing; exp.* --on-damage"):
        load_list(file, rows)
    rows.append(rows[0])
    with pytest.raises(RunError, match=r"6.png is missing, and 1 more are in "):
        load_list(file, rows)
    data = load_list(file, on_damage="skip")
    errors = capfd.readouterr().err
    for each in ("0.png is listed twice", "6.png is missing", "5.png: it is empty"):
        assert str(tmp_path / each) in errors
    assert len(data.train.labels) + len(data.test.labels) == 6


@pytest.mark.parametrize("path", ["x" * 300 + ".png", "a\0.png", "no/where.png"])
def test_path_that_cannot_exist_is_missing(path, tmp_path):
    save(tmp_path, "a.png")
    (tmp_path / "list.csv").write_text(f"path,label\na.png,x\n{path},y\n")
    with pytest.raises(RunError, match="is missing; experiments"):
        load_list(tmp_path / "list.csv")


def test_a_class_in_two_super_classes_is_refused(tmp_path):
    """Animals numbered anew in each species would be merged."""
    rows = []
    for species in ("seal", "whale"):
        for i in range(4):
            save(tmp_path, f"{species}/{i}.png")
            rows.append(
                {"path": f"{species}/{i}.png", "label": i % 2, "super": species}
            )
    write_list(tmp_path / "a.csv", rows)
    with pytest.raises(
        UsageError,
        match=r"class 0 of .* two super-classes, seal with .*/seal/0.png and whale "
        r"with .*/whale/0.png; .*, such as whale-0$",
    ):
        load(f"list:{tmp_path / 'a.csv'}", data_dir=tmp_path, image_size=(8, 8))


def test_persons_in_folders_are_read_like_market1501(tmp_path, capfd):
    def load_persons(folder):
        name = f"reid:{tmp_path / folder}"
        return load(name, data_dir=tmp_path, image_size=(8, 4))

    train, gallery = "persons/bounding_box_train", "persons/bounding_box_test"
    save(tmp_path, *(f"{train}/0002_c{c}s1_00{c}_01.jpg" for c in (1, 2)))
    save(tmp_path, *(f"{gallery}/{p}_c2s1_00_01.jpg" for p in ("-1", "0000", "0001")))
    save(tmp_path, "persons/query/0001_c1s1_000_00.jpg", "persons/query/me.jpg")
    save(tmp_path, "persons/gt_bbox/0001_c1s1_001_00.jpg", "others/query/me.jpg")
    data = load_persons("persons")
    assert data.protocol == "reid"
    assert data.recall_at == (1, 5, 10)
    assert data.train.cameras.tolist() == [1, 2]
    assert data.train.images.read(np.array([0])).shape == (1, 8, 4, 3)
    assert sorted(data.gallery.class_names) == ["-1", "0000", "0001"]
    assert data.junk.sum() == 1
    said = capfd.readouterr().err
    assert "1 images with no person and camera: query/me.jpg\n" in said
    assert "1 images in other folders: gt_bbox/0001_c1s1_001_00.jpg\n" in said
    for folder, persons in (("Train", (1, 2, 3)), ("query", (4,)), ("gallery", (4, 5))):
        save(tmp_path, *(f"mine/{folder}/{p}_c{p}_1.jpg" for p in persons))
    mine = load_persons("mine")
    assert mine.protocol == "reid"
    sides = (mine.train, mine.test, mine.gallery)
    assert [len(side.labels) for side in sides] == [3, 1, 2]
    save(tmp_path, "halves/train/1_c1_1.jpg", "halves/query/2_c1_1.jpg")
    with pytest.raises(UsageError, match=r"must have query/ and .*, got queries alone"):
        load_persons("halves")
    with pytest.raises(UsageError, match="there is no folder"):
        load_persons("nobody")
    with pytest.raises(UsageError, match=r"must have images .* got query/me.jpg"):
        load_persons("others")


def test_folds_cut_the_training_classes_into_disjoint_parts(tmp_path):
    fill(tmp_path, 26)

    def parts(fold, seed=0):
        return classes_of(load_folder(tmp_path, seed=seed, fold=fold, folds=4))

    folds = [parts(fold) for fold in range(4)]
    assert len({frozenset(test) for _, _, test in folds}) == 1
    learned = set.union(*(train for train, _, _ in folds))
    held_out = [validation for _, validation, _ in folds]
    assert sorted(map(len, held_out)) == [3, 3, 3, 4]
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 13
    assert set.union(*held_out) == learned
    for train, validation, test in folds:
        assert train == learned - validation
        assert not learned & test
    assert parts(1) == folds[1]
    assert parts(1, seed=1) != folds[1]
    for fold in (-1, 4):
        with pytest.raises(UsageError, match=f"got fold {fold} of 4"):
            parts(fold)


def test_fold_takes_the_validation_classes_of_the_data_set_in(tmp_path):
    for split, classes in (("train", "abcdef"), ("validation", "gh"), ("test", "xy")):
        save(tmp_path, *(f"{split}/{name}/0.png" for name in classes))
    found = [classes_of(load_folder(tmp_path, fold=f, folds=2)) for f in range(2)]
    assert all(test == {"x", "y"} for _, _, test in found)
    assert sorted([*found[0][1], *found[1][1]]) == list("abcdefgh")


def test_a_file_of_embeddings_is_no_data_set_of_images(tmp_path):
    file = tmp_path / "x.npz"
    with pytest.raises(
        UsageError, match=r"features:x.npz has embeddings and no images"
    ):
        load("features:x.npz", data_dir=tmp_path, image_size=8)
    file.touch()
    with pytest.raises(UsageError, match="a path: write features:"):
        load(str(file), data_dir=tmp_path, image_size=8)
