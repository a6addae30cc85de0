import io
import os

import numpy as np
import pytest
from PIL import Image

from experiments.images import list_images
from rankjax.data import load
from rankjax.errors import RunError, UsageError


def _save(path, colour=(10, 20, 30), size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def _load(path, seed=0, **options):
    options = {"image_size": 6, "seed": seed} | options
    return load(f"folder:{path}", data_dir=path / "unused", **options)


def _fill(root, classes, images=2):
    for i in range(classes):
        for j in range(images):
            _save(root / f"c{i:02d}" / f"{j}.png", colour=(i, j, 0))


def test_classes_are_halved_by_seed_and_held_out(tmp_path):
    _fill(tmp_path, 41)
    data = _load(tmp_path)
    parts = [
        set(split.class_names) for split in (data.train, data.validation, data.test)
    ]
    assert [len(part) for part in parts] == [18, 2, 21]
    assert len(set.union(*parts)) == 41
    assert set(_load(tmp_path).train.class_names) == parts[0]
    assert set(_load(tmp_path, seed=1).train.class_names) != parts[0]


def test_images_go_with_their_labels_and_are_rgb(tmp_path):
    _fill(tmp_path, 6)
    data = _load(tmp_path)
    assert data.validation is None
    for split in (data.train, data.test):
        images = split.images.read(np.arange(len(split.images)))
        assert images.shape == (6, 6, 6, 3)
        named = [int(split.class_names[label][1:]) for label in split.labels]
        np.testing.assert_array_equal(images[:, 0, 0, 0], named)
        assert split.labels.dtype == np.int32
        np.testing.assert_array_equal(np.unique(split.labels), [0, 1, 2])


def test_short_side_is_resized_and_the_centre_cut(tmp_path):
    _fill(tmp_path, 2)
    wide = np.zeros((6, 18, 3), np.uint8)
    wide[:, 6:12] = 255
    for number in (0, 1):
        Image.fromarray(wide).save(tmp_path / f"c0{number}" / "0.png")
    assert _load(tmp_path, fit="crop").train.images.read(np.array([0])).min() == 255


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
    for name in "abcd":
        _save(tmp_path / name / "0.png", size=shape)
    data = _load(tmp_path, image_size=size)
    assert {data.train.images.fit, data.test.images.fit} == {expected}
    said = [line for line in capfd.readouterr().err.splitlines() if "fit of" in line]
    assert len(said) == (shape != (60, 60) and (shape, size) != ((40, 20), (6, 12)))
    assert all(f": {expected}; " in line for line in said)
    data = _load(tmp_path, image_size=size, fit="squash")
    assert data.test.images.fit == "squash"
    assert "fit of" not in capfd.readouterr().err


def test_images_with_alpha_are_counted_and_named(tmp_path, capfd):
    _fill(tmp_path, 2)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "c00" / "clear.png")
    clear.save(tmp_path / "c01" / "clear.webp")
    data = _load(tmp_path)
    said = capfd.readouterr().err
    assert "alpha of 2 images" in said
    assert "c00/clear.png" in said
    assert data.train.images.read(np.arange(3)).max() == 255
    data = _load(tmp_path, alpha="drop")
    assert data.train.images.read(np.arange(3)).max() <= 1


def test_split_folders_are_kept(tmp_path):
    for split, classes in (("train", "abc"), ("validation", "d"), ("test", "ef")):
        for name in classes:
            _save(tmp_path / split / name / "x.JPG")
    data = _load(tmp_path)
    assert data.train.class_names == ("a", "b", "c")
    assert data.validation.class_names == ("d",)
    assert data.test.class_names == ("e", "f")


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_damaged_image_is_named(tmp_path, content):
    _fill(tmp_path, 2)
    for number in (0, 1):
        file = tmp_path / f"c0{number}" / "1.png"
        file.write_bytes(file.read_bytes()[:-30] if content is None else content)
    with pytest.raises(RunError, match=r"cannot read the image .*/c0\d/1.png"):
        _load(tmp_path).train.images.read(np.array([0, 1]))


def test_impossible_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        _load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no image in a folder of a class"):
        _load(tmp_path)
    _save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="holds no image in a folder of a class"):
        _load(tmp_path)
    _save(tmp_path / "c" / "x.png")
    with pytest.raises(UsageError, match="two or more classes to be split, got c"):
        _load(tmp_path)
    (tmp_path / "c").rename(tmp_path / "only")
    _save(tmp_path / "train" / "c" / "x.png")
    with pytest.raises(
        UsageError, match=r"train and test \(or query\).*got train only"
    ):
        _load(tmp_path)


