"""The recipe of a head on frozen features, on an archive in its original layout."""

import dataclasses
import re

import numpy as np
import tiny_archives
from weight_file import write_safetensors

from experiments import embed, evaluate
from experiments.parity import backbones
from experiments.train import main
from rankjax.data import CATALOGUE

ENTRY = backbones.stored()["mobilenet_v3_small, timm"]


def test_a_benchmark_is_embedded_evaluated_and_trained_on(
    tmp_path, monkeypatch, capsys
):
    found = tiny_archives.sop(tmp_path)
    counts = {
        k: (len(rows), len({row[0] for row in rows})) for k, rows in found.items()
    }
    entry = dataclasses.replace(CATALOGUE["sop"], counts=counts)
    monkeypatch.setitem(CATALOGUE, "sop", entry)
    weights = tmp_path / "w.safetensors"
    write_safetensors(weights, backbones.weights(ENTRY))
    words = ["--model", "mobilenet_v3_small", "--weights", weights, "--image-size", 32]
    words += [
        "--dataset",
        "sop",
        "--data-dir",
        tmp_path / "d",
        "--manual-dir",
        tmp_path,
    ]
    file = tmp_path / "sop.npz"
    assert embed.main([*map(str, words), "--views", "1", "--out", str(file)]) == 0
    arrays = np.load(file)
    assert arrays["split"].tolist() == ["train"] * 6 + ["test"] * 6
    assert arrays["class_names"].tolist() == sorted(
        {row[0] for rows in found.values() for row in rows}
    )
    assert evaluate.main([str(file), "--no-clustering", "--samples", "0"]) == 0
    out = capsys.readouterr().out
    assert "rows: 6  classes: 2" in out
    assert re.search(r"Super-classes(.|\n)*bicycle +3 +3 ", out)
    short = ["--dataset", f"features:{file}", "--devices", "1", "--dry-run"]
    assert main(["frozen_head", *short]) == 0
    assert "train 6 of 2 classes; test 6 of 2 classes" in capsys.readouterr().out
