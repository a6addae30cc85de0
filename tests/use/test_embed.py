import io
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.embed import embed_views, main
from experiments.evaluation.npz import read_npz
from experiments.images import Views, list_images
from experiments.runs import load_network, load_run
from experiments.search.index import read_index
from rankjax.data import load
from rankjax.data.images import EncodedImages, decode, resize
from rankjax.errors import RunError, UsageError
from rankjax.exported import Inputs
from rankjax.train import Checkpoints, evaluate, make_embed

pytestmark = pytest.mark.xdist_group("use")

_ROOT = Path(__file__).parents[2]


def _run(capsys, *words):
    status = main([str(word) for word in words])
    return status, *capsys.readouterr()


def test_a_run_read_back_has_the_figures_that_it_reported(run):
    kept = load_run(run)
    data = load(
        "digits", data_dir=run.parent / "data", image_size=kept.config.data.size()
    )
    embed = make_embed(kept.definition, devices=jax.devices())
    figures = evaluate(embed(kept.state, data.test.images), data.test.labels, seed=0)
    reported = json.loads((run / "summary.json").read_text())["test"]
    assert kept.step == 5
    assert figures["recall_at_1"] == pytest.approx(reported["recall_at_1"], abs=2e-3)


def test_reading_a_run_changes_nothing_in_its_folder(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    unfinished = folder / "checkpoints" / ".unfinished-10"
    unfinished.mkdir()
    before = sorted(folder.rglob("*"))
    load_run(folder, which="best")
    assert sorted(folder.rglob("*")) == before


def test_a_part_of_a_checkpoint_is_restored_but_nothing_that_it_lacks(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": np.arange(3), "b": np.ones(2)}, score=0.0)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        part = checkpoints.restore(1, {"b": np.zeros(2)}, part=True)
        np.testing.assert_array_equal(part["b"], np.ones(2))
        with pytest.raises(RunError, match=r"this run has float64\[2\]"):
            checkpoints.restore(1, {"c": np.zeros(2)}, part=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no run"),
        ("config.json", "{", "not JSON"),
        ("config.json", '{"colour": 3}', "does not know: colour"),
        ("inputs.json", None, "there is no"),
        ("checkpoints", None, "no checkpoint yet"),
    ],
)
def test_what_is_no_whole_run_is_one_line(
    run, tmp_path, capsys, name, content, message
):
    folder = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    status, _, said = _run(capsys, folder, run, "--out", tmp_path / "x.npz")
    assert status in (1, 2)
    assert message in said
    assert said.count("\n") == 1


def test_embeddings_are_those_of_the_network_in_the_order_of_sorted_paths(
    run, photos, index
):
    files = sorted(str(path) for path in photos.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])[..., None]
    with np.load(index) as found:
        assert found["paths"].tolist() == files
        assert found["class_names"].tolist() == [f"数字{i}" for i in range(5)]
        assert found["labels"].tolist() == [i for i in range(5) for _ in range(10)]
        expected = load_network(run)(images)
        np.testing.assert_allclose(found["embeddings"], expected, atol=1e-5)
        job = json.loads(zipfile.ZipFile(index).comment)
    assert job["network"] == str(run)
    assert job["step"] == 5


def test_views_of_an_image_are_their_mean_at_length_1(run, photos, tmp_path, capsys):
    out = tmp_path / "x.npz"
    status, _, _ = _run(
        capsys, run, photos / "数字0", "--flip", "--crops", "5", "--out", out
    )
    assert status == 0
    files = sorted((photos / "数字0").iterdir())
    network = load_network(run)
    for file, row in zip(files, np.load(out)["embeddings"], strict=True):
        large = resize(np.asarray(Image.open(file))[..., None], 36, 36)
        crops = [large[y : y + 32, x : x + 32] for y in (0, 4) for x in (0, 4)]
        crops.append(large[2:34, 2:34])
        views = np.stack([*crops, *(crop[:, ::-1] for crop in crops)])
        mean = network(views).astype(np.float64).mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_without_further_views_an_image_is_decoded_once(photos, monkeypatch):
    decoded = []

    def counted(*args, **settings):
        decoded.append(settings["at_least"])
        return decode(*args, **settings)

    monkeypatch.setattr("experiments.images.decode", counted)
    files = [str(path) for path in sorted(photos.rglob("*.png"))[:3]]
    Views(files, Inputs(32, 32, 1, 32, "crop", "white")).read(np.arange(3))
    assert decoded == [32] * 3


