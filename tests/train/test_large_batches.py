"""Microbatches, memories of earlier batches, half precision and recomputation.

Curves are those of `test_step`: twenty steps of SGD in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import (
    OneLayer,
    assert_same,
    batches,
    eight_devices,
    model,
    one_device,
    pieces,
)

from rankjax.models import ConvNet

pytestmark = pytest.mark.xdist_group("step")

ROWS = 32
INDEPENDENT = {"norm_kind": "group", "dropout": 0.25}


@pytest.mark.parametrize(
    ("loss", "wrapper", "microbatch"),
    [
        ("sup_con", None, 8),
        ("proxy_anchor", "pmap", 2),
        pytest.param("proxy_anchor", "shard_map", 2, marks=pytest.mark.slow),
        pytest.param("triplet", "shard_map", 1, marks=pytest.mark.slow),
        pytest.param("sup_con", "pmap", 4, marks=pytest.mark.slow),
    ],
)
def test_microbatches_have_the_curve_of_the_whole_batch(loss, wrapper, microbatch):
    expected = one_device(loss, **INDEPENDENT)
    options = {"microbatch": microbatch, **INDEPENDENT}
    got = (
        one_device(loss, **options)
        if wrapper is None
        else eight_devices(wrapper, loss, **options)
    )
    assert abs(expected[0][-1] / expected[0][0] - 1) > 0.01
    assert_same(got, expected)


def test_running_statistics_move_once_by_the_mean_over_microbatches():
    step, state = pieces("sup_con", axis_name=None, microbatch=8)
    after, _ = jax.jit(step)(state, batches()[0])
    layer = model(OneLayer, None, True, norm_kind="batch", dtype=None, remat=False)
    features = layer.backbone.conv(batches()[0]["image"])[:, :4, :4]
    parts = np.asarray(features, np.float64).reshape(4, -1, features.shape[-1])
    norm = after.rest["backbone"]["norm"]
    for got, start, of_parts in (
        (norm["mean"], 0, parts.mean(1)),
        (norm["var"], 1, parts.var(1)),
    ):
        expected = 0.9 * start + 0.1 * of_parts.mean(0)
        np.testing.assert_allclose(got[...], expected, rtol=1e-4, atol=1e-6)


def temporaries(rows, **options):
    """Bytes that a step needs beside what it is given."""
    step, state = pieces("sup_con", axis_name=None, backbone=ConvNet, **options)
    batch = {
        "image": jax.ShapeDtypeStruct((rows, 32, 32, 1), jnp.float32),
        "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }
    return jax.jit(step).lower(state, batch).compile().memory_analysis()


def test_memory_is_that_of_a_microbatch():
    small = temporaries(64, norm_kind="group").temp_size_in_bytes
    large = temporaries(1024, norm_kind="group").temp_size_in_bytes
    cached = temporaries(1024, norm_kind="group", microbatch=64).temp_size_in_bytes
    matrix = 4 * 1024**2  # similarities, kept for the gradient
    copied = 4 * 1024 * 32 * 32  # the batch
    assert large > 8 * small
    assert cached < 1.2 * small + 4 * matrix + 2 * copied


def test_microbatches_that_do_not_divide_a_batch_are_refused_while_tracing():
    step, state = pieces("sup_con", axis_name=None, microbatch=5)
    with pytest.raises(ValueError, match="microbatch is 5, must divide the 32 rows"):
        jax.eval_shape(step, state, batches()[0])


def test_a_memory_as_large_as_the_batch_has_the_loss_of_the_batch():
    step, state = pieces("sup_con", axis_name=None, memory=ROWS, memory_warmup=100)
    step = jax.jit(step)
    for batch in batches()[:3]:
        state, metrics = step(state, batch)
        np.testing.assert_allclose(metrics["memory_loss"], metrics["loss"], rtol=1e-6)


def test_a_memory_counts_after_its_warm_up_with_its_weight():
    def two(**options):
        step, state = pieces("sup_con", axis_name=None, memory=2 * ROWS, **options)
        step, metrics = jax.jit(step), []
        for batch in batches()[:2]:
            state, new = step(state, batch)
            metrics.append(new)
        return metrics

    plain = two(memory_weight=0.0)
    late = two(memory_weight=0.5, memory_warmup=1)
    assert late[0]["loss"] == plain[0]["loss"]
    expected = plain[1]["loss"] + 0.5 * plain[1]["memory_loss"]
    np.testing.assert_allclose(late[1]["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "wrapper"),
    [
        ("sup_con", "pmap"),
        pytest.param("triplet", "shard_map", marks=pytest.mark.slow),
    ],
)
def test_a_memory_gives_eight_devices_the_curve_of_one(loss, wrapper):
    options = {"memory": 3 * ROWS + 5, "memory_warmup": 2}
    expected = one_device(loss, **options)
    assert abs(expected[0] / one_device(loss)[0] - 1).max() > 0.01
    assert np.max(expected[1].memory.index) == ROWS - 1
    assert_same(eight_devices(wrapper, loss, **options), expected)


def test_half_precision_keeps_weights_statistics_and_embeddings_whole():
    losses, grads = [], []
    for dtype in (None, jnp.bfloat16):
        step, state = pieces("sup_con", axis_name=None, dtype=dtype)
        after, metrics = jax.jit(step)(state, batches()[0])
        for leaf in jax.tree.leaves(after):
            assert leaf.dtype in (jnp.float32, jnp.int32)
        losses.append(metrics["loss"])
        moved = jax.tree.map(jnp.subtract, after.params, state.params)
        grads.append(jnp.concatenate([x.ravel() for x in jax.tree.leaves(moved)]))
    assert losses[1].dtype == jnp.float32
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    a, b = grads
    assert a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b) > 0.98
    assert np.any(a != b)


def test_recomputed_activations_change_nothing():
    step, state = pieces("sup_con", axis_name=None, backbone=ConvNet, remat=True)
    plain, _ = pieces("sup_con", axis_name=None, backbone=ConvNet)
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda x: x.astype(float) if x.dtype == jnp.float32 else x, state
        )
        got, expected = (jax.jit(f)(wide, batches()[0]) for f in (step, plain))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    kept, again = (
        str(jax.make_jaxpr(f)(state, batches()[0])).count(" remat")
        for f in (plain, step)
    )
    assert again > kept  # the loss keeps none of its blocks either way


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_scale():
    step, state = pieces("sup_con", axis_name=None, norm_kind="frozen")
    after, _ = jax.jit(step)(state, batches()[0])
    before, norm = (x.params["backbone"]["norm"] for x in (state, after))
    assert np.any(before["scale"][...] != norm["scale"][...])
    leaves = map(jax.tree.leaves, (state.rest, after.rest))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)
