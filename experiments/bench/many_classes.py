"""A training step over more classes than one device holds.

python -m experiments.bench.many_classes [--classes 1000000] [--dim 512] [--batch 64]
    [--devices 8] [--share 0.1 1.0] [--steps 2] [--json FILE]

A linear network and ArcFace's class rows take steps of gradient descent on simulated
CPU devices, each of which has its share of the rows. A share below 1 samples classes in
each step (Partial FC). Printed are seconds of the last step, the compiler's count of
what one device holds beside its arguments, and the most memory that the process took so
far, in GB (1e9 bytes). With the defaults it takes minutes and about 12 GB.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import rankjax
from experiments.bench.output import save, to_write
from rankjax.parallel import AXIS

RATE = 0.1


def train(
    classes: int, dim: int, batch: int, devices: int, share: float, steps: int
) -> dict[str, Any]:
    """Takes steps and says what the last one took; the loss of each step is finite."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), (AXIS,))
    spread = NamedSharding(mesh, P(AXIS))
    compute = rankjax.objective(rankjax.losses.arc_face_loss, axis_name=AXIS)

    @partial(jax.jit, donate_argnums=(0, 1))
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P(), P(AXIS), P(AXIS), P(AXIS), P(AXIS), P()),
        out_specs=(P(), P(AXIS), P()),
    )
    def step(
        matrix: jax.Array,
        rows: jax.Array,
        names: jax.Array,
        x: jax.Array,
        y: jax.Array,
        key: jax.Array,
    ) -> Any:
        def loss(matrix: jax.Array, rows: jax.Array) -> jax.Array:
            references = rankjax.References(rows, names, sharded=True)
            if share < 1:
                references = rankjax.sampled_classes(
                    references, y, share=share, key=key, axis_name=AXIS
                )
            return compute(x @ matrix, y, references=references)

        value, (slope, of_rows) = jax.value_and_grad(loss, (0, 1))(matrix, rows)
        slope = lax.pmean(slope, AXIS)
        return matrix - RATE * slope, rows - RATE * of_rows, value

    @partial(jax.jit, out_shardings=spread)
    @partial(jax.shard_map, mesh=mesh, in_specs=P(), out_specs=P(AXIS))
    def draw(key: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, lax.axis_index(AXIS))
        return jax.random.normal(own, (classes // devices, dim)) / np.sqrt(dim)

    rng = np.random.default_rng(0)
    rows, matrix = draw(jax.random.key(0)), jnp.eye(dim)
    names = jax.device_put(np.arange(classes, dtype=np.int32), spread)
    matrix = jax.device_put(matrix, NamedSharding(mesh, P()))
    losses, seconds, held = [], 0.0, 0
    for number in range(steps):
        given = jax.device_put(
            (
                rng.normal(size=(batch, dim)).astype(np.float32),
                rng.integers(0, classes, batch, dtype=np.int32),
            ),
            spread,
        )
        operands = (matrix, rows, names, *given, jax.random.key(number))
        if number == 0:
            program = step.lower(*operands).compile()
            memory = program.memory_analysis()
            held = 0 if memory is None else memory.temp_size_in_bytes
        start = time.perf_counter()
        matrix, rows, value = program(*operands)
        losses.append(float(jax.block_until_ready(value)))
        jax.block_until_ready(rows)
        seconds = time.perf_counter() - start
    assert np.all(np.isfinite(losses))
    return {
        "classes": classes,
        "dim": dim,
        "batch": batch,
        "devices": devices,
        "share": share,
        "matrix_gb": 4e-9 * classes * dim,
        "temp_gb_per_device": 1e-9 * held,
        "peak_gb_of_process": 1.024e-6
        * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "seconds": seconds,
        "losses": losses,
    }


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", type=to_write)
    given = parser.parse_args(words)
    for name in ("classes", "batch"):
        if getattr(given, name) % given.devices:
            parser.error(f"--{name} must be a multiple of --devices {given.devices}")
    jax.config.update("jax_num_cpu_devices", given.devices)
    rows = []
    for share in given.share:
        sizes = given.classes, given.dim, given.batch, given.devices
        rows.append(train(*sizes, share, given.steps))
        print(
            " ".join(
                f"{name}={value:.3g}"
                for name, value in rows[-1].items()
                if name != "losses"
            ),
            flush=True,
        )
    save(given.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
