"""A small network for small images that trains fast on a CPU."""

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout

_SIDE = 4


def _averages(size: int) -> np.ndarray:
    """The matrix [4, size] that averages positions: from floor(i size / 4) on to, and
    without, ceil((i + 1) size / 4), as PyTorch's adaptive pooling has it."""
    i, at = np.arange(_SIDE)[:, None], np.arange(size)
    inside = (at >= i * size // _SIDE) & (at < -(-(i + 1) * size // _SIDE))
    return inside / inside.sum(1, keepdims=True)


class Stage(nnx.Module):
    """A 3 x 3 convolution, a norm and a ReLU."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, *, stride: int
    ) -> None:
        self.conv = layers.conv(inputs, outputs, 3, stride=stride)
        self.norm = layers.norm(outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, outputs]."""
        return nnx.relu(self.norm(self.conv(x)))


class ConvNet(Staged):
    """Four 3 x 3 convolutions, three of them strided, flattened at 4 x 4.

    Images of 32 x 32 pixels are 4 x 4 positions; those of other images are averaged to
    as many.

    The stride is in the first convolution because XLA's CPU convolutions cost most at
    full resolution, and the last has none because they slow down below 4 x 4.
    """

    block = r"convolutions\.(\d+)"

    def __init__(self, layers: Layers, *, channels: int, width: int = 32) -> None:
        self.channels, self.remat = channels, layers.remat
        self.features = _SIDE * _SIDE * 8 * width
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        self.convolutions = nnx.List(
            Stage(layers, widths[i], widths[i + 1], stride=strides[i]) for i in range(4)
        )

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the outputs of the convolutions, then [n, 128 * width]."""
        x = images
        for number, stage in enumerate(self.convolutions):
            x = run(stage, x, remat=self.remat)
            yield f"stage{number + 1}", x
        if x.shape[1:3] != (_SIDE, _SIDE):
            rows, columns = (_averages(size).astype(x.dtype) for size in x.shape[1:3])
            x = jnp.einsum("ih,jw,nhwc->nijc", rows, columns, x)
        yield "flat", x.reshape(x.shape[0], -1)

    def layouts(self) -> Mapping[str, Layout]:
        """None: nobody publishes its weights."""
        return {}
