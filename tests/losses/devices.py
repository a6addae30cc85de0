"""Functions on eight devices, each of which has its part of the rows."""

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rankjax.parallel import AXIS

WHOLE, SPREAD = PartitionSpec(), PartitionSpec(AXIS)
MESH = Mesh(np.array(jax.devices()), (AXIS,))


def on_eight(step, inside, outside=WHOLE, **settings):
    """A compiled function, by what each device has of arguments and results."""
    return jax.jit(
        jax.shard_map(step, mesh=MESH, in_specs=inside, out_specs=outside, **settings)
    )
