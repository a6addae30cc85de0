"""The benchmarks run, compare before they time, and report what they say."""

import itertools
import json
import sys
from functools import partial

import numpy as np
import pytest

from experiments.bench import (
    losses,
    output,
    retrieval,
    suspects,
    timing,
)
from experiments.bench.cases import Case
from experiments.bench.timing import Rep, Unavailable
from rankjax import Terms

# What is prepared for one of these tests serves the others of the same process.
pytestmark = pytest.mark.xdist_group("bench")

SMALL = ["--sizes", "32", "--dim", "8"]
SERVER = """
import json, sys
print("{}", flush=True)
for line in sys.stdin:
    x = [[0.0] * 32] * 64
    answers = {"value": {"value": 1e6, "gradients": [x]}}
    print(json.dumps(answers.get(json.loads(line)["op"], {})), flush=True)
"""


@pytest.fixture
def python(tmp_path):
    """An interpreter whose peer answers at once, and wrongly."""
    (tmp_path / "server.py").write_text(SERVER)
    file = tmp_path / "python"
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/server.py"\n')
    file.chmod(0o755)
    return str(file)


def run(tmp_path, *words):
    """The rows that the command writes."""
    file = tmp_path / "rows.json"
    assert losses.main([*SMALL, "--json", str(file), *words]) == 0
    return json.loads(file.read_text())


def test_every_variant_of_a_loss_has_a_row_with_ratios_to_the_limit(tmp_path):
    names = ["sup_con", "n_pairs", "proxy_anchor"]  # every kind of batch
    rows = run(tmp_path, "--only", *names)
    variants = ["rankjax", "plain", "limit"]
    found = [(row["loss"], row["variant"]) for row in rows]
    assert found == list(itertools.product(names, variants))
    limit = {r["loss"]: r for r in rows if r["variant"] == "limit"}
    for row in rows:
        assert tuple(row) == losses.KEYS
        bare = limit[row["loss"]]
        assert row["over_limit"] == row["cpu_s"] / bare["cpu_s"]
        assert row["over_limit_wall"] == row["wall_s"] / bare["wall_s"]
        assert row["wall_min_s"] <= row["wall_s"] <= row["wall_max_s"]
        assert row["over_peer"] is None
        assert row["compile_s"] > 0


def test_a_large_batch_is_timed_against_products_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "LARGE_BLOCK", 16)
    rows = run(tmp_path, "--only", "sup_con", "--large", "64")
    rows = [row for row in rows if row["B"] == 64]
    found = [(row["loss"], row["variant"], row["B"]) for row in rows]
    assert found == [
        (name, variant, 64) for name in losses.LARGE for variant in ("rankjax", "limit")
    ]
    assert all(row["over_limit"] > 0 for row in rows)


def other_each_time():
    """A loss that changes whenever it is traced."""
    calls = itertools.count(1)
    return lambda pairs: Terms.over_references(
        pairs.similarity * next(calls), pairs.positive
    )


def test_a_wrong_value_stops_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(losses.CASES, "new_jnp", Case(other_each_time()))
    file = tmp_path / "rows.json"
    words = [*SMALL, "--only", "new_jnp", "--json", str(file)]
    assert losses.main(words) == 1
    assert "new_jnp at B=32: rankjax and plain: the value" in capsys.readouterr().err
    assert not file.exists()


def test_a_wrong_value_of_the_peer_stops_the_run(python, capsys):
    assert losses.main([*SMALL, "--only", "sup_con", "--peer", python]) == 1
    assert "sup_con and the peer's sup_con: the value" in capsys.readouterr().err


def test_a_gradient_is_compared_and_so_is_not_a_number():
    gradient = np.ones((2, 2))
    losses.check_equal("same", (1.0, [gradient]), (1.0 + 1e-6, [gradient]))
    with pytest.raises(losses.Mismatch, match=r"the gradient differs by 0\.01"):
        losses.check_equal("it", (1.0, [1.01 * gradient]), (1.0, [gradient]))
    with pytest.raises(losses.Mismatch, match="the value differs by nan"):
        losses.check_equal("it", (float("nan"), [gradient]), (1.0, [gradient]))


