"""Several processes that train together, on one machine."""

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import without_report
from photos import make_photos

from experiments.config import EXPERIMENTS
from experiments.killtest import final_state, last_row
from experiments.train import main
from experiments.training import loop
from experiments.training.check import check
from rankjax.errors import UsageError

pytestmark = pytest.mark.xdist_group("hosts")

ROOT = Path(__file__).parent.parent
# Steps so small that a ReLU which rounding decides otherwise does not part two runs.
BATCH = ["--classes", "4", "--per-class", "4", "--optimizer", "sgd", "--log-every", "1"]
SHORT = (*BATCH, "--learning-rate", "1e-4", "--steps", "8", "--eval-every", "4")
LONG = (*BATCH, "--learning-rate", "1e-6", "--steps", "40", "--eval-every", "20")
TIMEOUT, A_HANG = 5, 200
COMMAND = """
import sys; sys.path.append("tests"); import without_report
sys.exit(without_report.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Four devices a process; what one has compiled, the next need not."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    return os.environ | {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The option for eight classes of eight photos, half of which are trained on."""
    folder = make_photos(tmp_path_factory.mktemp("data"), 8, 8, mode="L")
    return ["--dataset", f"folder:{folder}"]


@pytest.fixture
def start(environment, data):
    """Starts two processes that train, each with a run folder of its own."""
    begun = []

    def start(settings, run_dirs):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{free.getsockname()[1]},{len(run_dirs)}"
        command = [sys.executable, "-W", "error", "-c", COMMAND, "digits", *settings]
        command += data
        command += ["--host-timeout", str(TIMEOUT)]
        for number, run_dir in enumerate(run_dirs):
            process = subprocess.Popen(
                [*command, "--run-dir", str(run_dir), "--hosts", f"{where},{number}"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            begun.append(process)
        return begun[-len(run_dirs) :]

    yield start
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def ended(processes, within=A_HANG):
    """The statuses, and what was printed and said, of processes that end."""
    deadline = time.monotonic() + within
    heard = [p.communicate(timeout=deadline - time.monotonic()) for p in processes]
    return [p.returncode for p in processes], *zip(*heard, strict=True)


def wait_for_a_step(processes, run_dir):
    deadline = time.monotonic() + A_HANG
    while last_row(run_dir)["step"] == 0:
        assert all(p.poll() is None for p in processes), ended(processes)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alone(settings, data, run_dir, devices):
    """A run in this process, on some of its eight devices."""
    places = [*data, "--run-dir", str(run_dir), "--devices", str(devices)]
    words = ["digits", *settings, *places]
    return without_report.main(words), rows(run_dir)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder of a finished run in this process, by its settings and devices."""

    @functools.cache
    def undisturbed(settings, devices):
        run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
        status, _ = alone(settings, data, run_dir, devices)
        assert status == 0
        return run_dir

    return undisturbed


def rows(run_dir):
    """All rows of a run's history, without its speed."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "images_per_second"}
        for line in lines
    ]


def assert_same(got, expected):
    assert [row["step"] for row in got] == [row["step"] for row in expected]
    for row, wanted in zip(got, expected, strict=True):
        # Here alone a ReLU that rounding decides otherwise is seen.
        lengths = row.pop("grad_norm", 0), wanted.get("grad_norm", 0)
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)
        others = {k: v for k, v in wanted.items() if k != "grad_norm"}
        assert row == pytest.approx(others, rel=1e-5, abs=1e-5)


def losses(history):
    return [row for row in history if "loss" in row]


