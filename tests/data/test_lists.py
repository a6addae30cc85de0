import csv

import numpy as np
import pytest
from PIL import Image

from rankjax.data import load
from rankjax.errors import RunError, UsageError


def _save(path, red, green=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (red, green, 0)).save(path, "PNG")


def _write(file, rows):
    with open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _load(file, **options):
    return load(f"list:{file}", data_dir=file.parent, image_size=5, **options)


def _persons(folder):
    """Persons to train on, and queries and a gallery of others, with cameras."""
    rows = [
        *[
            ("a", "train", "c1", "x"),
            ("a", "train", "c2", "x"),
            ("b", "train", "c1", "x"),
        ],
        *[("k", "query", "c2", "y"), ("k", "gallery", "c1", "y")],
        *[("-1", "gallery", "c3", "y"), ("é", "gallery", "c3", "y")],
    ]
    listed = []
    for i, (label, split, camera, group) in enumerate(rows):
        path = f"Bilder ä/{i}.png"
        _save(folder / path, i)
        row = {"path": path, "label": label, "split": split, "camera": camera}
        listed.append(row | {"super": group})
    return listed


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_column_of_a_list_is_used(kind, tmp_path):
    rows, file = _persons(tmp_path), tmp_path / f"images.{kind}"
    if kind == "csv":
        _write(file, rows)
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(rows), file)
    data = _load(file)
    assert data.protocol == "reid"
    assert data.validation is None
    for split, expected in ((data.train, [0, 1, 2]), (data.test, [3])):
        images = split.images.read(np.arange(len(expected)))
        np.testing.assert_array_equal(images[:, 2, 2, 0], expected)
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


def test_list_of_paths_and_labels_is_split_by_class_as_folders_are(tmp_path):
    rows = []
    for i in range(24):
        path = tmp_path / "in" / f"c{i // 2}" / f"{i}.png"
        _save(path, i)
        rows.append({"path": str(path), "label": f"c{i // 2}"})
    _write(tmp_path / "list.csv", rows)
    listed = _load(tmp_path / "list.csv", seed=3)
    in_folders = load(f"folder:{tmp_path / 'in'}", data_dir=tmp_path, seed=3)
    assert listed.train.class_names == in_folders.train.class_names
    assert listed.test.class_names == in_folders.test.class_names
    assert listed.protocol == "leave-one-out"
    assert listed.gallery is None


def test_gallery_without_cameras_is_searched_by_queries(tmp_path):
    rows = [
        {k: row[k] for k in ("path", "label", "split")} for row in _persons(tmp_path)
    ]
    _write(tmp_path / "list.csv", rows)
    data = _load(tmp_path / "list.csv")
    assert data.protocol == "query-gallery"
    assert data.junk is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "a.png"}], "must have the columns path and label"),
        ([{"path": "a.png", "label": "", "split": ""}], "give a label to all .* row 1"),
        (
            [{"path": "a.png", "label": "x", "split": "left"}],
            r"split in row 1 of .* must be one of train, .*query, got left",
        ),
        (
            [
                {"path": "a.png", "label": "x", "split": "train"},
                {"path": "b.png", "label": "y", "split": ""},
            ],
            "split to all images or to none",
        ),
        (
            [
                {"path": "a.png", "label": "x", "camera": "1"},
                {"path": "b.png", "label": "y", "camera": ""},
            ],
            "camera to all images or to none",
        ),
        (
            [{"path": "a.png", "label": "x"}, {"path": "./a.png", "label": "y"}],
            "lists .*a.png twice",
        ),
        (
            [
                {"path": "a.png", "label": "x", "split": "train"},
                {"path": "b.png", "label": "x", "split": "test"},
            ],
            "class x of .* is in two splits",
        ),
        ([{"path": "a.png", "label": "x"}], "two or more classes to be split, got x"),
        (
            [
                {"path": "a.png", "label": "x", "split": "train"},
                {"path": "b.png", "label": "y", "split": "train"},
            ],
            r"splits train and test \(or query\), or no splits, got train only",
        ),
    ],
)
def test_list_that_cannot_be_meant_is_refused(rows, message, tmp_path):
    _save(tmp_path / "a.png", 1)
    _save(tmp_path / "b.png", 2)
    _write(tmp_path / "list.csv", rows)
    with pytest.raises(UsageError, match=message):
        _load(tmp_path / "list.csv")


@pytest.mark.parametrize("column", ["path", "label", "split", "camera", "super"])
@pytest.mark.parametrize("missing", ["", "  ", None, float("nan")])
def test_missing_value_is_refused_with_the_numbers_of_rows(column, missing, tmp_path):
    rows = _persons(tmp_path)
    for number in (2, 5):
        rows[number][column] = missing
    if isinstance(missing, str):
        file = tmp_path / "list.csv"
        _write(file, rows)
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        file = tmp_path / "list.parquet"
        values = {key: [row[key] for row in rows] for key in rows[0]}
        if missing is not None and column != "path":
            # Numbers with gaps are floating-point numbers in Parquet.
            values[column] = [1.0 if v == v else missing for v in range(len(rows))]
            values[column][2] = values[column][5] = missing
        else:
            values[column][2] = values[column][5] = None
        pq.write_table(pa.table(values), file)
    with pytest.raises(UsageError, match=f"give a {column} to all .*in row 3, 6$"):
        _load(file)


