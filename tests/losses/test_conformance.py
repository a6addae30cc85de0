"""What every exported loss and regulariser owes, whatever its equation.

A property that a loss rightly lacks stands in `EXCEPTIONS` with the reason; everything
else is checked, and one that is exported without a case fails the collection.
"""

import dataclasses
import functools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DIM, EMBEDDINGS, LABELS, evaluate
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads

import rankjax
from rankjax import similarity
from rankjax.parallel import AXIS
from rankjax.registry import Kind, hyper_parameters

EXPORTED, VARIANTS = cases.collect()
BALANCED = np.repeat(np.arange(4), 4)
PAIRED = np.repeat(np.arange(8), 2)

# The property, the losses that lack it, and why that is right.
_VIEWS = "rows with equal labels pair up as views in the order of the batch"
_POOLED = "weights do not enter statistics of the whole batch"
_MASKS = "masks do not say which negatives are of one class"
_ROLES = "in a batch rows are anchors and positives by turns; here all are anchors"
_COMPETE = "positives share one softmax: an easy one is pushed off by a hard one"
EXCEPTIONS: dict[str, dict[str, str]] = {
    "test_order_of_rows_does_not_matter": {
        "n_pairs": "roles alternate in the order of the batch",
        "n_pairs_ovo": "roles alternate in the order of the batch",
        "n_pairs_angular": "roles alternate in the order of the batch",
        "vic_reg": _VIEWS,
        "barlow_twins": _VIEWS,
    },
    "test_rotation_does_not_matter": {
        "signal_to_noise_contrastive": "variances are over coordinates",
        "vic_reg": "variances and covariances are of coordinates",
        "barlow_twins": "correlations are of coordinates",
        "zero_mean": "the mean is over coordinates",
    },
    "test_given_masks_and_references_equal_labels": {
        "n_pairs": "roles need labels; two towers are tested with the loss",
        "n_pairs_ovo": "roles need labels; two towers are tested with the loss",
        "n_pairs_angular": "roles need labels; two towers are tested with the loss",
        "vic_reg": "references are the other view, and here they are the same",
        "barlow_twins": "references are the other view, and here they are the same",
        "generalized_end_to_end": _MASKS,
        "quadruplet": _MASKS,
    },
    "test_weights_count_anchors_that_many_times": {
        "proxy_anchor": "has a term per proxy, and refuses weights of rows",
        "generalized_end_to_end": _MASKS,
        "quadruplet": _MASKS,
        "vic_reg": _POOLED,
        "barlow_twins": _POOLED,
        "intra_pair_variance": _POOLED,
        "dynamic_soft_margin": _POOLED,
        "histogram": _POOLED,
        "center_invariant": _POOLED,
        "spherical_embedding": _POOLED,
        "spread_out": _POOLED,
        "uniformity": _POOLED,
        "sv_max": _POOLED,
    },
    "test_copies_of_the_batch_as_references_equal_the_batch": {
        "n_pairs": _ROLES,
        "n_pairs_ovo": _ROLES,
        "n_pairs_angular": _ROLES,
    },
    "test_gradients_equal_finite_differences": {
        "circle": "its weights are constants to the gradient, as in the paper",
        "ranked_list": "its weights are constants to the gradient, as in the paper",
        "dynamic_soft_margin": "its weights are constants to the gradient",
        "blackbox_ap": "ranks have no derivative; the paper interpolates one",
        "decoupled_contrastive, weighted": "its weights are constants to the gradient",
    },
    "test_second_derivatives_equal_differences_of_gradients": {
        "circle": "its weights are constants to the gradient, as in the paper",
        "ranked_list": "its weights are constants to the gradient, as in the paper",
        "dynamic_soft_margin": "its weights are constants to the gradient",
    },
    "test_closer_positives_and_farther_negatives_never_cost": {
        "p2s_grad": "draws negatives to a right angle, not beyond",
        "soft_triple": "a class's soft maximum rises when a far centre moves away",
        "intra_pair_variance": "gradients flow through the means of the batch",
        "generalized_end_to_end": "a similarity also sets the length of a centroid",
        "koleo": "pushes every row from its nearest, positives too",
        "uniformity": "pushes positives apart too",
        "spread_out": "draws negatives to a right angle, not beyond",
        "n_pairs": _COMPETE,
        "n_pairs_angular": _COMPETE,
        "sup_con": _COMPETE,
        "multi_sup_con": _COMPETE,
        "decoupled_contrastive, weighted": "easy positives may weigh less than nothing",
        "smooth_ap": "positives compete for the first ranks",
        "smooth_ndcg": "positives compete for the first ranks",
        "recall_at_k": "positives compete for the first ranks",
        "surrogate_precision": "positives compete for the first ranks",
        "fast_ap": "a pair is split over two bins, of which one may be worse",
        "soft_bin_ap": "a pair is split over two bins, of which one may be worse",
    },
    "test_a_closer_only_positive_and_farther_negatives_never_cost": {
        "p2s_grad": "draws negatives to a right angle, not beyond",
        "soft_triple": "a class's soft maximum rises when a far centre moves away",
        "intra_pair_variance": "gradients flow through the means of the batch",
        "generalized_end_to_end": "a similarity also sets the length of a centroid",
        "koleo": "pushes every row from its nearest, positives too",
        "uniformity": "pushes positives apart too",
        "spread_out": "draws negatives to a right angle, not beyond",
        "fast_ap": "a pair is split over two bins, of which one may be worse",
        "soft_bin_ap": "a pair is split over two bins, of which one may be worse",
    },
}


