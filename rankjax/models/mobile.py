"""Networks of inverted residuals: MobileNetV3, EfficientNet-B0, EfficientNet-Lite0.

Howard et al., "Searching for MobileNetV3", ICCV 2019; Tan, Le, "EfficientNet", ICML
2019; Lite0 is TensorFlow's EfficientNet-B0 for phones, without squeeze and excitation,
with ReLU6, and with its fixed stem. TensorFlow's pad strided convolutions on one side.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
from flax import nnx

from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout, looking_up

_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "relu6": nnx.relu6,
    "silu": nnx.silu,
    "hard_swish": nnx.hard_swish,
}


class Row(NamedTuple):
    """One block of a table: a kernel's size, channels, a stride and an activation.

    Attributes:
      squeeze: channels between squeeze and excitation, 0 for none.
      stage: blocks of one stage are numbered together in some files.
    """

    kernel: int
    expanded: int
    outputs: int
    squeeze: int
    activation: str
    stride: int
    stage: int


class Unit(nnx.Module):
    """A convolution, a norm and an activation."""

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        outputs: int,
        size: int,
        *,
        activation: str | None,
        epsilon: float,
        same: bool = False,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        padding = "SAME" if same else None
        self.conv = layers.conv(
            inputs, outputs, size, stride=stride, groups=groups, padding=padding
        )
        self.bn = layers.norm(outputs, epsilon=epsilon)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, outputs]."""
        x = self.bn(self.conv(x))
        return x if self.activation is None else _ACTIVATIONS[self.activation](x)


class Squeeze(nnx.Module):
    """Squeeze and excitation: channels are scaled by what their means say."""

    def __init__(
        self, layers: Layers, width: int, squeezed: int, *, hard: bool
    ) -> None:
        self.reduce = layers.conv(width, squeezed, 1, bias=True)
        self.expand = layers.conv(squeezed, width, 1, bias=True)
        self.hard = hard

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, width] to the same shape."""
        y = self.reduce(x.mean((1, 2), keepdims=True))
        y = self.expand(nnx.relu(y) if self.hard else nnx.silu(y))
        return x * (nnx.hard_sigmoid(y) if self.hard else nnx.sigmoid(y))


class InvertedResidual(nnx.Module):
    """Expand, convolve each channel alone, squeeze, project; around a shortcut."""

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        row: Row,
        *,
        branch: Callable[[jax.Array], jax.Array],
        hard: bool,
        epsilon: float,
        same: bool,
    ) -> None:
        wide, act = row.expanded, row.activation
        self.expand = (
            Unit(layers, inputs, wide, 1, activation=act, epsilon=epsilon)
            if wide != inputs
            else None
        )
        self.depthwise = Unit(
            layers,
            wide,
            wide,
            row.kernel,
            activation=act,
            epsilon=epsilon,
            same=same,
            stride=row.stride,
            groups=wide,
        )
        self.squeeze = (
            Squeeze(layers, wide, row.squeeze, hard=hard) if row.squeeze else None
        )
        self.project = Unit(
            layers, wide, row.outputs, 1, activation=None, epsilon=epsilon
        )
        self.shortcut = row.stride == 1 and inputs == row.outputs
        self.branch = branch

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, inputs] to [n, h / stride, w / stride, outputs]."""
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return x + self.branch(y) if self.shortcut else y


