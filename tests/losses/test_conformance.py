"""What every exported loss owes, whatever its equation."""

import functools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads

import rankjax
from rankjax.parallel import AXIS

# Uneven classes, a row that is alone in its class, rows out of order.
LABELS = np.array([2, 0, 1, 0, 3, 1, 1, 2, 0, 4, 0, 1, 3, 2, 0, 3])
EMBEDDINGS = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)


def over(table):
    return pytest.mark.parametrize("case", table.values(), ids=list(table))


every_loss = over(cases.EXPORTED)
every_setting = over(cases.EXPORTED | cases.VARIANTS)  # where other code runs


@functools.cache
def value_and_grad(case, block=None):
    """One compilation per loss for all the properties that only call it."""
    compute = case.objective(block=block)
    return jax.jit(jax.value_and_grad(lambda x, y, **given: compute(x, y, **given)))


@pytest.fixture
def evaluate(case):
    return functools.partial(value_and_grad(case), params=case.params)


def close(actual, expected, rtol=2e-5, atol=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        actual,
        expected,
    )


@every_setting
def test_equals_slow_loops_from_the_paper(case):
    compute = case.objective()
    for y in (LABELS, np.repeat(np.arange(8), 2), np.repeat(np.arange(4), 4)):
        expected = case.slow(EMBEDDINGS.astype(np.float64), y)
        np.testing.assert_allclose(compute(EMBEDDINGS, y), expected, rtol=2e-5)


@every_loss
def test_order_of_rows_does_not_matter(case, evaluate):
    rng = np.random.default_rng(1)
    order = rng.permutation(16)
    if case.ordered:
        for label in np.unique(LABELS):
            places = LABELS[order] == label
            order[places] = np.sort(order[places])
    value, grad = evaluate(EMBEDDINGS, LABELS)
    close(evaluate(EMBEDDINGS[order], LABELS[order]), (value, grad[order]))


@every_loss
def test_names_of_labels_do_not_matter(case, evaluate):
    names = np.array([-5, 2**31 - 1, -(2**31), 0, 16777217])
    close(evaluate(EMBEDDINGS, names[LABELS]), evaluate(EMBEDDINGS, LABELS), rtol=0)


@every_loss
def test_rotation_does_not_matter(case, evaluate):
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    rotation = rotation.astype(np.float32)
    value, grad = evaluate(EMBEDDINGS, LABELS)
    close(evaluate(EMBEDDINGS @ rotation, LABELS), (value, grad @ rotation))


@every_loss
def test_translation_does_not_matter_to_distances(case, evaluate):
    if case.similarity not in cases.EUCLIDEAN:
        pytest.skip("an inner product depends on the origin")
    value, grad = evaluate(EMBEDDINGS, LABELS)
    close(evaluate(EMBEDDINGS + 100, LABELS), (value, grad), rtol=1e-3, atol=1e-4)
    close(grad.sum(0), np.zeros(5))


@every_loss
@pytest.mark.parametrize("padding", [0.0, 1e30, np.inf, np.nan])
def test_invalid_rows_change_nothing_and_get_no_gradient(case, evaluate, padding):
    value, grad = evaluate(EMBEDDINGS[:12], LABELS[:12])
    rows = np.full((16, 5), padding, np.float32)
    places = np.array([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14])
    rows[places] = EMBEDDINGS[:12]
    labels = np.zeros(16, int)
    labels[places] = LABELS[:12]
    valid = np.isin(np.arange(16), places)
    padded_value, padded_grad = evaluate(rows, labels, valid=valid)
    close((padded_value, padded_grad[places]), (value, grad))
    assert not np.any(padded_grad[~valid])


