"""DenseNet-169 for ImageNet-sized images.

Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR
2017, with bottlenecks and compression ("DenseNet-BC"); modules as torchvision names
them.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout, replacing


class DenseLayer(nnx.Module):
    """A bottleneck whose output is put beside its input."""

    def __init__(self, layers: Layers, inputs: int, growth: int) -> None:
        self.norm1 = layers.norm(inputs)
        self.conv1 = layers.conv(inputs, 4 * growth, 1)
        self.norm2 = layers.norm(4 * growth)
        self.conv2 = layers.conv(4 * growth, growth, 3)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h, w, inputs + growth]."""
        y = self.conv1(nnx.relu(self.norm1(x)))
        y = self.conv2(nnx.relu(self.norm2(y)))
        return jnp.concatenate([x, y], -1)


class Transition(nnx.Module):
    """Halves the channels, the height and the width."""

    def __init__(self, layers: Layers, inputs: int) -> None:
        self.norm = layers.norm(inputs)
        self.conv = layers.conv(inputs, inputs // 2, 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / 2, w / 2, inputs / 2]."""
        x = self.conv(nnx.relu(self.norm(x)))
        return nnx.avg_pool(x, (2, 2), strides=(2, 2))


class DenseNet(Staged):
    """A 7 x 7 stem and four blocks of dense layers with transitions between them."""

    block = r"(?:denseblocks|transitions)\.(\d+)|norm5"

    def __init__(
        self,
        layers: Layers,
        depths: Sequence[int],
        *,
        channels: int,
        growth: int = 32,
    ) -> None:
        self.channels, self.remat = channels, layers.remat
        width = 2 * growth
        self.conv0 = layers.conv(channels, width, 7, stride=2)
        self.norm0 = layers.norm(width)
        self.denseblocks = nnx.List[nnx.List[DenseLayer]]()
        self.transitions = nnx.List[Transition]()
        for number, depth in enumerate(depths):
            if number:
                self.transitions.append(Transition(layers, width))
                width //= 2
            self.denseblocks.append(
                nnx.List(
                    DenseLayer(layers, width + i * growth, growth) for i in range(depth)
                )
            )
            width += depth * growth
        self.norm5 = layers.norm(width)
        self.features = width

    def takes(self, side: int) -> bool:
        """What its strides leave something of."""
        return side >= 29

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the outputs of the stem, of each block, and of the last norm."""
        x = nnx.relu(self.norm0(self.conv0(images)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        yield "stem", x
        for number, block in enumerate(self.denseblocks):
            if number:
                x = run(self.transitions[number - 1], x, remat=self.remat)
            for layer in block:
                x = run(layer, x, remat=self.remat)
            yield f"denseblock{number + 1}", x
        yield "norm5", nnx.relu(self.norm5(x))

    def layouts(self) -> Mapping[str, Layout]:
        """torchvision's and timm's names, and those of older files."""

        def rename(name: str) -> str:
            first, number, *others = name.split(".")
            if first == "denseblocks":
                layer = f"denselayer{int(others[0]) + 1}"
                others = [f"denseblock{int(number) + 1}", layer, *others[1:]]
            elif first == "transitions":
                others = [f"transition{int(number) + 1}", *others]
            else:
                others = [first, number, *others]
            return ".".join(["features", *others])

        old = replacing((r"(denselayer\d+\.)(norm|conv)([12])", r"\1\2.\3"))
        unused = r"classifier\."
        return {
            "torchvision": Layout(rename, "imagenet", unused),
            "torchvision 2017": Layout(lambda n: old(rename(n)), "imagenet", unused),
        }


def densenet169(layers: Layers, *, channels: int) -> DenseNet:
    """DenseNet-169: 1664 features."""
    return DenseNet(layers, (6, 12, 32, 32), channels=channels)
