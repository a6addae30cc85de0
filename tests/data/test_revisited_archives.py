"""Revisited Oxford and Paris: from archives in their original layout to figures."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import tiny_archives
from test_archives import counted, read
from weight_file import write_safetensors

from experiments import embed, evaluate
from experiments.parity import backbones
from experiments.train import main as train
from rankjax.data import CATALOGUE
from rankjax.errors import RunError

ENTRY = backbones.stored()["mobilenet_v3_small, timm"]
OPTIONS = {
    "easy": (["easy"], ["hard", "junk"]),
    "medium": (["easy", "hard"], ["junk"]),
    "hard": (["hard"], ["easy", "junk"]),
}


def by_hand(queries, gallery, known, right, left_out, levels):
    """The mean of each figure over the queries that have something to find."""
    found = []
    for query, lists in zip(queries, known, strict=True):
        good = [row for name in right for row in lists[name]]
        bad = [row for name in left_out for row in lists[name]]
        if not good:
            continue
        scores = [query @ row / np.linalg.norm(row) for row in gallery]
        ranked = sorted(set(range(len(gallery))) - set(bad), key=lambda i: -scores[i])
        places = [place for place, row in enumerate(ranked) if row in good]
        area = 0
        for before, place in enumerate(places):
            area += (before / place if place else 1) + (before + 1) / (place + 1)
        one = {"map_trapezoid": area / 2 / len(good)}
        for k in levels:
            shown = min(k, places[-1] + 1)
            one[f"precision_at_{k}"] = sum(p < shown for p in places) / shown
        found.append(one)
    return {"scored": len(found)} | {
        name: np.mean([one[name] for one in found]) for name in found[0]
    }


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Its folder; the catalogue expects as many images as it has."""
    counts = counted(tiny_archives.roxford5k(tmp_path))
    entry = dataclasses.replace(CATALOGUE["roxford5k"], counts=counts)
    monkeypatch.setitem(CATALOGUE, "roxford5k", entry)
    return tmp_path


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_figures_from_the_archive_equal_a_slow_loop(kind, archive, capsys):
    weights, file = archive / "w.safetensors", archive / f"oxford.{kind}"
    write_safetensors(weights, backbones.weights(ENTRY))
    words = ["--model", "mobilenet_v3_small", "--weights", weights, "--image-size", 32]
    words += ["--dataset", "roxford5k", "--manual-dir", archive, "--out", file]
    words += ["--data-dir", archive / "data"]
    assert embed.main([*map(str, words)]) == 0
    figures = archive / "figures.json"
    words = [file, "--json", figures, "--precision-at", 1, 3, "--samples", 100]
    assert evaluate.main([*map(str, words)]) == 0
    out = capsys.readouterr().out
    assert "queries: 2  gallery: 4" in out
    got = json.loads(figures.read_text())["settings"]
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = np.array(parquet.read_table(file)["embedding"].to_pylist())
    else:
        rows = np.load(file)["embeddings"]
    known = pickle.loads((archive / "gnd_roxford5k.pkl").read_bytes())["gnd"]
    for setting, sides in OPTIONS.items():
        expected = by_hand(rows[:2], rows[2:], known, *sides, (1, 3))
        mine = got[setting]
        intervals = mine.pop("intervals")
        assert mine == pytest.approx(expected, abs=1e-6)
        assert bool(intervals["map_trapezoid"]) == (expected["scored"] > 1)
        assert f"{expected['map_trapezoid']:.4f}" in out


def test_a_file_that_names_a_function_is_refused_and_the_function_not_called(archive):
    class Trap:
        def __reduce__(self):
            return (archive / "trapped").touch, ()

    file = archive / "gnd_roxford5k.pkl"
    truth = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps(truth | {"more": Trap()}))
    with pytest.raises(RunError, match="lists, text and numbers alone, it names") as no:
        read("roxford5k", archive, {})
    assert "\n" not in str(no.value)
    assert not (archive / "trapped").exists()


def test_lists_follow_images_that_are_left_out(archive):
    file = archive / "jpg/all_souls_000000.jpg"
    file.write_bytes(file.read_bytes()[:200])
    data = read("roxford5k", archive, {}, on_damage="skip")
    assert data.lists.tolist() == [[1, 3], [0, 2], [2, 3]]


def test_there_is_nothing_to_train_on(archive, capsys):
    words = ["--dataset", "roxford5k", "--manual-dir", archive]
    words += ["--data-dir", archive / "data", "--run-dir", archive / "run"]
    assert train(["glyphs", *map(str, words)]) == 2
    assert "error: roxford5k has nothing to train on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"lists": np.zeros((3, 2))}, [], r"lists must be 0 to 3 of shape (3, 1), "),
        ({"lists": np.full((3, 1), 4)}, [], "lists must be 0 to 3"),
        ({"lists": np.zeros((3, 1), int)}, [], "lists must name an image that is easy"),
        ({"query": None}, [], "lists must be 0 to 3 of shape (3, 0), "),
        ({"lists": None}, [], "protocol revisited needs query and lists"),
        ({}, ["--report", "x.html"], "report has no use in protocol revisited"),
        ({}, ["--map-at", "1"], "map_at has no use in protocol revisited"),
        ({"lists": np.eye(3, 1)}, [], "easy must have a row for some query"),
    ],
)
def test_what_cannot_be_meant_is_one_line(change, words, message, tmp_path, capsys):
    arrays = {"embeddings": np.eye(3), "labels": np.arange(3), "query": [0]}
    arrays |= {"lists": [[0], [1], [2]]} | change
    file = tmp_path / "x.npz"
    np.savez(file, **{k: v for k, v in arrays.items() if v is not None})
    assert evaluate.main([str(file), "--protocol", "revisited", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
