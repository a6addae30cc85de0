"""Writes what others' vision transformers compute, to compare ours with.

pip install torch timm transformers open_clip_torch numpy
python -m experiments.parity.peer_vits tests/models/peer_vits.json

It needs neither JAX nor rankjax, and no test needs it. As in peer_backbones.py weights
are drawn from the checksums of their names, and some values of each stage are kept.
Networks are read from files as each library writes them, so that names are those of
published weights. Entries without stages are of a size that its family already has:
of them the names and shapes are compared.
"""

import argparse
import contextlib
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.parity.peer_backbones import draw, entry, images, write

Size = tuple[int, int]
Found = tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray]]
"""Shapes of a file's arrays, and outputs of stages."""

_SIZES: dict[str, dict[str, Any]] = {
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
}


def of_timm(name: str, size: Size, file_size: Size, **settings: Any) -> Found:
    """A network of timm whose file was for images of another size."""
    import timm
    import torch
    from timm.layers import resample_abs_pos_embed

    sized = {} if "dinov3" in name else {"img_size": file_size}
    state = timm.create_model(name, **sized, **settings).state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if k != "head.bias"}
    network = timm.create_model(
        name, **(sized and {"img_size": size}), **settings
    ).eval()
    if network.num_classes:  # CLIP's projection has no bias
        network.head = torch.nn.Linear(*shapes["head.weight"][::-1], bias=False)
    arrays = {k: torch.tensor(draw(k, shape)) for k, shape in shapes.items()}
    if size != file_size and sized:
        patch = network.patch_embed.patch_size[0]
        grid = math.prod(n // patch for n in file_size)
        arrays["pos_embed"] = resample_abs_pos_embed(
            arrays["pos_embed"],
            new_size=[n // patch for n in size],
            num_prefix_tokens=shapes["pos_embed"][1] - grid,
        )
    network.load_state_dict(arrays)
    stages = {"tokens": "norm_pre", "norm": "norm"}
    stages |= {f"block{i + 1}": f"blocks.{i}" for i in range(len(network.blocks))}
    seen: dict[str, np.ndarray] = {}

    def keep(stage: str) -> Any:
        return lambda _, __, output: seen.update({stage: output.detach().numpy()})

    for stage, module in stages.items():
        network.get_submodule(module).register_forward_hook(keep(stage))
    given = torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        last = network(given).numpy()
    if network.num_classes or network.attn_pool is not None:
        seen["features"] = last
    else:
        seen["features"] = seen["norm"][:, 0]
    return shapes, seen


def of_transformers(
    model: str, config: str, size: Size, width: int, depth: int, heads: int, **more: Any
) -> Found:
    """A network of transformers, from a file as it writes them."""
    import torch
    import transformers
    from safetensors.numpy import load_file, save_file

    kind = getattr(transformers, model)
    settings = getattr(transformers, config)(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        image_size=size[0],
        **more,
    )
    with tempfile.TemporaryDirectory() as folder:
        kind(settings).save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        shapes = {k: v.shape for k, v in load_file(file).items()}
        drawn = {k: draw(k, shape) for k, shape in shapes.items()}
        save_file(drawn, file, {"format": "pt"})
        network = kind.from_pretrained(folder).eval()
    given = torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        output = network(given)
    if model.startswith("CLIP"):
        return shapes, {"features": output.image_embeds.numpy()}
    if model.startswith("Siglip"):
        return shapes, {"features": output.pooler_output.numpy()}
    norm = output.last_hidden_state.numpy()
    return shapes, {"norm": norm, "features": norm[:, 0]}


def of_open_clip(name: str, size: Size) -> Found:
    """The image tower of a network of open_clip, from a file with both towers."""
    import open_clip
    import torch

    network = open_clip.create_model(name, force_image_size=size[0]).eval()
    state = network.state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    network.load_state_dict(
        {k: torch.tensor(draw(k, shape)) for k, shape in shapes.items()}
    )
    given = torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return shapes, {"features": network.encode_image(given).numpy()}


def _timm(name: str, size: Size, file_size: Size | None = None, **settings: Any) -> Any:
    return lambda: of_timm(name, size, file_size or size, **settings)


_DINOV3: dict[str, Any] = {"num_register_tokens": 4}
_CLIP: dict[str, Any] = {"num_classes": 512}
_TANH: dict[str, Any] = {
    "act_layer": "gelu_tanh"
}  # as the authors and transformers have it
_SMALL, _BASE = _SIZES["small"], _SIZES["base"]
_WIDE: dict[str, Any] = {"intermediate_size": 4 * _SMALL["width"]}
_WIDER: dict[str, Any] = {"intermediate_size": 4 * _BASE["width"]}
_ENTRIES: dict[str, tuple[str, Size, Any]] = {
    # The network of ours, the size of images, and theirs.
    "dinov2_small, timm": (
        "dinov2_small",
        (56, 56),
        _timm("vit_small_patch14_dinov2", (56, 56)),
    ),
    "dinov2_small, timm, resized": (
        "dinov2_small",
        (98, 70),
        _timm("vit_small_patch14_dinov2", (98, 70), (56, 56)),
    ),
    "dinov2_small_registers, timm": (
        "dinov2_small_registers",
        (56, 56),
        _timm("vit_small_patch14_reg4_dinov2", (56, 56)),
    ),
    "dinov2_small_registers, timm, resized": (
        "dinov2_small_registers",
        (42, 42),
        _timm("vit_small_patch14_reg4_dinov2", (42, 42), (70, 70)),
    ),
    "dinov3_small, timm": (
        "dinov3_small",
        (64, 64),
        _timm("vit_small_patch16_dinov3", (64, 64)),
    ),
    "dinov3_small, timm, with biases": (
        "dinov3_small",
        (48, 80),
        _timm("vit_small_patch16_dinov3_qkvb", (48, 80)),
    ),
    "siglip_base_patch16, timm": (
        "siglip_base_patch16",
        (48, 48),
        _timm("vit_base_patch16_siglip_224", (48, 48), **_TANH),
    ),
    "siglip_base_patch32, timm, resized": (
        "siglip_base_patch32",
        (96, 64),
        _timm("vit_base_patch32_siglip_256", (96, 64), (64, 64), **_TANH),
    ),
    "clip_base_patch32, timm": (
        "clip_base_patch32",
        (64, 64),
        _timm("vit_base_patch32_clip_quickgelu_224", (64, 64), **_CLIP),
    ),
    "clip_base_patch16, timm, resized": (
        "clip_base_patch16",
        (32, 64),
        _timm("vit_base_patch16_clip_quickgelu_224", (32, 64), (48, 48), **_CLIP),
    ),
    "open_clip_base_patch32, timm": (
        "open_clip_base_patch32",
        (64, 64),
        _timm("vit_base_patch32_clip_224", (64, 64), **_CLIP),
    ),
    "vit_small_patch16, timm, resized": (
        "vit_small_patch16",
        (80, 48),
        _timm("vit_small_patch16_224", (80, 48), (64, 64), num_classes=0),
    ),
    "dinov2_small, transformers": (
        "dinov2_small",
        (56, 56),
        lambda: of_transformers(
            "Dinov2Model", "Dinov2Config", (56, 56), **_SMALL, patch_size=14
        ),
    ),
    "dinov2_small_registers, transformers": (
        "dinov2_small_registers",
        (56, 56),
        lambda: of_transformers(
            "Dinov2WithRegistersModel",
            "Dinov2WithRegistersConfig",
            (56, 56),
            **_SMALL,
            patch_size=14,
        ),
    ),
    "dinov3_small, transformers": (
        "dinov3_small",
        (64, 64),
        lambda: of_transformers(
            "DINOv3ViTModel", "DINOv3ViTConfig", (64, 64), **_SMALL, **_DINOV3, **_WIDE
        ),
    ),
    "vit_small_patch16, transformers": (
        "vit_small_patch16",
        (64, 64),
        lambda: of_transformers(
            "ViTModel",
            "ViTConfig",
            (64, 64),
            **_SMALL,
            **_WIDE,
            layer_norm_eps=1e-6,
        ),
    ),
    "siglip_base_patch32, transformers": (
        "siglip_base_patch32",
        (64, 64),
        lambda: of_transformers(
            "SiglipVisionModel",
            "SiglipVisionConfig",
            (64, 64),
            **_BASE,
            **_WIDER,
            patch_size=32,
        ),
    ),
    "clip_base_patch32, transformers": (
        "clip_base_patch32",
        (64, 64),
        lambda: of_transformers(
            "CLIPVisionModelWithProjection",
            "CLIPVisionConfig",
            (64, 64),
            **_BASE,
            **_WIDER,
            patch_size=32,
            projection_dim=512,
        ),
    ),
    "clip_base_patch32, open_clip": (
        "clip_base_patch32",
        (64, 64),
        lambda: of_open_clip("ViT-B-32-quickgelu", (64, 64)),
    ),
}
_SHAPES: dict[str, tuple[int, str, dict[str, Any]]] = {
    # The network of ours, the size of images, timm's name and settings.
    "vit_large_patch16": (64, "vit_large_patch16_224", {"num_classes": 0}),
    **{
        f"dinov2_{size}": (56, f"vit_{size}_patch14_dinov2", {})
        for size in ("base", "large")
    },
    **{
        f"dinov2_{size}_registers": (56, f"vit_{size}_patch14_reg4_dinov2", {})
        for size in ("base", "large")
    },
    **{
        f"dinov3_{size}": (64, f"vit_{size}_patch16_dinov3", {})
        for size in ("base", "large")
    },
    "siglip_large_patch16": (64, "vit_large_patch16_siglip_256", {}),
    "clip_large_patch14": (
        56,
        "vit_large_patch14_clip_quickgelu_224",
        {"num_classes": 768},
    ),
    "open_clip_base_patch16": (64, "vit_base_patch16_clip_224", _CLIP),
    "open_clip_large_patch14": (56, "vit_large_patch14_clip_224", {"num_classes": 768}),
}


def shapes_of(name: str, size: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Names and shapes of timm's weights, of which none are made."""
    import timm
    import torch

    sized = {} if "dinov3" in name else {"img_size": size}
    with torch.device("meta"):
        state = timm.create_model(name, **sized, **settings).state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if k != "head.bias"}


def main(path: str) -> None:
    """Writes the file."""
    import open_clip
    import timm
    import torch
    import transformers

    versions = {m.__name__: m.__version__ for m in (torch, timm, transformers)}
    versions["open_clip"] = open_clip.__version__
    found = {}
    for name, (model, size, make) in _ENTRIES.items():
        with contextlib.redirect_stdout(sys.stderr):
            print(name)
            found[name] = entry(model, list(size), *make())
    for model, (side, code, settings) in _SHAPES.items():
        shapes = shapes_of(code, side, settings)
        found[f"{model}, timm"] = entry(model, [side, side], shapes, {})
    write(path, versions | {"by": "experiments/parity/peer_vits.py"}, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="FILE", help="to write")
    main(parser.parse_args().path)