def test_class_in_two_splits_is_refused_with_the_list_that_would_work(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            _save(tmp_path / "in" / split / name / "x.png")
    with pytest.raises(UsageError, match=r"class a of .* is in two splits") as refused:
        _load(tmp_path / "in")
    assert str(tmp_path / "in/train/a/x.png") in str(refused.value)
    assert str(tmp_path / "in/test/a/x.png") in str(refused.value)
    line = str(refused.value).rpartition("such as ")[2]
    lines = [line.replace("/a/", f"/{c}/")[:-1] + c for c in "ab"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    data = load(f"list:{tmp_path / 'list.csv'}", data_dir=tmp_path)
    assert {*data.train.class_names, *data.test.class_names} == {"a", "b"}


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("a/2020/x.png", "a/2021/x.png", "b/2020/x.png", "b/2021/x.png"), 2),
        (("a/x.png", "a/more/y.png", "b/x.png"), 2),
        (("train/a/x.png", "train/b/c/x.png", "test/d/x.png"), 2),
        (("animals/cat/x.png", "animals/dog/x.png"), 2),
    ],
)
def test_all_readers_refuse_ambiguous_classes_and_name_two_paths(
    files, named, tmp_path
):
    for file in files:
        _save(tmp_path / file)
    for read in (_load, lambda path: list_images([str(path)])):
        with pytest.raises(UsageError, match="may be of one class or of two") as error:
            read(tmp_path)
        assert sum(str(tmp_path / file) in str(error.value) for file in files) == named
    pattern = str(tmp_path / "**" / "*.png")
    assert list_images([pattern]).classes == []
    assert len(list_images([pattern]).paths) == len(files)


@pytest.mark.parametrize("root", ["", "train", "TEST"])
def test_all_readers_find_the_same_images_and_classes(root, tmp_path):
    other = tmp_path / "elsewhere"
    _fill(other, 3)
    photos = tmp_path / "photos"
    if root:
        _save(photos / "Train" / "a" / "x.png")
        _save(photos / "test" / "z" / "x.png")
        root = {"train": "Train", "TEST": "test"}[root]
    else:
        for name in "az":
            _save(photos / name / "x.png")
    (photos / root / "linked").symlink_to(other / "c00")
    (photos / root / "b").mkdir()
    (photos / root / "b" / "y.png").symlink_to(other / "c01" / "0.png")
    (photos / root / "b" / "loop").symlink_to(photos)
    data, listed = _load(photos), list_images([str(photos)])
    splits = (data.train, data.test)
    in_data = {
        (split.images.name(i), split.class_names[label])
        for split in splits
        for i, label in enumerate(split.labels)
    }
    assert in_data == set(zip(listed.paths, listed.classes, strict=True))
    assert {name for _, name in in_data} == {"a", "b", "linked", "z"}
    assert len(in_data) == 5


def test_every_image_that_the_decoder_reads_is_found_whatever_its_suffix(tmp_path):
    image = Image.new("RGB", (9, 7), (200, 0, 0))
    suffixes = {"jfif": "JPEG", "ppm": "PPM", "pgm": "PPM", "jp2": "JPEG2000"}
    suffixes |= {"avif": "AVIF", "TIF": "TIFF", "tga": "TGA", "orig": "PNG"}
    for name in "ab":
        (tmp_path / name).mkdir()
        for suffix, form in suffixes.items():
            image.save(tmp_path / name / f"x.{suffix}", form)
        image.save(tmp_path / name / "plain", "JPEG")
    data = _load(tmp_path)
    for split in (data.train, data.test):
        assert len(split.labels) == len(suffixes) + 1
        rows = np.arange(len(split.labels))
        assert (split.images.read(rows)[..., 0] > 150).all()


