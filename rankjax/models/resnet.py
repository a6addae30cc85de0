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

from rankjax.models.layers import conv, norm


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    expansion = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = conv(inputs, width, 3, stride=stride, rngs=rngs)
        self.bn1 = norm(width, axis_name=axis_name, rngs=rngs)
        self.conv2 = conv(width, width, 3, rngs=rngs)
        self.bn2 = norm(width, axis_name=axis_name, rngs=rngs)
        self.downsample = _downsample(
            inputs, width, stride=stride, axis_name=axis_name, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, width]."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    expansion = 4

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        outputs = self.expansion * width
        self.conv1 = conv(inputs, width, 1, rngs=rngs)
        self.bn1 = norm(width, axis_name=axis_name, rngs=rngs)
        self.conv2 = conv(width, width, 3, stride=stride, rngs=rngs)
        self.bn2 = norm(width, axis_name=axis_name, rngs=rngs)
        self.conv3 = conv(width, outputs, 1, rngs=rngs)
        self.bn3 = norm(outputs, axis_name=axis_name, rngs=rngs)
        self.downsample = _downsample(
            inputs, outputs, stride=stride, axis_name=axis_name, rngs=rngs
        )

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
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        channels: int,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        self.channels = channels
        self.features = 512 * block.expansion
        self.conv1 = conv(channels, 64, 7, stride=2, rngs=rngs)
        self.bn1 = norm(64, axis_name=axis_name, rngs=rngs)
        inputs = 64

        def layer(width: int, depth: int, stride: int) -> nnx.Sequential:
            nonlocal inputs
            blocks = []
            for i in range(depth):
                blocks.append(
                    block(
                        inputs,
                        width,
                        stride=stride if i == 0 else 1,
                        axis_name=axis_name,
                        rngs=rngs,
                    )
                )
                inputs = width * block.expansion
            return nnx.Sequential(*blocks)

        self.layer1 = layer(64, depths[0], 1)
        self.layer2 = layer(128, depths[1], 2)
        self.layer3 = layer(256, depths[2], 2)
        self.layer4 = layer(512, depths[3], 2)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map float32 [n, height, width, channels] to [n, features]."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return jnp.mean(x, axis=(1, 2))


def resnet18(*, channels: int, axis_name: str | None, rngs: nnx.Rngs) -> ResNet:
    """ResNet-18: 512 features."""
    return ResNet(
        BasicBlock, (2, 2, 2, 2), channels=channels, axis_name=axis_name, rngs=rngs
    )


def resnet50(*, channels: int, axis_name: str | None, rngs: nnx.Rngs) -> ResNet:
    """ResNet-50: 2048 features."""
    return ResNet(
        Bottleneck, (3, 4, 6, 3), channels=channels, axis_name=axis_name, rngs=rngs
    )


def _downsample(
    inputs: int, outputs: int, *, stride: int, axis_name: str | None, rngs: nnx.Rngs
) -> nnx.Sequential | None:
    """The shortcut's projection, where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    return nnx.Sequential(
        conv(inputs, outputs, 1, stride=stride, rngs=rngs),
        norm(outputs, axis_name=axis_name, rngs=rngs),
    )
