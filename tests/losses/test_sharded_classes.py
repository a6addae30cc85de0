"""Class rows that stay on their devices, and a random part of them."""

import functools

import jax
import numpy as np
import pytest
from cases import EMBEDDINGS, LABELS
from devices import SPREAD, WHOLE, on_eight

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
        return on_eight(step, (WHOLE, *4 * [SPREAD]), (WHOLE, (WHOLE, SPREAD)))
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

    mapped = on_eight(step, (WHOLE, *4 * [SPREAD]), (WHOLE, SPREAD))
    program = mapped.lower(*shapes, many, names).compile()
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

    return on_eight(step, 3 * (SPREAD,))(EMBEDDINGS, LABELS, ROWS)


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


def test_classes_of_the_batch_are_kept_and_others_are_equally_likely():
    references = rankjax.References(ROWS, NAMES, KNOWN)
    labels = np.array([4, 1, 9, 4])

    @jax.jit
    @jax.vmap
    def kept(key):
        some = rankjax.sampled_classes(references, labels, share=0.4, key=key)
        return (
            jax.numpy.zeros(CLASSES).at[some.labels].add(some.valid.astype(np.float32))
        )

    times = np.asarray(kept(jax.random.split(jax.random.key(0), 2000)))
    wanted = np.isin(np.arange(CLASSES), labels)
    known = np.bincount(NAMES[KNOWN], minlength=CLASSES)
    assert np.all(times[:, wanted] == known[wanted])
    assert np.all(times.sum(1) == 10)  # of 24 rows, 40% rounded up
    chance = (10 - 4) / (known.sum() - 4)  # classes 1, 4 and 9 have four rows
    others = times[:, ~wanted & (known > 0)].mean(0)
    assert np.abs(others - chance).max() < 4 * np.sqrt(chance * (1 - chance) / 2000)


def test_all_classes_at_a_share_of_one_give_the_loss_of_all():
    references = rankjax.References(ROWS, NAMES, KNOWN)
    some = rankjax.sampled_classes(references, LABELS, share=1.0, key=jax.random.key(0))
    found = rankjax.arc_face_loss(EMBEDDINGS, LABELS, references=some)
    expected = rankjax.arc_face_loss(EMBEDDINGS, LABELS, references=references)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_share_of_classes_on_devices_is_the_softmax_over_what_they_keep():
    compute = rankjax.objective(losses.normalized_softmax_loss, axis_name=AXIS)

    def step(x, y, rows, names):
        def loss(rows):
            some = rankjax.sampled_classes(
                rankjax.References(rows, names, sharded=True),
                y,
                share=0.5,
                key=jax.random.key(3),
                axis_name=AXIS,
            )
            return compute(x, y, references=some), some.labels

        (value, kept), slope = jax.value_and_grad(loss, has_aux=True)(rows)
        return value, kept, slope

    rows = RNG.normal(size=(8 * 16, DIM)).astype(np.float32) * 3
    labels = (np.arange(8) * 13 % 128).astype(np.int32)
    spread = on_eight(step, 4 * (SPREAD,), (WHOLE, SPREAD, SPREAD))
    found, names, slope = spread(EMBEDDINGS[:8], labels, rows, np.arange(128))
    kept = np.isin(np.arange(128), names)
    assert kept.sum() == 64
    assert kept[labels].all()
    some = rankjax.References(rows[kept], np.flatnonzero(kept))
    expected = rankjax.normalized_softmax_loss(EMBEDDINGS[:8], labels, references=some)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.any(slope[labels], axis=1).all()
    assert not np.any(slope[~kept])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"share": 0.0}, r"^share must be above 0 and at most 1, got 0.0"),
        ({"labels": [0.5]}, r"^labels must be integers, or a bool mask"),
        (
            {"references": rankjax.References(ROWS)},
            r"^labels and references.labels must be integers, one per row",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(changed, message):
    given = {"references": rankjax.References(ROWS, NAMES), "labels": [1]} | changed
    with pytest.raises((ValueError, TypeError), match=message):
        rankjax.sampled_classes(key=jax.random.key(0), **given)