def test_further_views_leave_the_plain_one_as_it_is(tmp_path):
    file = tmp_path / "large.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).resize((400, 400)).save(file)
    inputs = Inputs(32, 32, 3, 32, "crop", "white")
    (plain,) = Views([str(file)], inputs).read(np.array([0]))
    several = Views([str(file)], inputs, augmented=2).read(np.arange(3))
    np.testing.assert_array_equal(several[0], plain)
    assert (several[1] != several[2]).any()


@pytest.mark.parametrize("how", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("alpha", ["white", "black", "drop"])
def test_networks_get_images_as_their_evaluation_in_training_did(how, alpha):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    content = [buffer.getvalue()]
    for size, short_side in (((16, 16), None), ((16, 16), 20), ((16, 24), None)):
        inputs = Inputs(*size, 3, short_side, how, alpha)
        trained = EncodedImages(
            lambda rows: content * len(rows),
            1,
            inputs[:3],
            name=str,
            short_side=short_side,
            fit=how,
            alpha=alpha,
        )
        rows = np.array([0])
        seen = Views(content, inputs).read(rows)
        np.testing.assert_array_equal(seen, trained.read(rows))
        assert Views(content, inputs, crops=5).read(np.arange(5)).shape[1:3] == size


def test_words_mean_files_folders_and_patterns_each_file_once(tmp_path):
    for name in ("b/2.png", "b/1.JPG", "a.png", ".c/3.png", "b/.4.png", "b/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "[x].png").touch()
    named = [
        tmp_path / "b" / "2.png",
        tmp_path / "[x].png",
        tmp_path / "*.png",
        tmp_path,
    ]
    found = list_images([str(name) for name in named])
    names = [str(Path(path).relative_to(tmp_path)) for path in found.paths]
    assert names == ["b/2.png", "[x].png", "a.png", "b/1.JPG"]
    assert found.classes == []  # a.png is in no folder of a folder that was named
    assert list_images([str(tmp_path / "b")]).classes == []
    (tmp_path / "list.csv").write_text("path,label\n")
    with pytest.raises(UsageError, match=r"no image; .* --dataset list:.*list.csv$"):
        list_images([str(tmp_path / "list.csv")])
    with pytest.raises(UsageError, match=r"x\*y means no image"):
        list_images([str(tmp_path / "x*y")])


def test_a_damaged_image_stops_and_after_that_is_left_out_on_request(
    run, photos, tmp_path, capsys
):
    folder = shutil.copytree(photos, tmp_path / "photos")
    victim = sorted(folder.rglob("*.png"))[20]
    victim.write_bytes(victim.read_bytes()[:-30])
    out = tmp_path / "x.npz"
    words = run, folder, "--out", out, "--batch-size", 8
    dataset = run, "--dataset", f"folder:{folder}", "--out", tmp_path / "y.npz"
    for command in (dataset, words):
        status, _, said = _run(capsys, *command)
        assert status == 1
        assert f"cannot read the image {victim}: " in said
        assert "experiments.embed --on-damage skip" in said
        assert not out.exists()
    status, _, said = _run(capsys, run, folder / victim.parent.name, "--out", out)
    assert status == 2
    assert f"{out} was begun with other images; delete {out}.parts to begin" in said
    status, printed, said = _run(capsys, *words, "--on-damage", "skip")
    assert status == 0
    assert f"left out: {victim}: " in said
    assert printed.startswith("49 images embedded, 1 left out")
    with np.load(out) as found:
        assert len(found["embeddings"]) == len(found["labels"]) == 49
        assert str(victim) not in found["paths"]
    assert not list(tmp_path.glob("x.npz.parts"))
    status, _, said = _run(capsys, *words)
    assert (status, said) == (2, f"error: {out} exists; choose another --out\n")


def test_an_interrupted_embedding_goes_on_and_is_that_of_one_that_was_not(
    run, photos, index, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "x.npz"
    words = run, photos, "--out", out, "--batch-size", 8
    read = []

    def interrupted(self, indices):
        read.extend(indices.tolist())
        if max(indices) >= 40:
            raise KeyboardInterrupt
        return original(self, indices)

    original = Views.read
    with monkeypatch.context() as patch:
        patch.setattr(Views, "read", interrupted)
        status, _, said = _run(capsys, *words)
    assert status == 130
    assert "run again to go on" in said
    assert not out.exists()
    other = shutil.copytree(tmp_path / "x.npz.parts", tmp_path / "y.npz.parts")
    read.clear()

    def watched(self, indices):
        read.extend(indices.tolist())
        return original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "read", watched)
        assert _run(capsys, *words)[0] == 0
    assert max(read) == 50 - 32 - 1  # four batches of eight were kept
    with np.load(out) as found, np.load(index) as whole:
        np.testing.assert_array_equal(found["paths"], whole["paths"])
        np.testing.assert_allclose(found["embeddings"], whole["embeddings"], atol=1e-5)
    words = run, photos, "--flip", "--out", tmp_path / "y.npz"
    status, _, said = _run(capsys, *words)
    assert status == 2
    assert "flip False (here True)" in said
    assert other.exists()


def test_parquet_has_a_row_per_image(run, photos, index, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "x.parquet"
    assert _run(capsys, run, photos, "--out", out, "--batch-size", 8)[0] == 0
    table = parquet.read_table(out)
    with np.load(index) as whole:
        assert table["path"].to_pylist() == whole["paths"].tolist()
        names = whole["class_names"][whole["labels"]].tolist()
        assert table["label"].to_pylist() == names
        embeddings = np.stack(table["embedding"].to_numpy())
        np.testing.assert_allclose(embeddings, whole["embeddings"], atol=1e-5)
    assert json.loads(table.schema.metadata[b"rankjax"])["step"] == 5
    first, second = read_index(out), read_index(index)
    assert (first.paths, first.labels) == (second.paths, second.labels)
    np.testing.assert_allclose(first.embeddings, second.embeddings, atol=1e-5)
    assert first.job == second.job
    found = [read_npz(each, pictures=False) for each in (out, index)]
    np.testing.assert_array_equal(found[0].labels, found[1].labels)
    assert [*found[0].class_names] == [*found[1].class_names]


def test_names_that_are_not_utf_8_are_embedded_and_found(run, photos, tmp_path):
    folder, out = tmp_path / "p", tmp_path / "x.npz"
    folder.mkdir()
    name = os.path.join(os.fsencode(folder), b"\xff.png")
    shutil.copy(next(photos.rglob("*.png")), name)
    for module, words in (
        ("embed", [run, folder, "--out", tmp_path / "x.parquet"]),
        ("embed", [run, folder, "--out", out]),
        ("search", [out, name, "--k", "1"]),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"experiments.{module}", *words],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
            cwd=_ROOT,
        )
        said = done.stdout + done.stderr
        if "x.parquet" in str(words):
            assert done.returncode == 2
            assert b"U+DCFF.png: names in CSV and Parquet must be UTF-8" in said
            assert not list(tmp_path.glob("x.parquet*"))
        else:
            assert done.returncode == 0, said
    assert b"1.0000" in said
    assert b"U+DCFF.png" in said
    with np.load(out) as found:
        assert os.fsencode(found["paths"][0]) == name


def test_memory_does_not_grow_with_the_images(run, photos):
    """Batches leave one by one, and never more than a few are read ahead."""
    (path, *_), most, given = list_images([str(photos)]).paths, 0, 0
    read = 0

    class Counted(Views):
        def read(self, indices):
            nonlocal read
            read += len(indices)
            return super().read(indices)

    views = Counted([path] * 1024, load_network(run).inputs)
    batches = embed_views(
        load_network(run), views, devices=jax.devices()[:1], batch_size=64
    )
    for batch in batches:
        given += len(batch)
        most = max(most, read - given)
    assert given == 1024
    assert most <= 3 * 64


@pytest.mark.slow
def test_two_processes_embed_what_one_does(run, photos, index, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "数字4" / "zz.png").touch()
    out = tmp_path / "x.npz"
    words = [sys.executable, "-m", "experiments.embed", run, folder, "--out", out]
    words += ["--batch-size", "16", "--on-damage", "skip", "--hosts"]
    processes = [
        subprocess.Popen(
            [*map(str, words), f"127.0.0.1:{port},2,{number}"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        for number in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "zz.png: it is empty" in "".join(said)
    with np.load(out) as found, np.load(index) as whole:
        np.testing.assert_allclose(found["embeddings"], whole["embeddings"], atol=1e-5)
