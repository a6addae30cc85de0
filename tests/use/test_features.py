"""A head trains on features of a frozen backbone, and then embeds images."""

import numpy as np
import pytest
import without_report
from PIL import Image
from weight_file import write_safetensors

from experiments import embed, evaluate, export, train
from experiments.config import Data
from experiments.features import load_features
from experiments.images import Views
from experiments.parity import backbones
from experiments.runs import load_network, load_run
from experiments.search.index import QueryEmbedder, read_index
from rankjax import exported
from rankjax.errors import RunError, UsageError
from rankjax.exported import Inputs

ENTRY = backbones.stored()["mobilenet_v3_small, timm"]
SHORT = ["--classes", "2", "--per-class", "2", "--steps", "4", "--devices", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photos of splits, their features in two views each, and a run on these."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    for label in "abcdef":
        place = folder / "photos" / ("train" if label < "d" else "test") / label
        place.mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    write_safetensors(folder / "w.safetensors", backbones.weights(ENTRY))
    backbone = ["--model", "mobilenet_v3_small", "--image-size", 32]
    backbone += ["--weights", folder / "w.safetensors", "--views", 2]
    words = [*backbone, folder / "photos", "--out", folder / "x.npz"]
    assert embed.main([str(word) for word in words]) == 0
    words = ["--dataset", f"features:{folder / 'x.npz'}", *SHORT, "--memory", "8"]
    words += ["--mining", "hardest", "--head-layers", "8", "--embedding-dim", "4"]
    assert without_report.main([*words, "--run-dir", str(folder / "run")]) == 0
    return folder


def test_splits_are_those_of_the_folders_and_training_alone_draws_views(made):
    data = load_features(made / "x.npz", Data(), 0)
    assert (data.train.class_names, data.test.class_names) == (
        ("a", "b", "c"),
        ("d", "e", "f"),
    )
    file, images = np.load(made / "x.npz"), data.test.images
    assert file["views"].shape == (18, 2, 576)
    rows = np.flatnonzero(file["split"] == "test")
    plain = images.read(np.arange(9))
    np.testing.assert_array_equal(plain[:, 0, 0], file["embeddings"][rows])
    each = images.originals(np.array([4]))[0]
    np.testing.assert_array_equal(each[1:, 0, 0], file["views"][rows[4]])
    assert images.pictures.read(np.array([0])).shape == (1, 64, 64, 3)


def test_random_views_depend_on_the_number_of_an_image_alone(made):
    paths = sorted(map(str, (made / "photos").rglob("*.png")))[:4]
    inputs = Inputs(32, 32, 3)
    whole = Views(paths, inputs, augmented=2).read(np.arange(12))
    later = Views(paths[2:], inputs, augmented=2, first=2).read(np.arange(6))
    np.testing.assert_array_equal(whole[6:], later)
    assert len({image.tobytes() for image in whole}) == 12
    plain = Views(paths, inputs).read(np.arange(4))
    np.testing.assert_array_equal(whole[::3], plain)


def test_images_are_embedded_by_the_head_of_their_features(made):
    words = [made / "run", made / "photos", "--out", made / "e.npz"]
    assert embed.main([str(word) for word in words]) == 0
    params = load_run(made / "run", images=False).state.params
    x = np.load(made / "x.npz")["embeddings"]
    for place, layer in enumerate((params["hidden"][0], params["head"])):
        x = np.maximum(x, 0) if place else x
        x = x @ np.asarray(layer["kernel"][...]) + np.asarray(layer["bias"][...])
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.load(made / "e.npz")["embeddings"], expected, atol=1e-5
    )
    index = read_index(made / "e.npz")
    found = QueryEmbedder(index)([index.paths[5]])
    np.testing.assert_allclose(found[0], index.embeddings[5], atol=1e-5)
    assert export.main([str(made / "run"), "--out", str(made / "exported")]) == 0
    images = Views(index.paths, Inputs(32, 32, 3, alpha="white")).read(np.arange(18))
    artefact = exported.load(made / "exported")
    np.testing.assert_allclose(artefact(images), expected, atol=1e-5)


