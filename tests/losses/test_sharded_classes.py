"""Class rows that stay on their devices, and a random part of them."""

import functools

import jax
import numpy as np
import pytest
from cases import EMBEDDINGS, LABELS
from jax.sharding import Mesh, PartitionSpec

import rankjax
from rankjax import losses, mining

AXIS = "batch"
CLASSES, DIM = 24, EMBEDDINGS.shape[1]
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(CLASSES, DIM)).astype(np.float32)
# In no order, with two rows of class 1, and a row of padding.
NAMES = np.append(RNG.permutation(CLASSES - 1), 1)
KNOWN = np.flatnonzero(NAMES == 0)[0] + 1 != np.arange(CLASSES)
VALID = np.arange(16) != 7
WEIGHTS = np.linspace(0.5, 2, 16).astype(np.float32)
SHARDED = {name: f for name, f in losses.LOSSES.items() if f.info.sharded}
MESH = Mesh(np.array(jax.devices()), (AXIS,))
SPREAD, WHOLE = PartitionSpec(AXIS), PartitionSpec()
BATCH = (EMBEDDINGS, LABELS.astype(np.int32), VALID, WEIGHTS)
MATRIX = np.eye(DIM, dtype=np.float32) * 2


def run(compute, matrix, rows, names, known, batch, *, sharded):
    """Value and gradients of a network and of class rows."""
    x, y, valid, weights = batch

    def loss(matrix, rows):
        references = rankjax.References(
            rows, names, known, sharded=sharded, replicated=False
        )
        return compute(
            x @ matrix,
            y,
            references=references,
            valid=valid,
            weights=weights,
            key=jax.random.key(0),
        )

    return jax.value_and_grad(loss, (0, 1), has_aux=compute.has_aux)(matrix, rows)


def on_devices(compute, wrapper):
    """The network's gradient is averaged; that of class rows is each device's own."""

    def step(matrix, rows, names, known, batch):
        value, (slope, of_rows) = run(
            compute, matrix, rows, names, known, batch, sharded=True
        )
        if wrapper == "pmap":  # which adds the gradients of eight copies of the loss
            of_rows = of_rows / 8
        return value, (jax.lax.pmean(slope, AXIS), of_rows)

    if wrapper == "shard_map":
        return jax.jit(
            jax.shard_map(
                step,
                mesh=MESH,
                in_specs=(WHOLE, SPREAD, SPREAD, SPREAD, SPREAD),
                out_specs=(WHOLE, (WHOLE, SPREAD)),
            )
        )
    mapped = jax.pmap(
        step, AXIS, in_axes=(None, 0, 0, 0, 0), out_axes=(None, (None, 0))
    )

    def split(x):
        return x.reshape(8, -1, *x.shape[1:])

    def call(matrix, *others):
        value, (slope, rows) = mapped(matrix, *jax.tree.map(split, others))
        return value, (slope, rows.reshape(CLASSES, DIM))

    return call


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [
        ("arc_face", "shard_map"),
        ("arc_face", "pmap"),
        ("ada_face", "shard_map"),
        *[
            pytest.param(name, "shard_map", marks=pytest.mark.slow)
            for name in SHARDED
            if name not in ("arc_face", "ada_face")
        ],
    ],
)
def test_classes_that_stay_on_their_devices_give_the_loss_of_all(name, wrapper):
    """In value and gradients, in blocks, with weights, padding and invalid classes."""
    plain = rankjax.objective(SHARDED[name], block=None, has_aux=True)
    operands = MATRIX, ROWS, NAMES, KNOWN, BATCH
    whole = functools.partial(run, plain, sharded=False)
    expected = jax.jit(whole)(*operands)
    spread = rankjax.objective(SHARDED[name], block=3, axis_name=AXIS, has_aux=True)
    found = on_devices(spread, wrapper)(*operands)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )
    assert not np.any(found[1][1][~KNOWN])


def test_no_device_gathers_classes_or_holds_more_than_its_share():
    """Of 2^17 rows: what is exchanged does not grow with them."""
    compute = rankjax.objective(losses.arc_face_loss, axis_name=AXIS)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (MATRIX, *BATCH[:2])]
    many = jax.ShapeDtypeStruct((2**17, DIM), np.float32)
    names = jax.ShapeDtypeStruct((2**17,), np.int32)

    def step(matrix, x, y, rows, names):
        def loss(matrix, rows):
            references = rankjax.References(rows, names, sharded=True)
            return compute(x @ matrix, y, references=references)

        return jax.grad(loss, (0, 1))(matrix, rows)

    mapped = jax.shard_map(
        step,
        mesh=MESH,
        in_specs=(WHOLE, SPREAD, SPREAD, SPREAD, SPREAD),
        out_specs=(WHOLE, SPREAD),
    )
    program = jax.jit(mapped).lower(*shapes, many, names).compile()
    gathered = [
        line.split("=")[1].split("{")[0].strip()
        for line in program.as_text().splitlines()
        if " all-gather(" in line or " all-gather-start(" in line
    ]
    assert gathered
    assert not [shape for shape in gathered if str(2**17) in shape]
    held = program.memory_analysis().temp_size_in_bytes
    assert held < 4 * 2**17 * (DIM + 16)  # of one device: far less than all of them


def compute_arc_face(**settings):
    compute = rankjax.objective(
        settings.pop("loss", losses.arc_face_loss), axis_name=AXIS, **settings
    )

    def step(x, y, rows):
        given = rankjax.References(rows, np.arange(3), sharded=True)
        return compute(x, y, references=given)

    return jax.shard_map(
        step, mesh=MESH, in_specs=(SPREAD, SPREAD, SPREAD), out_specs=WHOLE
    )(EMBEDDINGS, LABELS, ROWS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": losses.proxy_nca_loss}, r"^this loss needs all references of a row;"),
        ({"mining": mining.hardest}, r"^mining must be None where references are shar"),
        (
            {"reduction": rankjax.mean_per_anchor},
            r"^reduction must be mean, mean_active or total where references are shard",
        ),
    ],
)
def test_what_needs_whole_rows_is_refused_where_classes_are_sharded(settings, message):
    with pytest.raises(ValueError, match=message):
        compute_arc_face(**settings)