def test_the_ratio_to_the_peer_is_above_one_when_it_is_slower():
    rows = [
        dict.fromkeys(losses.KEYS)
        | {"variant": name, "cpu_s": cpu, "cpu_min_s": cpu / 2, "wall_s": cpu}
        for name, cpu in (("rankjax", 2.0), ("limit", 1.0), ("peer", 6.0))
    ]
    rows = losses.with_ratios(rows, same=True)
    assert [row["over_limit"] for row in rows] == [2, 1, 6]
    assert [row["over_peer"] for row in rows] == [3, 6, 1]


def test_an_interpreter_without_the_peer_is_named(capsys):
    assert losses.main([*SMALL, "--only", "sup_con", "--peer", "/bin/false"]) == 1
    assert "/bin/false cannot run" in capsys.readouterr().err


def test_variants_take_turns_and_one_that_fails_is_left_out():
    order = []

    def call(name):
        order.append(name)
        if name == "fails" and order.count(name) > 1:
            raise Unavailable("timeout")
        return Rep(1.0, 10.0 if name == "slow" else 1.0)

    runs = {name: partial(call, name) for name in ("quick", "slow", "fails")}
    found, failed = timing.interleaved(runs, reps=3, seconds=5)
    assert order == ["quick", "slow", "fails", "quick", "fails", "quick", "quick"]
    assert failed == {"fails": "timeout"}
    assert {name: len(reps) for name, reps in found.items()} == {"quick": 3, "slow": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="not measured elsewhere")
def test_the_memory_of_a_call_is_found_again_and_again():
    for _ in range(2):
        peak = timing.peak_mb(lambda: np.ones(2**23, np.uint8))
        assert peak is None or 7 < peak < 12  # None without glibc


def test_names_are_shown_as_they_are(capsys):
    output.show("folder:cat: [b]", [{"name": ":cat:", "n": 1}], {"name": "", "n": ""})
    shown = capsys.readouterr().out
    assert "folder:cat: [b]" in shown
    assert ":cat: " in shown


def test_retrieval_finds_what_others_find(tmp_path):
    file = tmp_path / "rows.json"
    assert retrieval.main(["--sizes", "60", "--json", str(file)]) == 0
    rows = {row["what"]: row for row in json.loads(file.read_text())}
    assert {"nearest", "metrics", "limit", "sklearn"} <= rows.keys()
    assert rows["sklearn"]["recall_at_1"] == rows["metrics"]["recall_at_1"]


def test_planted_faults_are_found_or_not_as_they_must_be(tmp_path):
    # Cleanlab says that a label is the better the higher its row's first number is.
    peer = tmp_path / "python"
    peer.write_text(
        f"#!{sys.executable}\n"
        "import sys, numpy as np\n"
        "rows = np.load(sys.argv[-2])\n"
        "np.savez(sys.argv[-1], first=rows['embeddings'][:, 0])\n"
    )
    peer.chmod(0o755)
    labels = np.arange(600) % 12
    rng = np.random.default_rng(0)
    rows = np.eye(12, 20)[labels] + 0.1 * rng.normal(size=(600, 20))
    other = rng.normal(size=rows.shape)
    images = suspects.Images("x", {"copy": rows, "near": rows, "far": other}, labels)
    found = [*suspects.measure(images, share=0.1, seed=0, peer=str(peer))]
    by = {(row["fault"], row["method"]): row for row in found}
    assert by["label", "rankjax"]["precision"] == 1
    assert by["label", "rankjax"]["recall"] == 1
    assert by["label", "random"]["recall"] < 0.3
    # Rows of the first class have the highest first numbers.
    assert by["label", "cleanlab, first"]["recall"] == pytest.approx(0.1, abs=0.08)
    for kind, recall in (("copy", 1), ("near", 1), ("far", 0)):
        row = by[kind, "rankjax"]
        assert (row["planted"], row["recall"], row["precision"]) == (2, recall, 1)
    assert by["label", "random"]["planted"] == 60