def test_test_rows_are_evaluated_by_both_commands(made, tmp_path, capsys):
    for source in ("run", "x.npz"):
        words = [str(made / source), "--no-clustering", "--samples", "0"]
        assert evaluate.main([*words, "--report", str(tmp_path / "page.html")]) == 0
        assert "rows: 9  classes: 3" in capsys.readouterr().out
        assert "data:image" in (tmp_path / "page.html").read_text()


def test_moved_weights_are_given_and_others_refused(made, tmp_path):
    file, moved = made / "w.safetensors", tmp_path / "moved.safetensors"
    other = tmp_path / "other.safetensors"
    arrays = {name: value + 1 for name, value in backbones.weights(ENTRY).items()}
    write_safetensors(other, arrays)
    file.rename(moved)
    try:
        with pytest.raises(RunError, match=r"not at .*w.safetensors; give --weights"):
            load_network(made / "run")
        with pytest.raises(RunError, match=r"other weights than .*other.safetensors"):
            load_network(made / "run", weights=other)
        assert load_network(made / "run", weights=moved).inputs[:3] == (32, 32, 3)
    finally:
        moved.rename(file)


@pytest.fixture
def foreign(tmp_path):
    """Embeddings of another program, of 6 classes of 4 rows."""
    labels = np.repeat(np.arange(6), 4)
    rows = np.random.default_rng(0).normal(size=(24, 5)) + 3 * np.eye(6, 5)[labels]
    arrays = {"embeddings": rows.astype(np.float32), "labels": labels}
    np.savez(tmp_path / "y.npz", **arrays)
    return tmp_path / "y.npz", arrays


def test_embeddings_of_others_train_a_head_that_embeds_no_images(foreign, capsys):
    file, _ = foreign
    run = str(file.parent / "run")
    words = ["--dataset", f"features:{file}", *SHORT, "--run-dir", run]
    assert train.main(words) == 0
    said = capsys.readouterr().out
    assert "hence this run will not embed images" in said
    assert "Frozen features" in said
    assert "Frozen features" in (file.parent / "run" / "report.html").read_text()
    assert evaluate.main([run, "--no-clustering", "--samples", "0"]) == 0
    with pytest.raises(RunError, match="a network that nobody told"):
        load_network(file.parent / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "must have embeddings and labels, got embeddings"),
        ({"embeddings": np.full((24, 5), 1e300)}, r"float32 holds.* is 1e\+300"),
        ({"embeddings": np.full((24, 5), 1e-300)}, "float32 holds.* is 1e-300"),
        ({"views": np.full((24, 2, 5), 1e300)}, "float32 holds"),
        (
            {"split": np.array(["train"] * 23 + [""])},
            "split must be .* missing in 1.* 23$",
        ),
        ({"split": np.array(["train", "test"] * 12)}, "'class 0' is in two splits"),
        ({"split": np.array(["trian"] * 24)}, "split must be one of .* got trian"),
        ({"views": np.zeros((24, 2, 4), np.float32)}, r"views must be floating \[24"),
        ({"paths": np.array(["a.png"])}, "paths must have shape"),
        ({"embeddings": np.full((24, 5), np.nan)}, "embeddings"),
    ],
)
def test_files_that_do_not_fit_are_refused(foreign, changes, message):
    file, arrays = foreign
    arrays = {k: v for k, v in (arrays | changes).items() if v is not None}
    np.savez(file, **arrays)
    with pytest.raises(UsageError, match=message):
        load_features(file, Data(), 0)


def test_what_is_not_used_of_a_file_is_named(foreign, capsys):
    file, arrays = foreign
    np.savez(file, **arrays, splits=arrays["labels"])
    load_features(file, Data(), 0)
    assert "not used: splits (is split meant?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "resnet18"], "model must be features with features"),
        (["--image-size", "64"], "image_size must be 32 with features"),
        (["--lora", "4"], "lora must be 0 with features"),
        (["--augmentation", "none"], "augmentation must be views"),
    ],
)
def test_settings_of_images_are_refused_if_they_were_typed(
    foreign, capsys, words, message
):
    assert train.main(["--dataset", f"features:{foreign[0]}", *SHORT, *words]) == 2
    assert message in capsys.readouterr().err


def test_features_are_no_model_of_images(capsys):
    assert train.main(["digits", "--model", "features"]) == 2
    assert "must come with --dataset features:FILE" in capsys.readouterr().err
