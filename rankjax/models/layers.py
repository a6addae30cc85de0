"""The layers that backbones are made of."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

_HE_FAN_OUT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    inputs: int, outputs: int, size: int, *, stride: int = 1, rngs: nnx.Rngs
) -> nnx.Conv:
    """A square convolution without bias, padded alike on all sides.

    "SAME" would pad a strided convolution on one side only and shift the image by half
    a pixel against networks trained elsewhere.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=_HE_FAN_OUT,
        rngs=rngs,
    )


def norm(features: int, *, axis_name: str | None, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch norm whose running statistics move by a tenth per step."""
    return nnx.BatchNorm(features, momentum=0.9, axis_name=axis_name, rngs=rngs)


class Dropout(nnx.Module):
    """Dropout whose draw belongs to the rows of the whole batch, not to a device.

    `nnx.Dropout` inside a mapped axis either repeats one mask on every device or needs
    a key per device; both differ from the same batch on one device. Here a row's mask
    depends on the seed, the number of calls so far and the row's number, so that
    devices change nothing. Nothing is dropped after `eval()`.
    """

    def __init__(self, rate: float, *, axis_name: str | None, seed: int = 0) -> None:
        """Starts counting calls.

        Args:
          rate: share of the entries set to 0, in [0, 1); the others grow by
            1 / (1 - rate).
          axis_name: the mapped axis over which the rows are spread, or None.
          seed: of the masks; layers of one network need different ones.

        Raises:
          ValueError: the rate is out of its range.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate}")
        self.rate, self.axis_name, self.seed = rate, axis_name, seed
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.deterministic = False  # what `train()` and `eval()` set

    def __call__(self, x: jax.Array) -> jax.Array:
        """Drops entries of [n, ...]."""
        if self.deterministic or not self.rate:
            return x
        key = jax.random.fold_in(jax.random.key(self.seed), self.calls[...])
        self.calls[...] += 1
        first = 0 if self.axis_name is None else lax.axis_index(self.axis_name) * len(x)
        kept = jax.vmap(
            lambda row: jax.random.bernoulli(
                jax.random.fold_in(key, row), 1 - self.rate, x.shape[1:]
            )
        )(first + jnp.arange(len(x)))
        return jnp.where(kept, x / (1 - self.rate), 0)
