"""Kills a training run again and again and checks that nothing of it is lost.

python -m experiments.killtest [--times 10] [--experiment NAME] [--seed 0]

An experiment is trained for a few dozen steps per kill, once undisturbed and once in a
folder where the same command is started, killed with SIGKILL and started again. Kills
strike at random, about half of them while a checkpoint is being written. The exit
status is 0 if both end with the same weights, optimiser state and batch statistics, bit
for bit.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orbax.checkpoint as ocp

from experiments.config import EXPERIMENTS
from rankjax.errors import RunError

_STEPS_PER_KILL = 24
_SETTINGS = "--eval-every 4 --log-every 1 --classes 5 --per-class 4 --devices 1"


def final_state(run_dir: Path) -> tuple[list[str], bytes]:
    """The names of the leaves in a run's last checkpoint, and all their bytes."""
    last = max(run_dir.glob("checkpoints/[0-9]*"), key=lambda path: int(path.name))
    manifest = json.loads((last / "manifest" / "metadata").read_text())
    with ocp.StandardCheckpointer() as checkpointer:
        leaves = checkpointer.restore(last.absolute() / "state")
    return list(manifest["leaves"]), leaves["bytes"].tobytes()


def last_step(run_dir: Path) -> int:
    """The newest step that a run has logged, 0 before the first."""
    file = run_dir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return max((json.loads(x)["step"] for x in lines if x.endswith("\n")), default=0)


def is_saving(run_dir: Path) -> bool:
    """Whether there is a checkpoint that is not yet whole."""
    return any((run_dir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def strike(
    process: subprocess.Popen[str], run_dir: Path, generator: random.Random
) -> None:
    """Kills a run some time after its first step, or in the middle of a save.

    Raises:
      RunError: the run ended before.
    """
    begun_at, in_a_save = last_step(run_dir), generator.random() < 0.5
    delay = generator.uniform(0, 0.5)

    def wait_until(done: bool) -> bool:
        if process.poll() is not None:
            raise RunError(
                f"the run ended before it was killed: {_last_words(process)}"
            )
        time.sleep(0.001)
        return done

    while not wait_until(last_step(run_dir) > begun_at):
        pass
    if in_a_save:
        while not wait_until(is_saving(run_dir)):
            pass
    else:
        time.sleep(delay)
    process.kill()
    process.communicate()


def killtest(
    experiment: str, *, times: int, seed: int, data_dir: Path, folder: Path
) -> bool:
    """Trains with and without kills; prints a line per kill.

    Args:
      experiment: a name in EXPERIMENTS.
      times: how often the run is killed.
      seed: of the moments.
      data_dir: folder of prepared data sets.
      folder: an empty one, for the two runs.

    Returns:
      Whether both runs end in the same state.

    Raises:
      RunError: a run ended otherwise than it should.
    """
    command = [sys.executable, "-m", "experiments.train", experiment]
    command += ["--steps", str(_STEPS_PER_KILL * (times + 1)), *_SETTINGS.split()]
    command += ["--data-dir", str(data_dir), "--run-dir"]

    def start(run_dir: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, str(run_dir)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(run_dir: Path) -> tuple[list[str], bytes]:
        process = start(run_dir)
        words = _last_words(process)
        if process.returncode:
            raise RunError(f"a run ended with status {process.returncode}: {words}")
        return final_state(run_dir)

    expected = finish(folder / "undisturbed")
    killed, generator = folder / "killed", random.Random(seed)
    for number in range(1, times + 1):
        strike(start(killed), killed, generator)
        where = "a save in flight" if is_saving(killed) else "no save in flight"
        print(f"kill {number}: step {last_step(killed)}, {where}", flush=True)
    return finish(killed) == expected


def _last_words(process: subprocess.Popen[str]) -> str:
    return (process.communicate()[1].splitlines() or ["nothing said"])[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="number of kills")
    parser.add_argument("--experiment", choices=EXPERIMENTS, default="digits")
    parser.add_argument("--seed", type=int, default=0, help="of the kills' moments")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("~/.cache/rankjax"), help="of data sets"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            same = killtest(
                options.experiment,
                times=options.times,
                seed=options.seed,
                data_dir=options.data_dir,
                folder=Path(folder),
            )
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    result = "bit-identical" if same else "NOT the same"
    print(f"{options.times} kills, final weights {result}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
