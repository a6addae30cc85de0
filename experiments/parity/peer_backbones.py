"""Writes what timm's and torchvision's networks compute, to compare ours with.

pip install torch torchvision timm efficientnet-lite-pytorch numpy
python experiments/parity/peer_backbones.py tests/models/peer_backbones.json

It needs neither JAX nor rankjax, and no test needs it. Weights are not stored: each
array is drawn from a seed that is its name's checksum, running statistics too, and so
are the images. The networks are in eval mode and float32.
"""

import argparse
import contextlib
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 12
"""Values that are kept of each stage, besides two moments."""


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    positive = "gamma" in name or "layer_scale" in name or name.endswith("running_var")
    if positive or (name.endswith("weight") and len(shape) == 1):
        array = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("bias", "running_mean")):
        array = 0.1 * rng.normal(size=shape)
    elif "token" in name or "pos_embed" in name:
        array = 0.5 * rng.normal(size=shape)
    else:
        array = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return array.astype(np.float32)


def images(size: int | tuple[int, int]) -> np.ndarray:
    """Two of them, [2, height, width, 3]."""
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(height)
    return rng.normal(size=(2, height, width, 3)).astype(np.float32)


def sample(stage: str, values: np.ndarray) -> list[float]:
    """Some values of a stage's output, the same positions wherever it is computed, and
    the mean and the root of the mean square of all."""
    rng = np.random.default_rng(zlib.crc32(stage.encode()))
    chosen = values.reshape(-1)[rng.integers(0, values.size, SAMPLES)]
    moments = values.mean(dtype=np.float64), np.sqrt(np.mean(np.float64(values) ** 2))
    return [float(f"{v:.7g}") for v in (*chosen, *moments)]


_V3_LARGE, _V3_SMALL = range(1, 16), range(1, 12)
_B0 = [(s, k) for s, n in enumerate((1, 2, 2, 3, 3, 4, 1)) for k in range(n)]
_INCEPTION = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_RESNET = {"stem": "maxpool"} | {f"layer{i}": f"layer{i}" for i in range(1, 5)}
_GOOGLENET = {"stem": "maxpool2"} | {
    f"inception{b}": f"inception{b}" for b in _INCEPTION
}
_TIMM_B0 = {f"block{n + 1}": f"blocks.{s}.{k}" for n, (s, k) in enumerate(_B0)}
_TV_VIT = {
    "tokens": "encoder.dropout",
    **{f"block{i + 1}": f"encoder.layers.encoder_layer_{i}" for i in range(12)},
    "norm": "encoder.ln",
}
_TIMM_VIT = {
    "tokens": "norm_pre",
    **{f"block{i + 1}": f"blocks.{i}" for i in range(12)},
    "norm": "norm",
}
_V1 = "strides_of_v1(torchvision.models.{}())"
_SLIM = "torchvision.models.googlenet(aux_logits=False, init_weights=False)"
_NETWORKS: dict[str, tuple[str, int, str, dict[str, str]]] = {
    # Ours and whose names: code, image size, stages of ours and modules of theirs.
    **{
        f"{name}, torchvision": (f"torchvision.models.{name}()", 64, name, _RESNET)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101")
    },
    **{
        f"{name}_v1, torchvision": (_V1.format(name), 64, f"{name}_v1", _RESNET)
        for name in ("resnet50", "resnet101")
    },
    "bn_inception, caffe": (
        "bn_inception()",
        96,
        "bn_inception",
        {"stem": "stem"}
        | {f"inception_{b}": f"inception_{b}" for b in (*_INCEPTION, "3c")},
    ),
    "googlenet, torchvision": (_SLIM, 80, "googlenet", _GOOGLENET),
    "inception_v1, torchvision": (
        f"same_stem({_SLIM})",
        80,
        "inception_v1",
        _GOOGLENET,
    ),
    "densenet169, torchvision": (
        "torchvision.models.densenet169()",
        64,
        "densenet169",
        {"stem": "features.pool0", "norm5": "features.norm5"}
        | {f"denseblock{i}": f"features.denseblock{i}" for i in range(1, 5)},
    ),
    "mobilenet_v3_small, torchvision": (
        "torchvision.models.mobilenet_v3_small()",
        72,
        "mobilenet_v3_small",
        {f"block{i}": f"features.{i}" for i in _V3_SMALL}
        | {"stem": "features.0", "head": "features.12"},
    ),
    "mobilenet_v3_large, torchvision": (
        "torchvision.models.mobilenet_v3_large()",
        72,
        "mobilenet_v3_large",
        {f"block{i}": f"features.{i}" for i in _V3_LARGE}
        | {"stem": "features.0", "head": "features.16"},
    ),
    "mobilenet_v3_large, timm": (
        "timm.create_model('mobilenetv3_large_100')",
        72,
        "mobilenet_v3_large",
        {"stem": "bn1", "head": "blocks.6.0"},
    ),
    "mobilenet_v3_small, timm": (
        "timm.create_model('mobilenetv3_small_100')",
        72,
        "mobilenet_v3_small",
        {"stem": "bn1", "head": "blocks.5.0"},
    ),
    "efficientnet_b0, torchvision": (
        "torchvision.models.efficientnet_b0()",
        72,
        "efficientnet_b0",
        {f"block{n + 1}": f"features.{s + 1}.{k}" for n, (s, k) in enumerate(_B0)}
        | {"stem": "features.0", "head": "features.8"},
    ),
    **{
        f"{ours}, timm": (
            f"timm.create_model('{theirs}')",
            72,
            ours,
            {"stem": "bn1", "head": "bn2"} | _TIMM_B0,
        )
        for ours, theirs in (
            ("efficientnet_b0", "efficientnet_b0"),
            ("tf_efficientnet_b0", "tf_efficientnet_b0"),
            ("efficientnet_lite0", "tf_efficientnet_lite0"),
        )
    },
    "efficientnet_lite0, tensorflow": (
        "lite0()",
        64,
        "efficientnet_lite0",
        {f"block{n + 1}": f"_blocks.{n}" for n in range(16)} | {"head": "_bn1"},
    ),
    "convnext_tiny, torchvision": (
        "torchvision.models.convnext_tiny()",
        64,
        "convnext_tiny",
        {"stem": "features.0", "features": "classifier.0"}
        | {f"stage{i}": f"features.{2 * i - 1}" for i in range(1, 5)},
    ),
    "convnext_tiny, timm": (
        "timm.create_model('convnext_tiny')",
        64,
        "convnext_tiny",
        {"stem": "stem", "features": "head.norm"}
        | {f"stage{i + 1}": f"stages.{i}" for i in range(4)},
    ),
    **{
        f"vit_{size}_patch{patch}, timm": (
            f"timm.create_model('vit_{size}_patch{patch}_224', img_size=64)",
            64,
            f"vit_{size}_patch{patch}",
            _TIMM_VIT,
        )
        for size, patch in (("small", 16), ("small", 32), ("base", 16))
    },
    **{
        f"vit_base_patch{patch}, torchvision": (
            f"torchvision.models.vit_b_{patch}(image_size=64)",
            64,
            f"vit_base_patch{patch}",
            _TV_VIT,
        )
        for patch in (16, 32)
    },
}


