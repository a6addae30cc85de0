"""Data sets that change after a run was trained on them."""

import json
import re
import shutil

import numpy as np
import pytest
import without_report
from photos import make_photos

from experiments import embed, evaluate
from experiments.config import Config
from experiments.runs import INPUTS
from experiments.trained_on import DATA, check_unchanged, record_of
from rankjax.data import load
from rankjax.errors import UsageError


def folders(root):
    """Three classes of four images to train on, and three to test on."""
    return make_photos(root / "photos", 6, 4, train=3)


def add(photos):
    (photos / "test/class7").mkdir()
    for name in "ab":
        image = (photos / "test/class3/0.png").read_bytes()
        (photos / f"test/class7/{name}.png").write_bytes(image)


CHANGES = {
    "nothing": (lambda photos: None, ""),
    "a new class": (add, "1 class and 2 images more"),
    "an image gone": (
        lambda photos: (photos / "train/class0/0.png").unlink(),
        "0 classes and 1 image fewer",
    ),
    "an image of another name": (
        lambda photos: (photos / "test/class4/3.png").rename(
            photos / "test/class4/4.png"
        ),
        "images of other names, or in another order",
    ),
    "a class of another name": (
        lambda photos: (photos / "train/class1").rename(photos / "train/dogs"),
        "1 class and 4 images more, 1 class and 4 images fewer",
    ),
    "a class for validation": (
        lambda photos: [
            (photos / "val").mkdir(),
            (photos / "train/class2").rename(photos / "val/class2"),
        ],
        "other classes in its splits",
    ),
}


def write_run(folder, data, config):
    folder.mkdir()
    for name, content in (
        ("config.json", config.settings()),
        (INPUTS, {"on_damage": config.data.on_damage}),
        (DATA, record_of(data)),
    ):
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_refused_in_training_and_said_in_evaluation(
    change, tmp_path, capsys
):
    photos, run = folders(tmp_path), tmp_path / "run"
    config = Config().replace(dataset=f"folder:{photos}")
    write_run(run, load(config.data.dataset, data_dir=tmp_path), config)
    make, said = CHANGES[change]
    make(photos)
    data = load(config.data.dataset, data_dir=tmp_path)
    check_unchanged(run, data, config, exactly=False)
    told = f"since {run} was trained, folder:{photos} has {said}\n" if said else ""
    assert capsys.readouterr().err == told
    # A run that damage stopped may go on without images that it had.
    for other in ({"seed": 1}, {"on_damage": "skip"}, {"dataset": "folder:/other"}):
        check_unchanged(run, data, config.replace(**other), exactly=True)
    if said:
        with pytest.raises(UsageError, match=f"{said}; choose another folder$"):
            check_unchanged(run, data, config, exactly=True)
    else:
        check_unchanged(run, data, config, exactly=True)
    (run / DATA).unlink()  # as of older versions
    check_unchanged(run, data, config, exactly=True)
    assert not capsys.readouterr().err


def test_a_data_set_that_moved_is_the_same(tmp_path, capsys):
    photos, run = folders(tmp_path), tmp_path / "run"
    config = Config().replace(dataset=f"folder:{photos}")
    write_run(run, load(config.data.dataset, data_dir=tmp_path), config)
    data = load(f"folder:{photos.rename(tmp_path / 'moved')}", data_dir=tmp_path)
    check_unchanged(run, data, config, exactly=True)
    assert not capsys.readouterr().err


def told(run, seen, tested):
    """What is said of classes that a run with --seed 1 was trained on."""
    return (
        f"{run}, whose --seed is 1, was trained on {len(seen)} of the {tested} classes "
        f"that are for testing here: {min(seen)}"
    )


