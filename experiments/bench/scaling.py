"""What a loss costs as devices grow in number: what it exchanges and holds.

python -m experiments.bench.scaling [--batch 4096] [--dim 128] [--only NAME ...]
    [--json FILE] [--quick]

Loss and gradient by embeddings are compiled for 1 to 64 simulated CPU devices, and not
run. Printed are the collectives of the program, how many and how many bytes their
results have on one device, and its temporary memory on one device, in three forms:

    rows      each device its own rows against all rows, at once (`block=None`)
    blocks    the library's default: in blocks where rows are many
    full      each device evaluates the whole matrix of gathered rows, for comparison

Three minutes on two cores; `--quick` has two losses on 1 and 8 devices, in half a
minute. Found for 4,096 rows of 128:

Rows and blocks exchange the same: they gather embeddings once (2.1 MB) and scatter as
many bytes of gradients. Blocks hold less until a device's rows are one block: SupCon
holds 21 MB in blocks, 36 MB as rows and 308 MB in full on 8 devices, and 10, 10 and
308 MB on 64; triplets 28, 74 and 642 MB on 8, and 9, 11 and 642 on 64. The whole matrix
saves only the scattering and does the work of all devices on each.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.bench import output, simulated
from experiments.bench.collectives import Traffic, collectives
from experiments.bench.output import Row
from rankjax import losses, objective
from rankjax.errors import RunError
from rankjax.parallel import AXIS

Form = Literal["rows", "blocks", "full"]
FORMS: tuple[Form, ...] = ("rows", "blocks", "full")
LOSSES: dict[str, Callable[..., Any]] = {
    "sup_con": losses.sup_con_loss,
    "triplet": losses.triplet_loss,
    "n_pairs": losses.n_pairs_loss,
    "angular": losses.angular_loss,
    "histogram": losses.histogram_loss,
}
QUICK = ("sup_con", "triplet")
COUNTS, QUICK_COUNTS = (1, 2, 4, 8, 16, 32, 64), (1, 8)
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all")
MEASURED = {
    "loss": "",
    "form": "",
    "devices": "d",
    **dict.fromkeys(KINDS, ""),
    "collective-permute": "",
    "temp_mb": ",.1f",
}


def loss_and_gradient(loss: Callable[..., Any], form: Form) -> Callable[..., Any]:
    """A function of a device's embeddings [n, dim] and labels [n], inside a map.

    It returns the loss of the whole batch and the gradient by the device's rows.
    """
    if form == "full":
        whole = jax.value_and_grad(objective(loss, block=None))

        def gathered(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
            everyone = [lax.all_gather(part, AXIS, tiled=True) for part in (x, y)]
            value, grad = whole(*everyone)
            first = lax.axis_index(AXIS) * len(x)
            return value, lax.dynamic_slice_in_dim(grad, first, len(x))

        return gathered
    block: Any = None if form == "rows" else "auto"
    return jax.value_and_grad(objective(loss, axis_name=AXIS, block=block))


def spread(
    loss: Callable[..., Any], form: Form, devices: Sequence[jax.Device]
) -> Callable[..., Any]:
    """The same as a function of all rows, which are spread over devices."""
    return jax.jit(
        jax.shard_map(
            loss_and_gradient(loss, form),
            mesh=Mesh(np.asarray(devices), (AXIS,)),
            in_specs=PartitionSpec(AXIS),
            out_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            # That all devices come to the same value by themselves, it cannot know.
            check_vma=form != "full",
        )
    )


def measure(
    names: Sequence[str], devices: Sequence[jax.Device], batch: int, dim: int
) -> list[Row]:
    """A row for each loss and form, from what is compiled for these devices."""
    mesh = Mesh(np.asarray(devices), (AXIS,))
    by_rows = NamedSharding(mesh, PartitionSpec(AXIS))
    x = jax.ShapeDtypeStruct((batch, dim), jnp.float32, sharding=by_rows)
    y = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=by_rows)
    rows: list[Row] = []
    for name in names:
        for form in FORMS:
            run = spread(LOSSES[name], form, devices)
            compiled = run.lower(x, y).compile()  # type: ignore[attr-defined]
            found = collectives(compiled.as_text() or "")
            rows.append(
                {
                    "loss": name,
                    "form": form,
                    "devices": len(devices),
                    "batch": batch,
                    "dim": dim,
                    **{kind: dataclasses.asdict(t) for kind, t in found.items()},
                    "temp_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
                }
            )
    return rows


def _elsewhere(
    names: Sequence[str], counts: Sequence[int], batch: int, dim: int
) -> list[Row]:
    words = ["--only", *names, "--batch", str(batch), "--dim", str(dim)]
    # How fast the program would be on a CPU is of no interest here.
    flag = "--xla_backend_optimization_level=0"
    module = "experiments.bench.scaling"
    found = [simulated.rows_of(module, words, count, flag) for count in counts]
    return [
        row for name in names for rows in found for row in rows if row["loss"] == name
    ]


def _shown(row: Row) -> Row:
    found = {k: str(Traffic(**v)) for k, v in row.items() if isinstance(v, dict)}
    return row | found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4096, help="rows of all devices")
    parser.add_argument("--dim", type=int, default=128, help="of embeddings")
    parser.add_argument("--only", nargs="+", choices=list(LOSSES), metavar="NAME")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="two losses, 1, 8 devices")
    parser.add_argument(
        "--devices", type=int, help="only on the first so many of this process"
    )
    options = parser.parse_args(arguments)
    counts = QUICK_COUNTS if options.quick else COUNTS
    names = options.only or (QUICK if options.quick else list(LOSSES))
    size = (options.batch, options.dim)
    most = options.devices or max(counts)
    if options.batch < 1 or options.batch % most:
        print(
            f"error: {options.batch} rows do not divide over {most} devices",
            file=sys.stderr,
        )
        return 1
    begun = time.monotonic()
    if options.devices is not None:
        rows = measure(names, jax.devices()[: options.devices], *size)
    else:
        try:
            rows = _elsewhere(names, counts, *size)
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    title = f"Compiled for simulated devices, {options.batch:,} rows of {options.dim}"
    output.show(title, [_shown(row) for row in rows], MEASURED)
    output.save(options.json, rows)
    print(f"{time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