@pytest.mark.parametrize(
    ("wrapper", "devices"),
    [("pmap", [8]), pytest.param("shard_map", [8, 1], marks=pytest.mark.slow)],
)
def test_two_processes_have_the_losses_and_figures_of_one(
    start, undisturbed, tmp_path, wrapper, devices
):
    settings = [*SHORT, "--wrapper", wrapper]
    processes = start(settings, [tmp_path / "first", tmp_path / "second"])
    others = [undisturbed(SHORT, number) for number in devices]
    statuses, printed, said = ended(processes)
    assert statuses == [0, 0], said
    assert printed[0].splitlines()[-1] == str(tmp_path / "first")
    assert str(tmp_path) not in printed[1]
    assert not (tmp_path / "second").exists()
    summary = json.loads((tmp_path / "first" / "summary.json").read_text())
    for other in others:
        assert_same(rows(tmp_path / "first"), rows(other))
        expected = json.loads((other / "summary.json").read_text())
        for who in expected:
            assert summary[who] == pytest.approx(expected[who], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "asked"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_to_one_stops_all_at_one_step_and_one_process_goes_on(
    start, data, undisturbed, tmp_path, number, asked
):
    expected = rows(undisturbed(LONG, 8))
    run_dir = tmp_path / "run"
    processes = start(LONG, [run_dir, tmp_path / "second"])
    wait_for_a_step(processes, run_dir)
    processes[asked].send_signal(number)
    statuses, _, said = ended(processes)
    stopped_at = last_row(run_dir)["step"]
    assert statuses == [130, 130], said
    assert 0 < stopped_at < 40
    for words in said:
        assert f"stopped at step {stopped_at}, which is saved; go on with:" in words
    assert (run_dir / "checkpoints" / str(stopped_at)).is_dir()

    status, got = alone(LONG, data, run_dir, 2)
    assert status == 0
    assert_same(losses(got), losses(expected))
    assert got[-1] == pytest.approx(expected[-1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_ends_in_time_and_says_why(
    start, tmp_path, killed
):
    run_dir = tmp_path / "run"
    processes = start(LONG, [run_dir, tmp_path / "second"])
    wait_for_a_step(processes, run_dir)
    processes[killed].kill()
    other = processes[1 - killed]
    (status,), _, (said,) = ended([other], within=TIMEOUT + 10)
    # JAX's own end of a process that has lost another is SIGABRT.
    assert status in (1, -signal.SIGABRT)
    assert "died" in said or "lost" in said


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_all_with_its_words(
    start, undisturbed, tmp_path
):
    run_dir = tmp_path / "run"
    shutil.copytree(undisturbed(SHORT, 8), run_dir)
    settings = [*SHORT, "--seed", "1"]
    statuses, _, said = ended(start(settings, [run_dir, tmp_path / "second"]))
    assert statuses == [2, 2]
    for words in said:
        assert f"error: {run_dir} holds a run of another config: seed 0" in words
        assert "Traceback" not in words


def test_a_run_goes_on_on_another_number_of_devices(data, tmp_path, monkeypatch):
    def stopping_after(steps):
        """Stands for a signal in the middle of a run."""
        left = iter([False] * (steps - 1))

        @contextlib.contextmanager
        def stop_requests():
            yield lambda: next(left, True)

        return stop_requests

    settings = [*BATCH, "--learning-rate", "1e-5", "--steps", "8", "--eval-every", "8"]
    _, expected = alone(settings, data, tmp_path / "alone", 8)
    for devices, steps in ((8, 3), (1, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "stop_requests", stopping_after(steps))
            status, _ = alone(settings, data, tmp_path / "run", devices)
        assert status == 130
    status, got = alone(settings, data, tmp_path / "run", 4)
    assert status == 0
    evaluated = [row["step"] for row in got if "loss" not in row]
    assert evaluated == [3, 5, 8]
    assert_same(losses(got), losses(expected))
    assert got[-1] == pytest.approx(expected[-1], abs=1e-5)
    got, expected = (final_state(tmp_path / name) for name in ("run", "alone"))
    assert got.keys() == expected.keys()


@pytest.mark.parametrize("wrong", ["all", "10.0.0.1", "10.0.0.1:1,2", "h:1,2,2"])
def test_hosts_that_cannot_be_read_are_one_line(wrong, capsys):
    assert main(["digits", "--hosts", wrong]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: hosts must be auto, or HOST:PORT,PROCESSES,ID")
    assert said[0].endswith(f"got {wrong!r}")


@pytest.mark.slow
def test_auto_outside_of_a_cluster_is_one_line(environment):
    command = [sys.executable, "-m", "experiments.train", "digits", "--hosts", "auto"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "error: hosts auto: " in ended.stderr
    assert "say HOST:PORT,PROCESSES,ID" in ended.stderr


def test_classes_that_processes_cannot_share_are_refused():
    config = EXPERIMENTS["digits"]().replace(classes=5, per_class=4)
    check(config, 4)
    with pytest.raises(UsageError, match="divisible by the number of processes, 2"):
        check(config, 4, 2)