def test_classes_that_any_earlier_run_was_trained_on_are_told(tmp_path, capsys):
    photos = make_photos(tmp_path / "photos", 12, 4)
    copy = shutil.copytree(photos, tmp_path / "copy")
    renamed = shutil.copytree(photos, tmp_path / "renamed")
    for path in [*renamed.glob("*/*")]:
        path.rename(path.with_name(f"other-{path.name}"))
    dataset, first = f"folder:{photos}", tmp_path / "first"

    def train(*words, run=None, **given):
        given = {"dataset": dataset, "steps": 2, "devices": 1, "seed": 0} | given
        words = [*words, *(f"--{name}={value}" for name, value in given.items())]
        capsys.readouterr()
        assert without_report.main([*words, *([f"--run-dir={run}"] * bool(run))]) == 0
        return letters("".join(capsys.readouterr()))

    def letters(text):  # as tables break lines
        return "".join(filter(str.isalnum, text))

    def classes(name, seed):
        return {*getattr(load(dataset, data_dir=tmp_path, seed=seed), name).class_names}

    def marked(run):
        return json.loads((run / "summary.json").read_text())["test"].get(
            "seen_classes"
        )

    train(run=first, seed=1)
    seen = classes("train", 1) & classes("test", 0)
    said = letters(told(first, seen, 6))
    assert 0 < len(seen) < 6
    assert marked(first) is None
    second, third, head = (tmp_path / name for name in ("second", "third", "head"))
    assert said in train(run=second, weights=first)
    shutil.rmtree(first / "checkpoints")  # what it saw, its successor knows
    assert said in train(run=third, weights=second)
    assert said in train("--dry-run", weights=second)
    for data, expected in ((f"folder:{copy}", said), (f"folder:{renamed}", "")):
        found = train("--dry-run", weights=second, dataset=data)
        assert expected in found
        assert bool(expected) == ("wastrainedon" in found)
    assert evaluate.main([str(third)]) == 0
    assert said in letters(capsys.readouterr().err)

    features = tmp_path / "x.npz"
    assert embed.main([str(third), str(copy), "--out", str(features)]) == 0
    shutil.rmtree(copy)  # names are left
    assert said in train("frozen_head", "--dry-run", dataset=f"features:{features}")
    assert said in train("frozen_head", run=head, dataset=f"features:{features}")
    assert [marked(run) for run in (second, third, head)] == [len(seen)] * 3

    # A class with one image more is the same in the same place.
    changed = min(seen)
    image = next((photos / changed).glob("*"))
    shutil.copy(image, image.with_name("more.png"))
    assert said in train("--dry-run", weights=second)


def test_no_command_tests_a_run_on_classes_that_it_was_trained_on(tmp_path, capsys):
    photos, run = make_photos(tmp_path / "photos", 13, 4), tmp_path / "run"
    dataset, out = f"folder:{photos}", tmp_path / "x.npz"
    words = ["--dataset", dataset, "--seed", "1", "--steps", "2", "--devices", "1"]
    assert without_report.main([*words, "--run-dir", str(run)]) == 0
    data = load(dataset, data_dir=tmp_path, seed=1)
    trained = {*data.train.class_names}

    # Embedded by its run, a data set has the splits of its run.
    assert embed.main([str(run), "--dataset", dataset, "--out", str(out)]) == 0
    with np.load(out) as found:
        names = found["class_names"][found["labels"]]
        assert {*names[found["split"] == "train"]} == trained
        assert {*names[found["split"] == "test"]} == {*data.test.class_names}
    other = tmp_path / "y.npz"
    named = ["--dataset", dataset, "--out", str(other), "--seed", "0"]
    capsys.readouterr()
    assert embed.main([str(run), *named]) == 0
    half = {*load(dataset, data_dir=tmp_path).train.class_names}
    assert half != trained
    with np.load(other) as found:
        names = found["class_names"][found["labels"]]
        assert {*names[found["split"] == "train"]} == half
    assert told(run, trained - half, 7) in capsys.readouterr().err

    make_photos(tmp_path / "more", 1, 4)
    (tmp_path / "more/class0").rename(photos / "new")
    tested = {*load(dataset, data_dir=tmp_path, seed=1).test.class_names}
    seen = sorted(trained & tested)
    assert seen
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    out.unlink()
    for command in (
        lambda: without_report.main([*words, "--run-dir", str(run)]),
        lambda: evaluate.main([str(run)]),
        lambda: embed.main([str(run), "--dataset", dataset, "--out", str(out)]),
    ):
        capsys.readouterr()
        assert command() == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert re.search(f"trained on {seen[0]}, .*1 class and 4 images more: ", error)
    photos.rename(tmp_path / "moved")
    assert evaluate.main([str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        f"no folder {photos}, .*experiments.embed {run} --dataset KIND:PATH", error
    )
    assert not out.exists()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
