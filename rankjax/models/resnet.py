"""ResNet-18 and ResNet-50 for ImageNet-sized images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The bottleneck
strides in its 3 x 3 convolution, not in the first 1 x 1 as the paper has it ("v1.5").
Modules and parameter shapes follow torchvision's names: conv1, bn1, layer1 to layer4,
downsample.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rankjax.models.layers import Layers, run
from rankjax.similarity import at_least_float32


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, layers: Layers, inputs: int, width: int, *, stride: int) -> None:
        self.conv1 = layers.conv(inputs, width, 3, stride=stride)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3)
        self.bn2 = layers.norm(width)
        self.downsample = _downsample(layers, inputs, width, stride=stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, width]."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    expansion = 4

    def __init__(self, layers: Layers, inputs: int, width: int, *, stride: int) -> None:
        outputs = self.expansion * width
        self.conv1 = layers.conv(inputs, width, 1)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3, stride=stride)
        self.bn2 = layers.norm(width)
        self.conv3 = layers.conv(width, outputs, 1)
        self.bn3 = layers.norm(outputs)
        self.downsample = _downsample(layers, inputs, outputs, stride=stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, 4 * width]."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nnx.Module):
    """A 7 x 7 stem, four groups of residual blocks and global average pooling."""

    def __init__(
        self,
        layers: Layers,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        channels: int,
    ) -> None:
        self.channels, self.remat = channels, layers.remat
        self.features = 512 * block.expansion
        self.conv1 = layers.conv(channels, 64, 7, stride=2)
        self.bn1 = layers.norm(64)
        inputs = 64

        def group(width: int, depth: int, stride: int) -> nnx.Sequential:
            nonlocal inputs
            blocks = []
            for i in range(depth):
                step = stride if i == 0 else 1
                blocks.append(block(layers, inputs, width, stride=step))
                inputs = width * block.expansion
            return nnx.Sequential(*blocks)

        self.layer1 = group(64, depths[0], 1)
        self.layer2 = group(128, depths[1], 2)
        self.layer3 = group(256, depths[2], 2)
        self.layer4 = group(512, depths[3], 2)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map float32 [n, height, width, channels] to [n, features]."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for group in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in group.layers:
                x = run(block, x, remat=self.remat)
        return jnp.mean(at_least_float32(x), axis=(1, 2))


def resnet18(layers: Layers, *, channels: int) -> ResNet:
    """ResNet-18: 512 features."""
    return ResNet(layers, BasicBlock, (2, 2, 2, 2), channels=channels)


def resnet50(layers: Layers, *, channels: int) -> ResNet:
    """ResNet-50: 2048 features."""
    return ResNet(layers, Bottleneck, (3, 4, 6, 3), channels=channels)


def _downsample(
    layers: Layers, inputs: int, outputs: int, *, stride: int
) -> nnx.Sequential | None:
    """The shortcut's projection, where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    return nnx.Sequential(
        layers.conv(inputs, outputs, 1, stride=stride), layers.norm(outputs)
    )
