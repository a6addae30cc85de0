"""What is read off compiled losses, and predicted times against sums by hand."""

import json

import jax
import numpy as np
import pytest
from experiments.bench.machines import FORMS, Machine, Prediction, Work

from experiments.bench import machines, scaling
from experiments.bench.scaling import LOSSES
from rankjax.parallel import AXIS

# What is prepared for one of these tests serves the others of the same process.
pytestmark = pytest.mark.xdist_group("scaling")

B, D, N = 64, 8, 8
FAST, SLOW = 100.0, 10.0
PAIRED = Machine("pairs", 1e3, 1e2, 1e6, group=2, fast=FAST, slow=SLOW)


def test_in_a_ring_a_device_receives_all_but_its_own_share():
    assert machines.ring_seconds(800.0, 8, 100.0) == 700 / 100
    assert machines.ring_seconds(800.0, 1, 100.0) == 0


def test_groups_exchange_their_parts_first_and_then_everything_inside():
    # Four devices, each with 20 of 80 bytes, in two groups of two. One receives the 20
    # of its peer in the other group, then the 40 that its neighbour has by then.
    assert machines.link_seconds(80.0, 4, PAIRED) == 20 / SLOW + 40 / FAST
    assert machines.link_seconds(80.0, 2, PAIRED) == 40 / FAST
    assert machines.link_seconds(80.0, 1, PAIRED) == 0
    with pytest.raises(ValueError, match="5 devices do not fill groups of 2"):
        machines.link_seconds(80.0, 5, PAIRED)


def test_a_step_waits_for_rows_and_then_for_products_or_memory():
    slow_memory = machines.predict(Work(500, 300, 80, 0), 2, PAIRED)
    assert slow_memory == Prediction(500 / 1e3, 300 / 1e2, 40 / FAST)
    assert slow_memory.total == 300 / 1e2 + 40 / FAST
    assert machines.predict(Work(9e3, 300, 0, 0), 2, PAIRED).total == 9


@pytest.mark.parametrize(
    ("form", "rows", "products", "passes", "crossing"),
    [("rows", B // N, 3, 6, 2), ("blocks", B // N, 3, 6, 2), ("full", B, 3, 6, 1)],
)
def test_work_is_that_of_products_and_passes(form, rows, products, passes, crossing):
    work = machines.work(form, devices=N, batch=B, dim=D)
    assert work.flops == products * rows * B * (D + D)  # times and plus
    floats = passes * rows * B + products * (rows * D + B * D)
    assert work.moved == 4 * floats
    assert work.crossing == crossing * 4 * B * D
    assert work.held == 4 * (2 * rows * B + crossing * B * D)


def test_blocks_hold_no_more_pairs_than_one_of_them_has():
    work = machines.work("blocks", batch=2**16, devices=8, dim=D)
    assert work.held == 4 * (2 * 2**24 + 2 * 2**16 * D)


def test_one_device_exchanges_nothing_and_rows_must_divide():
    assert machines.work("rows", devices=1, batch=B, dim=D).crossing == 0
    with pytest.raises(ValueError, match="64 rows do not divide over 3 devices"):
        machines.work("rows", devices=3, batch=B, dim=D)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the command writes of one loss on the eight devices of this process."""
    file = tmp_path_factory.mktemp("scaling") / "rows.json"
    words = ["--only", "sup_con", "--batch", str(B), "--dim", str(D)]
    words += ["--devices", str(N), "--json", str(file)]
    assert scaling.main(words) == 0
    return {row["form"]: row for row in json.loads(file.read_text())}


def test_all_forms_gather_embeddings_and_rows_and_blocks_scatter_gradients(
    measured,
):
    assert [*measured] == [*FORMS]
    for row in measured.values():
        assert row["all-gather"]["bytes"] >= 4 * B * D + 4 * B
    scattered = {"count": 1, "bytes": 4 * B // N * D, "per_turn": 0}
    assert measured["rows"]["reduce-scatter"] == scattered
    assert measured["blocks"]["reduce-scatter"] == scattered
    assert "reduce-scatter" not in measured["full"]


def test_the_whole_matrix_takes_more_memory_than_rows(measured):
    assert measured["full"]["temp_mb"] > 4 * B * B / 1e6
    assert measured["rows"]["temp_mb"] < measured["full"]["temp_mb"]


def test_all_forms_are_one_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, D)).astype(np.float32)
    y = rng.permutation(np.arange(B, dtype=np.int32) // 4)
    plain = jax.value_and_grad(scaling.objective(LOSSES["sup_con"], block=None))
    value, grad = jax.jit(plain)(x, y)
    for form in FORMS:
        run = scaling.spread(LOSSES["sup_con"], form, jax.devices())
        got = run(x, y)
        assert got[1].sharding.spec == jax.sharding.PartitionSpec(AXIS)
        np.testing.assert_allclose(got[0], value, rtol=1e-5)
        np.testing.assert_allclose(got[1], grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("machine", "devices", "rows"),
    [(machines.V5E, 256, 219), (machines.H100, 8, 199), (machines.H100, 1024, 397)],
)
def test_with_few_rows_each_devices_wait_longer_than_they_multiply(
    machine, devices, rows
):
    """The figures that the module tells, whatever the dimension."""
    for dim in (64, 1024):
        for each, waits in ((rows / 1.5, True), (rows * 1.5, False)):
            batch = int(each) * devices
            work = machines.work("blocks", devices=devices, batch=batch, dim=dim)
            times = machines.predict(work, devices, machine)
            assert (times.link > times.compute) == waits


def test_every_prediction_says_what_does_not_fit():
    rows = scaling.predict(512, 128)
    kinds = len(machines.MACHINES) * len(scaling.PREDICTED)
    assert len(rows) == kinds * len(FORMS)
    for row in rows:
        assert row["batch"] == 512 * row["devices"]
        assert row["total_ms"] == pytest.approx(
            max(row["compute_ms"], row["memory_ms"]) + row["link_ms"]
        )
    full = [row for row in rows if (row["form"], row["devices"]) == ("full", 1024)]
    assert {row["note"] for row in full} == {"does not fit"}


def test_a_batch_that_does_not_divide_is_refused(capsys):
    assert scaling.main(["--batch", "100"]) == 1
    assert "error: 100 rows do not divide" in capsys.readouterr().err
