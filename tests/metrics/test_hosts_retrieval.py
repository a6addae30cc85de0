"""Retrieval that several processes share, on one machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rankjax.metrics import leave_one_out, nearest, query_gallery, retrieval

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hosts")]

ROOT = Path(__file__).parents[2]


def measured(devices):
    """Values of each query and neighbours, in blocks that do not divide the rows."""
    rng = np.random.default_rng(0)
    labels = np.append(rng.integers(0, 20, 236), 2**40)
    rows = rng.normal(size=(237, 17)) + np.eye(20, 17)[labels % 20]
    rows[50:60] = rows[40]  # ties
    cameras = rng.integers(0, 3, 237)
    searches = {
        "leave_one_out": leave_one_out(rows.astype(np.float32), labels),
        "query_gallery": query_gallery(
            *(rows[:100].astype(np.float32), labels[:100]),
            *(rows[100:].astype(np.float32), labels[100:]),
            query_cameras=cameras[:100],
            gallery_cameras=cameras[100:],
        ),
    }
    found = {}
    for name, search in searches.items():
        got = retrieval(search, block=16, devices=devices)
        found |= {f"{name}/{key}": values for key, values in got.values.items()}
        found[f"{name}/queries"] = got.queries
        gallery = None if search.itself is not None else search.gallery
        near = nearest(search.queries, k=7, gallery=gallery, block=16, devices=devices)
        found[f"{name}/rows"] = near.rows
        found[f"{name}/similarities"] = near.similarities
    return found


def test_two_processes_of_four_devices_find_what_one_of_eight_finds(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    files = [tmp_path / f"{number}.npz" for number in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, where, str(number), str(file)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, file in enumerate(files)
    ]
    try:
        expected = measured(jax.devices())
        for process in processes:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for file in files:
        with np.load(file) as got:
            assert set(got) == set(expected)
            for name, values in expected.items():
                np.testing.assert_array_equal(got[name], values, err_msg=name)


if __name__ == "__main__":
    coordinator, process, out = sys.argv[1:]
    jax.distributed.initialize(coordinator, num_processes=2, process_id=int(process))
    assert (jax.process_count(), len(jax.devices())) == (2, 8)
    np.savez(out, **measured(jax.devices()))
