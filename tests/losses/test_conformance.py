"""What every exported loss and regulariser owes, whatever its equation.

A property that a loss rightly lacks stands in `EXCEPTIONS` with the reason; everything
else is checked, and one that is exported without a case fails the collection.
"""

import dataclasses
import functools

import cases
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CLASSES, DIM, EMBEDDINGS, LABELS, evaluate
from devices import MESH, SPREAD, WHOLE, on_eight
from hypothesis import strategies as st
from jax.sharding import NamedSharding

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
_GUIDE = "the guide is given by class here"
_IMITATES = "imitates a guide, for which no pair is simply positive"
_GRADED = "more relevant ones compete with those that are less"
_DRAWS = "margins are drawn by the numbers of rows"
_COMPETE = "positives share one softmax: an easy one is pushed off by a hard one"
EXCEPTIONS: dict[str, dict[str, str]] = {
    "test_identical_rows_have_the_value_of_slow_loops": {
        "barlow_twins": "no coordinate has a variance",
        "relaxed_contrastive": "no distance to which others are relative",
    },
    "test_order_of_rows_does_not_matter": {
        "n_pairs": "roles alternate in the order of the batch",
        "n_pairs_ovo": "roles alternate in the order of the batch",
        "n_pairs_angular": "roles alternate in the order of the batch",
        "vic_reg": _VIEWS,
        "barlow_twins": _VIEWS,
        "elastic_face": _DRAWS,
    },
    "test_invalid_rows_change_nothing_and_get_no_gradient": {"elastic_face": _DRAWS},
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
        "similarity_distillation": _GUIDE,
        "relaxed_contrastive": _GUIDE,
        "margin_mse": _GUIDE,
        "soft_target": "relevance is of labels",
        "cosent": "relevance is of labels",
    },
    "test_weights_count_anchors_that_many_times": {
        "similarity_distillation": _GUIDE,
        "relaxed_contrastive": _GUIDE,
        "margin_mse": _GUIDE,
        "soft_target": "relevance is of labels",
        "cosent": "relevance is of labels",
        "proxy_anchor": "has a term per proxy, and refuses weights of rows",
        "generalized_end_to_end": _MASKS,
        "quadruplet": _MASKS,
        "elastic_face": _DRAWS,
        "ada_face": _POOLED,
        "curricular_face": _POOLED,
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
        "anti_collapse": _POOLED,
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
        "ada_face": "lengths are constants to the gradient, as in the paper",
        "curricular_face": "progress is a constant to the gradient",
        "nt_xent, hard negatives": "its weights are constants to the gradient",
    },
    "test_second_derivatives_equal_differences_of_gradients": {
        "ada_face": "lengths are constants to the gradient, as in the paper",
        "curricular_face": "progress is a constant to the gradient",
        "circle": "its weights are constants to the gradient, as in the paper",
        "ranked_list": "its weights are constants to the gradient, as in the paper",
        "dynamic_soft_margin": "its weights are constants to the gradient",
    },
    "test_closer_positives_and_farther_negatives_never_cost": {
        "debiased_contrastive, hard negatives": "a mean leans to near ones by weights",
        "similarity_distillation": _IMITATES,
        "relaxed_contrastive": _IMITATES,
        "margin_mse": _IMITATES,
        "soft_target": _GRADED,
        "cosent": _GRADED,
        "p2s_grad": "draws negatives to a right angle, not beyond",
        "curricular_face": "a hard class of cosine c has c (r + c), which has a least",
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


def over(table, *, where=lambda case: True, slow=()):
    """Parametrises over the cases that a property is of and that no exception names.

    Those in `slow` run with the slow tests.
    """

    def decorate(test):
        parameters = [
            pytest.param(
                case,
                id=name,
                # One process has all properties of a loss, and compiles it once.
                marks=[pytest.mark.xdist_group(name), *[pytest.mark.slow] * is_slow],
            )
            for name, case in table.items()
            for is_slow in [name in slow]
            if where(case) and not _excused(test.__name__, name)
        ]
        return pytest.mark.parametrize("case", parameters)(test)

    return decorate


every_loss = over(EXPORTED)
every_setting = over(EXPORTED | VARIANTS)  # where other code runs
every_setting_in_time = over(EXPORTED | VARIANTS, slow=VARIANTS)
# Slopes are held to differences of values, and values to loops: what else is said of
# slopes is daily tested of the others alone.
_DIFFERENTIATED = {
    name for name, case in (EXPORTED | VARIANTS).items() if not case.key
} - EXCEPTIONS["test_gradients_equal_finite_differences"].keys()
# Where the code around the losses is what a property depends on.
every_kind_in_time = over(EXPORTED, slow=EXPORTED.keys() - _first_of_each_kind())


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
        if case.params:
            expected = case.expected(EMBEDDINGS, case.labels(y), **case.params)
            value, _ = evaluate(case, EMBEDDINGS, y)
            np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)


