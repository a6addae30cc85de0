"""How fast the loader makes batches, against what a training step takes.

python -m experiments.bench.input [--json FILE] [--quick] [--dataset NAME]

The loader of the default experiment alone, with one to four threads, in batches as that
experiment has them; and the images per second that its step takes, the loader being
ready beforehand. `over_need` is the one over the other: below 1 the step waits.

Printed are images per second, CPU time for an image (all threads), and `over_need`.
Twenty seconds on two cores once the data set is there; `--quick` takes ten. Loader and
step share the cores when they run together, which lowers both.
"""

import argparse
import dataclasses
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import jax

from experiments.bench import output, timing
from experiments.bench.output import Row
from experiments.bench.step import LOSSES, Step
from experiments.config import Config, build_augmentation, digits, glyphs
from rankjax import objective
from rankjax.data import Loader, Split, class_balanced_batches, load

THREADS = (1, 2, 3, 4)
SHOWN = {
    "threads": "d",
    "images_per_s": ",.0f",
    "cpu_us_per_image": ".1f",
    "needed_images_per_s": ",.0f",
    "over_need": ".2f",
}


def rate(config: Config, split: Split, *, threads: int, steps: int) -> Row:
    """Makes batches as fast as that many threads can."""
    loader = Loader(
        split,
        class_balanced_batches(
            split.labels, classes=config.classes, per_class=config.per_class, seed=0
        ),
        augmentation=build_augmentation(config),
        seed=0,
        start_step=0,
        stop_step=steps,
        threads=threads,
    )
    with loader:
        rep = timing.timed(lambda: deque(loader, maxlen=0))
    images = steps * config.classes * config.per_class
    return {
        "threads": threads,
        "images_per_s": images / rep.wall_s,
        "cpu_us_per_image": 1e6 * rep.cpu_s / images,
    }


def need(config: Config, *, seconds: float) -> float:
    """Images per second that the step of the experiment takes on one device."""
    compute = objective(LOSSES["n_pairs"], has_aux=True)
    step = Step(config, compute, jax.devices()[:1])
    found, _ = timing.interleaved({"step": step.run}, reps=50, seconds=seconds)
    return step.rows / timing.spread(found["step"])["wall_s"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="fewer batches")
    parser.add_argument("--dataset", default="glyphs", help="as experiments.train has")
    parser.add_argument("--data-dir", type=Path, default=Path("~/.cache/rankjax"))
    options = parser.parse_args(arguments)
    config = digits() if options.dataset == "digits" else glyphs()
    config = dataclasses.replace(config, dataset=options.dataset)
    data = load(options.dataset, data_dir=options.data_dir.expanduser())
    needed = need(config, seconds=1.0 if options.quick else 4.0)
    steps = 30 if options.quick else 150
    rows = []
    for threads in THREADS:
        row = rate(config, data.train, threads=threads, steps=steps)
        row["needed_images_per_s"] = needed
        row["over_need"] = row["images_per_s"] / needed
        rows.append(row)
    output.show(f"The loader on {options.dataset}", rows, SHOWN)
    output.save(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
