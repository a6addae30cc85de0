"""GoogLeNet (Inception-v1) and BN-Inception.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with batch norm, as
torchvision has it: its "5 x 5" branch has 3 x 3 kernels, a slip of TF-slim's that all
published weights share. TF-slim's `inception_v1` is the same network but for the
padding of the first convolution, which is `inception_v1` here, and for batch norms
without a scale.

Ioffe, Szegedy, "Batch Normalization", ICML 2015, whose network metric learning took as
Caffe and then PyTorch had it: its block 4c pools into 128 channels, not 96, and its
convolutions have biases, which a batch norm takes out again and which are not here.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout, replacing

# Of each block: 1 x 1; 3 x 3 reduced and full; 5 x 5 reduced and full; projected pool.
_GOOGLENET = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
# Here two 3 x 3 in place of a 5 x 5; without 1 x 1 and projection the block strides.
_BN_INCEPTION = {
    "inception_3a": (64, 64, 64, 64, 96, 32),
    "inception_3b": (64, 64, 96, 64, 96, 64),
    "inception_3c": (0, 128, 160, 64, 96, 0),
    "inception_4a": (224, 64, 96, 96, 128, 128),
    "inception_4b": (192, 96, 128, 96, 128, 128),
    "inception_4c": (160, 128, 160, 128, 160, 128),
    "inception_4d": (96, 128, 192, 160, 192, 128),
    "inception_4e": (0, 128, 192, 192, 256, 0),
    "inception_5a": (352, 192, 320, 160, 224, 128),
    "inception_5b": (352, 192, 320, 192, 224, 128),
}


class Unit(nnx.Module):
    """A convolution, a norm and a ReLU."""

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        epsilon: float = 1e-5,
        padding: str | None = None,
    ) -> None:
        self.conv = layers.conv(inputs, outputs, size, stride=stride, padding=padding)
        self.bn = layers.norm(outputs, epsilon=epsilon)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, outputs]."""
        return nnx.relu(self.bn(self.conv(x)))


class Block(nnx.Module):
    """Chains of units and a pool beside each other, concatenated."""

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        chains: Sequence[Sequence[tuple[str, int, int]]],
        *,
        projection: tuple[str, int] | None,
        average: bool,
        epsilon: float,
    ) -> None:
        """Each unit of a chain is a name, a kernel's size and a number of outputs;
        without a projection the last unit of each chain and the pool have a stride."""
        self.chains = tuple(tuple(name for name, _, _ in chain) for chain in chains)
        self.projection = projection and projection[0]
        self.average = average
        units = {}
        for chain in chains:
            width = inputs
            for i, (name, size, outputs) in enumerate(chain):
                stride = 2 if projection is None and i == len(chain) - 1 else 1
                units[name] = Unit(
                    layers, width, outputs, size, stride=stride, epsilon=epsilon
                )
                width = outputs
        self.outputs = sum(chain[-1][2] for chain in chains)
        if projection is None:
            self.outputs += inputs
        else:
            units[projection[0]] = Unit(
                layers, inputs, projection[1], 1, epsilon=epsilon
            )
            self.outputs += projection[1]
        self.units = nnx.Dict(units)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, outputs]."""
        parts = []
        for chain in self.chains:
            y = x
            for name in chain:
                y = self.units[name](y)
            parts.append(y)
        if self.projection is None:
            return jnp.concatenate([*parts, _max_pool(x, 3)], -1)
        pool = nnx.avg_pool if self.average else nnx.max_pool
        pooled = pool(x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)))
        return jnp.concatenate([*parts, self.units[self.projection](pooled)], -1)


class GoogLeNet(Staged):
    """Three convolutions and nine blocks."""

    block = r"blocks\.(\w+)"

    def __init__(self, layers: Layers, *, channels: int, same: bool = False) -> None:
        """With `same`, the first convolution is padded as TensorFlow does."""
        self.channels, self.features, self.remat = channels, 1024, layers.remat
        epsilon = 1e-3
        padding = "SAME" if same else None
        self.conv1 = Unit(
            layers, channels, 64, 7, stride=2, epsilon=epsilon, padding=padding
        )
        self.conv2 = Unit(layers, 64, 64, 1, epsilon=epsilon)
        self.conv3 = Unit(layers, 64, 192, 3, epsilon=epsilon)
        width, blocks = 192, {}
        for name, (one, three_in, three, five_in, five, pool) in _GOOGLENET.items():
            blocks[name] = Block(
                layers,
                width,
                [
                    [("branch1", 1, one)],
                    [("branch2.0", 1, three_in), ("branch2.1", 3, three)],
                    [("branch3.0", 1, five_in), ("branch3.1", 3, five)],
                ],
                projection=("branch4.1", pool),
                average=False,
                epsilon=epsilon,
            )
            width = blocks[name].outputs
        self.blocks = nnx.Dict(blocks)

    def takes(self, side: int) -> bool:
        """What its pools leave something of."""
        return side >= 15

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the stem's output and that of each block."""
        x = _max_pool(self.conv1(images), 3)
        x = _max_pool(self.conv3(self.conv2(x)), 3)
        yield "stem", x
        for name in _GOOGLENET:
            if name == "inception4a":
                x = _max_pool(x, 3)
            if name == "inception5a":
                x = _max_pool(x, 2)
            x = run(self.blocks[name], x, remat=self.remat)
            yield name, x

    def layouts(self) -> Mapping[str, Layout]:
        """torchvision's names, without the auxiliary classifiers."""
        rename = replacing((r"^blocks\.", ""), (r"\.units\.", "."))
        return {"torchvision": Layout(rename, "half", r"(aux1|aux2|fc)\.")}


