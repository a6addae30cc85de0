"""ResNets for ImageNet-sized images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The bottleneck
strides in its 3 x 3 convolution ("v1.5"), or in the first 1 x 1 as the paper has it
("v1"). Modules and parameter shapes follow torchvision's names: conv1, bn1, layer1 to
layer4, downsample.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
from flax import nnx

from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout, replacing

Branch = Callable[[jax.Array], jax.Array]


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    expansion = 1

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        width: int,
        *,
        stride: int,
        branch: Branch,
        v1: bool,
    ) -> None:
        self.conv1 = layers.conv(inputs, width, 3, stride=stride)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3)
        self.bn2 = layers.norm(width)
        self.downsample = _downsample(layers, inputs, width, stride=stride)
        self.branch = branch

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, width]."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.branch(self.bn2(self.conv2(y)))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    expansion = 4

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        width: int,
        *,
        stride: int,
        branch: Branch,
        v1: bool,
    ) -> None:
        outputs = self.expansion * width
        self.conv1 = layers.conv(inputs, width, 1, stride=stride if v1 else 1)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3, stride=1 if v1 else stride)
        self.bn2 = layers.norm(width)
        self.conv3 = layers.conv(width, outputs, 1)
        self.bn3 = layers.norm(outputs)
        self.downsample = _downsample(layers, inputs, outputs, stride=stride)
        self.branch = branch

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, 4 * width]."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.branch(self.bn3(self.conv3(y)))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Staged):
    """A 7 x 7 stem and four groups of residual blocks."""

    block = r"layer(\d)"

    def __init__(
        self,
        layers: Layers,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        channels: int,
        v1: bool = False,
    ) -> None:
        self.channels, self.remat, self.v1 = channels, layers.remat, v1
        self.features = 512 * block.expansion
        self.conv1 = layers.conv(channels, 64, 7, stride=2)
        self.bn1 = layers.norm(64)
        inputs, number = 64, 0

        def group(width: int, depth: int, stride: int) -> nnx.Sequential:
            nonlocal inputs, number
            blocks = []
            for i in range(depth):
                step = stride if i == 0 else 1
                branch = layers.branch(number, sum(depths))
                blocks.append(
                    block(layers, inputs, width, stride=step, branch=branch, v1=v1)
                )
                inputs, number = width * block.expansion, number + 1
            return nnx.Sequential(*blocks)

        self.layer1 = group(64, depths[0], 1)
        self.layer2 = group(128, depths[1], 2)
        self.layer3 = group(256, depths[2], 2)
        self.layer4 = group(512, depths[3], 2)

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the outputs of the stem and of each group."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        yield "stem", x
        for number in range(1, 5):
            for block in getattr(self, f"layer{number}").layers:
                x = run(block, x, remat=self.remat)
            yield f"layer{number}", x

    def layouts(self) -> Mapping[str, Layout]:
        """torchvision's and timm's names, and Keras' of its own, which are "v1"."""
        rename = replacing((r"\.layers\.", "."))
        found = {"torchvision": Layout(rename, "imagenet", r"fc\.")}
        if self.v1:
            found["keras"] = Layout(
                _keras_name,
                "keras",
                r"predictions\.",
                variance=1e-8,
                bias_of=replacing((r"_bn\.running_mean$", "_conv.bias")),
                bgr="conv1_conv.weight",
                transposed=False,
            )
        return found


def resnet(layers: Layers, depth: int, *, channels: int, v1: bool = False) -> ResNet:
    """ResNet-18 or 34, 512 features; ResNet-50 or 101, 2048 features."""
    block = BasicBlock if depth < 50 else Bottleneck
    depths = {18: (2, 2, 2, 2), 101: (3, 4, 23, 3)}.get(depth, (3, 4, 6, 3))
    return ResNet(layers, block, depths, channels=channels, v1=v1)


def _keras_name(name: str) -> str:
    """layer2.layers.0.conv1.weight is conv3_block1_1_conv.weight there."""
    *modules, leaf = name.replace(".layers.", ".").split(".")
    if len(modules) == 1:
        return f"conv1_{modules[0].rstrip('1')}.{leaf}"
    group, block, *layer = modules
    if layer[0] == "downsample":
        number, kind = "0", ("conv", "bn")[int(layer[1])]
    else:
        number, kind = layer[0][-1], layer[0][:-1]
    return f"conv{int(group[-1]) + 1}_block{int(block) + 1}_{number}_{kind}.{leaf}"


def _downsample(
    layers: Layers, inputs: int, outputs: int, *, stride: int
) -> nnx.Sequential | None:
    """The shortcut's projection, where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    return nnx.Sequential(
        layers.conv(inputs, outputs, 1, stride=stride), layers.norm(outputs)
    )