def _excused(property_name, name):
    """The reason for an exception; one given for a loss holds for its variants."""
    reasons = EXCEPTIONS.get(property_name, {})
    return reasons.get(name) or reasons.get(name.partition(",")[0])


def _first_of_each_kind():
    """Names of losses that look at a batch in different ways."""
    kinds = {}
    for name, case in EXPORTED.items():
        info = rankjax.registry.info_of(case.loss)
        kinds.setdefault((info.kind, info.anchors), name)
    return kinds.values()


def over(table, property_name=None, slow=()):
    """Parametrises over cases; those in `slow` run with the slow tests."""

    def marks(name):
        # One process has all properties of a loss, and compiles it once.
        yield pytest.mark.xdist_group(name)
        if reason := _excused(property_name, name):
            yield pytest.mark.skip(reason=reason)
        elif name in slow:
            yield pytest.mark.slow

    parameters = [
        pytest.param(case, id=name, marks=[*marks(name)])
        for name, case in table.items()
    ]
    # Of module scope, so that the properties of a loss are tested one after another.
    return pytest.mark.parametrize("case", parameters, scope="module")


def every_loss(test):
    return over(EXPORTED, test.__name__)(test)


def every_setting(test):
    """Exported losses and variants: where other code runs."""
    return over(EXPORTED | VARIANTS, test.__name__)(test)


def every_setting_in_time(test):
    """As `every_setting`; variants run with the slow tests."""
    return over(EXPORTED | VARIANTS, test.__name__, slow=VARIANTS)(test)


def test_every_exception_is_of_a_property_and_a_loss_that_exist():
    names = {name.partition(",")[0] for name in EXPORTED | VARIANTS}
    for property_name, reasons in EXCEPTIONS.items():
        assert property_name in globals()
        assert {name.partition(",")[0] for name in reasons} <= names
        assert all(reasons.values())


def padded(x, y):
    """Sixteen rows, those that are added not valid."""
    n = len(x)
    rows = np.zeros((16, DIM), np.float32)
    rows[:n] = x
    return rows, np.pad(y, (0, 16 - n)), {"valid": np.arange(16) < n}


def defaults(case):
    bound = getattr(case.loss, "keywords", {})
    known = hyper_parameters(getattr(case.loss, "func", case.loss))
    return {name: bound.get(name, known[name].default) for name in case.params}


def close(actual, expected, rtol=2e-5, atol=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        actual,
        expected,
    )


@every_setting
def test_equals_slow_loops_from_the_paper(case):
    for y in (LABELS, PAIRED, BALANCED):
        expected = case.expected(EMBEDDINGS, case.labels(y))
        value, _ = evaluate(case, EMBEDDINGS, y, params=defaults(case))
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)


@every_loss
def test_order_of_rows_does_not_matter(case):
    order = np.random.default_rng(1).permutation(16)
    value, grad = evaluate(case, EMBEDDINGS, LABELS)
    moved = evaluate(case, EMBEDDINGS[order], LABELS[order])
    close(moved, (value, grad[order]))


