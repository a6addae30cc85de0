"""One pure step on many devices.

`step(state, batch) -> (state, metrics)` knows at most the name of an axis. The state
never has a leading device axis: it is replicated, and checkpoints hold it once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"

Step = Callable[[Any, Any], tuple[Any, Any]]
Wrapper = Literal["pmap", "shard_map", "jit"]


def axis_of(wrapper: Wrapper) -> str | None:
    """The name of the axis inside a step that is run by a wrapper."""
    return None if wrapper == "jit" else AXIS


@dataclass(frozen=True)
class Spread:
    """A step that is run by many devices.

    Attributes:
      mapped: the step for a batch that is in its place.
      place: puts a batch there.
    """

    mapped: Any
    place: Callable[[Any], Any]

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """The next state and metrics; the state is donated."""
        return self.mapped(state, self.place(batch))

    def compile(self, state: Any, batch: Any) -> tuple["Spread", Any]:
        """The step for batches of this shape, and what it takes of a device's memory.

        Of one process only.

        Returns:
          It, and `jax.stages.Compiled.memory_analysis()`, which is None where the
          platform does not tell.
        """
        compiled = self.mapped.lower(state, self.place(batch)).compile()
        run = Spread(compiled, self.place)
        return run, compiled.memory_analysis()


def shardings(
    tree: Any,
    devices: Sequence[jax.Device],
    is_shared: Callable[[tuple[Any, ...]], bool] = lambda path: False,
) -> Any:
    """Where each array lies: on every device, or in equal parts of its rows.

    Args:
      tree: arrays.
      devices: all of them.
      is_shared: whether an array is parted, by its path in the tree.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    whole, rows = (
        NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec(AXIS))
    )
    return jax.tree.map_with_path(
        lambda path, _: rows if is_shared(path) else whole, tree
    )


def data_parallel(
    step: Step,
    *,
    devices: Sequence[jax.Device],
    wrapper: Wrapper = "pmap",
    placed: Any = None,
) -> Spread:
    """Runs a step on devices that each hold a share of the batch.

    Args:
      step: pure; gathers over the axis `axis_of(wrapper)` where it needs the whole
        batch, and returns a state and metrics that are the same on every device.
      devices: the devices, of all processes, those of one side by side; the state is
        donated.
      wrapper: 'pmap', or 'shard_map' under jit, which also checks while tracing that
        what comes out is the same everywhere (`pmap` takes the step's word for it), or
        'jit' alone: the step is written for one device, and XLA finds out what to
        exchange.
      placed: of 'jit', the `shardings` of the state; by default it is everywhere.

    Returns:
      `step` for a batch of arrays [rows, ...], of several processes each with its own
      rows; rows are spread in order over devices. Raises a ValueError when they do not
      divide.
    """
    _, processes = place_among(devices)
    own_devices = len(devices) // processes
    if wrapper == "pmap":
        mapped = jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=devices,
            donate_argnums=0,
        )
        return Spread(mapped, lambda batch: _split(batch, own_devices))
    mesh = Mesh(np.asarray(devices), (AXIS,))
    whole, rows = PartitionSpec(), PartitionSpec(AXIS)
    if wrapper == "shard_map":
        step = jax.shard_map(step, mesh=mesh, in_specs=(whole, rows), out_specs=whole)
    everywhere, by_rows = NamedSharding(mesh, whole), NamedSharding(mesh, rows)
    placed = everywhere if placed is None else placed
    mapped = jax.jit(
        step,
        in_shardings=(placed, by_rows),
        out_shardings=(placed, everywhere),
        donate_argnums=0,
    )
    if processes == 1:
        return Spread(mapped, lambda batch: jax.device_put(batch, by_rows))
    return Spread(mapped, lambda batch: from_processes(batch, by_rows))


def place_among(devices: Sequence[jax.Device]) -> tuple[int, int]:
    """This process's place among those that the devices belong to, and their number."""
    processes = sorted({device.process_index for device in devices})
    return processes.index(jax.process_index()), len(processes)


def from_processes(batch: Any, sharding: NamedSharding) -> Any:
    """Arrays [rows, ...] of all processes, from the [own rows, ...] of each."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), batch
    )


def replicate(tree: Any, devices: Sequence[jax.Device], *, placed: Any = None) -> Any:
    """A copy of the tree on every device, without a leading axis; or as `placed` says.

    Where devices are those of several processes, each process gives the same tree. The
    copy goes through the host: a device's own buffer would be shared with the original,
    and donating one would delete the other.
    """
    placed = shardings(tree, devices) if placed is None else placed

    def put(x: Any, where: NamedSharding) -> jax.Array:
        # `device_put` would compare the values of all processes, one leaf at a time.
        return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

    return jax.tree.map(put, jax.device_get(tree), placed)


def _split(batch: Any, devices: int) -> Any:
    def split(x: Any) -> Any:
        if len(x) % devices:
            raise ValueError(f"{len(x)} rows do not divide over {devices} devices")
        return x.reshape(devices, len(x) // devices, *x.shape[1:])

    return jax.tree.map(split, batch)
