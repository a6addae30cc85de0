"""A small network for 32 x 32 images that trains fast on a CPU."""

import jax
from flax import nnx

from rankjax.models.layers import Layers, run


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


class ConvNet(nnx.Module):
    """Four 3 x 3 convolutions, three of them strided, flattened at 4 x 4.

    The stride is in the first convolution because XLA's CPU convolutions cost most at
    full resolution, and the last has none because they slow down below 4 x 4.
    """

    def __init__(self, layers: Layers, *, channels: int, width: int = 32) -> None:
        self.channels, self.remat = channels, layers.remat
        self.features = 4 * 4 * 8 * width
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        self.stages = nnx.List(
            Stage(layers, widths[i], widths[i + 1], stride=strides[i]) for i in range(4)
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map float32 [n, 32, 32, channels] to [n, 128 * width].

        Raises:
          ValueError: the images are not 32 x 32.
        """
        if images.shape[1:3] != (32, 32):
            raise ValueError(
                f"images has shape {images.shape}, convnet needs [n, 32, 32, channels]"
            )
        x = images
        for stage in self.stages:
            x = run(stage, x, remat=self.remat)
        return x.reshape(x.shape[0], -1)
