"""The convolution and the batch norm that every backbone is made of."""

from flax import nnx

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
