import numpy as np
import pytest
from PIL import Image

from rankjax.data import load
from rankjax.errors import RunError, UsageError


def _save(path, colour=(10, 20, 30), size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def _load(path, seed=0):
    return load(f"folder:{path}", data_dir=path / "unused", image_size=6, seed=seed)


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
    assert _load(tmp_path).train.images.read(np.array([0])).min() == 255


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
    with pytest.raises(UsageError, match="two or more classes"):
        _load(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(UsageError, match="c holds no image"):
        _load(tmp_path)


def test_class_in_two_splits_is_refused(tmp_path):
    for split in ("train", "test"):
        _save(tmp_path / split / "a" / "x.png")
    with pytest.raises(UsageError, match=r"class a of .* is in two splits"):
        _load(tmp_path)
