"""How fast batches are made, against the decoder alone and what a step takes.

python -m experiments.bench.input [--json FILE] [--quick] [--dataset NAME]

photos: JPEGs of 500 x 375 to random crops of 224, mirrored or not. `bare` only decodes
and resizes, `loader` makes whole batches, `tf.data` decodes only the part that is cut
out (where TensorFlow is installed). `over_bare` is the speed over that of `bare` with
as many threads, `over_bare_cpu` the same of CPU time.

batches: each kind for a million images of a hundred thousand classes. `start_s` is the
time from labels to the first batch, `share` the time for an image over that of `bare`
with one thread, `bytes_per_image` what is held and `peak_bytes_per_image` what the
start takes beside the labels.

step: the step of the default experiment on batches from the loader, and on the same
ones in memory. `over_memory` is the speed over that of the latter, `loader_over_need`
how fast the loader alone is over what the step takes.

Three minutes on two cores once the data set is there; `--quick` takes one.
"""

import argparse
import dataclasses
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench import output, photos, timing
from experiments.bench.output import Row
from experiments.bench.step import LOSSES, Step
from experiments.config import Config, digits, glyphs
from experiments.training.choices import build_augmentation, build_batches
from rankjax import objective
from rankjax.data import BATCHES, Loader, MinedBatches, Split, load, make_batches

IMAGES, CLASSES, DIMENSION = 1_000_000, 100_000, 64
SHOWN = {
    "photos": {
        "way": "",
        "threads": "d",
        "images_per_s": ",.0f",
        "cpu_us_per_image": ",.0f",
        "over_bare": ".2f",
        "over_bare_cpu": ".2f",
        "note": "",
    },
    "batches": {
        "batches": "",
        "start_s": ".2f",
        "us_per_image": ".2f",
        "share": ".2%",
        "bytes_per_image": ".0f",
        "peak_bytes_per_image": ".0f",
    },
    "step": {
        "batches_from": "",
        "images_per_s": ",.0f",
        "cpu_us_per_image": ",.0f",
        "over_memory": ".3f",
        "loader_over_need": ".2f",
    },
}


def makers(bare_us: float, steps: int) -> list[Row]:
    """A row for each kind of batches, of 64 classes with two images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, IMAGES).astype(np.int32)
    cameras = rng.integers(0, 6, IMAGES).astype(np.int32)
    split: Any = Split(None, labels, (), cameras, labels // 1000)  # type: ignore[arg-type]
    rows = []
    for name in BATCHES:
        make = _Maker(name, split)
        start = timing.timed(make)
        tracemalloc.start()
        batches = make()
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for _ in range(2):
            begun = time.process_time()
            for step in range(1, steps):
                batches(step)
            spent = (time.process_time() - begun) / (steps - 1) / 128
        rows.append(
            {
                "batches": name,
                "start_s": start.wall_s,
                "us_per_image": 1e6 * spent,
                "share": 1e6 * spent / bare_us,
                "bytes_per_image": held / IMAGES,
                "peak_bytes_per_image": peak / IMAGES,
            }
        )
    return rows


@dataclasses.dataclass
class _Maker:
    """Makes batches of a kind and the first one; those that are mined, mined."""

    name: str
    split: Split

    def __call__(self) -> Callable[[int], np.ndarray]:
        batches = make_batches(self.name, self.split, classes=64, per_class=2, seed=0)
        if isinstance(batches, MinedBatches):
            rows = len(batches.examples(0)), DIMENSION
            batches.refresh(np.random.default_rng(0).standard_normal(rows, np.float32))
        batches(0)
        return batches


def fed(config: Config, split: Split, *, steps: int, seconds: float) -> list[Row]:
    """The step on batches from the loader and from memory, taken in turn."""
    step = Step(config, objective(LOSSES["n_pairs"], has_aux=True), jax.devices()[:1])
    batches = build_batches(config.batch, split, config.run.seed)

    def loader() -> Loader:
        return Loader(
            split,
            batches,
            augmentation=build_augmentation(config.data),
            seed=0,
            start_step=0,
            stop_step=steps,
        )

    with loader() as first:
        kept = [batch for _, batch in first]

    def run_fed() -> timing.Rep:
        with loader() as ahead:
            return timing.timed(lambda: step.train(batch for _, batch in ahead))

    def run_alone() -> timing.Rep:
        with loader() as ahead:
            return timing.timed(lambda: deque(ahead, maxlen=0))

    found, _ = timing.interleaved(
        {
            "memory": lambda: timing.timed(lambda: step.train(kept)),
            "loader": run_fed,
            "alone": run_alone,
        },
        reps=30,
        seconds=seconds,
    )
    spreads = {name: timing.spread(reps) for name, reps in found.items()}
    walls = {name: each["wall_s"] for name, each in spreads.items()}
    return [
        {
            "batches_from": name,
            "images_per_s": steps * step.rows / walls[name],
            "cpu_us_per_image": 1e6 * spreads[name]["cpu_s"] / steps / step.rows,
            "over_memory": walls["memory"] / walls[name],
            "loader_over_need": walls["memory"] / walls["alone"],
        }
        for name in ("memory", "loader")
    ]


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
    quick = options.quick
    config = digits() if options.dataset == "digits" else glyphs()
    config = config.replace(dataset=options.dataset)
    data = load(options.dataset, data_dir=options.data_dir.expanduser())
    tables = {"photos": photos.bench(64 if quick else 512, (1, 2), 2 if quick else 9)}
    bare_us = tables["photos"][0]["cpu_us_per_image"]
    tables["batches"] = makers(bare_us, 20 if quick else 300)
    tables["step"] = fed(config, data.train, steps=20, seconds=2.0 if quick else 20.0)
    for name, rows in tables.items():
        output.show(name, rows, SHOWN[name])
    output.save(
        options.json,
        [{"table": name} | row for name, rows in tables.items() for row in rows],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