@every_setting
def test_identical_rows_have_the_value_of_slow_loops(case):
    rows = np.tile(np.float32([0.6, 0.8, 0, 0, 0]), (16, 1))
    expected = case.expected(rows, case.labels(PAIRED))
    value, _ = evaluate(case, rows, PAIRED, params=defaults(case))
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


@over(EXPORTED, where=lambda case: not case.proxies)  # which would have to turn
def test_rotation_does_not_matter(case):
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0]
    rotation = rotation.astype(np.float32)
    value, grad = evaluate(case, EMBEDDINGS, LABELS)
    turned = evaluate(case, EMBEDDINGS @ rotation, LABELS)
    close(turned, (value, grad @ rotation))


EUCLIDEAN = {similarity.negative_euclidean, similarity.negative_squared_euclidean}


@over(EXPORTED, where=lambda case: case.measure in EUCLIDEAN and not case.proxies)
def test_translation_does_not_matter_to_distances(case):
    value, grad = evaluate(case, EMBEDDINGS, LABELS)
    moved = evaluate(case, EMBEDDINGS + 100, LABELS)
    close(moved, (value, grad), rtol=1e-3, atol=1e-4)
    close(grad.sum(0), np.zeros(DIM))


@every_loss
def test_invalid_rows_change_nothing_and_get_no_gradient(case):
    """Wherever they stand and whatever is in them; without them is by slow loops."""
    expected = case.expected(EMBEDDINGS[:12], LABELS[:12])
    grads = []
    for places, padding in [
        (np.arange(12), 0.0),
        (np.array([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]), 1e30),
        (np.arange(4, 16), np.inf),
        (np.array([0, 2, 3, 5, 6, 8, 9, 10, 11, 12, 14, 15]), np.nan),
    ]:
        rows, labels = np.full((16, DIM), padding, np.float32), np.zeros(16, int)
        rows[places], labels[places] = EMBEDDINGS[:12], LABELS[:12]
        valid = np.isin(np.arange(16), places)
        value, grad = evaluate(case, rows, labels, valid=valid, params=defaults(case))
        close(value, expected, atol=1e-6)
        close(grad[places], grads[0] if grads else grad[places])
        assert not np.any(grad[~valid])
        grads.append(grad[places])


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


# Batches at random