@every_loss
def test_names_of_labels_do_not_matter(case):
    names = np.array([-5, 2**31 - 1, -(2**31), 0, 16777217, 16777216, 7, 1])
    renamed = evaluate(case, EMBEDDINGS, LABELS, names=names)
    close(renamed, evaluate(case, EMBEDDINGS, LABELS), rtol=1e-6, atol=1e-6)


@every_loss
def test_rotation_does_not_matter(case):
    if case.proxies:
        pytest.skip("the proxies would have to turn as well")
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0]
    rotation = rotation.astype(np.float32)
    value, grad = evaluate(case, EMBEDDINGS, LABELS)
    turned = evaluate(case, EMBEDDINGS @ rotation, LABELS)
    close(turned, (value, grad @ rotation))


EUCLIDEAN = {similarity.negative_euclidean, similarity.negative_squared_euclidean}


@every_loss
def test_translation_does_not_matter_to_distances(case):
    if case.measure not in EUCLIDEAN or case.proxies:
        pytest.skip("depends on the origin, or the proxies would have to move as well")
    value, grad = evaluate(case, EMBEDDINGS, LABELS)
    moved = evaluate(case, EMBEDDINGS + 100, LABELS)
    close(moved, (value, grad), rtol=1e-3, atol=1e-4)
    close(grad.sum(0), np.zeros(DIM))


@every_loss
def test_invalid_rows_change_nothing_and_get_no_gradient(case):
    value, grad = evaluate(case, EMBEDDINGS[:12], LABELS[:12])
    places = np.array([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14])
    valid = np.isin(np.arange(16), places)
    labels = np.zeros(16, int)
    labels[places] = LABELS[:12]
    for padding in (0.0, 1e30, np.inf, np.nan):
        rows = np.full((16, DIM), padding, np.float32)
        rows[places] = EMBEDDINGS[:12]
        padded_value, padded_grad = evaluate(case, rows, labels, valid=valid)
        close((padded_value, padded_grad[places]), (value, grad))
        assert not np.any(padded_grad[~valid])


