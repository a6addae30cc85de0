"""The fine-tuning recipes on archives in the benchmarks' layouts."""

import dataclasses
import functools
import inspect

import jax
import numpy as np
import pytest
import tiny_archives
from flax import nnx
from weight_file import write_safetensors

from experiments.parity import backbones
from experiments.recipes import EXPERIMENTS, RECIPES
from experiments.train import main
from experiments.training import dry_run
from experiments.training.check import check
from experiments.training.network import network
from experiments.training.optimizer import build_optimizer, build_schedule
from rankjax.data import CATALOGUE

MAKERS = dict(inspect.getmembers(tiny_archives, inspect.isfunction))
ON_ARCHIVES = [name for name, make in RECIPES.items() if make().data.dataset in MAKERS]
"""All but heads on features, which have a test of their own."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A safetensors file of each recipe's architecture, with random numbers."""
    folder, files = tmp_path_factory.mktemp("weights"), {}
    for model in ("bn_inception", "resnet50", "vit_small_patch16", "dinov2_small"):
        (entry, *_) = (e for e in backbones.stored().values() if e["model"] == model)
        arrays = backbones.weights(entry).items()
        files[model] = folder / f"{model}.safetensors"
        write_safetensors(
            files[model], {k: np.asarray(v, np.float32) for k, v in arrays}
        )
    return files


@functools.cache
def shapes(settings, size, channels):
    """Channels that a network keeps, and the shape of an embedding.

    Networks of several recipes are alike.
    """
    places = {"image_size": size, "channels": channels, "axis_name": None}
    model = nnx.eval_shape(lambda: network(settings, **places, rngs=nnx.Rngs(0)))
    images = np.zeros((1, *size, channels), np.uint8)
    embed = nnx.eval_shape(lambda model: model(images), model)
    return model.backbone.channels, embed.shape


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_named_experiments_take_grey_and_colour_images(name, channels):
    config = EXPERIMENTS[name]()
    kept, embedding = shapes(config.model, config.data.size(), channels)
    assert kept == (channels if config.model.name in ("convnet", "features") else 3)
    assert embedding == (1, config.model.embedding_dim)


def test_transformers_take_images_that_are_not_square():
    config = EXPERIMENTS["glyphs"]().replace(model="vit_small_patch16", image_width=48)
    check(config, 1)
    assert shapes(config.model, config.data.size(), 1)[1] == (1, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_ARCHIVES)
def test_a_recipe_is_tried_on_its_benchmark(
    name, weights, tmp_path, capsys, monkeypatch
):
    config = RECIPES[name]()
    manual = tmp_path / "manual"
    manual.mkdir()
    MAKERS[config.data.dataset](manual)
    entry = dataclasses.replace(CATALOGUE[config.data.dataset], counts={})
    monkeypatch.setitem(CATALOGUE, config.data.dataset, entry)
    # Twelve images are too few to evaluate on.
    monkeypatch.setattr(dry_run, "check_evaluation", lambda data: None)
    words = ["--manual-dir", str(manual), "--data-dir", str(tmp_path), "--devices", "1"]
    words += ["--classes", "2", "--per-class", "2", "--fold", "None", "--dry-run"]
    if name == ON_ARCHIVES[0]:
        assert main([name, *words]) == 1
        lines = capsys.readouterr().out.splitlines()
        (line,) = (line for line in lines if "failed" in line)
        assert "cannot read weights" in line
        assert config.model.weights.name in "".join(lines)
    status = main([name, *words, "--weights", str(weights[config.model.name])])
    out = capsys.readouterr().out
    assert status == 0, out
    assert out.count("│ ok") == 7
    assert f"{config.model.name}.safetensors" in out


def test_a_staircase_falls_by_its_rate_from_the_end_of_warmup_on():
    def rates(config, *steps):
        schedule = build_schedule(config.optimizer)
        return [float(schedule(step)) for step in steps]

    config = RECIPES["cub_proxy_anchor"]()
    config = config.replace(warmup_steps=4, decay_every=10, decay_rate=0.5)
    found = rates(config, 0, 2, 4, 9, 10, 19, 20)
    expected = np.array([0, 0.5, 1, 1, 0.5, 0.5, 0.25]) * 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    constant = config.replace(schedule="constant", warmup_steps=0)
    assert rates(constant, 0, 9) == pytest.approx([1e-4] * 2)


def test_rmsprop_takes_the_steps_of_its_equations():
    config = RECIPES["cub_reality_check"]()
    config = config.replace(learning_rate=0.1, weight_decay=0.5)
    schedule = build_schedule(config.optimizer)
    optimizer = build_optimizer(config.optimizer, lambda path, step: 1.0, schedule)
    x = expected = np.float32(2.0)
    state, square, trace = optimizer.init(x), 0.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        update, state = jax.jit(optimizer.update)(np.float32(gradient), state, x)
        x = x + update
        decayed = gradient + 0.5 * expected
        square = 0.99 * square + 0.01 * decayed**2
        trace = 0.9 * trace + decayed / np.sqrt(square + 1e-8)
        expected = expected - 0.1 * trace
        np.testing.assert_allclose(x, expected, rtol=1e-4)
