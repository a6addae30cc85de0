"""The command that holds devices to one device, and that it finds what is wrong."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from jax import lax

from experiments import exactness, exactness_cases
from experiments.exactness import REFERENCE
from experiments.exactness_cases import SUBJECTS
from rankjax import mining
from rankjax.errors import RunError
from rankjax.losses import LOSSES

# What is prepared for one of these tests serves the others of the same process.
pytestmark = pytest.mark.xdist_group("exactness")


@pytest.mark.slow
def test_two_processes_of_four_devices_are_the_same_as_one(tmp_path):
    file = tmp_path / "cells.json"
    words = ["--only", "triplet", "soft_triple", "--json", str(file)]
    assert exactness.main(words) == 0
    cells = json.loads(file.read_text())
    # The explicit mesh is of one process.
    assert [cell["hosts"] for cell in cells] == [1, 1, 1, 1, 2, 2, 2] * 2


def wrong_cells(name, capsys):
    """What the command says of a loss that is wrong, of which it must fail."""
    words = ["--only", name, "--no-hosts"]
    assert exactness.main(words, exactness.here) == 1
    said = capsys.readouterr()
    assert "WRONG" in said.out
    return said.err.splitlines()


@pytest.fixture
def fewer(monkeypatch):
    """Leaves out the program that XLA spreads, which has no mistake of ours."""
    some = {1: (None, "pmap", "shard_map")}
    monkeypatch.setattr(exactness, "GROUPS", some)


def test_a_loss_of_each_device_s_own_rows_is_found_out(monkeypatch, capsys, fewer):
    right = exactness_cases.objective
    alone = lambda loss, **given: right(loss, **given | {"axis_name": None})  # noqa: E731
    monkeypatch.setattr(exactness_cases, "objective", alone)
    pmap, shard_map = wrong_cells("sup_con", capsys)
    assert pmap.startswith("error: sup_con, pmap on 8: value off by")
    assert shard_map.startswith("error: sup_con, shard_map on 8: ValueError")


def test_summed_gradients_are_found_out(monkeypatch, capsys, fewer):
    summing = {"pmean": lax.psum, "psum": lax.psum, "stop_gradient": lax.stop_gradient}
    monkeypatch.setattr("rankjax.train.step.lax", SimpleNamespace(**summing))
    said = wrong_cells("sup_con", capsys)
    # Eight times the gradient is off by seven.
    assert [line.partition(" on 8: ")[0] for line in said] == [
        "error: sup_con, pmap",
        "error: sup_con, shard_map",
    ]
    assert all("gradient by 7.0e+00" in line for line in said)


def test_every_loss_miner_and_selection_is_evaluated():
    rules = [f"mining.{name}" for name in (*mining.MINERS, *mining.SELECTIONS)]
    beside = [x for x in SUBJECTS if x.startswith(("partners.", "sharded."))]
    assert len(beside) == 6
    assert [*SUBJECTS] == [*LOSSES, *rules, *beside]


def outcome(value=2.0, large=(8.0, -4.0), small=(1e-7,)):
    parts = {"value": value, "large": large, "small": small}
    return {name: np.array([array]) for name, array in parts.items()}


def test_errors_are_relative_to_the_value_and_to_the_largest_entry_of_a_parameter():
    row = exactness.compare(outcome(2.5, (8.0, -3.0)), outcome())
    assert row == {"value_error": 0.5 / 2, "gradient_error": 1 / 8, "note": ""}
    row = exactness.compare(outcome(small=(3e-7,)), outcome())
    assert row["gradient_error"] == pytest.approx(2e-7 / (8.0 / 1000))


def test_one_device_that_differs_is_seen():
    found = {k: np.repeat(v, 8, 0) for k, v in outcome().items()}
    assert exactness.compare(found, outcome())["gradient_error"] == 0
    found["large"][5, 0] += 4
    assert exactness.compare(found, outcome())["gradient_error"] == 4 / 8


@pytest.mark.parametrize(
    ("found", "expected", "note"),
    [
        ({"error": np.array("ValueError: no")}, outcome(), "ValueError: no"),
        (outcome(), {"error": np.array("no")}, f"{REFERENCE}: no"),
        (outcome(small=(np.nan,)), outcome(), ""),
        (outcome(), outcome(large=(0.0, 0.0), small=(0.0,)), "largest entry"),
        (outcome(), outcome(value=np.nan), "value nan"),
        (outcome(), outcome(large=(np.inf, 0)), "inf"),
    ],
)
def test_what_cannot_be_compared_is_not_exact(found, expected, note, capsys):
    row = exactness.compare(found, expected)
    cell = {"name": "it", "wrapper": "pmap", "hosts": 2, "devices": 8} | row
    assert note in row["note"]
    assert exactness.report([cell]) == 1
    assert "error: it, pmap on 2 x 4: " in capsys.readouterr().err


WAITS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize(
    ("other", "minutes", "message"),
    [
        ("raise SystemExit('lost')", 1, "process 1 of 2 ended with status 1: lost"),
        ("import time; time.sleep(60)", 0.002, "2 processes did not end in 0.002 min"),
    ],
)
def test_processes_that_fail_or_hang_end_the_command_with_one_line(
    tmp_path, capsys, other, minutes, message
):
    def run(names, hosts):
        commands = [WAITS, [sys.executable, "-c", other]]
        exactness._run_together(commands, {}, tmp_path, minutes)

    assert exactness.main(["--only", "triplet"], run) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    with pytest.raises(RunError):
        run((), 2)
