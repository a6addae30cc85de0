"""What microbatches save and cost: memory and time of a step, and its curve.

python -m experiments.bench.caching [--experiment NAME] [--steps 10] [--json FILE]

The experiment (by default `glyphs_large_batch`: SupCon, 512 classes of 8) is trained
from one start on its own batches in two ways: all images of a batch embedded at once,
and in its microbatches. Printed are, of the compiled step on one device,

    encoder   memory beside its arguments with a trivial loss: the activations and the
              gradients of the network, the embeddings
    total     the same with the experiment's loss

for a batch of one microbatch, for the whole batch at once and in microbatches; the time
of a step; and the largest relative difference of the two curves. The exit status is 1
if that is above 1e-5, or if the encoder in microbatches needs over 1.2 times what a
batch of one microbatch needs. Three minutes on two cores.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench import output
from experiments.bench.output import Row
from experiments.bench.step import network_alone
from experiments.config import EXPERIMENTS, Config
from experiments.training.choices import build_augmentation, build_objective
from experiments.training.start import start
from rankjax.data import Dataset, Loader, class_balanced_batches, load
from rankjax.train import make_step

TOLERANCE, MOST = 1e-5, 1.2
SHOWN = {
    "images": "d",
    "embedded": "",
    "encoder_mb": ".0f",
    "total_mb": ".0f",
    "step_s": ".2f",
    "first_loss": ".6f",
    "last_loss": ".6f",
}


def compiled(
    config: Config, data: Dataset, images: int, microbatch: int | None, alone: bool
) -> tuple[Any, Any]:
    """The compiled step for a number of images, and the first state."""
    objective = network_alone(None) if alone else build_objective(config.loss, None)
    begun = start(config, data.train, axis_name=None)
    step = make_step(
        begun.definition, objective, begun.optimizer, microbatch=microbatch
    )
    shape = images, *config.data.size(), 1
    batch = {
        "image": jax.ShapeDtypeStruct(shape, np.uint8),
        "label": jax.ShapeDtypeStruct((images,), np.int32),
    }
    return jax.jit(step).lower(begun.state, batch).compile(), begun.state


def temporary_mb(step: Any) -> float:
    """Memory of a compiled step beside what it is given and returns."""
    return step.memory_analysis().temp_size_in_bytes / 2**20


def curve(
    step: Any, state: Any, config: Config, data: Dataset, steps: int
) -> tuple[list[float], float]:
    """The losses of the first steps, and the mean time of one."""
    batches = class_balanced_batches(
        data.train.labels,
        classes=config.batch.classes,
        per_class=config.batch.per_class,
        seed=config.run.seed,
    )
    losses, spent = [], 0.0
    loader = Loader(
        data.train,
        batches,
        augmentation=build_augmentation(config.data),
        seed=config.run.seed,
        start_step=0,
        stop_step=steps,
    )
    with loader:
        for _, batch in loader:
            begun = time.perf_counter()
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
            spent += time.perf_counter() - begun
    return losses, spent / steps


def bench(config: Config, data: Dataset, steps: int) -> tuple[list[Row], float]:
    """A row for each way, and the largest relative difference of the curves."""
    whole, part = config.batch.size(), config.batch.microbatch
    rows: list[Row] = []
    curves = []
    for images, microbatch in ((part, None), (whole, None), (whole, part)):
        encoder, _ = compiled(config, data, images, microbatch, alone=True)
        step, state = compiled(config, data, images, microbatch, alone=False)
        row: Row = {
            "images": images,
            "embedded": "at once" if microbatch is None else f"by {microbatch}",
            "encoder_mb": temporary_mb(encoder),
            "total_mb": temporary_mb(step),
        }
        if images == whole:
            losses, row["step_s"] = curve(step, state, config, data, steps)
            row |= {"first_loss": losses[0], "last_loss": losses[-1], "losses": losses}
            curves.append(np.asarray(losses))
        rows.append(row)
    return rows, float(np.max(np.abs(curves[1] / curves[0] - 1)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--steps", type=int, default=10, help="of the curves")
    known = [name for name, make in EXPERIMENTS.items() if make().batch.microbatch]
    parser.add_argument("--experiment", choices=known, default="glyphs_large_batch")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("~/.cache/rankjax"), help="of data sets"
    )
    options = parser.parse_args(arguments)
    config = EXPERIMENTS[options.experiment]()
    data = load(
        config.data.dataset,
        data_dir=options.data_dir.expanduser(),
        image_size=config.data.image_size,
        seed=config.run.seed,
    )
    rows, difference = bench(config, data, options.steps)
    output.show(f"A step of {options.experiment}", rows, SHOWN)
    small, _, cached = (row["encoder_mb"] for row in rows)
    print(
        f"curves of {options.steps} steps differ by {difference:.1e} (at most "
        f"{TOLERANCE:g}); the encoder needs {cached / small:.2f} times the memory of "
        f"{config.batch.microbatch} images (at most {MOST:g})"
    )
    output.save(options.json, rows)
    return 0 if difference <= TOLERANCE and cached <= MOST * small else 1


if __name__ == "__main__":
    sys.exit(main())
