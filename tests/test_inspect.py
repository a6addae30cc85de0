"""The command that lists what is probably wrong in an embedding."""

import csv
import shutil

import numpy as np
import pytest
import without_report
from PIL import Image

from experiments.inspect import main
from rankjax.data import load
from rankjax.metrics import leave_one_out, retrieval


@pytest.fixture
def photos(tmp_path):
    """Embeddings of 40 pictures of 5 classes with faults, and where these are."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 5
    rows = 4 * np.eye(5, 16)[labels] + 0.4 * rng.normal(size=(40, 16))
    names = [f"{label}/{row}.png" for row, label in enumerate(labels)]
    for name, row in zip(names, range(40), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (row, 0, 0)).save(tmp_path / name)
    rows[21], rows[33], rows[14] = rows[1], rows[2], rows[4] + 1e-4
    shutil.copy(tmp_path / names[1], tmp_path / names[21])
    rows[30] = -4 * np.eye(16)[9]
    labels[7] = 0
    split = np.where(np.arange(40) < 20, "train", "test")
    arrays = {
        "embeddings": rows.astype(np.float32),
        "labels": labels,
        "class_names": np.array(
            ["=a, b", '<b>"', "<script>alert(1)</script>", "ü", "e"]
        ),
        "paths": np.array(names),
        "split": split,
    }
    np.savez(tmp_path / "photos.npz", **arrays)
    return tmp_path, arrays


def lines(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_planted_faults_come_first_with_their_evidence(photos, capsys):
    folder, arrays = photos
    (folder / "out").mkdir()
    file = folder / "out" / "suspects.csv"
    assert main([str(folder / "photos.npz"), "--csv", str(file)]) == 0
    found = lines(file)
    assert sorted(int(line["row"]) for line in found) == list(range(40))
    by_row = {int(line["row"]): line for line in found}
    first = {int(line["row"]) for line in found if line["suspected"]}
    assert first == {int(line["row"]) for line in found[: len(first)]}
    # Copies across splits are suspects in train, whose files are to go.
    leaks = [line for line in found if line["suspected"].startswith("leak")]
    assert {int(line["row"]) for line in leaks} == {1, 2}
    assert by_row[1]["evidence"].startswith('the same file as one of <b>", test')
    assert by_row[2]["evidence"].startswith("cosine 1.000000 to one of ü, test")
    assert by_row[2]["label_of_other"] == "ü"
    assert by_row[14]["suspected"].startswith("copy")
    assert "label" in by_row[7]["suspected"]
    assert "from =a, b" in by_row[7]["evidence"]
    assert "unlike all" in by_row[30]["suspected"]
    for row, line in by_row.items():
        assert line["path"] == f"../{arrays['paths'][row]}"
        assert line["label"] == arrays["class_names"][arrays["labels"][row]]
        assert (line["split"], line["exclude"]) == (arrays["split"][row], "")
    said = capsys.readouterr()
    assert "20 rows are of split train. A network" in said.err
    assert said.err.count("\n") == 1
    assert "copies in two splits" in said.out
    assert f"suspects: {file}" in said.out


def test_the_same_file_is_a_list_of_images_to_train_on(photos, capsys):
    folder, arrays = photos
    # A class is in one split of a data set, hence without splits.
    del arrays["split"]
    np.savez(folder / "photos.npz", **arrays)
    file = folder / "suspects.csv"
    assert main([str(folder / "photos.npz"), "--csv", str(file)]) == 0
    found = lines(file)
    assert found[0]["suspected"].startswith("other class")
    assert "copy" in {line["suspected"] for line in found}
    out = [line["row"] for line in found[:3]]
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, found[0])
        writer.writeheader()
        for line in found:
            writer.writerow(line | {"exclude": "x" if line["row"] in out else ""})
    data = load(f"list:{file}", data_dir=folder, image_size=4)
    splits = [split for split in (data.train, data.test) if split is not None]
    reds = [
        split.images.read(np.arange(len(split.images)))[:, 0, 0, 0] for split in splits
    ]
    expected = {*range(40)} - {*map(int, out)}
    expected = {1 if row == 21 else row for row in expected}  # a copied file
    assert {*np.concatenate(reds).tolist()} == expected
    assert "3 images marked in the column exclude" in capsys.readouterr().err


def test_absolute_and_relative_paths_may_be_in_one_file(photos, capsys):
    folder, arrays = photos
    mixed = [str(folder / p) if i % 2 else p for i, p in enumerate(arrays["paths"])]
    np.savez(folder / "photos.npz", **arrays | {"paths": np.array(mixed)})
    file = folder / "suspects.csv"
    assert main([str(folder / "photos.npz"), "--csv", str(file)]) == 0
    assert {line["path"] for line in lines(file)} == {*mixed}
    assert "the same file as" in capsys.readouterr().out


def test_paths_of_a_run_begin_where_it_was_trained(photos, capsys, monkeypatch):
    folder, _ = photos
    monkeypatch.chdir(folder)
    (folder / "out").mkdir()
    for label in range(5):
        (folder / "images" / f"{label}").mkdir(parents=True)
        for file in (folder / f"{label}").iterdir():
            shutil.copy(file, folder / "images" / f"{label}")
    shutil.copy("images/0/0.png", "images/1/copy.png")
    batch = ["--classes", "2", "--per-class", "2", "--steps", "1", "--eval-every", "1"]
    words = ["--dataset", "folder:images", *batch, "--devices", "1"]
    words += ["--run-dir", "runs/a", "--data-dir", "data", "--image-size", "8"]
    assert without_report.main(words) == 0
    assert main(["runs/a", "--csv", "out/s.csv", "--data-dir", "data"]) == 0
    found = lines(folder / "out" / "s.csv")
    assert all((folder / "out" / line["path"]).is_file() for line in found)


def test_a_name_that_is_not_utf_8_is_named_before_any_table(photos, capsys):
    folder, arrays = photos
    arrays["paths"][3] = "0/\udcfc.png"
    np.savez(folder / "photos.npz", **arrays)
    for option in ("csv", "parquet"):
        file = folder / f"x.{option}"
        assert main([str(folder / "photos.npz"), f"--{option}", str(file)]) == 2
        said = capsys.readouterr()
        assert "0/U+DCFC.png: names in CSV and Parquet must be UTF-8" in said.err
        assert not said.out
        assert not file.exists()


def test_what_cannot_be_meant_is_one_line(photos, capsys):
    folder, arrays = photos
    file = folder / "photos.npz"
    rows = arrays["embeddings"]
    np.savez(folder / "few.npz", embeddings=rows[:2], labels=np.arange(2))
    np.savez(folder / "pairs.npz", embeddings=rows, pairs=[[0, 1]], same=[True])
    for words, line in {
        ("nowhere",): "no run folder and no file nowhere",
        (file, "--most", "0"): "most must be at least 1, got 0",
        (file, "--ratio", "0.5"): "ratio must be at least 1, got 0.5",
        (file, "--ratio", "nan"): "ratio must be at least 1, got nan",
        (
            file,
            "--csv",
            folder / "few.npz",
        ): "csv must be new",
        (file, "--parquet", file): f"parquet must be new, {file} exists",
        (file, "--near", "2"): f"{file}: near must be from 0 to 1, got 2.0",
        (
            file,
            "--csv",
            folder / "no" / "x",
        ): f"a folder that exists, got {folder}/no/x",
        (file, "--split", "test"): f"--split is of a run, and {file} is a file",
        (file, "--checkpoint", "best"): f"--checkpoint is of a run, and {file} is",
        (folder / "few.npz",): "rows must be at least 3 to be compared, got 2",
        (folder / "pairs.npz",): "pairs has no labels, which rows are compared by",
    }.items():
        assert main([*map(str, words)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("error: ")
        assert line in said


def test_a_damaged_picture_is_named_and_the_projector_made(photos, capsys):
    folder, _ = photos
    words = [str(folder / "photos.npz"), "--projector"]
    assert main([*words, str(folder / "whole")]) == 0
    capsys.readouterr()
    damaged = folder / "3/8.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    assert main([*words, str(folder / "rest")]) == 0
    said = capsys.readouterr().err
    assert said.count("no picture of row 8, 3/8.png: ") == 1
    assert "on_damage" not in said
    whole, rest = (
        np.asarray(Image.open(folder / name / "sprite.png"))
        for name in ("whole", "rest")
    )
    changed = (whole != rest).any(-1).nonzero()
    square = {*zip(*(axis // 64 for axis in changed), strict=True)}
    assert square == {divmod(8, 7)}  # of 40 pictures, seven a line
    assert (rest[64:128, 64:128] == 255).all()


def test_the_projector_has_a_line_and_a_picture_for_each_row(photos, capsys):
    folder, arrays = photos
    arrays["class_names"] = np.array(["a\tb", "c\nd", "", "ü", '"e'])
    np.savez(folder / "photos.npz", **arrays)
    out = folder / "projector"
    words = [str(folder / "photos.npz"), "--projector", str(out)]
    assert main(words) == 0
    assert f"tensorboard --logdir {out}" in capsys.readouterr().out
    tensors = np.loadtxt(out / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(tensors, arrays["embeddings"], rtol=1e-6)
    head, *lines = (out / "metadata.tsv").read_text().splitlines()
    assert head.split("\t") == ["label", "row", "path", "split", "suspected"]
    names = np.array(["aU+0009b", "cU+000Ad", "(empty)", "ü", '"e'])
    for row, line in enumerate(lines):
        label, number, path, split, suspected = line.split("\t")
        assert (label, number) == (names[arrays["labels"][row]], str(row))
        assert (path, split) == (arrays["paths"][row], arrays["split"][row])
        assert ("leak" in suspected) == (row in (1, 2))
    assert len(lines) == 40
    sprite = np.asarray(Image.open(out / "sprite.png"))
    assert sprite.shape == (7 * 64, 7 * 64, 3)
    # The red of each picture is its row's number.
    corners = sprite[::64, ::64, 0].ravel()[:40]
    expected = np.where(np.arange(40) == 21, 1, np.arange(40))  # a copied file
    assert corners.tolist() == expected.tolist()
    tiles = sprite[..., 0].reshape(7, 64, 7, 64)
    assert (tiles == tiles[:, :1, :, :1]).all()
    assert main(words) == 2
    assert f"must be new, {out} exists" in capsys.readouterr().err


def test_parquet_has_the_figures_and_suspicions_of_each_row(photos, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder, arrays = photos
    labels = arrays["labels"]
    labels[0] = 4  # and one row alone in its class
    arrays["labels"] = np.where(
        np.arange(40) == 39, 0, np.where(labels == 0, 1, labels)
    )
    np.savez(folder / "photos.npz", **arrays)
    file = folder / "rows.parquet"
    assert main([str(folder / "photos.npz"), "--parquet", str(file)]) == 0
    table = parquet.read_table(file)
    assert table["path"].to_pylist() == arrays["paths"].tolist()
    assert table["split"].to_pylist() == arrays["split"].tolist()
    names = arrays["class_names"][arrays["labels"]]
    assert table["label"].to_pylist() == names.tolist()
    embeddings = np.stack(table["embedding"].to_numpy())
    np.testing.assert_array_equal(embeddings, arrays["embeddings"])
    found = retrieval(leave_one_out(embeddings, arrays["labels"]))
    figures = table["recall_at_1"].to_pylist()
    assert figures == [*found.values["recall_at_1"].tolist(), None]
    assert table["map_at_r"].null_count == 1
    assert "leak" in table["suspected"].to_pylist()[1]
    assert table["other"].to_pylist()[1] == 21
    # Its own reader, and that of training on features, take it.
    assert main([str(file), "--most", "1"]) == 0
    assert "not used: recall_at_1, map_at_r" in capsys.readouterr().err
