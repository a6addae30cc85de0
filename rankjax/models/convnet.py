"""A small network for 32 x 32 images that trains fast on a CPU."""

import jax
from flax import nnx

from rankjax.models.layers import conv, norm


class ConvNet(nnx.Module):
    """Four 3 x 3 convolutions, three of them strided, flattened at 4 x 4.

    The stride is in the first convolution because XLA's CPU convolutions cost most at
    full resolution, and the last has none because they slow down below 4 x 4.
    """

    def __init__(
        self, *, channels: int, axis_name: str | None, rngs: nnx.Rngs, width: int = 32
    ) -> None:
        self.channels = channels
        self.features = 4 * 4 * 8 * width
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        self.convs = nnx.List(
            conv(widths[i], widths[i + 1], 3, stride=strides[i], rngs=rngs)
            for i in range(4)
        )
        self.norms = nnx.List(
            norm(w, axis_name=axis_name, rngs=rngs) for w in widths[1:]
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
        for layer, batch_norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(batch_norm(layer(x)))
        return x.reshape(len(x), -1)
