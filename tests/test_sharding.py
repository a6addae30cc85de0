"""How gradients are combined for each way to share a batch, as the guide tells."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rankjax
from rankjax import losses, memory, metrics

ROWS, DIM, N = 16, 4, 8
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(ROWS, DIM)), RNG.normal(size=(DIM, DIM))
Y = np.repeat(np.arange(ROWS // 2), 2).astype(np.int32)
NAMES = ("sup_con", "triplet", "angular")
GATHERS = "angular"  # rows of positives, too; what devices add does not depend on it
WHOLE, SHARE = PartitionSpec(), PartitionSpec("d")


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def value(name, axis_name, w, x, y):
    compute = rankjax.objective(losses.LOSSES[name], axis_name=axis_name)
    return compute(jnp.tanh(x @ w), y)


@functools.cache
def expected(name):
    """Value and gradients by parameters and by rows, on one device."""
    found = jax.value_and_grad(functools.partial(value, name, None), argnums=(0, 1))
    return jax.tree.map(np.asarray, jax.jit(found)(W, X, Y))


def close(found, name):
    wanted, (by_parameters, _) = expected(name)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-9)
    np.testing.assert_allclose(found[1], by_parameters, rtol=1e-9, atol=1e-12)


def mesh_of(kind=AxisType.Auto):
    return jax.make_mesh((N,), ("d",), axis_types=(kind,))


def mapped(step, specs=(WHOLE, SHARE, SHARE), out=WHOLE, **settings):
    run = jax.shard_map(step, mesh=mesh_of(), in_specs=specs, out_specs=out, **settings)
    return jax.jit(run)


def with_mean(name, axis_name="d"):
    def step(w, x, y):
        found, grads = jax.value_and_grad(functools.partial(value, name, axis_name))(
            w, x, y
        )
        return found, lax.pmean(grads, axis_name)

    return step


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_shard_map_takes_the_mean_with_its_check_and_without(name, check):
    close(mapped(with_mean(name), check_vma=check)(W, X, Y), name)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", NAMES)
def test_jit_over_a_batch_on_a_mesh_takes_gradients_as_they_are(name, kind):
    mesh = mesh_of(kind)
    x, y = jax.device_put((X, Y), NamedSharding(mesh, SHARE))
    w = jax.device_put(W, NamedSharding(mesh, WHOLE))
    close(
        jax.jit(jax.value_and_grad(functools.partial(value, name, None)))(w, x, y), name
    )


@pytest.mark.parametrize("block", [None, 1])
def test_devices_gather_each_row_once_and_scatter_its_gradient_once(block):
    compute = rankjax.objective(losses.sup_con_loss, axis_name="d", block=block)
    run = mapped(jax.value_and_grad(compute), (SHARE, SHARE), (WHOLE, SHARE))
    lines = run.lower(X, Y).compile().as_text().splitlines()
    exchanged = {
        kind: [line.split(" = ")[1].split("{")[0] for line in lines if kind in line]
        for kind in (" all-gather(", " reduce-scatter(")
    }
    assert exchanged[" all-gather("].count(f"f64[{ROWS},{DIM}]") == 1
    assert exchanged[" reduce-scatter("] == [f"f64[{ROWS // N},{DIM}]"]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_tuples_and_samples_of_classes_take_rows_on_a_mesh(kind):
    mesh = mesh_of(kind)
    x, y = jax.device_put((X, Y), NamedSharding(mesh, SHARE))
    classes = rankjax.References(X[::2], Y[::2])
    draw = functools.partial(
        rankjax.sampled_classes, classes, share=0.5, key=jax.random.key(0)
    )
    tuples = np.arange(3), np.arange(3) + 1, np.arange(3) + 5
    compare = functools.partial(
        rankjax.from_tuples, similarity=rankjax.similarity.cosine
    )
    for context in (contextlib.nullcontext(), jax.set_mesh(mesh)):
        with context:
            for run in (lambda f: f, jax.jit):
                expected, found = (run(lambda y: draw(y).labels)(y) for y in (Y, y))
                np.testing.assert_array_equal(found, expected)
                expected, found = (
                    run(lambda x: compare(x, *tuples).similarity)(x) for x in (X, x)
                )
                np.testing.assert_allclose(found, expected, rtol=1e-12)
    with jax.set_mesh(mesh):
        labelled = rankjax.nt_xent_loss(X, y)  # labels alone lie on the mesh
        np.testing.assert_allclose(labelled, rankjax.nt_xent_loss(X, Y), rtol=1e-12)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_memories_and_searches_take_a_batch_on_a_mesh(kind):
    mesh = mesh_of(kind)
    x, y = jax.device_put((X, Y), NamedSharding(mesh, SHARE))
    for context in (contextlib.nullcontext(), jax.set_mesh(mesh)):
        with context:
            for add in (memory.Memory.add, jax.jit(memory.Memory.add)):
                held = add(memory.empty(24, DIM, X.dtype), x, y)
                np.testing.assert_array_equal(held.embeddings[:ROWS], X)
                np.testing.assert_array_equal(held.labels[:ROWS], Y)
    with jax.set_mesh(mesh):
        found = metrics.nearest(x, k=1).rows[:, 0]
        recall = metrics.retrieval_metrics(x, y, recall_at=1)["recall_at_1"]
    cosines = X @ X.T / np.outer(*[np.linalg.norm(X, axis=1)] * 2) - 9 * np.eye(ROWS)
    np.testing.assert_array_equal(found, cosines.argmax(1))
    assert recall == np.mean(Y[cosines.argmax(1)] == Y)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_partly_manual_mesh_takes_the_mean_over_the_manual_axis(kind):
    if kind is AxisType.Explicit and jax.__version_info__ >= (0, 12):
        pytest.skip("jax 0.12 gathers no array on a mesh of manual and explicit axes")
    mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=(kind,) * 2)
    run = jax.shard_map(
        with_mean(GATHERS),
        mesh=mesh,
        in_specs=(WHOLE, SHARE, SHARE),
        out_specs=WHOLE,
        axis_names={"d"},
    )
    x, y = jax.device_put((X, Y), NamedSharding(mesh, SHARE))
    w = jax.device_put(W, NamedSharding(mesh, WHOLE))
    with jax.set_mesh(mesh):
        close(jax.jit(run)(w, x, y), GATHERS)


def test_parameters_cast_to_varying_take_the_sum():
    def step(w, x, y):
        w = lax.pcast(w, "d", to="varying")
        found, grads = jax.value_and_grad(functools.partial(value, GATHERS, "d"))(
            w, x, y
        )
        return found, lax.psum(grads, "d")

    close(mapped(step)(W, X, Y), GATHERS)


@pytest.mark.parametrize(("check", "factor"), [(True, 1), (False, N)])
def test_parameters_in_shards_take_no_more_than_a_factor(check, factor):
    """As FSDP holds them: gathered inside of what is differentiated."""

    def step(part, x, y):
        def of_part(part):
            return value(
                GATHERS, "d", lax.all_gather(part, "d", tiled=True)[:DIM], x, y
            )

        found, grads = jax.value_and_grad(of_part)(part)
        return found, grads / factor

    padded = np.concatenate([W, np.zeros((N - DIM, DIM))])
    run = mapped(step, (SHARE, SHARE, SHARE), (WHOLE, SHARE), check_vma=check)
    found, grads = run(padded, X, Y)
    close((found, grads[:DIM]), GATHERS)


@pytest.mark.parametrize(("check", "factor"), [(True, 1), (False, N)])
def test_gradients_at_embeddings_take_no_more_than_a_factor(check, factor):
    def step(w, x, y):
        found, grads = jax.value_and_grad(
            functools.partial(value, GATHERS, "d"), argnums=1
        )(w, x, y)
        return found, grads / factor

    found, grads = mapped(step, out=(WHOLE, SHARE), check_vma=check)(W, X, Y)
    wanted, (_, by_rows) = expected(GATHERS)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(grads, by_rows, rtol=1e-9, atol=1e-12)


def test_gradients_at_embeddings_under_pmap_take_the_number_of_devices():
    step = jax.value_and_grad(functools.partial(value, GATHERS, "d"), argnums=1)
    run = jax.pmap(step, "d", in_axes=(None, 0, 0), out_axes=(None, 0))
    found, grads = run(W, X.reshape(N, -1, DIM), Y.reshape(N, -1))
    wanted, (_, by_rows) = expected(GATHERS)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(
        np.reshape(grads, X.shape) / N, by_rows, rtol=1e-9, atol=1e-12
    )
