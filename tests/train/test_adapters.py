"""Adapters, blocks that are not trained, and learning rates that fall with depth."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.config import Config
from experiments.export import export_run
from experiments.runs import INPUTS, load_run
from experiments.training.fitting import fit_to_choices
from experiments.training.images import inputs_of
from experiments.training.start import build_step, start
from rankjax import exported, models
from rankjax.data import load
from rankjax.errors import UsageError
from rankjax.models import vit
from rankjax.parallel import replicate
from rankjax.train import Checkpoints, make_embed

OWN = Config().replace(
    dataset="digits",
    model="vit_small_patch16",
    optimizer="adamw",
    weight_decay=0.1,
    warmup_steps=0,
    schedule="constant",
    learning_rate=0.01,
    weights="a file",
)


@pytest.fixture(scope="module")
def train(data_dir):
    return load("digits", data_dir=data_dir, image_size=32, seed=0).train


@pytest.fixture
def tiny(monkeypatch):
    """Transformers that are called small have three blocks of 16 features."""
    sizes = vit._SIZES | {"small": {"width": 16, "heads": 2, "depth": 3}}
    monkeypatch.setattr(vit, "_SIZES", sizes)


def config_of(**settings) -> Config:
    """Settings that fit those that are given, without a file of weights."""
    typed = {*settings, "weights"}
    fitted = fit_to_choices(OWN, OWN.replace(**settings), typed)
    return fitted.replace(weights=None)


def named(tree) -> dict[str, np.ndarray]:
    flat = nnx.to_flat_state(tree)
    return {".".join(map(str, path)): np.asarray(v[...]) for path, v in flat}


def trained(config, train, devices, steps):
    """What a run begins with, and its state after some steps on random images."""
    begun = start(config, train)
    step = build_step(config, begun.definition, begun.optimizer, devices)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 1), np.uint8)
    if config.model.name == "dinov2_small":
        images = images[:, :28, :28]
    state = replicate(jax.tree.map(jnp.copy, begun.state), devices)
    for _ in range(steps):
        state, _ = step(state, {"image": images, "label": np.repeat(np.arange(4), 4)})
    return begun, jax.device_get(state), images


@pytest.mark.parametrize(
    ("name", "blocks", "parts"),
    [
        ("convnet", 4, {"convolutions.0": 4, "convolutions.3": 1}),
        ("resnet18", 4, {"conv1": 5, "bn1": 5, "layer1": 4, "layer4": 1}),
        ("convnext_tiny", 4, {"convs.0": 4, "groups.3.2": 1, "norm": 1}),
        (
            "mobilenet_v3_small",
            11,
            {"stem": 12, "blocks.0": 11, "blocks.10": 1, "head": 1},
        ),
        (
            "bn_inception",
            10,
            {"conv2_3x3": 11, "blocks.inception_3a": 10, "blocks.inception_5b": 1},
        ),
        (
            "siglip_base_patch16",
            12,
            {"proj": 13, "pos_embed": 13, "blocks.0": 12, "blocks.11": 1, "norm": 1}
            | {"attn_pool": 1},
        ),
        (
            "clip_base_patch32",
            12,
            {"cls_token": 13, "norm_pre": 13, "norm": 1, "projection": 1},
        ),
    ],
)
def test_depth_counts_blocks_from_the_output(name, blocks, parts):
    def build():
        layers = models.Layers(None, nnx.Rngs(0))
        return models.backbone(name, channels=3, layers=layers)

    depths, number = nnx.eval_shape(build).depths()
    assert number == blocks
    assert {*range(1, blocks + 1)} <= {*depths.values()} <= {*range(1, blocks + 2)}
    for part, depth in parts.items():
        begin = part.split(".")
        found = {d for p, d in depths.items() if [*map(str, p)][: len(begin)] == begin}
        assert found == {depth}, part


def test_learning_rates_fall_with_depth_and_blocks_begin_at_their_step(train, tiny):
    config = config_of(
        optimizer="sgd",
        learning_rate=1.0,
        backbone_learning_rate=0.5,
        layer_decay=0.75,
        train_blocks=("none", "1:last:2", "2:last:3"),
    )
    begun = start(config, train, axis_name=None)
    ones = jax.tree.map(jnp.ones_like, begun.state.params)
    moments, momentum = begun.state.opt_state, 0.0
    # As in BEiT and timm: the head as it is, each block a factor less.
    depths = {"head": 0, "norm": 1, "blocks.2": 1, "blocks.1": 2, "blocks.0": 3}
    begins = {0: 0, 1: 1, 2: 1, 3: 2}
    for step in range(3):
        change, moments = begun.optimizer.update(ones, moments, begun.state.params)
        momentum = 1 + 0.9 * momentum
        for name, value in named(change).items():
            name = name.removeprefix("backbone.")
            (depth,) = (d for part, d in depths.items() if name.startswith(f"{part}."))
            rate = 0.5 * 0.75**depth if depth else 1.0
            expected = -momentum * rate * (step >= begins[depth])
            np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=name)
    frozen = named(begun.state.frozen)
    assert {name.split(".")[1] for name in frozen} == {"proj", "cls_token", "pos_embed"}


@pytest.mark.parametrize("microbatch", [0, 8])
def test_a_block_that_is_not_trained_stays_to_the_bit(train, microbatch):
    config = config_of(
        model="convnet", train_blocks=("last:1",), microbatch=microbatch, weight_ema=0.9
    )
    begun, state, _ = trained(config, train, jax.devices()[:1], steps=2)
    frozen = named(begun.state.frozen)
    assert {name.split(".")[2] for name in frozen} == {"0", "1", "2"}
    before, after = (
        frozen | named(begun.state.rest),
        named(state.frozen) | named(state.rest),
    )
    changed = {name for name in after if np.any(before[name] != after[name])}
    statistics = ("mean", "var")
    last = "backbone.convolutions.3.norm"
    assert changed == {f"{last}.{name}" for name in statistics}
    moved = named(state.params)
    for name, value in named(begun.state.params).items():
        assert np.any(value != moved[name]), name
    assert max(map(np.size, jax.tree.leaves(state.opt_state))) == max(
        map(np.size, jax.tree.leaves(state.params))
    )


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("vit_small_patch16", 32),
        pytest.param("dinov2_small", 28, marks=pytest.mark.slow),
    ],
)
def test_adapters_start_at_zero_train_on_eight_devices_and_export_merged(
    model, size, train, request, tmp_path
):
    if model == "vit_small_patch16":
        request.getfixturevalue("tiny")
    config = config_of(
        model=model, image_size=size, lora=4, lora_scale=2.0, normalize=False
    )
    begun, state, images = trained(config, train, jax.devices(), steps=2)
    plain = start(config.replace(lora=0), train)
    embed = make_embed(begun.definition, devices=jax.devices()[:1])

    class Images:
        def __len__(self):
            return 16

        def read(self, indices):
            return images[indices]

    without = make_embed(plain.definition, devices=jax.devices()[:1])
    np.testing.assert_allclose(
        embed(begun.state, Images()), without(plain.state, Images()), atol=1e-6
    )
    for name, value in named(begun.state.frozen).items():
        np.testing.assert_array_equal(value, named(state.frozen)[name], err_msg=name)
    # Of each map of n inputs and m outputs, 4 x (n + m): 16 x 16, 16 x 48, 16 x 64.
    adapters = {k: v for k, v in named(state.params).items() if ".lora." in k}
    depth, width = (3, 16) if model == "vit_small_patch16" else (12, 384)
    assert sum(map(np.size, adapters.values())) == depth * 4 * 16 * width
    assert all(np.any(value) for value in adapters.values())
    assert named(state.params).keys() - adapters == {"head.kernel", "head.bias"}

    folder = tmp_path / "run"
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(2, state, score=0.5)
        checkpoints.wait()
        again = checkpoints.restore(2, begun.state)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    settings = config.replace(steps=2).settings()
    (folder / "config.json").write_text(json.dumps(settings, default=str))
    inputs = inputs_of(train) | {"height": size, "width": size}
    (folder / INPUTS).write_text(json.dumps(inputs))
    (folder / "summary.json").write_text('{"test": {}}')
    export_run(load_run(folder), tmp_path / "out")
    network = exported.load(tmp_path / "out")
    assert not any("lora" in name for name in network.variables)
    np.testing.assert_allclose(network(images), embed(state, Images()), atol=1e-5)
    # Another run begins with what the adapters have become.
    taken = start(OWN.replace(model=model, image_size=size, weights=folder), train)
    assert taken.loaded.arrays == len(named(taken.state.params)) - 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "convnet", "lora": 4}, "got 4: ConvNet has no linear maps"),
        ({"model": "convnet", "train_blocks": ("last:5",)}, "last:N of 4 blocks"),
        ({"lora": 4, "lora_places": ("q",)}, "among fc1, fc2, proj, qkv in .* got q$"),
        ({"train_blocks": ("last:4",)}, "last:N of 3 blocks, got last:4"),
    ],
)
def test_what_a_network_does_not_have_is_refused(settings, message, train, tiny):
    with pytest.raises(UsageError, match=message):
        start(config_of(**settings), train)