def strides_of_v1(model: Any) -> Any:
    """Strides of a ResNet in its first 1 x 1 convolutions."""
    for group in (model.layer2, model.layer3, model.layer4):
        group[0].conv1.stride, group[0].conv2.stride = (2, 2), (1, 1)
    return model


def same_stem(model: Any) -> Any:
    """TensorFlow's padding of the first convolution of GoogLeNet."""
    import torch

    model.conv1.conv.padding = (0, 0)
    model.conv1.conv.register_forward_pre_hook(
        lambda _, given: (torch.nn.functional.pad(given[0], (2, 3, 2, 3)),)
    )
    return model


def lite0() -> Any:
    """Lite0 as the package of its weights has it."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def bn_inception() -> Any:
    """BN-Inception as Caffe's description has it, layer by layer."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Identity()
            self.average = nn.AvgPool2d(3, stride=1, padding=1, ceil_mode=True)
            self.around = nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True)
            self.halve = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            self.add("conv1_7x7_s2", 3, 64, 7, 2)
            self.add("conv2_3x3_reduce", 64, 64, 1)
            self.add("conv2_3x3", 64, 192, 3)
            self.table = {
                "3a": (192, 64, 64, 64, 64, 96, 32),
                "3b": (256, 64, 64, 96, 64, 96, 64),
                "3c": (320, 0, 128, 160, 64, 96, 0),
                "4a": (576, 224, 64, 96, 96, 128, 128),
                "4b": (576, 192, 96, 128, 96, 128, 128),
                "4c": (576, 160, 128, 160, 128, 160, 128),
                "4d": (608, 96, 128, 192, 160, 192, 128),
                "4e": (608, 0, 128, 192, 192, 256, 0),
                "5a": (1056, 352, 192, 320, 160, 224, 128),
                "5b": (1024, 352, 192, 320, 192, 224, 128),
            }
            for block, (n, one, r3, c3, r5, c5, pool) in self.table.items():
                name, stride = f"inception_{block}_", 1 if one else 2
                if one:
                    self.add(name + "1x1", n, one, 1)
                    self.add(name + "pool_proj", n, pool, 1)
                self.add(name + "3x3_reduce", n, r3, 1)
                self.add(name + "3x3", r3, c3, 3, stride)
                self.add(name + "double_3x3_reduce", n, r5, 1)
                self.add(name + "double_3x3_1", r5, c5, 3)
                self.add(name + "double_3x3_2", c5, c5, 3, stride)
                setattr(self, f"inception_{block}", nn.Identity())

        def add(self, name, inputs, outputs, size, stride=1) -> None:
            conv = nn.Conv2d(inputs, outputs, size, stride, size // 2)
            setattr(self, name, conv)
            setattr(self, name + "_bn", nn.BatchNorm2d(outputs))

        def unit(self, name, x):
            return torch.relu(getattr(self, name + "_bn")(getattr(self, name)(x)))

        def forward(self, x):
            x = self.halve(self.unit("conv1_7x7_s2", x))
            x = self.unit("conv2_3x3", self.unit("conv2_3x3_reduce", x))
            x = self.stem(self.halve(x))
            for block, (_, one, *_) in self.table.items():
                name = f"inception_{block}_"
                y = self.unit(name + "3x3", self.unit(name + "3x3_reduce", x))
                z = self.unit(name + "double_3x3_reduce", x)
                z = self.unit(name + "double_3x3_1", z)
                parts = [y, self.unit(name + "double_3x3_2", z)]
                if one:
                    pool = self.around if block == "5b" else self.average
                    parts.insert(0, self.unit(name + "1x1", x))
                    parts.append(self.unit(name + "pool_proj", pool(x)))
                else:
                    parts.append(self.halve(x))
                x = getattr(self, f"inception_{block}")(torch.cat(parts, 1))
            return x

    return Net()


def evaluate(code: str, size: int, model: str, stages: dict[str, str]) -> dict:
    """Names and shapes of weights, and values of each stage."""
    import timm
    import torch
    import torchvision

    torch.manual_seed(0)
    known = {"timm": timm, "torchvision": torchvision} | globals()
    network = eval(code, known).eval()
    weights = {
        name: value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(torch.from_numpy(draw(name, tuple(value.shape))))
    seen: dict[str, np.ndarray] = {}

    def keep(stage: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            # What follows these is no module, and may change them in place.
            if stage == "norm5":
                output = torch.relu(output)
            if code == "lite0()" and stage == "head":
                output = output.clamp(0, 6)
            x = output.detach().numpy().copy()
            if stage == "features":
                x = x.reshape(len(x), -1)
            seen[stage] = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x

        return hook

    for stage, module in stages.items():
        network.get_submodule(module).register_forward_hook(keep(stage))
    given = torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        network(given)
    last = next(s for s in reversed(list(seen)) if s != "features")
    if "features" not in seen and not model.startswith("vit"):
        seen["features"] = seen[last].mean((1, 2))
    elif "features" not in seen:
        seen["features"] = seen["norm"][:, 0]
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    return entry(model, size, shapes, seen, code=code)


def entry(
    model: str,
    size: int | list[int],
    shapes: dict[str, tuple[int, ...]],
    stages: dict[str, np.ndarray],
    *,
    code: str = "",
) -> dict[str, Any]:
    """What is stored of a network: names and shapes of weights, values of stages."""
    return {
        "model": model,
        "code": code,
        "image_size": size,
        "weights": [f"{k} {'x'.join(map(str, s))}" for k, s in shapes.items()],
        "stages": {
            stage: {
                "shape": list(x.shape),
                "largest": float(f"{np.abs(x).max():.6g}"),
                "values": sample(stage, x),
            }
            for stage, x in stages.items()
        },
    }


def write(path: str, source: dict[str, str], networks: dict[str, Any]) -> None:
    """Writes entries, a line each, and the programs that they come from."""
    text = json.dumps({"source": source, "networks": networks})
    Path(path).write_text(text.replace('}, "', '},\n"') + "\n")


def main(path: str) -> None:
    """Writes the file."""
    import timm
    import torch
    import torchvision

    versions = {m.__name__: m.__version__ for m in (torch, torchvision, timm)}
    found = {}
    for name, (code, size, model, stages) in _NETWORKS.items():
        with contextlib.redirect_stdout(sys.stderr):
            print(name)
            found[name] = evaluate(code, size, model, stages)
    write(path, versions | {"by": "experiments/parity/peer_backbones.py"}, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="FILE", help="to write")
    main(parser.parse_args().path)
