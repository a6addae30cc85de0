"""Independent blocks of work on several devices, of one process or of all."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "blocks"


def across(
    function: Callable[[Any, jax.Array, Any], Any],
    shared: Any,
    *,
    blocks: int,
    devices: Sequence[jax.Device],
    combine: Callable[[Any, str], Any],
    rule: Hashable,
) -> Any:
    """Runs `function(shared, numbers of blocks, rule)` on each device, and combines.

    Blocks are dealt out to devices in turn, there and back again, so that those whose
    cost rises or falls with their number go out evenly.

    Args:
      function: pure; its numbers are int32 [equally many], filled up with -1.
      shared: a tree of arrays, the same in each process; each device gets a copy.
      blocks: how many there are.
      devices: where to run; of several processes, all of which call this.
      combine: `lax.psum` or `lax.pmax`, exact in any order.
      rule: what `function` knows while it is compiled.

    Returns:
      A tree of NumPy arrays.
    """
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    whole, by_device = (NamedSharding(mesh, x) for x in (PartitionSpec(), _SPLIT))
    n = len(devices)
    rounds = -(-blocks // n)
    numbers = np.arange(rounds * n, dtype=np.int32).reshape(rounds, n)
    numbers[1::2] = numbers[1::2, ::-1].copy()
    numbers[numbers >= blocks] = -1
    with jax.set_mesh(mesh):  # the caller may have set another
        result = _run(
            jax.tree.map(functools.partial(_place, sharding=whole), shared),
            _place(numbers.T.reshape(-1), sharding=by_device),
            function=function,
            combine=combine,
            mesh=mesh,
            rule=rule,
        )
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), result)


_SPLIT = PartitionSpec(_AXIS)


def _place(x: np.ndarray, *, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


@functools.partial(jax.jit, static_argnames=("function", "combine", "mesh", "rule"))
def _run(
    shared: Any,
    numbers: jax.Array,
    *,
    function: Callable[[Any, jax.Array, Any], Any],
    combine: Callable[[Any, str], Any],
    mesh: Mesh,
    rule: Hashable,
) -> Any:
    def own(shared: Any, numbers: jax.Array) -> Any:
        return combine(function(shared, numbers, rule), _AXIS)

    return jax.shard_map(
        own,
        mesh=mesh,
        in_specs=(PartitionSpec(), _SPLIT),
        out_specs=PartitionSpec(),
        check_vma=False,  # loops begin with what is the same on all devices
    )(shared, numbers)
