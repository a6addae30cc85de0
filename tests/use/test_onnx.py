"""ONNX files of runs."""

import sys

import numpy as np
import pytest

from experiments.export import main
from experiments.runs import load_network

pytestmark = pytest.mark.xdist_group("use")


@pytest.mark.filterwarnings("ignore")  # jax2onnx's own
def test_onnxruntime_embeds_as_the_run_does(run, tmp_path):
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    import onnxruntime

    file = tmp_path / "new" / "network.onnx"
    assert main([str(run), "--onnx", str(file)]) == 0
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    network = load_network(run)
    for n in (1, 7):
        images = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 1), np.uint8)
        (found,) = session.run(["embeddings"], {"images": images})
        np.testing.assert_allclose(found, network(images), atol=1e-4)
    written = file.read_bytes()
    assert main([str(run), "--onnx", str(file)]) == 2
    assert file.read_bytes() == written


def test_without_the_extra_one_line_says_what_to_install(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert main([str(run), "--onnx", str(tmp_path / "network.onnx")]) == 2
    assert "pip install 'rankjax[onnx]'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
