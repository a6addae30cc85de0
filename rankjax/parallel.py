"""One pure step on many devices.

`step(state, batch) -> (state, metrics)` knows at most the name of an axis. The state
never has a leading device axis: it is replicated, and checkpoints hold it once.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"

Step = Callable[[Any, Any], tuple[Any, Any]]
Wrapper = Literal["pmap", "shard_map"]


def data_parallel(
    step: Step, *, devices: Sequence[jax.Device], wrapper: Wrapper = "pmap"
) -> Step:
    """Runs a step on devices that each hold a share of the batch.

    Args:
      step: pure; gathers over the axis `AXIS` where it needs the whole batch, and
        returns a state and metrics that are the same on every device.
      devices: the devices; the state is donated.
      wrapper: 'pmap', or 'shard_map' under jit, which also checks while tracing that
        what comes out is the same everywhere (`pmap` takes the step's word for it).

    Returns:
      `step` for a batch of arrays [rows, ...]; rows are spread in order over devices.
      Raises a ValueError when they do not divide.
    """
    if wrapper == "pmap":
        mapped = jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=devices,
            donate_argnums=0,
        )
        return lambda state, batch: mapped(state, _split(batch, len(devices)))
    mesh = Mesh(np.asarray(devices), (AXIS,))
    mapped = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        ),
        donate_argnums=0,
    )
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return lambda state, batch: mapped(state, jax.device_put(batch, sharding))


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of the tree on every device, without a leading axis.

    The copy goes through the host: a device's own buffer would be shared with the
    original, and donating one would delete the other.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(jax.device_get(tree), NamedSharding(mesh, PartitionSpec()))


def _split(batch: Any, devices: int) -> Any:
    def split(x: Any) -> Any:
        if len(x) % devices:
            raise ValueError(f"{len(x)} rows do not divide over {devices} devices")
        return x.reshape(devices, len(x) // devices, *x.shape[1:])

    return jax.tree.map(split, batch)
