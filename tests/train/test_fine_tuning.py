"""Starting from weights that are there, and training parts of a network apart."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import without_report
from flax import nnx
from test_step import OneLayer

from experiments.config import Config
from experiments.runs import INPUTS
from experiments.train import main
from experiments.training.check import check
from experiments.training.images import inputs_of
from experiments.training.start import start
from rankjax.data import load
from rankjax.errors import RunError, UsageError
from rankjax.models import Embedder, Layers
from rankjax.objective import objective
from rankjax.train import Checkpoints, create_state, make_embed, make_step

CONFIG = Config().replace(
    dataset="digits", optimizer="sgd", warmup_steps=0, learning_rate=0.5
)


@pytest.fixture(scope="module")
def train(data_dir):
    return load("digits", data_dir=data_dir, image_size=32, seed=0).train


def leaves(tree) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}


def updates(config, train, steps) -> list[dict[str, np.ndarray]]:
    """What SGD adds to the parameters in each step, all of whose slopes are 1."""
    _, optimizer, schedule, state, _ = start(config, train, axis_name=None)
    ones = jax.tree.map(jnp.ones_like, state.params)
    moments, found = state.opt_state, []
    for step in range(steps):
        change, moments = optimizer.update(ones, moments, state.params)
        # Momentum adds up: 1, 1.9, 2.71, ...
        size = sum(0.9**i for i in range(step + 1)) * schedule(step)
        found.append({k: np.unique(x / -size) for k, x in leaves(change).items()})
    return found


def test_backbone_head_and_proxies_have_learning_rates_of_their_own(train):
    config = CONFIG.replace(
        loss="proxy_anchor",
        proxies_per_class=1,
        proxy_learning_rate=100.0,
        backbone_learning_rate=0.1,
    )
    (found,) = updates(config, train, 1)
    assert {name.partition("head")[1] for name in found} == {"", "head"}
    for name, ratios in found.items():
        expected = 100 if "proxies" in name else 0.1 if "backbone" in name else 1
        np.testing.assert_allclose(ratios, expected, rtol=1e-5, err_msg=name)


def test_the_backbone_stays_as_it_is_for_so_many_steps(train):
    config = CONFIG.replace(train_blocks=("none", "2:all"), backbone_learning_rate=0.1)
    for step, found in enumerate(updates(config, train, 4)):
        for name, ratios in found.items():
            expected = 1 if "backbone" not in name else 0 if step < 2 else 0.1
            np.testing.assert_allclose(ratios, expected, rtol=1e-5, err_msg=name)


def averaged_steps(images, labels):
    """States of three steps that keep averages."""
    rngs = nnx.Rngs(0)
    backbone = OneLayer(Layers(None, rngs), channels=1, width=2)
    model = Embedder(backbone, embedding_dim=4, normalize=True, rngs=rngs)
    optimizer = optax.sgd(0.1)
    definition, state = create_state(model, optimizer, averaged=True)
    from rankjax.losses import LOSSES

    compute = objective(LOSSES["contrastive"], has_aux=True)
    step = jax.jit(make_step(definition, compute, optimizer, weight_ema=0.15))
    states = [state]
    for _ in range(3):
        states.append(step(states[-1], {"image": images, "label": labels})[0])
    return definition, states


def test_averages_of_weights_move_by_their_decay_and_are_what_is_judged():
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 1)).astype(np.float32)
    definition, states = averaged_steps(images, np.repeat(np.arange(4), 2))
    expected = leaves((states[0].params, states[0].rest))
    for number, state in enumerate(states[1:]):
        decay = min(0.15, (1 + number) / (10 + number))  # 0.1, 0.15, 0.15
        for name, new in leaves((state.params, state.rest)).items():
            expected[name] = decay * expected[name] + (1 - decay) * new
        for name, value in leaves(state.average).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6)

    class Images:
        def __len__(self):
            return len(images)

        def read(self, indices):
            return images[indices]

    embed = make_embed(definition, devices=jax.devices()[:1])
    model = nnx.merge(definition, *states[-1].average)
    model.eval()
    np.testing.assert_allclose(embed(states[-1], Images()), model(images), rtol=1e-4)


def test_a_run_starts_from_the_averaged_backbone_of_another(train, tmp_path):
    config = CONFIG.replace(weight_ema=0.9)
    state = start(config, train, axis_name=None)[3]
    params, rest = jax.tree.map(lambda x: x + 1, state.average)
    state = state._replace(average=(params, rest))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, state, score=0.5)
    for name, content in (
        ("config.json", config.settings()),
        (INPUTS, inputs_of(train)),
    ):
        (tmp_path / name).write_text(json.dumps(content, default=str))
    again = CONFIG.replace(weights=tmp_path, seed=1)
    _, _, _, found, loaded = start(again, train, axis_name=None)
    assert (loaded.layout, loaded.scale, loaded.arrays) == ("rankjax", "half", 20)
    loaded = start(again.replace(input_scale="caffe"), train, axis_name=None).loaded
    assert loaded.scale == "caffe"
    taken = leaves((found.params, found.rest))
    for name, value in leaves((params, rest)).items():
        if "backbone" in name:
            np.testing.assert_array_equal(taken[name], value)
        else:
            assert np.any(taken[name] != value)


def test_hyper_parameters_that_are_learned_start_where_they_were_set(train):
    config = CONFIG.replace(learn=("scale",), loss_options=("scale=16",))
    learned = start(config, train, axis_name=None).state.params["learned"]
    assert {name: float(x[...]) for name, x in learned.items()} == {"scale": 16.0}
    with pytest.raises(UsageError, match="no option of n_pairs 'skale'"):
        check(config.replace(learn=("skale",)), 1)


def test_the_folder_of_weights_must_be_that_of_a_run(train, tmp_path):
    config = CONFIG.replace(weights=tmp_path)
    with pytest.raises(RunError, match="it has no config"):
        start(config, train)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stochastic_depth": 1.0}, "stochastic_depth must be at least 0 and below 1"),
        ({"weight_ema": 1.0}, "weight_ema must be at least 0 and below 1"),
        ({"train_blocks": ("last:0",)}, "or STEP:last:N, got 'last:0'"),
        ({"train_blocks": ("5:all",)}, "must begin without a step, and train more"),
        ({"train_blocks": ("all", "9:last:2")}, "train more at each later one"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1"),
        ({"lora_scale": 0.0}, "lora_scale must be above 0, got 0.0"),
        ({"head_layers": (0,)}, "head_layers must be at least 1"),
        ({"pooling": "max"}, "pooling of convnet must be default, got max"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        check(CONFIG.replace(**settings), devices=1)


def test_a_damaged_file_of_weights_is_one_line(data_dir, tmp_path, capfd):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"PK\x03\x04 and no more")
    arguments = ["digits", "--weights", str(file), "--data-dir", str(data_dir)]
    short = ["--classes", "4", "--per-class", "2", "--run-dir", str(tmp_path / "run")]
    assert main([*arguments, *short]) == 1
    said = capfd.readouterr().err.strip()
    assert said.startswith(f"error: {file}: no readable weights")
    assert "\n" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_fine_tuned_run_says_what_it_started_from_and_goes_on(data_dir, tmp_path):
    settings = ["digits", "--data-dir", str(data_dir), "--classes", "4"]
    settings += ["--devices", "1"]
    settings += ["--per-class", "2", "--steps", "4", "--eval-every", "2"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert without_report.main([*settings, "--run-dir", str(first)]) == 0
    tuned = [*settings, "--run-dir", str(second), "--weights", str(first)]
    tuned += [
        "--norm",
        "frozen",
        "--weight-ema",
        "0.9",
        "--train-blocks",
        "none",
        "2:all",
    ]
    assert without_report.main(tuned) == 0
    loaded = json.loads((second / "weights.json").read_text())
    assert (loaded["layout"], loaded["scale"]) == ("rankjax", "half")
    summary = (second / "summary.json").read_text()
    assert without_report.main(tuned) == 0  # judges what it restored
    assert (second / "summary.json").read_text() == summary