def test_whatever_is_left_out_is_counted_and_named(tmp_path, capfd):
    _fill(tmp_path, 2)
    _save(tmp_path / "loose.png")
    _save(tmp_path / "c00" / ".hidden.png")
    (tmp_path / "c00" / "notes.txt").write_text("P1 is not an image")
    (tmp_path / "c01" / "song.mp3").write_bytes(b"ID3")
    os.mkfifo(tmp_path / "c01" / "pipe.png")
    (tmp_path / "c02").mkdir()
    (tmp_path / "c01" / "back").symlink_to(tmp_path)
    data = _load(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 4
    said = capfd.readouterr().err.splitlines()
    for start, names in (
        ("1 images that lie in no class folder: ", ["loose.png"]),
        ("1 hidden files and folders: ", [".hidden.png"]),
        ("3 files that are not images: ", ["notes.txt", "pipe.png", "song.mp3"]),
        ("1 folders without images: ", ["c02"]),
        ("1 links to a folder that they lie in: ", ["back"]),
    ):
        (line,) = (line for line in said if start in line)
        assert all(name in line for name in names)
    assert len(said) == 6  # and how images fit


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VAL", "Dev"])
def test_names_of_a_split_mean_the_same_in_folders_and_lists(name, tmp_path):
    places = (("TRAIN", "ab"), (name, "c"), ("Query", "de"), ("Gallery", "def"))
    lines = ["path,label,split"]
    for split, classes in places:
        for label in classes:
            _save(tmp_path / "in" / split / label / "x.png")
            lines.append(f"in/{split}/{label}/x.png,{label},{split}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    for kind in ("folder:" + str(tmp_path / "in"), f"list:{tmp_path / 'list.csv'}"):
        data = load(kind, data_dir=tmp_path)
        assert data.protocol == "query-gallery"
        assert data.train.class_names == ("a", "b")
        assert data.validation.class_names == ("c",)
        assert data.test.labels.tolist() == [0, 1]
        assert data.gallery.class_names == ("d", "e", "f")


def test_trains_may_be_a_class_but_splits_without_classes_are_refused(tmp_path):
    for name in ("train", "car"):
        _save(tmp_path / name / "x.png")
    data = _load(tmp_path)
    assert {*data.train.class_names, *data.test.class_names} == {"train", "car"}
    assert list_images([str(tmp_path)]).classes == ["car", "train"]
    _save(tmp_path / "test" / "x.png")
    with pytest.raises(UsageError, match="holds no image in a folder of a class"):
        _load(tmp_path)


def test_two_folders_of_one_split_are_refused(tmp_path):
    for split, label in (("train", "a"), ("test", "b"), ("val", "c"), ("dev", "d")):
        _save(tmp_path / split / label / "x.png")
    with pytest.raises(UsageError, match=r"/dev and .*/val are both the split valid"):
        _load(tmp_path)


def test_file_names_that_are_not_utf8_are_read(tmp_path, capfd):
    for name in (b"caf\xe9", b"b"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        with open(os.path.join(folder, b"\xff.png"), "wb") as file:
            Image.new("RGB", (9, 7)).save(file, "PNG")
        open(os.path.join(folder, b"\xfe.txt"), "wb").close()
    data = _load(tmp_path)
    assert len(data.train.images.read(np.array([0]))) == 1
    assert {*data.train.class_names, *data.test.class_names} == {"b", "cafU+DCE9"}
    assert "b/U+DCFF.png" in "".join(s.images.name(0) for s in (data.train, data.test))
    assert "2 files that are not images" in capfd.readouterr().err


def _damaged_halves(root):
    """A folder with splits, of which one test image is cut off, and one is changed
    where its header and its end do not tell."""
    rng = np.random.default_rng(0)
    for split, classes in (("train", "ab"), ("test", "cd")):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    cut, changed = root / "test" / "c" / "1.png", root / "test" / "d" / "2.png"
    cut.write_bytes(cut.read_bytes()[:-60])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 255
    changed.write_bytes(content)
    return cut, changed


def test_damage_is_found_in_all_splits_before_anything_is_read(tmp_path, capfd):
    cut, changed = _damaged_halves(tmp_path)
    with pytest.raises(
        RunError, match=r"/c/1.png: .*\(1 of 12 images are damaged; --on"
    ):
        _load(tmp_path)
    with pytest.raises(RunError, match=r"\(2 of 12 images are damaged"):
        _load(tmp_path, check_images="all")
    data = _load(tmp_path, on_damage="skip")
    said = capfd.readouterr().err
    assert str(cut) in said
    assert str(changed) in said
    assert len(data.test.labels) == 4
    cut.unlink()
    data = _load(tmp_path)
    with pytest.raises(RunError, match=r"cannot read the image .*/d/2.png"):
        data.test.images.read(np.arange(5))


def test_images_with_unusual_ends_that_decode_are_not_damaged(tmp_path):
    _fill(tmp_path, 2)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 9, 9)).save(buffer, "JPEG")
    content = buffer.getvalue()
    (tmp_path / "c00" / "more.jpg").write_bytes(content + bytes(500))
    for suffix in ("bmp", "webp", "gif", "tiff", "ppm", "tga"):
        _save(tmp_path / "c01" / f"x.{suffix}")
    data = _load(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 11


def test_a_file_that_is_no_regular_file_is_named_and_does_not_block(tmp_path):
    _fill(tmp_path, 2)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "c00" / "a.png").symlink_to(tmp_path / "pipe")
    with pytest.raises(RunError, match=r"a.png: .*not a regular file"):
        _load(tmp_path)
    (tmp_path / "c00" / "a.png").unlink()
    (tmp_path / "c00" / "a.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"a.png: missing"):
        _load(tmp_path)
