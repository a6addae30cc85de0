"""The training step on 1 and on 8 devices.

The optimiser is SGD throughout: Adam divides a gradient by its own size and so hides
one that is off by a factor, such as the number of devices. Curves are compared in
float64: in float32 one pre-activation in a million lies so close to zero that rounding
decides whether ReLU passes it on, and from there two right runs part.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rankjax.inputs import Positives
from rankjax.losses import LOSSES
from rankjax.memory import empty
from rankjax.models import ConvNet, Embedder
from rankjax.models.layers import Dropout, Layers, Staged
from rankjax.models.proxies import Proxies, WithLoss, is_of_proxies
from rankjax.objective import objective
from rankjax.parallel import AXIS, data_parallel, replicate, shardings
from rankjax.train import create_state, make_step

# What is prepared for one of these tests serves the others of the same process.
pytestmark = pytest.mark.xdist_group("step")

CLASSES, STEPS, LEARNING_RATE = 16, 20, 0.05
# Losses against proxies, and the hyper-parameters that are trained as well.
LEARNED = {
    "normalized_softmax": {"temperature": 0.5},
    "proxy_anchor": {"alpha": 4.0, "margin": 0.1},
}


@functools.cache
def batches():
    """16 x 2 images of 32 x 32: a pattern per class under as much noise.

    Scaled already: the step would do so in float32, where two compiled programs may
    round apart.
    """
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (CLASSES, 32, 32, 1))
    label = np.repeat(np.arange(CLASSES, dtype=np.int32), 2)
    noise = rng.integers(0, 256, (STEPS, len(label), 32, 32, 1))
    images = ((patterns[label] + noise) / 255 - 1).astype(np.float32)
    return [{"image": image, "label": label} for image in images]


class OneLayer(Staged):
    """A convolution and a batch norm, which compile in a third of ConvNet's time."""

    def __init__(self, layers, *, channels, width):
        self.channels, self.features = channels, 4 * 4 * width
        self.conv = layers.conv(channels, width, 8, stride=8)
        self.norm = layers.norm(width)

    def stages(self, images):
        x = nnx.relu(self.norm(self.conv(images)[:, :4, :4]))
        yield "flat", x.reshape(len(x), -1)


@functools.cache
def model(backbone, norm_axis, normalize, dropout=0.0, **layers):
    rngs = nnx.Rngs(0)
    body = backbone(Layers(norm_axis, rngs, **layers), channels=1, width=4)
    return Embedder(
        body,
        embedding_dim=8,
        normalize=normalize,
        dropout=Dropout(dropout, axis_name=norm_axis) if dropout else None,
        rngs=rngs,
    )


def pieces(
    loss="n_pairs",
    *,
    axis_name,
    normalize=True,
    backbone=OneLayer,
    dropout=0.0,
    norm_kind="batch",
    dtype=None,
    remat=False,
    memory=0,
    classes=CLASSES,
    **options,
):
    """A step and its first state; without `axis_name` nothing knows of an axis."""
    optimizer = optax.sgd(LEARNING_RATE)
    layers = {"norm_kind": norm_kind, "dtype": dtype, "remat": remat}
    network = model(backbone, axis_name, normalize, dropout, **layers)
    if loss in LEARNED:
        proxies = Proxies(classes, 8, rngs=nnx.Rngs(1))
        network = WithLoss(network, proxies=proxies, learned=LEARNED[loss])
    ring = empty(memory, 8) if memory else None
    definition, state = create_state(network, optimizer, memory=ring)
    whole = objective(
        LOSSES[loss],
        axis_name=axis_name,
        has_aux=True,
    )
    step = make_step(definition, whole, optimizer, axis_name=axis_name, **options)
    return step, state


def train(step, state, devices, steps=STEPS):
    """The losses of the steps, and the state after them."""
    state, losses = replicate(state, devices), []
    for batch in batches()[:steps]:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return np.array(losses), state


def in_float64(state):
    return jax.tree.map(
        lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )


@functools.cache
def one_device(loss="n_pairs", **options):
    step, state = pieces(loss, axis_name=None, **options)
    with jax.enable_x64(True):
        return train(jax.jit(step), in_float64(state), jax.devices()[:1])


@functools.cache
def eight_devices(wrapper, loss="n_pairs", **options):
    step, state = pieces(loss, axis_name=AXIS, **options)
    mapped = data_parallel(step, devices=jax.devices(), wrapper=wrapper)
    with jax.enable_x64(True):
        return train(mapped, in_float64(state), jax.devices())


def assert_same(got, expected):
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-10)
    leaves = jax.tree_util.tree_leaves_with_path(expected[1])
    for (path, a), b in zip(leaves, jax.tree.leaves(got[1]), strict=True):
        name, scale = jax.tree_util.keystr(path), abs(np.asarray(a)).max()
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-10 * scale, err_msg=name)