@st.composite
def batches(draw, rows=16, dim=DIM):
    """Embeddings, labels in 0 ... 7, and which rows are valid.

    Rows repeat, vanish, point the opposite way, and differ in length by many orders of
    magnitude; classes have from one to all of the rows.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    distinct = rng.normal(size=(draw(st.integers(1, rows)), dim))
    if draw(st.booleans()):
        distinct = np.sign(distinct)  # corners, where cosines are exactly 1, 0 or -1
    distinct[rng.random(len(distinct)) < draw(st.sampled_from([0, 0, 0.3]))] = 0
    x = distinct[rng.integers(len(distinct), size=rows)]
    x *= 10.0 ** rng.uniform(0, draw(st.sampled_from([0, 0, 3])), (rows, 1))
    x *= draw(st.sampled_from([1, 1, -1])) ** rng.integers(0, 2, (rows, 1))
    x *= 10.0 ** draw(st.sampled_from([-30, -12, -4, 0, 0, 0, 1, 4]))
    classes = draw(st.integers(1, CLASSES))
    valid = rng.random(rows) < draw(st.sampled_from([1, 1, 0.7, 0.1]))
    return x, rng.integers(0, classes, rows), valid


NAMES = np.array([-(2**31), -1, 0, 1, 2**24, 2**24 + 1, 2**31 - 2, 2**31 - 1])
settings = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@every_setting_in_time
@hypothesis.settings(settings, max_examples=40)
@hypothesis.given(batch=batches())
def test_odd_batches_have_finite_values_and_gradients(case, batch):
    x, y, valid = batch
    names = None if case.table else NAMES
    value, grad = evaluate(case, x, y, valid=valid, names=names)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    assert not np.any(grad[~valid])


@functools.cache
def _compiled(case):
    return jax.jit(jax.value_and_grad(case.objective()))


@pytest.mark.slow
@every_loss
@pytest.mark.parametrize(
    ("rows", "dim", "dtype"),
    [(1, 1, "float32"), (7, 3, "bfloat16"), (33, 40, "float16")],
)
@hypothesis.settings(settings, max_examples=15)
@hypothesis.given(data=st.data())
def test_any_shape_and_precision_stays_finite(case, rows, dim, dtype, data):
    x, y, valid = data.draw(batches(rows, dim))
    limit = float(jnp.finfo(dtype).max) / 8  # what the precision itself can hold
    x = jnp.asarray(np.clip(x, -limit, limit), dtype)
    value, grad = _compiled(case)(x, case.labels(y), valid=valid)
    assert np.isfinite(value)
    if dtype != "float16":  # whose largest number slopes at small lengths exceed
        assert np.isfinite(np.asarray(grad, np.float32)).all()


@every_loss
def test_a_batch_without_terms_gives_zero_and_no_gradient(case):
    value, grad = evaluate(case, EMBEDDINGS, LABELS, valid=np.zeros(16, bool))
    assert value == 0
    assert not np.any(grad)


@every_kind_in_time
def test_jit_eager_and_vmap_agree(case):
    x = np.stack([EMBEDDINGS, EMBEDDINGS[::-1]])
    y = np.stack([case.labels(LABELS), case.labels(LABELS[::-1])])
    expected = evaluate(case, x[0], LABELS)[0]
    compute = functools.partial(case.objective(), params=dict(case.params))
    one_by_one = [expected, evaluate(case, x[1], LABELS[::-1])[0]]
    close(jax.jit(jax.vmap(compute))(x, y), jnp.stack(one_by_one))
    with jax.disable_jit():
        close(compute(x[0], y[0]), expected)


@over(EXPORTED | VARIANTS, slow=_DIFFERENTIATED)  # in blocks, there
@pytest.mark.parametrize("block", ["auto", pytest.param(3, marks=pytest.mark.slow)])
def test_blocks_of_any_size_change_nothing(case, block):
    valid = np.arange(16) != 3
    expected = evaluate(case, EMBEDDINGS, LABELS, valid=valid)
    blocks = evaluate(case, EMBEDDINGS, LABELS, valid=valid, block=block)
    close(blocks, expected, case.tolerance, case.tolerance / 2)


def _masked(case, rows, given):
    """Of anchors against the references, by masks; of one shape, to compile it once."""
    z, names = case.references() if case.proxies else (EMBEDDINGS, PAIRED)
    same = PAIRED[:, None] == names
    positive = same if case.proxies else same & ~np.eye(16, dtype=bool)
    return case.objective()(
        EMBEDDINGS[rows],
        references=z if case.proxies else rankjax.References(z),
        positive=positive[rows],
        negative=~same[rows],
        **given,
    )


@every_loss
def test_given_masks_and_references_equal_labels(case):
    expected = evaluate(case, EMBEDDINGS, PAIRED, params=defaults(case))[0]
    weighted = rankjax.registry.info_of(case.loss).anchors == "batch"
    given = {"weights": np.ones(16, np.float32)} if weighted else {}
    close(_masked(case, np.arange(16), given), expected)
    if not case.proxies:
        same = PAIRED[:, None] == PAIRED
        masks = {"positive": same & ~np.eye(16, dtype=bool), "negative": ~same}
        close(case.objective()(EMBEDDINGS, **masks), expected)


@over(
    EXPORTED,
    where=lambda case: not case.proxies,
    slow=EXPORTED.keys() - _first_of_each_kind(),
)
def test_copies_of_the_batch_as_references_equal_the_batch(case):
    """As a cross-batch memory holds them: in another order, beside empty places."""
    labels, order = case.labels(PAIRED), np.random.default_rng(3).permutation(16)
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
    weighted = _masked(case, np.arange(16), {"weights": weights.astype(np.float32)})
    repeated = np.repeat(np.arange(16), weights)
    close(weighted, _masked(case, repeated, {"weights": np.ones(16, np.float32)}))


@every_kind_in_time
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
    """Of embeddings, of proxies and of hyper-parameters, in the blocks of the default.

    Value and gradient by embeddings are also those of the whole matrix.
    """
    valid = np.arange(16) != 3
    expected = evaluate(case, EMBEDDINGS, LABELS, valid=valid)
    with jax.enable_x64(True):
        operands = {
            "x": jnp.asarray(EMBEDDINGS, jnp.float64),
            "params": jax.tree.map(jnp.float64, dict(case.params)),
        }
        if case.proxies:
            operands["references"] = jnp.asarray(case.references()[0], jnp.float64)
        compute = functools.partial(
            case.objective(block="auto"), y=case.labels(LABELS), valid=valid
        )
        run = jax.jit(jax.value_and_grad(lambda operands: compute(**operands)))
        value, grads = run(operands)
        rng = np.random.default_rng(6)
        for part in grads:
            step = jax.tree.map(lambda x: 1e-6 * rng.normal(size=x.shape), grads[part])
            there = [
                run(operands | {part: jax.tree.map(operator, operands[part], step)})[0]
                for operator in (np.add, np.subtract)
            ]
            products = jax.tree.map(lambda a, b: np.sum(a * b), grads[part], step)
            slope = sum(jax.tree.leaves(products)) / 1e-6
            close((there[0] - there[1]) / 2e-6, slope, rtol=1e-5, atol=1e-5)
    if not case.key:  # other numbers are drawn in double precision
        close((value, grads["x"]), expected, case.tolerance, case.tolerance / 2)


@every_kind_in_time
def test_second_derivatives_equal_differences_of_gradients(case):
    """In row blocks reverse over reverse mode, on the whole matrix forward over it, and
    reverse over reverse of a batch among several."""
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
            jax.grad(lambda x: jnp.vdot(jax.vmap(plain)(x[None])[0], direction)),
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
            opposite = EMBEDDINGS.copy()
            for label in np.unique(LABELS):
                opposite[np.flatnonzero(label == LABELS)[1::2]] *= -1
            for rows in (EMBEDDINGS, opposite, apart.astype(np.float32)):
                given.objective()(rows, case.labels(LABELS))
        if min(seen) < 0:
            signed.add((name, info.signed))
    assert signed
    assert all(says_so for _, says_so in signed), signed


@over(EXPORTED, where=lambda case: rankjax.registry.info_of(case.loss).signed)
def test_mean_active_is_refused_for_terms_below_zero(case):
    with pytest.raises(ValueError, match=r"^reduction=mean_active divides by the"):
        rankjax.objective(case.loss, reduction=rankjax.mean_active)


def _sees_similarities(case):
    return rankjax.registry.info_of(case.loss).kind is not Kind.FEATURES


@over(EXPORTED | VARIANTS, where=_sees_similarities, slow=_DIFFERENTIATED)
def test_closer_positives_and_farther_negatives_never_cost(case):
    names = case.references()[1] if case.proxies else LABELS
    same = LABELS[:, None] == names
    matrix = np.random.default_rng(3).uniform(-1, 0, same.shape).astype(np.float32)
    if not case.proxies:
        matrix = (matrix + matrix.T) / 2
    if rankjax.registry.info_of(case.loss).anchors == "references":
        matrix, same = matrix.T, same.T

    @jax.jit
    @jax.grad
    def slope(matrix, y):
        given = dataclasses.replace(case, similarity=lambda a, r: matrix)
        return given.objective()(EMBEDDINGS, y)

    slopes = slope(matrix, case.labels(LABELS))
    assert np.any(slopes)
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
    return on_eight(step, (WHOLE, SPREAD))


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


@every_kind_in_time
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
    labels = case.labels(LABELS)
    labels = labels if labels.dtype == bool else labels.astype(np.int32)
    x, y = jax.device_put((EMBEDDINGS, labels), NamedSharding(MESH, SPREAD))
    compute = functools.partial(case.objective(), params=dict(case.params))
    close(jax.jit(compute)(x, y), evaluate(case, EMBEDDINGS, LABELS)[0])
