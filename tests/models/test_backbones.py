"""Backbones compute what the networks of other libraries do, stage by stage."""

import math
import re

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.parity.backbones import differences, main, stored, weights
from rankjax import models
from rankjax.models import MODELS
from rankjax.models.weights import named_arrays

QUICK = (
    "resnet18, torchvision",
    "mobilenet_v3_small, timm",
    "vit_small_patch32, timm",
    "dinov2_small_registers, timm, resized",
    "dinov3_small, transformers",
    *("dinov2_large, timm", "siglip_large_patch16, timm"),
)
COMPUTED = [name for name, entry in stored().items() if entry["stages"]]


def cases(names):
    """Those in `QUICK`, and the others with the slow tests."""
    return [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in names
    ]


@pytest.mark.parametrize("name", cases(COMPUTED))
def test_every_stage_equals_the_others_to_a_ten_thousandth(name):
    apart = differences(stored()[name])
    assert "features" in apart
    assert max(apart.values()) < 1e-4, apart


@pytest.mark.parametrize("name", cases(sorted(stored().keys() - set(COMPUTED))))
def test_other_sizes_of_a_family_have_the_names_and_shapes_of_their_files(name):
    entry = stored()[name]
    lines = (line.partition(" ") for line in entry["weights"])
    shapes = {k: tuple(map(int, s.split("x"))) for k, _, s in lines}
    backbone = nnx.eval_shape(
        lambda: models.backbone(
            entry["model"],
            channels=3,
            layers=models.Layers(None, nnx.Rngs(0)),
            image_size=tuple(entry["image_size"]),
        )
    )
    sizes = {
        name: variable.size
        for name, variable in named_arrays(nnx.state(backbone, nnx.Param)).items()
        if name != "pos_embed"  # with the class token or without
    }

    def in_file(layout):
        for name in sizes:
            names = layout.rename(name)
            parts = (names,) if isinstance(names, str) else names
            # A part without a name is as large as each of the others.
            found = [math.prod(shapes.get(part, (0,))) for part in parts if part]
            yield name, sum(found) * len(parts) / len(found)

    layouts = backbone.layouts().values()
    with_key_bias = {k: v for k, v in sizes.items() if "qkv.bias" not in k}
    assert any(
        dict(in_file(layout)) in (sizes, dict.fromkeys(sizes, 0) | with_key_bias)
        for layout in layouts
    )


def test_every_network_is_compared_with_another_implementation():
    compared = {entry["model"] for entry in stored().values()}
    assert {*MODELS} - compared == {"convnet"}


def test_an_unknown_network_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["resnet19"])
    said = "no network 'resnet19'; did you mean 'resnet18, torchvision' or "
    assert said in capsys.readouterr().err


def loaded(entry, arrays):
    """Our network's parameters from these arrays, and whose names they have."""
    backbone = nnx.eval_shape(
        lambda: models.backbone(
            entry["model"],
            channels=3,
            layers=models.Layers(None, nnx.Rngs(0)),
            image_size=tuple(entry["image_size"]),
        )
    )
    found = models.use_arrays(backbone, arrays, source="x")
    return jax.tree.leaves(nnx.state(backbone, nnx.Param)), found.layout


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("dinov2_small_registers, timm", "DINOv2"),
        ("dinov3_small, timm, with biases", "DINOv3"),
    ],
)
def test_the_authors_names_of_the_same_weights_give_the_same_network(name, layout):
    theirs, authors = weights(stored()[name]), {}
    for key, array in theirs.items():
        key = re.sub(r"gamma_(\d)", r"ls\1.gamma", key)
        token = "register_tokens" if layout == "DINOv2" else "storage_tokens"
        authors[key.replace("reg_token", token)] = array
    for key in [key for key in authors if key.endswith("q_bias")]:
        block = key.removesuffix("q_bias")
        q, v = authors.pop(key), authors.pop(f"{block}v_bias")
        authors[f"{block}qkv.bias"] = np.concatenate([q, np.zeros_like(q), v])
        authors[f"{block}qkv.bias_mask"] = np.ones(3 * len(q), np.float32)
    authors["mask_token"] = np.zeros((1, 384), np.float32)
    ours, _ = loaded(stored()[name], theirs)
    same, found = loaded(stored()[name], authors)
    assert found == layout
    for a, b in zip(ours, same, strict=True):
        np.testing.assert_array_equal(a, b)