# One of each kind; every loss goes to 8 devices in the losses' own tests.
EXAMPLES = ("contrastive", "triplet", "angular", "angular_hinge", "n_pairs_angular")
CASES = [
    ("batch_hard_triplet", "pmap", OneLayer),
    *((loss, "shard_map", OneLayer) for loss in LEARNED),
    ("n_pairs", "pmap", OneLayer),
    ("n_pairs", "shard_map", OneLayer),
    pytest.param("n_pairs", "pmap", ConvNet, marks=pytest.mark.slow),
    pytest.param("n_pairs", "shard_map", ConvNet, marks=pytest.mark.slow),
    *(
        pytest.param(loss, "pmap", OneLayer, marks=pytest.mark.slow)
        for loss in (*EXAMPLES, *LEARNED)
    ),
]


@pytest.mark.parametrize(("loss", "wrapper", "backbone"), CASES)
def test_eight_devices_give_the_curve_and_the_state_of_one(loss, wrapper, backbone):
    losses, state = expected = one_device(loss, backbone=backbone)
    assert abs(losses[-1] / losses[0] - 1) > 0.05
    assert int(state.step) == STEPS
    assert_same(eight_devices(wrapper, loss, backbone=backbone), expected)


@pytest.mark.parametrize("wrapper", ["pmap", "shard_map"])
def test_all_devices_hold_the_same_bits(wrapper):
    for leaf in jax.tree.leaves(
        eight_devices(wrapper, "n_pairs", backbone=OneLayer)[1]
    ):
        shards = [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
        assert len(shards) == 8
        assert len(set(shards)) == 1


@pytest.mark.parametrize("loss", LEARNED)
def test_proxies_and_hyper_parameters_are_trained_with_the_network(loss):
    before = pieces(loss, axis_name=None)[1].params
    after = one_device(loss)[1].params
    for name in ("network", "proxies", "learned"):
        leaves = map(jax.tree.leaves, (before[name], after[name]))
        assert all(
            np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(*leaves, strict=True)
        )
    assert set(after["learned"]) == set(LEARNED[loss])


def test_a_share_of_classes_is_the_same_on_eight_devices():
    """Of 80 classes half, among them the 16 of the batch; others are left alone."""
    share = {"classes": 80, "class_share": 0.5, "backbone": OneLayer}
    found = []
    for axis in (None, AXIS):
        step, state = pieces("normalized_softmax", axis_name=axis, **share)
        devices = jax.devices()[: 8 if axis else 1]
        run = data_parallel(step, devices=devices, wrapper="shard_map")
        run = run if axis else jax.jit(step)
        with jax.enable_x64(True):
            found.append(train(run, in_float64(state), devices, steps=1))
    assert_same(found[1], found[0])
    before = np.asarray(jax.tree.leaves(state.params["proxies"])[0], float)
    after = jax.tree.leaves(found[0][1].params["proxies"])[0]
    moved = np.any(np.asarray(after) != before, 1)
    assert moved[:CLASSES].all()
    assert moved.sum() == 40


def test_classes_that_devices_share_are_trained_alike_and_never_gathered():
    """Of 1,000 rows, padded to 1,024, each device has 128, and their momentum."""
    devices, classes = jax.devices(), 1000
    network = WithLoss(
        model(OneLayer, None, True),
        proxies=Proxies(classes, 8, multiple_of=128, rngs=nnx.Rngs(1)),
    )
    optimizer = optax.sgd(LEARNING_RATE, momentum=0.9)
    definition, state = create_state(network, optimizer)
    compute = objective(LOSSES["arc_face"], has_aux=True)
    step = make_step(definition, compute, optimizer)
    state = jax.device_get(state)
    placed = shardings(state, devices, is_of_proxies)
    spread = data_parallel(step, devices=devices, wrapper="jit", placed=placed)
    with jax.enable_x64(True):
        state = in_float64(state)
        shared = replicate(state, devices, placed=placed)
        run, _ = spread.compile(shared, batches()[0])
        found = run(shared, batches()[0])
        expected = jax.jit(step)(state, batches()[0])
    assert_same((found[1]["loss"], found[0]), (expected[1]["loss"], expected[0]))
    rows = [
        x
        for path, x in jax.tree_util.tree_leaves_with_path(found[0])
        if is_of_proxies(path)
    ]
    assert [x.shape for x in rows] == [(1024, 8)] * 2
    assert {shard.data.shape for x in rows for shard in x.addressable_shards} == {
        (128, 8)
    }
    moved = np.any(
        np.asarray(rows[0]) != np.asarray(state.params["proxies"]["embeddings"][...]), 1
    )
    assert moved[:classes].mean() > 0.9  # some are too far to matter
    assert not moved[classes:].any()
    exchanged = [x for x in run.mapped.as_text().splitlines() if " all-gather" in x]
    assert exchanged
    assert not [x for x in exchanged if "1024" in x.partition("all-gather")[0]]


def with_partners(guided):
    """A batch of which every row has a positive and one or two negatives."""
    rng, batch = np.random.default_rng(1), batches()[0]
    n = len(batch["label"])
    others = np.concatenate([batch["image"][:, None]] * 3, 1)
    others += rng.normal(size=others.shape).astype(np.float32)
    others[:, 1:] = others[rng.permutation(n), 1:]
    valid = np.stack([np.ones(n), np.ones(n), np.arange(n) % 2], 1).astype(bool)
    batch = batch | {"others": others, "others_valid": valid}
    batch["label"] = np.arange(n, dtype=np.int32)
    if guided:
        guides = rng.normal(size=(n, 4, 3)).astype(np.float32)
        batch |= {"guide": guides[:, 0], "others_guide": guides[:, 1:]}
    return batch


@pytest.mark.parametrize(
    ("loss", "wrapper"),
    [
        pytest.param("nt_xent", "pmap", marks=pytest.mark.slow),
        ("similarity_distillation", "shard_map"),
    ],
)
def test_partners_are_compared_as_in_the_objective_on_any_devices(loss, wrapper):
    guided = LOSSES[loss].info.guided
    batch, options = with_partners(guided), {"norm_kind": "group"}
    network = model(OneLayer, None, True, norm_kind="group")
    x = [network(batch["image"]), *(network(batch["others"][:, i]) for i in range(3))]
    positives = Positives(
        x[1], jnp.stack(x[2:], 1), negatives_valid=batch["others_valid"][:, 1:]
    )
    if guided:
        positives = dataclasses.replace(
            positives,
            guide=batch["others_guide"][:, 0],
            negatives_guide=batch["others_guide"][:, 1:],
        )
    guide = {"guide": batch["guide"]} if guided else {}
    expected = objective(LOSSES[loss])(
        x[0], batch["label"], references=positives, **guide
    )
    found = []
    ways = [(None, None), (AXIS, None if guided else 8)]  # rows at a time
    for axis, parts in ways:
        step, state = pieces(loss, axis_name=axis, microbatch=parts, **options)
        devices = jax.devices()[: 8 if axis else 1]
        run = jax.jit(step)
        if axis:
            run = data_parallel(step, devices=devices, wrapper=wrapper)
        with jax.enable_x64(True):
            state, metrics = run(replicate(in_float64(state), devices), batch)
        found.append((metrics["loss"], state))
    np.testing.assert_allclose(found[0][0], expected, rtol=1e-5)
    for each in found[1:]:
        assert_same(each, found[0])


@functools.cache
def two_steps():
    """States before, between and after two steps on eight devices, and metrics."""
    step, state = pieces("triplet", axis_name=AXIS, normalize=False)
    mapped = data_parallel(step, devices=jax.devices())
    states, metrics = [replicate(state, jax.devices())], []
    for batch in batches()[:2]:
        state, new = mapped(states[-1], batch)
        states.append(state)
        metrics.append(new)
    return states, metrics


def test_metrics_are_those_of_the_whole_batch():
    batch = batches()[0]
    embeddings = np.float64(model(OneLayer, None, False)(batch["image"]))
    n, label, margin = len(embeddings), batch["label"], 0.2
    lengths = [np.sqrt(sum(z * z)) for z in embeddings]
    cosines, active = [], []
    for i in range(n):
        for j in set(range(n)) - {i}:
            cosines.append(sum(embeddings[i] * embeddings[j]) / lengths[i] / lengths[j])
            for k in range(n):
                if label[i] == label[j] != label[k]:
                    near = sum((embeddings[i] - embeddings[j]) ** 2)
                    far = sum((embeddings[i] - embeddings[k]) ** 2)
                    active.append(near - far + margin > 0)
    got = two_steps()[1][0]
    assert 0.01 < np.mean(active) < 0.99
    np.testing.assert_allclose(got["active_share"], np.mean(active), rtol=1e-6)
    np.testing.assert_allclose(got["embedding_norm"], np.mean(lengths), rtol=1e-5)
    np.testing.assert_allclose(got["mean_cosine"], np.mean(cosines), rtol=1e-5)


def test_the_state_is_donated_and_metrics_are_not():
    states, metrics = two_steps()
    for state in states[:2]:
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    for kept in (states[2], metrics):
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize("wrapper", [None, "pmap", "shard_map"])
def test_the_step_lowers_for_accelerators(wrapper):
    step, state = pieces(axis_name=wrapper and AXIS)
    if wrapper:
        step = data_parallel(step, devices=jax.devices(), wrapper=wrapper)
    platforms = ("tpu", "cuda")
    exported = jax.export.export(jax.jit(step), platforms=platforms)(
        state, batches()[0]
    )
    assert exported.platforms == platforms
    assert exported.nr_devices == (8 if wrapper else 1)
    assert ("all_gather" in exported.mlir_module()) == bool(wrapper)


def test_images_and_labels_of_different_numbers_are_refused_while_tracing():
    step = make_step(None, None, None)
    with pytest.raises(AssertionError, match="prefix"):
        step(None, {"image": jnp.zeros((4, 2)), "label": jnp.zeros(3, jnp.int32)})
