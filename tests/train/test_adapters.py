"""Adapters, frozen blocks and learning rates that fall with depth."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import without_report
from flax import nnx

from experiments.config import Config
from experiments.export import export_run
from experiments.runs import load_run
from experiments.train import main
from experiments.training import optimizer as optimizers
from experiments.training.fitting import fit_to_choices
from experiments.training.start import build_step, start
from rankjax import exported, models
from rankjax.data import load
from rankjax.errors import UsageError
from rankjax.parallel import replicate
from rankjax.train import make_embed

TINY = {"width": 16, "heads": 2, "depth": 3}


@pytest.fixture(scope="module")
def train(data_dir):
    return load("digits", data_dir=data_dir, image_size=32, seed=0).train


@pytest.fixture
def tiny(monkeypatch):
    """Networks called small are of three blocks and 16 features."""
    monkeypatch.setitem(models.vit._SIZES, "small", TINY)


def config_of(**settings) -> Config:
    own = Config().replace(
        dataset="digits",
        model="vit_small_patch16",
        optimizer="adamw",
        weight_decay=0.1,
        warmup_steps=0,
        schedule="constant",
        classes=4,
        per_class=4,
    )
    config = own.replace(**settings)
    return fit_to_choices(own, config, settings.keys())


def flat(tree) -> dict[str, np.ndarray]:
    return {
        ".".join(map(str, path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(tree)
    }


def stepped(config, train, devices, steps=2):
    """What a run begins with, and its state after some steps."""
    begun = start(config, train)
    step = build_step(config, begun.definition, begun.optimizer, devices)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 32, 32, 1), np.uint8)
    batch = {"image": images, "label": np.repeat(np.arange(4), 4)}
    state = replicate(begun.state, devices)
    for _ in range(steps):
        state, _ = step(jax.tree.map(jnp.copy, state), batch | {"stop": np.bool_(0)})
    return begun, state
