"""Kills a training run again and again and checks that nothing of it is lost.

python -m experiments.killtest [--times 10] [--processes 1] [--experiment NAME]

An experiment is trained for a few dozen steps per kill, once undisturbed and once in a
folder where the same command is started, killed with SIGKILL and started again. Kills
strike at random, aimed in turn at training, saving and evaluating. Of several processes
one is killed, and the others must end by themselves. The exit status is 0 if both runs
end with the same weights, optimiser state and batch statistics, bit for bit.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.children import ends_with_us
from experiments.config import EXPERIMENTS
from rankjax.errors import RunError
from rankjax.train.checkpoint import UNFINISHED

PHASES = ("training", "saving", "evaluating")

_STEPS_PER_KILL, _EVAL_EVERY, _HOST_TIMEOUT = 24, 8, 5
_SETTINGS = f"--eval-every {_EVAL_EVERY} --log-every 1 --classes 4 --per-class 4"
_SLACK = 10.0  # seconds to end in, beyond the time-out; the machine may be busy

Job = list[subprocess.Popen[str]]


def final_state(run_dir: Path) -> dict[str, bytes]:
    """The leaves of a run's last checkpoint by their names."""
    last = max(run_dir.glob("checkpoints/[0-9]*"), key=lambda path: int(path.name))
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(last.absolute() / "state")
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in leaves}


def last_row(run_dir: Path) -> dict[str, Any]:
    """The newest row that a run has logged; before the first, one of step 0."""
    file = run_dir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1]) if whole else {"step": 0}


def phase(run_dir: Path) -> str:
    """What a run is at, by what is in its folder; saves go on beside the training."""
    if any((run_dir / "checkpoints").glob(f"{UNFINISHED}*")):
        return "saving"
    row = last_row(run_dir)
    # The figures of an evaluation are a row of their own, after that of its step.
    is_evaluated = "loss" in row and row["step"] % _EVAL_EVERY == 0
    return "evaluating" if is_evaluated else "training"


def strike(
    job: Job, run_dir: Path, aim: str, generator: random.Random
) -> tuple[str, str]:
    """Kills one process of a run at some time after the run's first step.

    Args:
      job: the processes of the run.
      run_dir: its folder.
      aim: one of `PHASES`; the run may have gone on to the next when the kill arrives.
      generator: of the moment and the victim.

    Returns:
      What the run was at, and a line about the kill.

    Raises:
      RunError: the run ended before, or the other processes did not end after it.
    """
    begun_at, delay = last_row(run_dir)["step"], generator.uniform(0, 0.02)
    number = generator.randrange(len(job))

    def wait_until(done: Callable[[], bool]) -> None:
        while not done():
            if any(process.poll() is not None for process in job):
                raise RunError(f"the run ended before it was killed: {_abandon(job)}")
            time.sleep(0.001)

    wait_until(lambda: last_row(run_dir)["step"] > begun_at)
    wait_until(lambda: phase(run_dir) == aim)
    time.sleep(delay)
    struck, step = phase(run_dir), last_row(run_dir)["step"]
    job[number].kill()
    ended = _ended(job, number)
    return struck, f"step {step}, {struck}, process {number}{ended}"


def _ended(job: Job, killed: int) -> str:
    """How long the others took to end, after all of them did, and said why."""
    begun, took = time.monotonic(), ""
    for number, process in enumerate(job):
        try:
            said = process.communicate(timeout=_HOST_TIMEOUT + _SLACK)[1]
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - begun
            raise RunError(
                f"process {number} had not ended {seconds:.0f} s after process "
                f"{killed} was killed: {_abandon(job)}"
            ) from None
        if number != killed:
            if process.returncode == 0 or not ("died" in said or "lost" in said):
                raise RunError(
                    f"process {number} ended with status {process.returncode} after "
                    f"process {killed} was killed, saying {said!r}"
                )
            seconds = time.monotonic() - begun
            status = process.returncode
            took = f"; process {number} ended {seconds:.1f} s later, status {status}"
    return took


def _abandon(job: Job) -> str:
    """Ends what is left of a run; returns its last words."""
    for process in job:
        process.kill()
    return "; ".join(_last_words(process) for process in job)


def killtest(
    experiment: str,
    *,
    times: int,
    processes: int,
    seed: int,
    data_dir: Path,
    folder: Path,
) -> tuple[bool, Counter[str]]:
    """Trains with and without kills; prints a line per kill.

    Args:
      experiment: a name in EXPERIMENTS.
      times: how often the run is killed.
      processes: number of processes that train together, with one device each.
      seed: of the moments.
      data_dir: folder of prepared data sets.
      folder: an empty one, for the two runs.

    Returns:
      Whether both runs end in the same state, and how many kills struck in each phase.

    Raises:
      RunError: a run ended otherwise than it should.
    """
    command = [sys.executable, "-m", "experiments.train", experiment]
    command += ["--steps", str(_STEPS_PER_KILL * (times + 1)), *_SETTINGS.split()]
    command += ["--devices", str(processes), "--host-timeout", str(_HOST_TIMEOUT)]
    command += ["--data-dir", str(data_dir), "--run-dir"]
    # What the undisturbed run has compiled, the others need not.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def start(run_dir: Path) -> Job:
        words = [[*command, str(run_dir)] for _ in range(processes)]
        if processes > 1:
            where = f"127.0.0.1:{_free_port()},{processes}"
            for number in range(processes):
                words[number] += ["--hosts", f"{where},{number}"]
        return [
            subprocess.Popen(
                ends_with_us(each),
                env=cache | os.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for each in words
        ]

    def finish(run_dir: Path) -> dict[str, bytes]:
        for process in (job := start(run_dir)):
            words = _last_words(process)
            if process.returncode:
                _abandon(job)
                raise RunError(f"a run ended with status {process.returncode}: {words}")
        return final_state(run_dir)

    print("training undisturbed, then killed", file=sys.stderr, flush=True)
    expected = finish(folder / "undisturbed")
    killed, generator = folder / "killed", random.Random(seed)
    struck: Counter[str] = Counter()
    for number in range(1, times + 1):
        aim = PHASES[number % len(PHASES)]
        what, line = strike(start(killed), killed, aim, generator)
        struck[what] += 1
        print(f"kill {number}: {line}", flush=True)
    return finish(killed) == expected, struck


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _last_words(process: subprocess.Popen[str]) -> str:
    return (process.communicate()[1].splitlines() or ["nothing said"])[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="number of kills")
    parser.add_argument("--processes", type=int, default=1, help="that train together")
    parser.add_argument("--experiment", choices=EXPERIMENTS, default="digits")
    parser.add_argument("--seed", type=int, default=0, help="of the kills' moments")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("~/.cache/rankjax"), help="of data sets"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            same, struck = killtest(
                options.experiment,
                times=options.times,
                processes=options.processes,
                seed=options.seed,
                data_dir=options.data_dir,
                folder=Path(folder),
            )
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    result = "bit-identical" if same else "NOT the same"
    phases = ", ".join(f"{struck[name]} {name}" for name in PHASES)
    print(f"{options.times} kills ({phases}), final weights {result}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