HARD_INPUTS = {
    "identical": (np.ones((8, DIM)), np.arange(8) // 2),
    "zero": (np.zeros((8, DIM)), np.arange(8) // 2),
    "two identical": (np.ones((2, DIM)), np.arange(2)),
    "duplicates across classes": (np.tile(np.eye(4, DIM), (2, 1)), np.arange(8)),
    "opposite": (np.tile([[1.0], [-1.0]], (4, DIM)), np.arange(8) // 2),
    "one class": (EMBEDDINGS[:8], np.zeros(8, int)),
    "no positives": (EMBEDDINGS[:8], np.arange(8)),
    "one row": (EMBEDDINGS[:1], np.zeros(1, int)),
    "huge": (EMBEDDINGS[:8] * 1e8, np.arange(8) // 2),
    "tiny": (EMBEDDINGS[:8] * 1e-12, np.arange(8) // 2),
    "huge and tiny": (
        EMBEDDINGS[:8] * np.logspace(-12, 4, 8)[:, None],
        np.arange(8) // 2,
    ),
}


@every_setting
def test_value_and_gradient_stay_finite(case):
    for name, (x, y) in HARD_INPUTS.items():
        rows, labels, valid = padded(x, y)
        value, grad = evaluate(case, rows, labels, **valid)
        assert np.isfinite(value), name
        assert np.isfinite(grad).all(), name


@every_loss
def test_a_batch_of_one_row_is_finite(case):
    value, grad = evaluate(case, EMBEDDINGS[:1], LABELS[:1])
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@every_loss
def test_a_batch_without_terms_gives_zero_and_no_gradient(case):
    value, grad = evaluate(case, EMBEDDINGS, LABELS, valid=np.zeros(16, bool))
    assert value == 0
    assert not np.any(grad)


@every_loss
def test_jit_eager_and_vmap_agree(case):
    x = np.stack([EMBEDDINGS, EMBEDDINGS[::-1]])
    y = np.stack([case.labels(LABELS), case.labels(LABELS[::-1])])
    expected = evaluate(case, x[0], LABELS)[0]
    compute = functools.partial(case.objective(), params=dict(case.params))
    one_by_one = [expected, evaluate(case, x[1], LABELS[::-1])[0]]
    close(jax.jit(jax.vmap(compute))(x, y), jnp.stack(one_by_one))
    with jax.disable_jit():
        close(compute(x[0], y[0]), expected)


@every_setting_in_time
@pytest.mark.parametrize("block", ["auto", pytest.param(3, marks=pytest.mark.slow)])
def test_blocks_of_any_size_change_nothing(case, block):
    valid = np.arange(16) != 3
    expected = evaluate(case, EMBEDDINGS, LABELS, valid=valid)
    blocks = evaluate(case, EMBEDDINGS, LABELS, valid=valid, block=block)
    close(blocks, expected, case.tolerance, case.tolerance / 2)


@every_loss
def test_given_masks_and_references_equal_labels(case):
    same = PAIRED[:, None] == PAIRED[None, :]
    masks = {"positive": same & ~np.eye(16, dtype=bool), "negative": ~same}
    compute = case.objective()
    if case.proxies:
        _, names = case.references()
        same = PAIRED[:, None] == names[None, :]
        masks = {"positive": same, "negative": ~same}
    expected = evaluate(case, EMBEDDINGS, PAIRED, params=defaults(case))[0]
    close(compute(EMBEDDINGS, **masks), expected)
    if not case.proxies:
        close(
            compute(EMBEDDINGS, references=rankjax.References(EMBEDDINGS), **masks),
            expected,
        )


@over(
    EXPORTED,
    "test_copies_of_the_batch_as_references_equal_the_batch",
    slow=EXPORTED.keys() - _first_of_each_kind(),
)
def test_copies_of_the_batch_as_references_equal_the_batch(case):
    """As a cross-batch memory holds them: in another order, beside empty places."""
    labels, order = case.labels(PAIRED), np.random.default_rng(3).permutation(16)
    if case.proxies:
        return
    copies = rankjax.References(
        np.pad(EMBEDDINGS[order], [(0, 3), (0, 0)], constant_values=9),
        np.concatenate([labels[order], labels[:3]]),
        valid=np.arange(19) < 16,
        copy_of=np.concatenate([order, [-1, -1, -1]]),
    )
    expected = evaluate(case, EMBEDDINGS, PAIRED, params=defaults(case))[0]
    close(case.objective(block="auto")(EMBEDDINGS, labels, references=copies), expected)


@every_loss
def test_weights_count_anchors_that_many_times(case):
    """Whole weights equal repeated anchors against the same references."""
    weights = np.array([0, 1, 2, 1] * 4)
    anchors = np.repeat(np.arange(16), weights)
    z, names = case.references() if case.proxies else (EMBEDDINGS, PAIRED)
    same = PAIRED[:, None] == names[None, :]
    positive, negative = same, ~same
    if not case.proxies:
        positive = positive & ~np.eye(16, dtype=bool)
    compute = case.objective()
    if not case.proxies:
        z = rankjax.References(z)
    weighted = compute(
        EMBEDDINGS, references=z, positive=positive, negative=negative, weights=weights
    )
    repeated = compute(
        EMBEDDINGS[anchors],
        references=z,
        positive=positive[anchors],
        negative=negative[anchors],
    )
    close(weighted, repeated)


@every_loss
def test_bfloat16_is_close_to_float32(case):
    rounded = jnp.asarray(EMBEDDINGS, jnp.bfloat16)
    full_value, full_grad = evaluate(case, rounded.astype(jnp.float32), LABELS)
    compute = functools.partial(case.objective(), params=dict(case.params))
    value, grad = jax.jit(jax.value_and_grad(compute))(rounded, case.labels(LABELS))
    assert value.dtype == jnp.float32
    rtol = 2e-2 if case.proxies else 1e-6  # proxies are rounded as well
    close(value, full_value, rtol=rtol)
    scale = float(np.abs(full_grad).max())
    if not case.proxies:
        close(grad.astype(jnp.float32), full_grad, rtol=1e-2, atol=1e-3 * scale)


@every_setting_in_time
def test_gradients_equal_finite_differences(case):
    """Of embeddings, of proxies and of hyper-parameters."""
    with jax.enable_x64(True):
        compute = case.objective()
        operands = {
            "x": jnp.asarray(EMBEDDINGS, jnp.float64),
            "params": jax.tree.map(jnp.float64, dict(case.params)),
        }
        if case.proxies:
            operands["references"] = jnp.asarray(case.references()[0], jnp.float64)
        check_grads(
            lambda operands: compute(y=case.labels(LABELS), **operands),
            (operands,),
            order=1,
            modes=("rev",),
            atol=1e-5,
            rtol=1e-5,
            eps=1e-6,
        )


@over(
    EXPORTED,
    "test_second_derivatives_equal_differences_of_gradients",
    slow=EXPORTED.keys() - _first_of_each_kind(),
)
def test_second_derivatives_equal_differences_of_gradients(case):
    """In row blocks reverse over reverse mode, on the whole matrix forward over it."""
    direction = np.random.default_rng(5).normal(size=EMBEDDINGS.shape)
    with jax.enable_x64(True):
        x, y = jnp.asarray(EMBEDDINGS, jnp.float64), case.labels(LABELS)
        grad = jax.jit(jax.grad(functools.partial(case.objective(block=5), y=y)))
        plain = jax.grad(functools.partial(case.objective(), y=y))
        step = 1e-6 * direction
        expected = (grad(x + step) - grad(x - step)) / 2e-6
        tolerance = 1e-6 * max(1e-3, float(jnp.abs(expected).max()))
        for along in (
            jax.grad(lambda x: jnp.vdot(grad(x), direction)),
            lambda x: jax.jvp(plain, (x,), (direction,))[1],
        ):
            found = jax.jit(along)(x)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@every_loss
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_valid_row_that_is_not_finite_makes_value_and_gradient_not_a_number(
    case, value
):
    rows = EMBEDDINGS.copy()
    rows[3, 1] = value
    value, grad = evaluate(case, rows, LABELS)
    assert np.isnan(value)
    assert not np.isfinite(grad[3]).all()


@pytest.mark.slow
def test_terms_are_negative_only_of_losses_that_say_so():
    signed = set()
    for name, case in EXPORTED.items():
        if case.loss in rankjax.regularizers.REGULARIZERS.values() or case.key:
            continue
        info = rankjax.registry.info_of(case.loss)
        seen = []

        @rankjax.Reduction
        def lowest(terms, seen=seen):
            seen.append(jnp.min(terms.total))
            return terms.total, None

        with jax.disable_jit():
            given = dataclasses.replace(case, reduction=lowest)
            apart = np.eye(8)[LABELS][:, :DIM] + EMBEDDINGS / 100
            for rows in (EMBEDDINGS, apart.astype(np.float32)):
                given.objective()(rows, case.labels(LABELS))
        if min(seen) < 0:
            signed.add((name, info.signed))
    assert signed
    assert all(says_so for _, says_so in signed), signed


@every_loss
def test_mean_active_is_refused_for_terms_below_zero(case):
    if not rankjax.registry.info_of(case.loss).signed:
        pytest.skip("its terms are never negative")
    with pytest.raises(ValueError, match=r"^reduction=mean_active divides by the"):
        rankjax.objective(case.loss, reduction=rankjax.mean_active)


def _slopes(case, y):
    """The gradient by the similarities, and which of them are of positives."""
    info = rankjax.registry.info_of(case.loss)
    if info.kind is Kind.FEATURES:
        pytest.skip("sees no similarities")
    names = case.references()[1] if case.proxies else y
    same = y[:, None] == names[None, :]
    matrix = np.random.default_rng(3).uniform(-1, 0, same.shape).astype(np.float32)
    if not case.proxies:
        matrix = (matrix + matrix.T) / 2
    if info.anchors == "references":
        matrix, same = matrix.T, same.T

    @jax.jit
    @jax.grad
    def grad(matrix):
        given = cases.dataclasses.replace(case, similarity=lambda a, r: matrix)
        return given.objective()(EMBEDDINGS, case.labels(y))

    slopes = grad(jnp.asarray(matrix))
    assert np.any(slopes)
    return slopes, same


@every_setting_in_time
def test_closer_positives_and_farther_negatives_never_cost(case):
    slopes, same = _slopes(case, LABELS)
    assert np.all(slopes[same] <= 1e-7)
    assert np.all(slopes[~same] >= -1e-7)


@every_loss
def test_a_closer_only_positive_and_farther_negatives_never_cost(case):
    """Of an anchor with one positive, which then competes with negatives alone."""
    slopes, same = _slopes(case, PAIRED)
    assert np.all(slopes[same] <= 1e-7)
    assert np.all(slopes[~same] >= -1e-7)


def _on_devices(wrapper, compute, case):
    """Value and gradients by the one rule: gather, differentiate inside, pmean."""

    def step(operands, batch):
        embed = lambda operands: jnp.tanh(batch["x"] @ operands["matrix"])  # noqa: E731
        given = {k: v for k, v in batch.items() if k not in ("x", "y")}
        value, grads = jax.value_and_grad(
            lambda operands: compute(
                embed(operands), batch["y"], params=operands["params"], **given
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
            mesh=Mesh(np.array(jax.devices()), (AXIS,)),
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        )
    )


@functools.cache
def _whole_batch(case):
    """Operands, batch, and the value and gradients on one device."""
    # Small, for where tanh is flat it makes rows equal, and distances all rounding.
    matrix = np.random.default_rng(4).normal(0, 0.3, (DIM, DIM)).astype(np.float32)
    operands = {"matrix": matrix, "params": jax.tree.map(np.float32, dict(case.params))}
    batch = {"x": EMBEDDINGS, "y": case.labels(LABELS), "valid": np.arange(16) != 7}
    if rankjax.registry.info_of(case.loss).anchors == "batch":
        batch["weights"] = np.linspace(0.5, 2, 16).astype(np.float32)
    given = {k: v for k, v in batch.items() if k not in ("x", "y")}
    compute = case.objective()
    expected = jax.jit(
        jax.value_and_grad(
            lambda operands: compute(
                jnp.tanh(batch["x"] @ operands["matrix"]),
                batch["y"],
                params=operands["params"],
                **given,
            )
        )
    )(operands)
    return operands, batch, expected


@over(EXPORTED | VARIANTS, slow=(EXPORTED | VARIANTS).keys() - _first_of_each_kind())
@pytest.mark.parametrize(
    "wrapper", ["pmap", pytest.param("shard_map in blocks", marks=pytest.mark.slow)]
)
def test_eight_devices_give_the_whole_batch_value_and_gradients(case, wrapper):
    operands, batch, expected = _whole_batch(case)
    block = 1 if wrapper == "shard_map in blocks" else "auto"
    spread = case.objective(axis_name=AXIS, block=block)
    run = _on_devices(wrapper.split()[0], spread, case)
    close(run(operands, batch), expected, case.tolerance, case.tolerance / 2)


@over(EXPORTED, slow=EXPORTED.keys() - _first_of_each_kind())
def test_shard_map_takes_settings_that_are_constants(case):
    step = _on_devices("shard_map", case.objective(axis_name=AXIS, block="auto"), case)
    operands = {"matrix": np.eye(DIM, dtype=np.float32), "params": {}}
    value, grads = jax.eval_shape(
        step, operands, {"x": EMBEDDINGS, "y": case.labels(LABELS)}
    )
    assert (value.shape, grads["matrix"].shape) == ((), (DIM, DIM))


@pytest.mark.slow
@every_loss
def test_a_sharded_batch_under_plain_jit_gives_the_same(case):
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    rows = jax.sharding.NamedSharding(mesh, PartitionSpec(AXIS))
    labels = case.labels(LABELS)
    labels = labels if labels.dtype == bool else labels.astype(np.int32)
    x, y = jax.device_put((EMBEDDINGS, labels), rows)
    compute = case.objective()
    value = jax.jit(functools.partial(compute, params=dict(case.params)))(x, y)
    close(value, evaluate(case, EMBEDDINGS, LABELS)[0])


@pytest.mark.slow  # the examples in docstrings call them, too
@every_loss
def test_one_call_form_equals_the_objective(case):
    if case.loss not in rankjax.losses.LOSSES.values():
        pytest.skip("regularisers have none")
    simple = getattr(rankjax, case.loss.__name__)
    given = {}
    if case.proxies:
        given["references"] = rankjax.References(*case.references())
    if case.key:
        given["key"] = jax.random.key(0)
    value = simple(EMBEDDINGS, case.labels(LABELS), **given)
    close(value, evaluate(case, EMBEDDINGS, LABELS, params=defaults(case))[0])
