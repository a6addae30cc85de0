import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import embed
from experiments.export import main
from experiments.runs import load_network
from rankjax import exported
from rankjax.errors import RunError, UsageError
from rankjax.files import new_folder

pytestmark = pytest.mark.xdist_group("use")

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artefact(run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "new" / "artefact"
    words = [str(run), "--out", str(out), "--licence", "CC BY | 4.0"]
    assert main(words) == 0
    return out


def _images(n):
    return np.random.default_rng(n).integers(0, 256, (n, 32, 32, 1), np.uint8)


def test_a_process_without_flax_gets_the_same_embeddings(run, artefact, tmp_path):
    np.save(tmp_path / "images.npy", _images(7))
    script = """
import sys, numpy as np, rankjax.exported
network = rankjax.exported.load(sys.argv[1])
images = np.load("images.npy")
np.savez("found.npz", all=network(images), one=network(images[:1]))
extra = {"flax", "optax", "orbax", "PIL", "tensorflow", "experiments"}
assert not extra & {name.partition(".")[0] for name in sys.modules}
"""
    subprocess.run(
        [sys.executable, "-c", script, str(artefact)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "XLA_FLAGS": ""},
        check=True,
    )
    expected = load_network(run)(_images(7))
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["all"], expected, atol=1e-5)
        np.testing.assert_allclose(found["one"], expected[:1], atol=1e-5)


def test_an_artefact_embeds_folders_on_all_devices_as_its_run(
    artefact, photos, index, tmp_path
):
    out = tmp_path / "x.npz"
    words = [str(artefact), str(photos), "--out", str(out), "--batch-size", "16"]
    assert jax.device_count() == 8
    assert embed.main(words) == 0
    with np.load(out) as found, np.load(index) as whole:
        np.testing.assert_allclose(found["embeddings"], whole["embeddings"], atol=1e-5)


def test_what_an_artefact_takes_is_checked_and_told(artefact):
    network = exported.load(artefact)
    assert network.inputs == (32, 32, 1, 32, "crop", "white")
    assert (network.normalized, network.step) == (True, 5)
    assert repr(network).endswith("normalized=True, step=5)")  # and no weights
    with pytest.raises(ValueError, match=r"\[n, 32, 32, 1\], n 1 or more, got \[0, 32"):
        network(_images(1)[:0])
    with pytest.raises(ValueError, match=r"got \[2, 16, 32, 1\]"):
        network(_images(2)[:, ::2])
    with pytest.raises(ValueError, match="must be uint8, got float32"):
        network(_images(1).astype(np.float32))
    both = network(list(_images(2)))
    np.testing.assert_array_equal(both, network(_images(2)))
    within = jax.jit(lambda images: network(images) + 1)(_images(2)) - 1
    for found in (within, jax.jit(network)(_images(2))):
        np.testing.assert_allclose(found, both, atol=1e-6)
    for dim in (2.5, "2"):
        with pytest.raises(
            UsageError, match=r"^dim must be from 1 to \d+, the numbers"
        ):
            network.shortened(dim)


def test_the_card_tells_data_figures_settings_and_licence(artefact, run):
    card = (artefact / "README.md").read_text()
    recall = json.loads((run / "summary.json").read_text())["test"]["recall_at_1"]
    assert f"| recall_at_1 | {recall:.4f} |" in card
    assert "Licence: CC BY 4.0." in card  # of the data
    assert card.rstrip().endswith("CC BY | 4.0")
    assert "| per_class | 4 |" in card
    assert "[n, 32, 32, 1]" in card


def test_nothing_is_overwritten_nor_left_half_written(run, artefact, tmp_path, capsys):
    assert main([str(run), "--out", str(artefact)]) == 2
    assert f"{artefact} exists" in capsys.readouterr().err
    assert main([str(tmp_path), "--out", str(tmp_path / "x")]) == 1

    def interrupted():
        with new_folder(tmp_path / "y") as folder:
            (folder / "file").touch()
            raise ZeroDivisionError

    def beaten():
        with new_folder(tmp_path / "y") as folder:
            (folder / "file").touch()
            (tmp_path / "y").mkdir()
            (tmp_path / "y" / "x").touch()

    for fill, error in ((interrupted, ZeroDivisionError), (beaten, FileExistsError)):
        with pytest.raises(error):
            fill()
    assert list(tmp_path.iterdir()) == [tmp_path / "y"]
    assert list((tmp_path / "y").iterdir()) == [tmp_path / "y" / "x"]


@pytest.mark.parametrize("name", ["model.jax", "weights.npz", "model.json"])
@pytest.mark.parametrize("change", ["cut", "flip", "missing"])
def test_a_damaged_artefact_is_refused(artefact, tmp_path, name, change):
    folder = shutil.copytree(artefact, tmp_path / "x")
    content = bytearray((folder / name).read_bytes())
    if change == "missing":
        (folder / name).unlink()
    elif change == "cut":
        (folder / name).write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 3] ^= 1 << 7
        (folder / name).write_bytes(content)
    with pytest.raises((RunError, UsageError), match=str(folder)):
        exported.load(folder)


def _changed(artefact, tmp_path, **contents):
    folder = shutil.copytree(artefact, tmp_path / "x")
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | contents))
    return folder


@pytest.mark.parametrize(
    "contents",
    [
        {"sha256": ["model.jax", "weights.npz"]},
        {"sha256": {"../../x": "0"}},
        {"sha256": {"model.jax": ["0"], "weights.npz": ["0"]}},
        {"sha256": None},
        {"inputs": []},
        {"inputs": {"height": "32", "width": 32, "channels": 1}},
        {"inputs": {"height": 32, "width": 32, "channels": 1, "depth": 1}},
        {"inputs": {"height": 16, "width": 32, "channels": 1}},
        {"format": "1"},
        {"step": None},
    ],
)
def test_an_artefact_whose_contents_cannot_be_meant_is_refused(
    artefact, tmp_path, contents
):
    with pytest.raises(RunError, match=str(tmp_path)):
        exported.load(_changed(artefact, tmp_path, **contents))


def test_weights_of_another_network_are_refused_when_they_are_read(artefact, tmp_path):
    folder = shutil.copytree(artefact, tmp_path / "x")
    with np.load(artefact / "weights.npz") as arrays:
        np.savez(folder / "weights.npz", **dict(list(arrays.items())[1:]))
    sums = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("model.jax", "weights.npz")
    }
    with pytest.raises(RunError, match="do not fit together"):
        exported.load(_changed(folder, tmp_path / "y", sha256=sums))


def test_a_newer_format_is_refused(artefact, tmp_path):
    folder = shutil.copytree(artefact, tmp_path / "x")
    contents = json.loads((folder / "model.json").read_text()) | {"format": 2}
    (folder / "model.json").write_text(json.dumps(contents))
    with pytest.raises(RunError, match="newer rankjax, in format 2"):
        exported.load(folder)


@pytest.mark.slow
def test_tensorflow_gets_the_same_embeddings(run, tmp_path):
    """In a process of its own: the two libraries' warnings are not ours."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    out = tmp_path / "artefact"
    command = [sys.executable, "-m", "experiments.export", str(run), "--out", str(out)]
    subprocess.run(command, check=True, cwd=_ROOT)
    script = """
import sys, numpy as np, tensorflow as tf
embed = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
np.save("found.npy", embed(images=tf.constant(np.load("images.npy")))["embeddings"])
"""
    np.save(tmp_path / "images.npy", _images(7))
    saved = str(out / "saved_model")
    subprocess.run([sys.executable, "-c", script, saved], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, exported.load(out)(_images(7)), atol=1e-5)
