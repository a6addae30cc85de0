"""How long a step's work takes on accelerators, predicted from published peaks.

Nothing here is measured. A step's loss and gradient by embeddings takes

    max(flops / rate, bytes / bandwidth) + link

for what a device computes, what its memory moves, and what it receives from others.
The two parts are added because a loss waits for everyone's rows before it can start.
An all-gather of R bytes, all of them together, over n devices in a ring makes each
receive (n - 1) / n R; a reduce-scatter of R bytes is the same backwards. Where groups
of g devices have faster links between them than with others, n = g h, the devices that
have the same place in their groups exchange first, each of them its part of R / g:

    link = (h - 1) / h (R / g) / slow + (g - 1) / g R / fast

Latency is left out, hence small batches take longer; so are exponentials and the like,
which are few beside the 2 dim operations of a product, and tiles that are read twice.

Sources of the peaks, all per device and, of links, in one direction:

    v5e    cloud.google.com/tpu/docs/v5e: 197 TFLOP/s of bfloat16, 16 GB at 819 GB/s,
           1,600 Gbit/s between chips, pods of 256, which send 6.4 Tbit/s altogether
    H100   nvidia.com/en-us/data-center/h100, SXM: 67 TFLOP/s of float32 outside of the
           tensor cores, 80 GB at 3.35 TB/s, NVLink 900 GB/s of both directions between
           the 8 of a host; one 400 Gbit/s InfiniBand adapter for each, as in a DGX H100
           (docs.nvidia.com/dgx/dgxh100-user-guide)

Products are of full float32 precision, as in the library (Precision.HIGHEST). A v5e has
no such unit and takes six passes in bfloat16, so its rate is 197 / 6 TFLOP/s; an H100
does not use the 989 TFLOP/s that its tensor cores have in bfloat16.
"""

import dataclasses
from typing import Literal

Form = Literal["rows", "blocks", "full"]
FORMS: tuple[Form, ...] = ("rows", "blocks", "full")
_PAIRS_AT_ONCE = 2**24  # of the library, on accelerators
_FLOAT = 4


@dataclasses.dataclass(frozen=True)
class Machine:
    """Peaks of one device and of its links.

    Attributes:
      name: for tables.
      flops: float32 operations in products, 1/s.
      bandwidth: of its memory, bytes/s.
      memory: bytes.
      group: devices with fast links between them.
      fast: bytes/s that a device receives from its group.
      slow: bytes/s that a device receives from other groups.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    group: int
    fast: float
    slow: float


V5E = Machine("TPU v5e", 197e12 / 6, 819e9, 16e9, 256, 1600e9 / 8, 6.4e12 / 8 / 256)
H100 = Machine("H100 SXM", 67e12, 3.35e12, 80e9, 8, 900e9 / 2, 400e9 / 8)
MACHINES = (V5E, H100)


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does for a loss and its gradient.

    Attributes:
      flops: of products.
      moved: bytes that its memory reads and writes.
      crossing: bytes, over all devices, of what is gathered or scattered.
      held: bytes that it holds at once.
    """

    flops: float
    moved: float
    crossing: float
    held: float


def ring_seconds(size: float, devices: int, rate: float) -> float:
    """Time to gather `size` bytes, everyone's together, or to scatter their sum.

    Args:
      size: bytes, of which each device has its share at first, or at last.
      devices: in the ring; with one, nothing moves.
      rate: bytes/s that a device receives.
    """
    return (devices - 1) / devices * size / rate


def link_seconds(size: float, devices: int, machine: Machine) -> float:
    """The same over groups of devices, see the module.

    Raises:
      ValueError: devices do not fill their groups.
    """
    inside = min(devices, machine.group)
    if devices % inside:
        raise ValueError(f"{devices} devices do not fill groups of {inside}")
    between = ring_seconds(size / inside, devices // inside, machine.slow)
    return between + ring_seconds(size, inside, machine.fast)


def work(form: Form, *, devices: int, batch: int, dim: int) -> Work:
    """What a form of a loss takes that looks at its anchor's row, such as SupCon.

    The matrix is that of a device's own rows, of all rows where the form is 'full',
    against all rows. It takes three products, one forward and one for each operand's
    gradient, and six passes over the matrix: it is written, read, read for its slopes;
    these are written, and read by two products. 'blocks' does the same for 2^24 pairs
    at a time.

    Args:
      form: 'rows', 'blocks' or 'full'.
      devices: n.
      batch: rows of all devices.
      dim: of embeddings, float32.

    Raises:
      ValueError: rows do not divide over devices.
    """
    if batch % devices:
        raise ValueError(f"{batch} rows do not divide over {devices} devices")
    own = batch if form == "full" else batch // devices
    pairs, embeddings = own * batch, _FLOAT * batch * dim
    products, passes = 3, 6
    at_once = pairs if form != "blocks" else min(pairs, _PAIRS_AT_ONCE)
    # A device's rows have gradients for everyone's, which are then scattered.
    scattered = embeddings if form != "full" else 0
    return Work(
        flops=2 * products * dim * pairs,
        moved=_FLOAT * (passes * pairs + products * dim * (own + batch)),
        crossing=embeddings + scattered if devices > 1 else 0,
        held=2 * _FLOAT * at_once + embeddings + scattered,
    )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Seconds of a step's loss, and its parts; see the module."""

    compute: float
    memory: float
    link: float

    @property
    def total(self) -> float:
        """The sum of the link and of the longer of the two others."""
        return max(self.compute, self.memory) + self.link


def predict(needed: Work, devices: int, machine: Machine) -> Prediction:
    """How long a device takes at its peaks."""
    return Prediction(
        needed.flops / machine.flops,
        needed.moved / machine.bandwidth,
        link_seconds(needed.crossing, devices, machine),
    )
