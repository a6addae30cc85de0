"""ConvNeXt-T for ImageNet-sized images.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s", CVPR 2022; modules
as timm names them. It has layer norms of its own, which `Layers.norm_kind` leaves.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout, replacing


class ConvNeXtBlock(nnx.Module):
    """A 7 x 7 depthwise convolution and two affine maps around a shortcut."""

    def __init__(self, layers: Layers, width: int, *, number: int, count: int) -> None:
        self.conv_dw = layers.conv(width, width, 7, groups=width, bias=True)
        self.norm = layers.layer_norm(width)
        self.fc1 = layers.linear(width, 4 * width)
        self.fc2 = layers.linear(4 * width, width)
        self.gamma = nnx.Param(jnp.full(width, 1e-6))
        self.branch = layers.branch(number, count)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, width] to the same shape."""
        y = self.fc1(self.norm(self.conv_dw(x)))
        y = self.fc2(nnx.gelu(y, approximate=False))
        return x + self.branch(y * self.gamma[...].astype(y.dtype))


class ConvNeXt(Staged):
    """Patches of 4 x 4 pixels and four groups of blocks, each at half the size."""

    block = r"(?:convs|norms|groups)\.(\d+)|norm\."

    def __init__(
        self,
        layers: Layers,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        channels: int,
    ) -> None:
        self.channels, self.features = channels, widths[-1]
        self.remat = layers.remat
        self.convs = nnx.List[nnx.Conv]()
        self.norms = nnx.List[nnx.LayerNorm]()
        self.groups = nnx.List[nnx.List[ConvNeXtBlock]]()
        number, before = 0, channels
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            size = 2 if i else 4
            self.convs.append(
                layers.conv(before, width, size, stride=size, padding=0, bias=True)
            )
            # The stem's norm comes after its convolution, the others before.
            self.norms.append(layers.layer_norm(before if i else width))
            blocks = []
            for _ in range(depth):
                blocks.append(
                    ConvNeXtBlock(layers, width, number=number, count=sum(depths))
                )
                number += 1
            self.groups.append(nnx.List(blocks))
            before = width
        self.norm = layers.layer_norm(before)

    def takes(self, side: int) -> bool:
        """What its strides leave something of."""
        return side >= 32

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the outputs of the stem and of each group."""
        x = self.norms[0](self.convs[0](images))
        yield "stem", x
        for i, blocks in enumerate(self.groups):
            if i:
                x = self.convs[i](self.norms[i](x))
            for block in blocks:
                x = run(block, x, remat=self.remat)
            yield f"stage{i + 1}", x

    def finish(self, pooled: jax.Array) -> jax.Array:
        """Normalises what is pooled."""
        return self.norm(pooled)

    def layouts(self) -> Mapping[str, Layout]:
        """timm's and torchvision's names."""
        timm = replacing(
            (r"^convs\.0\.", "stem.0."),
            (r"^norms\.0\.", "stem.1."),
            (r"^norms\.(\d)\.", r"stages.\1.downsample.0."),
            (r"^convs\.(\d)\.", r"stages.\1.downsample.1."),
            (r"^groups\.(\d)\.", r"stages.\1.blocks."),
            (r"\.(fc\d)\.", r".mlp.\1."),
            (r"^norm\.", "head.norm."),
        )

        def torchvision(name: str) -> str:
            first, number, *others = name.split(".")
            if first == "norm":
                return f"classifier.0.{number}"
            stage, at = 2 * int(number), int(first == "convs")
            if first != "groups":
                at = at if stage else 1 - at
                return ".".join([f"features.{stage}.{at}", *others])
            if others[1] == "gamma":
                return f"features.{stage + 1}.{others[0]}.layer_scale"
            layer = {"conv_dw": 0, "norm": 2, "fc1": 3, "fc2": 5}[others[1]]
            return f"features.{stage + 1}.{others[0]}.block.{layer}.{others[2]}"

        return {
            "timm": Layout(timm, "imagenet", r"head\.fc\."),
            "torchvision": Layout(torchvision, "imagenet", r"classifier\.2\."),
        }


def convnext_tiny(layers: Layers, *, channels: int) -> ConvNeXt:
    """ConvNeXt-T: 768 features."""
    return ConvNeXt(layers, (3, 3, 9, 3), (96, 192, 384, 768), channels=channels)