def test_spaces_around_values_and_headings_do_not_count(tmp_path):
    lines = ["Path , label"]
    for i in range(4):
        _save(tmp_path / f"{i}.png", i)
        lines.append(f" {i}.png ,c{i % 2}{' ' * i}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    data = _load(tmp_path / "list.csv")
    names = {*data.train.class_names, *data.test.class_names}
    assert names == {"c0", "c1"}


def test_columns_that_are_not_used_are_named(tmp_path, capfd):
    rows = []
    for i in range(4):
        _save(tmp_path / f"{i}.png", i)
        rows.append({"id": "7", "path": f"{i}.png", "label": f"c{i % 2}", "width": "9"})
    _write(tmp_path / "list.csv", rows)
    assert len(_load(tmp_path / "list.csv").train.labels) == 2
    assert "that are not used: id, width" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it must begin with the headings path,label"),
        ("\n\n", "is empty; it must begin"),
        ("path,label\n", "has headings but no rows"),
        ("path,label,Label\na.png,x,y\n", "must have the column label once"),
        ("path;label\na.png;x\n", "must have the columns path and label"),
        ("path,label\na.png,x\nb.png,Milk, 1 l\n", "row 2 of .* 3 values, .*quotes"),
        ("path,label\na.png\n", "give a label to all images; it is missing in row 1"),
    ],
)
def test_text_that_is_no_list_is_refused_with_what_is_wrong(text, message, tmp_path):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        _load(tmp_path / "list.csv")


def test_file_that_is_no_list_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no list"):
        _load(tmp_path / "nothing.csv")
    (tmp_path / "list.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    with pytest.raises(UsageError, match="not a CSV file in UTF-8"):
        _load(tmp_path / "list.csv")
    (tmp_path / "list.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match="not a Parquet file"):
        _load(tmp_path / "list.parquet")


def test_missing_and_repeated_files_stop_or_are_left_out_and_named(tmp_path, capfd):
    rows = []
    for i in range(8):
        _save(tmp_path / f"{i}.png", i)
        rows.append({"path": f"{i}.png", "label": f"c{i % 2}"})
    (tmp_path / "6.png").unlink()
    (tmp_path / "5.png").write_bytes(b"")
    rows.append(rows[0])
    _write(tmp_path / "list.csv", rows)
    with pytest.raises(RunError, match=r"6.png: missing, of 2 faults"):
        _load(tmp_path / "list.csv")
    rows.pop()
    _write(tmp_path / "list.csv", rows)
    with pytest.raises(RunError, match=r"6.png: missing, of 1 faults"):
        _load(tmp_path / "list.csv")
    rows.append(rows[0])
    _write(tmp_path / "list.csv", rows)
    data = _load(tmp_path / "list.csv", on_damage="skip")
    errors = capfd.readouterr().err
    for file in ("0.png: listed twice", "6.png: missing", "5.png: it is empty"):
        assert str(tmp_path / file) in errors
    assert len(data.train.labels) + len(data.test.labels) == 6


@pytest.mark.parametrize("path", ["x" * 300 + ".png", "a\0.png", "no/where.png"])
def test_path_that_cannot_exist_is_missing(path, tmp_path):
    _save(tmp_path / "a.png", 1)
    (tmp_path / "list.csv").write_text(f"path,label\na.png,x\n{path},y\n")
    with pytest.raises(RunError, match="missing, of 1 faults"):
        _load(tmp_path / "list.csv")


def test_persons_in_folders_are_read_like_market1501(tmp_path, capfd):
    for part, name in (
        *[("bounding_box_train", f"0002_c{c}s1_00{c}_01.jpg") for c in (1, 2)],
        *[("query", "0001_c1s1_000_00.jpg"), ("bounding_box_test", "-1_c2s1_9_0.jpg")],
        *[("bounding_box_test", f"000{p}_c2s1_00_01.jpg") for p in (0, 1)],
    ):
        _save(tmp_path / "persons" / part / name, 1)
    data = load(f"reid:{tmp_path / 'persons'}", data_dir=tmp_path, image_size=(8, 4))
    assert data.protocol == "reid"
    assert data.recall_at == (1, 5, 10)
    assert data.train.images.read(np.array([0])).shape == (1, 8, 4, 3)
    assert sorted(data.gallery.class_names) == ["-1", "0000", "0001"]
    assert data.junk.sum() == 1
    with pytest.raises(UsageError, match="there is no folder"):
        load(f"reid:{tmp_path / 'nobody'}", data_dir=tmp_path)
    _save(tmp_path / "persons" / "query" / "me.jpg", 1)
    load(f"reid:{tmp_path / 'persons'}", data_dir=tmp_path, image_size=(8, 4))
    said = capfd.readouterr().err
    assert "1 images with no person and camera: query/me.jpg" in said
    _save(tmp_path / "others" / "query" / "me.jpg", 1)
    with pytest.raises(
        UsageError, match=r"must have images such as .* got query/me.jpg"
    ):
        load(f"reid:{tmp_path / 'others'}", data_dir=tmp_path)


def test_folds_cut_the_training_classes_into_disjoint_parts(tmp_path):
    for i in range(26):
        for j in range(2):
            _save(tmp_path / f"c{i:02d}" / f"{j}.png", i, j)

    def parts(fold, seed=0):
        name = f"folder:{tmp_path}"
        options = {"image_size": 5, "seed": seed, "fold": fold, "folds": 4}
        data = load(name, data_dir=tmp_path, **options)
        splits = data.train, data.validation, data.test
        return [set(split.class_names) for split in splits]

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
        for name in classes:
            _save(tmp_path / split / name / "0.png", 1)
    held_out = []
    for fold in range(2):
        options = {"fold": fold, "folds": 2, "data_dir": tmp_path}
        data = load(f"folder:{tmp_path}", **options)
        assert data.test.class_names == ("x", "y")
        held_out += data.validation.class_names
    assert sorted(held_out) == list("abcdefgh")
