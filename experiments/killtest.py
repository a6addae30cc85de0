"""Kills a training run at random moments and checks that nothing of it is lost.

python -m experiments.killtest [--times 10] [--experiment digits] [--steps 120]

Runs an experiment once undisturbed. Then runs it again, killed with SIGKILL over and
over, every other time while a checkpoint is being written, and gone on with by the same
command. The final states of both must hold the same bits. Prints a line per kill and a
verdict; exits 0 if the bits are the same.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.train import parse
from rankjax.data import load
from rankjax.errors import RunError
from rankjax.train import Checkpoints, TrainState

_POLL = 0.002  # seconds


def killtest(settings: Sequence[str], folder: Path, *, times: int, seed: int) -> bool:
    """Whether a run that is killed again and again ends in the bits of one that is not.

    Args:
      settings: the experiment and its settings, as for `experiments.train`, without
        --run-dir.
      folder: where both runs go.
      times: kills.
      seed: of the moments.

    Returns:
      True when the final states are bit-identical.
    """
    command = [sys.executable, "-m", "experiments.train", *settings]
    calm, killed = folder / "calm", folder / "killed"
    began = time.perf_counter()
    subprocess.run([*command, "--run-dir", str(calm)], check=True, capture_output=True)
    lasts = time.perf_counter() - began
    moments = random.Random(seed)
    for number in range(times):
        process = subprocess.Popen(
            [*command, "--run-dir", str(killed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        saving = number % 2 == 0
        if saving:
            found = _wait_for_save(process, killed, moments.randrange(1, 4))
        else:
            found = _wait(process, moments.uniform(0.3, 0.9) * lasts)
        process.kill()
        errors = process.communicate()[1]
        if found:
            moment = "in a save" if saving else "at any moment"
        elif process.returncode == 0:
            moment = "too late: the run was at its end"
        else:
            print(f"kill {number + 1}: the run failed by itself:\n{errors}")
            return False
        print(f"kill {number + 1}: {moment}; saved: {_saved(killed)}", flush=True)
    subprocess.run(
        [*command, "--run-dir", str(killed)], check=True, capture_output=True
    )
    _, config = parse(settings)
    data = load(
        config.dataset,
        data_dir=config.data_dir.expanduser(),
        image_size=config.image_size,
        seed=config.seed,
    )
    like = start(config, data.train)[-1]
    return _final(calm, like) == _final(killed, like)


def _wait(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether the process still runs after some time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _wait_for_save(process: subprocess.Popen[str], run: Path, which: int) -> bool:
    """Whether the process came to write its checkpoint number `which`."""
    seen: set[str] = set()
    while process.poll() is None:
        seen |= {path.name for path in run.glob("checkpoints/*tmp*")}
        if len(seen) >= which:
            return True
        time.sleep(_POLL)
    return False


def _saved(run: Path) -> list[int]:
    names = [path.name for path in run.glob("checkpoints/*")]
    return sorted(int(name) for name in names if name.isdigit())


def _final(run: Path, like: TrainState) -> list[bytes]:
    """The bytes of the last state, leaf by leaf."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise RunError(f"{run} has no checkpoint")
        state = checkpoints.restore(step, like)
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="number of kills")
    parser.add_argument("--experiment", default="digits")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data-dir", default="~/.cache/rankjax")
    options = parser.parse_args(arguments)
    settings = [
        *(options.experiment, "--data-dir", options.data_dir),
        *("--steps", str(options.steps), "--eval-every", "4", "--log-every", "2"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        same = killtest(settings, Path(folder), times=options.times, seed=options.seed)
    verdict = "bit-identical" if same else "DIFFERENT"
    print(f"{options.times} kills, final weights {verdict}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