class MobileNet(Staged):
    """A strided stem, inverted residuals and a last 1 x 1 convolution."""

    block = r"blocks\.(\d+)|head"

    def __init__(
        self,
        layers: Layers,
        rows: Sequence[Row],
        *,
        channels: int,
        stem: int,
        features: int,
        hard: bool,
        epsilon: float,
        same: bool = False,
    ) -> None:
        """`hard` is MobileNetV3: cheap non-linearities, and a table without stages."""
        self.channels, self.features, self.remat = channels, features, layers.remat
        self.rows, self.hard, self.same = tuple(rows), hard, same
        first, last = rows[0].activation, rows[-1].activation
        self.stem = Unit(
            layers,
            channels,
            stem,
            3,
            activation="hard_swish" if hard else first,
            epsilon=epsilon,
            same=same,
            stride=2,
        )
        self.blocks = nnx.List[InvertedResidual]()
        width = stem
        for number, row in enumerate(rows):
            block = InvertedResidual(
                layers,
                width,
                row,
                branch=layers.branch(number, len(rows)),
                hard=hard,
                epsilon=epsilon,
                same=same,
            )
            self.blocks.append(block)
            width = row.outputs
        self.head = Unit(layers, width, features, 1, activation=last, epsilon=epsilon)

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the outputs of the stem, of each block and of the last layer."""
        x = self.stem(images)
        yield "stem", x
        for number, block in enumerate(self.blocks):
            x = run(block, x, remat=self.remat)
            yield f"block{number + 1}", x
        yield "head", self.head(x)

    def layouts(self) -> Mapping[str, Layout]:
        """timm's and torchvision's names, and TensorFlow's as PyTorch has them.

        The last file names no batch norm's epsilon; timm's MobileNetV3 has another one
        than torchvision's, which is ours.
        """
        kinds = {"timm": self._timm(), "torchvision": self._torchvision()}
        if not self.hard:
            kinds["tensorflow"] = self._tensorflow()
        unused = {"timm": r"(classifier|conv_head)\.", "tensorflow": r"_fc\."}
        if not self.hard:
            unused["timm"] = r"classifier\."
        scales = {
            "timm": "half" if self.same else "imagenet",
            "torchvision": "imagenet",
        }
        return {
            kind: Layout(
                looking_up(modules),
                scales.get(kind, "lite"),
                unused.get(kind, r"classifier\."),
                variance=1e-5 - 1e-3 if kind == "timm" and self.hard else 0.0,
            )
            for kind, modules in kinds.items()
            if not (kind == "torchvision" and self.same)
        }

    def _timm(self) -> dict[str, str]:
        names = {"stem.conv": "conv_stem", "stem.bn": "bn1"}
        seen: dict[int, int] = {}
        for number, row in enumerate(self.rows):
            at = seen[row.stage] = seen.get(row.stage, -1) + 1
            ours, theirs = f"blocks.{number}.", f"blocks.{row.stage}.{at}."
            parts = [("depthwise", "conv_dw", "bn1"), ("project", "conv_pw", "bn2")]
            if self.blocks[number].expand is not None:
                parts = [
                    ("expand", "conv_pw", "bn1"),
                    ("depthwise", "conv_dw", "bn2"),
                    ("project", "conv_pwl", "bn3"),
                ]
            for part, conv, norm in parts:
                names[f"{ours}{part}.conv"] = theirs + conv
                names[f"{ours}{part}.bn"] = theirs + norm
            for which in ("reduce", "expand"):
                names[f"{ours}squeeze.{which}"] = f"{theirs}se.conv_{which}"
        last = f"blocks.{self.rows[-1].stage + 1}.0."
        conv, norm = (
            (f"{last}conv", f"{last}bn1") if self.hard else ("conv_head", "bn2")
        )
        return names | {"head.conv": conv, "head.bn": norm}

    def _torchvision(self) -> dict[str, str]:
        names = {"stem.conv": "features.0.0", "stem.bn": "features.0.1"}
        seen: dict[int, int] = {}
        for number, row in enumerate(self.rows):
            at = seen[row.stage] = seen.get(row.stage, -1) + 1
            block = number + 1 if self.hard else f"{row.stage + 1}.{at}"
            layer = 0
            for part in ("expand", "depthwise", "squeeze", "project"):
                if getattr(self.blocks[number], part) is None:
                    continue
                ours = f"blocks.{number}.{part}."
                theirs = f"features.{block}.block.{layer}."
                for i, (unit, squeeze) in enumerate(
                    (("conv", "reduce"), ("bn", "expand"))
                ):
                    if part == "squeeze":
                        names[ours + squeeze] = f"{theirs}fc{i + 1}"
                    else:
                        names[ours + unit] = f"{theirs}{i}"
                layer += 1
        last = len(self.rows) + 1 if self.hard else self.rows[-1].stage + 2
        head = {"head.conv": f"features.{last}.0", "head.bn": f"features.{last}.1"}
        return names | head

    def _tensorflow(self) -> dict[str, str]:
        names = {"stem.conv": "_conv_stem", "stem.bn": "_bn0"}
        parts = (("expand", 0), ("depthwise", 1), ("project", 2))
        for number in range(len(self.rows)):
            ours, theirs = f"blocks.{number}.", f"_blocks.{number}._"
            for part, norm in parts:
                names[f"{ours}{part}.conv"] = f"{theirs}{part}_conv"
                names[f"{ours}{part}.bn"] = f"{theirs}bn{norm}"
            for which in ("reduce", "expand"):
                names[f"{ours}squeeze.{which}"] = f"{theirs}se_{which}"
        return names | {"head.conv": "_conv_head", "head.bn": "_bn1"}


def _mobilenet_rows(
    table: Sequence[tuple[int, int, int, int, str, int]],
) -> list[Row]:
    """Rows whose stages begin at each other number of outputs."""
    rows: list[Row] = []
    for line in table:
        new = not rows or rows[-1].outputs != line[2]
        stage = rows[-1].stage + new if rows else 0
        rows.append(Row(*line, stage))
    return rows


_R, _H = "relu", "hard_swish"
_LARGE = _mobilenet_rows(
    [
        (3, 16, 16, 0, _R, 1),
        (3, 64, 24, 0, _R, 2),
        (3, 72, 24, 0, _R, 1),
        (5, 72, 40, 24, _R, 2),
        (5, 120, 40, 32, _R, 1),
        (5, 120, 40, 32, _R, 1),
        (3, 240, 80, 0, _H, 2),
        (3, 200, 80, 0, _H, 1),
        (3, 184, 80, 0, _H, 1),
        (3, 184, 80, 0, _H, 1),
        (3, 480, 112, 120, _H, 1),
        (3, 672, 112, 168, _H, 1),
        (5, 672, 160, 168, _H, 2),
        (5, 960, 160, 240, _H, 1),
        (5, 960, 160, 240, _H, 1),
    ]
)
_SMALL = _mobilenet_rows(
    [
        (3, 16, 16, 8, _R, 2),
        (3, 72, 24, 0, _R, 2),
        (3, 88, 24, 0, _R, 1),
        (5, 96, 40, 24, _H, 2),
        (5, 240, 40, 64, _H, 1),
        (5, 240, 40, 64, _H, 1),
        (5, 120, 48, 32, _H, 1),
        (5, 144, 48, 40, _H, 1),
        (5, 288, 96, 72, _H, 2),
        (5, 576, 96, 144, _H, 1),
        (5, 576, 96, 144, _H, 1),
    ]
)
# Of each stage of EfficientNet-B0: kernel, expansion, outputs, stride, blocks.
_B0 = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 2, 3),
    (5, 6, 112, 1, 3),
    (5, 6, 192, 2, 4),
    (3, 6, 320, 1, 1),
)


def mobilenet_v3(layers: Layers, *, channels: int, small: bool) -> MobileNet:
    """MobileNetV3-Large, 960 features, or Small, 576; without the hidden layer of the
    classifier."""
    rows, features = (_SMALL, 576) if small else (_LARGE, 960)
    return MobileNet(
        layers,
        rows,
        channels=channels,
        stem=16,
        features=features,
        hard=True,
        epsilon=1e-3,
    )


def efficientnet(
    layers: Layers, *, channels: int, lite: bool = False, same: bool = False
) -> MobileNet:
    """EfficientNet-B0 or Lite0: 1280 features."""
    rows, inputs = [], 32
    for stage, (kernel, expansion, outputs, stride, count) in enumerate(_B0):
        for i in range(count):
            rows.append(
                Row(
                    kernel,
                    inputs * expansion,
                    outputs,
                    0 if lite else max(1, inputs // 4),
                    "relu6" if lite else "silu",
                    1 if i else stride,
                    stage,
                )
            )
            inputs = outputs
    return MobileNet(
        layers,
        rows,
        channels=channels,
        stem=32,
        features=1280,
        hard=False,
        epsilon=1e-3 if same else 1e-5,
        same=same,
    )