class BNInception(Staged):
    """Three convolutions and ten blocks."""

    block = r"blocks\.(\w+)"

    def __init__(self, layers: Layers, *, channels: int) -> None:
        self.channels, self.features, self.remat = channels, 1024, layers.remat
        self.conv1_7x7_s2 = Unit(layers, channels, 64, 7, stride=2)
        self.conv2_3x3_reduce = Unit(layers, 64, 64, 1)
        self.conv2_3x3 = Unit(layers, 64, 192, 3)
        width, blocks = 192, {}
        for name, (one, three_in, three, five_in, five, pool) in _BN_INCEPTION.items():
            chains = [
                [("3x3_reduce", 1, three_in), ("3x3", 3, three)],
                [
                    ("double_3x3_reduce", 1, five_in),
                    ("double_3x3_1", 3, five),
                    ("double_3x3_2", 3, five),
                ],
            ]
            blocks[name] = Block(
                layers,
                width,
                [[("1x1", 1, one)], *chains] if one else chains,
                projection=("pool_proj", pool) if pool else None,
                average=name != "inception_5b",
                epsilon=1e-5,
            )
            width = blocks[name].outputs
        self.blocks = nnx.Dict(blocks)

    def takes(self, side: int) -> bool:
        """What the stem makes a multiple of four positions of: a convolution of an odd
        number has one position more than the pool beside it."""
        return side >= 31 and (side + 1) % 32 < 8

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the stem's output and that of each block."""
        x = _max_pool(self.conv1_7x7_s2(images), 3)
        x = _max_pool(self.conv2_3x3(self.conv2_3x3_reduce(x)), 3)
        yield "stem", x
        for name, block in self.blocks.items():
            x = run(block, x, remat=self.remat)
            yield name, x

    def layouts(self) -> Mapping[str, Layout]:
        """The names of Caffe's layers, as PyTorch files have them."""
        rename = replacing(
            (r"^blocks\.(\w+)\.units\.", r"\1_"),
            (r"\.bn\.", "_bn."),
            (r"\.conv\.", "."),
        )
        return {
            "caffe": Layout(
                rename,
                "caffe",
                r"(last_linear|fc)\.",
                bias_of=replacing((r"_bn\.running_mean$", ".bias")),
                bgr="conv1_7x7_s2.weight",
            )
        }


def _max_pool(x: jax.Array, size: int) -> jax.Array:
    """With a stride of 2, as far as a window begins inside the image."""
    sides = [(0, max(-(-(n - size) // 2) * 2 + size - n, 0)) for n in x.shape[1:3]]
    return nnx.max_pool(x, (size, size), strides=(2, 2), padding=sides)
