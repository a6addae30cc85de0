"""The same training in two libraries: one job for both, and rows that are kept."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import tables
from experiments.bench import peer_arms, peer_training
from experiments.images import Held
from rankjax.data import Split


@pytest.fixture
def runs(monkeypatch):
    """Commands that were run, by processes that find made-up figures."""
    commands = []
    patterns = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    labels = np.repeat(np.arange(4, dtype=np.int32), 4)
    images = Held(
        patterns[labels] // 2 + np.arange(16, dtype=np.uint8)[:, None, None, None]
    )
    split = Split(images, labels, tuple("abcd"))
    data = SimpleNamespace(train=split, test=split)
    monkeypatch.setattr(peer_training, "load_data", lambda *_: data)

    def run(command, *, cwd, check, env):
        library = next(word for word in peer_arms.ARMS if word in command)
        place = command[command.index(library) + 1]
        commands.append((command, (cwd / place / "job.json").read_text()))
        with np.load(f"{place}/test.npz") as test:
            images = test["images"]
        rows = images.reshape(len(images), -1).astype(np.float32)
        np.save(f"{place}/embeddings.npy", rows + 1)
        seconds = 1.0 if "--steps" in command else float(len(commands))
        found = {
            name: seconds for name in peer_training.MEASURED if name != "recall_at_1"
        }
        del found["first_step_again_cpu_s"]
        with open(f"{place}/found.json", "w") as file:
            json.dump(found | {"versions": {}}, file)

    monkeypatch.setattr(peer_training.subprocess, "run", run)
    fitting = {"classes": 4, "per_class": 2}
    monkeypatch.setattr(
        peer_training,
        "LOSSES",
        {name: x | fitting for name, x in peer_training.LOSSES.items()},
    )
    return commands


def bench(file, *more):
    words = ["--peer", "python-of-torch", "--steps", "40", "--losses", "nt_xent"]
    words += ["--json", str(file), *more]
    assert peer_training.main(words) == 0
    return json.loads(file.read_text())


def test_both_libraries_have_one_job_and_what_is_done_is_not_done_again(runs, tmp_path):
    rows = bench(tmp_path / "rows.json", "--seeds", "1")
    assert [row["library"] for row in rows] == ["rankjax", "pytorch"]
    assert rows[0]["recall_at_1"] == rows[1]["recall_at_1"] == 1
    (ours, job), (again, _), (peer, same) = runs
    assert job == same
    assert "--steps" in again
    assert "python-of-torch" in peer
    assert "python-of-torch" not in ours
    job = json.loads(job)
    assert len(job["rates"]) == 40
    assert job["rates"][0] == 0  # the warm-up's
    more = bench(tmp_path / "rows.json", "--seeds", "2")
    assert more[:2] == rows
    assert [row["seed"] for row in more] == [0, 0, 1, 1]
    assert len(runs) == 6


def test_a_table_has_means_and_deviations_of_both(tmp_path):
    file = tmp_path / "rows.json"
    found = dict.fromkeys(peer_training.MEASURED, 2.0) | {"data": "d", "loss": "a_b"}
    rows = [
        found | {"library": library, "recall_at_1": recall}
        for library, recall in (("rankjax", 0.5), ("pytorch", 0.25), ("rankjax", 0.7))
    ]
    file.write_text(json.dumps(rows))
    last = tables.peer_training_table(file).splitlines()[-1]
    assert last.startswith("| d | a b | 0.600 ± 0.141 / 0.250 | 2 ± 0 / 2 |")
    assert "2.0 ± 0.0, 2.0 ± 0.0 again / 2.0" in last
    assert last.endswith("| 2 |")


@pytest.mark.slow
def test_an_arm_learns_and_tells_its_costs(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 4).astype(np.int32)
    patterns = rng.integers(0, 256, (4, 32, 32, 1), np.uint8)
    images = np.broadcast_to(patterns[labels], (60, 16, 32, 32, 1))
    np.savez(tmp_path / "batches.npz", images=images, labels=np.tile(labels, (60, 1)))
    noise = rng.integers(0, 40, (16, 32, 32, 1), np.uint8)
    np.savez(tmp_path / "test.npz", images=patterns[labels] // 2 + noise)
    job = {
        "loss": "nt_xent",
        "settings": {"loss": "nt_xent", "steps": 60, "seed": 0},
        "classes": 4,
        "shape": [32, 32, 1],
        "compiled": str(tmp_path / "programs"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    peer_arms.run("rankjax", tmp_path, None)
    embeddings = np.load(tmp_path / "embeddings.npy")
    nearest = (embeddings @ embeddings.T - 2 * np.eye(16)).argmax(1)
    assert (labels[nearest] == labels).all()
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 < 59 * found["step_cpu_ms"] / 1000 < found["total_cpu_s"]
    assert found["first_step_cpu_s"] < found["total_cpu_s"]
    assert {"rankjax", "jax", "numpy"} <= set(found["versions"])