HARD_INPUTS = {
    "identical": (np.ones((8, 5)), np.arange(8) // 2),
    "zero": (np.zeros((8, 5)), np.arange(8) // 2),
    "two identical": (np.ones((2, 5)), np.arange(2)),
    "duplicates across classes": (np.tile(np.eye(4, 5), (2, 1)), np.arange(8)),
    "one class": (EMBEDDINGS[:8], np.zeros(8, int)),
    "no positives": (EMBEDDINGS[:8], np.arange(8)),
    "one row": (EMBEDDINGS[:1], np.zeros(1, int)),
    "huge": (EMBEDDINGS[:8] * 1e8, np.arange(8) // 2),
    "tiny": (EMBEDDINGS[:8] * 1e-12, np.arange(8) // 2),
}


@every_setting
@pytest.mark.parametrize("hard", HARD_INPUTS.values(), ids=list(HARD_INPUTS))
def test_value_and_gradient_stay_finite(case, evaluate, hard):
    x, y = hard
    value, grad = evaluate(x.astype(np.float32), y)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@every_loss
def test_a_batch_without_terms_gives_zero_and_no_gradient(case, evaluate):
    value, grad = evaluate(EMBEDDINGS, LABELS, valid=np.zeros(16, bool))
    assert value == 0
    assert not np.any(grad)


@every_loss
def test_jit_eager_and_vmap_agree(case, evaluate):
    x = np.stack([EMBEDDINGS, EMBEDDINGS[::-1]])
    y = np.stack([LABELS, LABELS[::-1]])
    one_by_one = [evaluate(*pair)[0] for pair in zip(x, y, strict=True)]
    compute = functools.partial(case.objective(), params=case.params)
    close(jax.vmap(compute)(x, y), jnp.stack(one_by_one))
    with jax.disable_jit():
        close(compute(x[0], y[0]), one_by_one[0])


@every_loss
@pytest.mark.parametrize("block", [3, 40])
def test_blocks_of_any_size_change_nothing(case, evaluate, block):
    given = {"valid": np.arange(16) != 3, "weights": np.linspace(0, 2, 16)}
    close(
        value_and_grad(case, block)(EMBEDDINGS, LABELS, params=case.params, **given),
        evaluate(EMBEDDINGS, LABELS, **given),
    )


@every_setting
def test_explicit_references_and_masks_equal_the_batch_itself(case):
    y = np.repeat(np.arange(8), 2)
    same = y[:, None] == y[None, :]
    positive, negative = same & ~np.eye(16, dtype=bool), ~same
    expected = case.objective()(EMBEDDINGS, y)
    loss = case.loss
    if case.ordered:
        # Without labels a loss cannot tell roles; the masks then carry them.
        settings = getattr(loss, "keywords", {})
        across = (np.arange(16)[:, None] + np.arange(16)[None, :]) % 2 == 1
        acts = {"row": [True, False], "column": [False, True]}.get(
            settings.get("direction", "row"), [True, True]
        )
        acts = np.tile(acts, 8)[:, None]
        if case.loss is rankjax.losses.n_pairs_angular_loss:
            pytest.skip("its two parts have different negatives")
        positive = positive & across & acts
        negative = negative & acts
        if settings.get("negatives", "positives") == "positives":
            negative = negative & across
        loss = rankjax.losses.n_pairs_loss
    compute = rankjax.objective(
        loss,
        similarity=case.similarity,
        mining=case.mining,
        reduction=case.reduction,
    )
    given = {"positive": positive, "negative": negative}
    close(compute(EMBEDDINGS, **given), expected)
    close(compute(EMBEDDINGS, references=EMBEDDINGS, **given), expected)


@every_loss
def test_weights_count_anchors_that_many_times(case):
    """Whole weights equal repeated anchors against the same references."""
    if case.reduction is rankjax.mean_active:
        pytest.skip("same rule, other divisor")
    weights = np.array([0, 1, 2, 3] * 4)
    x, y = EMBEDDINGS, np.repeat(np.arange(8), 2)
    anchors = np.repeat(np.arange(16), weights)
    same = y[:, None] == y[None, :]
    masks = {"positive": same & ~np.eye(16, dtype=bool), "negative": ~same}
    compute = rankjax.objective(
        case.loss, similarity=case.similarity, mining=case.mining
    )
    if case.ordered:
        compute = rankjax.objective(
            functools.partial(case.loss, direction="row"), similarity=case.similarity
        )
    weighted = compute(x, references=x, **masks, weights=weights)
    repeated = compute(
        x[anchors],
        references=x,
        positive=masks["positive"][anchors],
        negative=masks["negative"][anchors],
    )
    close(weighted, repeated)


@every_loss
def test_bfloat16_is_close_to_float32(case, evaluate):
    rounded = jnp.asarray(EMBEDDINGS, jnp.bfloat16)
    value, grad = evaluate(rounded, LABELS)
    full_value, full_grad = evaluate(rounded.astype(jnp.float32), LABELS)
    assert value.dtype == jnp.float32
    close(value, full_value, rtol=1e-6)
    close(grad.astype(jnp.float32), full_grad, rtol=1e-2, atol=1e-3)


@every_setting
def test_gradients_equal_finite_differences(case):
    with jax.enable_x64(True):
        compute = case.objective()
        x = jnp.asarray(EMBEDDINGS, jnp.float64)
        params = jax.tree.map(jnp.float64, case.params)
        check_grads(
            lambda x, params: compute(x, LABELS, params=params),
            (x, params),
            order=1,
            modes=("fwd", "rev"),
            atol=1e-6,
            rtol=1e-6,
            eps=1e-6,
        )


@every_setting
def test_closer_positives_and_farther_negatives_never_cost(case):
    y = np.repeat(np.arange(8), 2) if case.shares_softmax else LABELS
    same = y[:, None] == y[None, :]
    rng = np.random.default_rng(3)
    matrix = rng.uniform(-1, 0, size=(16, 16)).astype(np.float32)
    matrix = (matrix + matrix.T) / 2
    occurrence = np.array([np.sum(y[:i] == y[i]) for i in range(16)])

    def loss(similarity):
        pairs = rankjax.Pairs(
            similarity=similarity,
            positive=jnp.asarray(same & ~np.eye(16, dtype=bool)),
            negative=jnp.asarray(~same),
            reference_similarity=similarity,
            anchor_occurrence=jnp.asarray(occurrence),
            reference_occurrence=jnp.asarray(occurrence),
        )
        terms = case.loss(pairs)
        return sum(
            rankjax.mean(t) for t in (terms if isinstance(terms, tuple) else [terms])
        )

    grad = jax.grad(loss)(jnp.asarray(matrix))
    assert np.any(grad)
    assert np.all(grad[same] <= 1e-7)
    assert np.all(grad[~same] >= -1e-7)


def _on_devices(wrapper, compute, devices):
    """Value and gradients by the one rule: gather, differentiate inside, pmean."""

    def step(operands, batch):
        embed = lambda operands: jnp.tanh(batch["x"] @ operands["matrix"])  # noqa: E731
        value, grads = jax.value_and_grad(
            lambda operands: compute(
                embed(operands),
                batch["y"],
                valid=batch["valid"],
                weights=batch["weights"],
                params=operands["params"],
            )
        )(operands)
        return value, jax.lax.pmean(grads, AXIS)

    if wrapper == "pmap":
        split = functools.partial(jax.tree.map, lambda x: x.reshape(8, 2, *x.shape[1:]))
        mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None)
        return lambda operands, batch: mapped(operands, split(batch))
    return jax.jit(
        jax.shard_map(
            step,
            mesh=Mesh(np.array(devices), (AXIS,)),
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        )
    )


@every_setting
@pytest.mark.parametrize("wrapper", ["pmap", "shard_map in blocks"])
def test_eight_devices_give_the_whole_batch_value_and_gradients(case, wrapper):
    matrix = np.random.default_rng(4).normal(size=(5, 6)).astype(np.float32)
    operands = {"matrix": matrix, "params": jax.tree.map(np.float32, case.params)}
    batch = {
        "x": EMBEDDINGS,
        "y": LABELS,
        "valid": np.arange(16) != 7,
        "weights": np.linspace(0.5, 2, 16).astype(np.float32),
    }
    compute = case.objective()
    expected = jax.value_and_grad(
        lambda operands: compute(
            jnp.tanh(batch["x"] @ operands["matrix"]),
            batch["y"],
            valid=batch["valid"],
            weights=batch["weights"],
            params=operands["params"],
        )
    )(operands)
    block = 1 if wrapper == "shard_map in blocks" else None
    spread = case.objective(axis_name=AXIS, block=block)
    run = _on_devices(wrapper.split()[0], spread, jax.devices())
    close(run(operands, batch), expected, rtol=1e-5, atol=1e-6)


@every_loss
def test_a_sharded_batch_under_plain_jit_gives_the_same(case, evaluate):
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    rows = jax.sharding.NamedSharding(mesh, PartitionSpec(AXIS))
    x, y = jax.device_put((EMBEDDINGS, LABELS.astype(np.int32)), rows)
    close(evaluate(x, y), evaluate(EMBEDDINGS, LABELS))


@pytest.mark.parametrize("name", rankjax.losses.LOSSES)
def test_one_call_form_equals_the_objective(name):
    entry = rankjax.losses.LOSSES[name]
    simple = getattr(rankjax, f"{name}_loss")
    penalty = [(0.001, rankjax.squared_norm)] if name.startswith("n_pairs") else []
    compute = rankjax.objective(entry.loss, regularizers=penalty)
    close(simple(EMBEDDINGS, LABELS), compute(EMBEDDINGS, LABELS))
