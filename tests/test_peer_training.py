"""The training that another library's is compared with."""

import json

import numpy as np
import pytest

from experiments.bench import peer_arms


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
