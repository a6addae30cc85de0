"""The share that a loss has of a training step, and what crosses between devices.

python -m experiments.bench.step [--json FILE] [--quick] [--only NAME ...]

The step of the default experiment (its network, batch and optimiser, on random images)
is timed with a trivial loss, which is the network alone, and with a few others, in
turn: on one device, and in another process on eight simulated ones, which share the
cores of this machine, so that times there say nothing of eight real ones. `plain` has
`block=None`, `rankjax` the default.

Printed are CPU time (all threads) and wall time of a step, medians; the share of the
step that the loss takes, 1 - network / step by CPU time (noise may make it negative);
and the collectives of the compiled step: how many, and how many bytes their results
have on one device. Two minutes on two cores; `--quick` has two losses, in one minute.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.bench import output, simulated, timing
from experiments.bench.collectives import collectives
from experiments.bench.output import Row
from experiments.bench.timing import Rep
from experiments.config import Config, glyphs
from rankjax import losses, models, objective
from rankjax.errors import RunError
from rankjax.parallel import AXIS
from rankjax.train import create_state, make_step

LOSSES: dict[str, Callable[..., Any]] = {
    "n_pairs": functools.partial(losses.n_pairs_loss, scale=16.0),
    "triplet": losses.triplet_loss,
    "sup_con": losses.sup_con_loss,
    "multi_similarity": losses.multi_similarity_loss,
    "fast_ap": losses.fast_ap_loss,
}
QUICK = ("n_pairs", "triplet")
DEVICES = 8
SHOWN = {
    "loss": "",
    "variant": "",
    "devices": "d",
    "cpu_s": ".3g",
    "wall_s": ".3g",
    "share": ".1%",
    "images_per_s": ".0f",
    "all-gather": "",
    "all-reduce": "",
    "reduce-scatter": "",
}


def network_alone(axis: str | None) -> Callable[..., Any]:
    """In an objective's place: a loss that costs nothing."""

    def compute(embeddings: jax.Array, labels: Any, **_: Any) -> tuple[Any, dict]:
        value = jnp.mean(embeddings * embeddings)
        return (value if axis is None else lax.pmean(value, axis)), {}

    return compute


class Step:
    """The compiled step of an experiment, with a state and a batch."""

    def __init__(self, config: Config, compute: Any, devices: Sequence[Any]) -> None:
        """Compile it, for one device without a mapped axis."""
        axis = AXIS if len(devices) > 1 else None
        model = models.build(
            config.model.name,
            channels=1,
            embedding_dim=config.model.embedding_dim,
            normalize=config.model.normalize,
            layers=models.Layers(axis, nnx.Rngs(0)),
        )
        rate, decay = config.optimizer.learning_rate, config.optimizer.weight_decay
        optimizer = optax.adamw(rate, weight_decay=decay)
        definition, state = create_state(model, optimizer)
        step: Any = make_step(definition, compute, optimizer, axis_name=axis)
        rng = np.random.default_rng(0)
        size = (config.batch.size(), *config.data.size())
        batch = {
            "image": rng.integers(0, 256, (*size, 1), dtype=np.uint8),
            "label": np.repeat(
                np.arange(config.batch.classes, dtype="i4"), config.batch.per_class
            ),
        }
        if axis is not None:
            mesh = Mesh(np.asarray(devices), (AXIS,))
            whole, split = PartitionSpec(), PartitionSpec(AXIS)
            step = jax.shard_map(
                step, mesh=mesh, in_specs=(whole, split), out_specs=whole
            )
            state = jax.device_put(state, NamedSharding(mesh, whole))
            batch = jax.device_put(batch, NamedSharding(mesh, split))
        else:
            state, batch = jax.device_put((state, batch))
        self.rows = size[0]
        self._arguments = state, batch
        self._compiled = jax.jit(step).lower(state, batch).compile()

    def run(self) -> Rep:
        """Times one step."""
        return timing.timed(
            lambda: jax.block_until_ready(self._compiled(*self._arguments))
        )

    def train(self, batches: Iterable[Any]) -> None:
        """Takes a step on each batch."""
        state, _ = self._arguments
        for batch in batches:
            state, metrics = self._compiled(state, batch)
        jax.block_until_ready((state, metrics))

    def collectives(self) -> dict[str, str]:
        """For each kind, the number and the bytes of the results on one device."""
        found = collectives(self._compiled.as_text() or "")
        return {kind: str(traffic) for kind, traffic in found.items()}


def bench(names: Sequence[str], devices: Sequence[Any], seconds: float) -> list[Row]:
    """The network alone and each loss, twice: plain and by default."""
    config = glyphs()
    axis = AXIS if len(devices) > 1 else None
    steps = {("network", ""): Step(config, network_alone(axis), devices)}
    for name in names:
        for variant, settings in (("plain", {"block": None}), ("rankjax", {})):
            given: dict[str, Any] = {"axis_name": axis, "has_aux": True, **settings}
            compute = objective(LOSSES[name], **given)
            steps[name, variant] = Step(config, compute, devices)
    runs = {" ".join(key): step.run for key, step in steps.items()}
    found, _ = timing.interleaved(runs, reps=25, seconds=seconds)
    rows: list[Row] = []
    alone = timing.spread(found["network "])
    for (name, variant), step in steps.items():
        times = timing.spread(found[f"{name} {variant}"])
        row: Row = {"loss": name, "variant": variant, "devices": len(devices), **times}
        row["share"] = 1 - alone["cpu_s"] / times["cpu_s"]
        row["images_per_s"] = step.rows / times["wall_s"]
        rows.append(row | step.collectives())
    return rows


def elsewhere(names: Sequence[str], devices: int, seconds: float) -> list[Row]:
    """The same on simulated devices."""
    words = ["--only", *names, "--seconds", str(seconds)]
    return simulated.rows_of("experiments.bench.step", words, devices)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="two losses, few steps")
    parser.add_argument("--only", nargs="+", choices=list(LOSSES), metavar="NAME")
    parser.add_argument("--seconds", type=float, help="of steps for each loss")
    parser.add_argument(
        "--devices", type=int, help="only on the first so many of this process"
    )
    options = parser.parse_args(arguments)
    names = options.only or (QUICK if options.quick else list(LOSSES))
    seconds = options.seconds or (1.0 if options.quick else 3.0)
    try:
        if options.devices is not None:
            rows = bench(names, jax.devices()[: options.devices], seconds)
        else:
            rows = bench(names, jax.devices()[:1], seconds)
            rows += elsewhere(names, DEVICES, seconds)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    output.show("A training step", rows, SHOWN)
    output.save(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
