"""What the objective does around a loss: pairing, towers, averaging, checks, traces."""

import dataclasses
import functools
import pickle
import re
import subprocess
import sys

import evaluation
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from devices import SPREAD, WHOLE, on_eight
from jax.sharding import Mesh, PartitionSpec

import rankjax
from rankjax import References, losses, mining, similarity
from rankjax.mining import MINERS, SELECTIONS
from rankjax.parallel import AXIS
from rankjax.registry import hyper_parameters
from rankjax.regularizers import squared_norm
from rankjax.rows import per_positive

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(6, 4)).astype(np.float32)
OTHERS = RNG.normal(size=(5, 4)).astype(np.float32)
LABELS = np.array([0, 1, 0, 2, 1, 0])
OTHER_LABELS = np.array([1, 0, 2, 1, 3])
LINEAR = functools.partial(losses.contrastive_loss, squared=False)
close = functools.partial(evaluation.close, rtol=1e-5, atol=1e-5)


# Pairs, triplets and tuplets that the user names

POSITIVE_PAIRS = (np.array([0, 2, 5]), np.array([3, 1, 0]))
NEGATIVE_PAIRS = (np.array([0, 0, 4, 5]), np.array([1, 2, 0, 3]))


def test_masks_from_pairs_name_exactly_the_listed_pairs():
    masks = rankjax.masks_from_pairs(POSITIVE_PAIRS, NEGATIVE_PAIRS, (6, 5))
    for mask, (rows, columns) in zip(
        masks, (POSITIVE_PAIRS, NEGATIVE_PAIRS), strict=True
    ):
        listed = np.zeros((6, 5), bool)
        listed[rows, columns] = True
        np.testing.assert_array_equal(mask, listed)


def test_masks_from_pairs_works_while_tracing():
    expected = rankjax.masks_from_pairs(POSITIVE_PAIRS, NEGATIVE_PAIRS, (6, 5))
    concrete = lambda: rankjax.masks_from_pairs(  # noqa: E731
        POSITIVE_PAIRS, NEGATIVE_PAIRS, (6, 5)
    )
    traced = lambda *lists: rankjax.masks_from_pairs(*lists, (6, 5))  # noqa: E731
    close(jax.jit(concrete)(), expected)
    close(jax.jit(traced)(POSITIVE_PAIRS, NEGATIVE_PAIRS), expected)


@pytest.mark.parametrize(
    ("positive", "error", "message"),
    [
        (
            ([0, 6], [0, 0]),
            ValueError,
            "positive names rows 0 to 6; allowed are 0 to 5",
        ),
        (
            ([0, 1], [0, 5]),
            ValueError,
            "positive names rows 0 to 5; allowed are 0 to 4",
        ),
        (([0, -1], [0, 0]), ValueError, "positive names rows -1 to 0; allowed are 0"),
        (
            ([0, 1], [0]),
            ValueError,
            "positive must pair as many anchor rows .* 2 and 1",
        ),
        (([0.0], [0]), TypeError, "positive must be row numbers, got float64"),
    ],
)
def test_masks_from_pairs_refuses(positive, error, message):
    with pytest.raises(error, match=f"^{message}"):
        rankjax.masks_from_pairs(positive, ([], []), (6, 5))


def test_a_given_mask_cannot_pair_a_row_with_itself():
    compute = rankjax.objective(losses.n_pairs_loss)
    masks = {"positive": np.eye(6, dtype=bool), "negative": ~np.eye(6, dtype=bool)}
    assert compute(EMBEDDINGS, **masks) == 0


ANCHOR = np.array([0, 3, 5, 0])
POSITIVES = np.array([[1, 2], [4, 5], [0, 2], [3, 4]])
NEGATIVES = np.array([[3, 4, 5], [0, 1, 2], [1, 3, 4], [1, 2, 5]])


def _tuples(tuplets):
    """(anchor, positives, negatives) of triplets or of (N+1)-tuplets, as lists."""
    if tuplets:
        return ANCHOR, POSITIVES, NEGATIVES
    return ANCHOR, POSITIVES[:, 0], NEGATIVES[:, 0]


def _tuple_loss(name, matrix, anchor, positives, negatives):
    """Terms of one tuple, for an angle of 45 degrees."""
    s = matrix[anchor]
    p, n = [s[j] for j in positives], [s[j] for j in negatives]
    if name == "contrastive":
        pull = [max(0.0, -v) ** 2 / 2 for v in p]
        push = [max(0.0, 1.0 + v) ** 2 / 2 for v in n]
        return pull, push
    if name == "triplet":
        return ([max(0.0, y - x + 0.2) for x in p for y in n],)
    if name == "batch_hard_triplet":
        return ([np.log1p(np.exp(max(n) - min(p)))],)
    if name == "angular":
        f = [
            [4 * (s[y] + matrix[x, y]) - 4 * s[x] for y in negatives] for x in positives
        ]
        return ([np.log(1 + np.exp(values).sum()) for values in f],)
    if name == "angular_hinge":
        pairs = [(x, y) for x in positives for y in negatives]
        return ([max(0.0, 2 * (s[y] + matrix[x, y]) - 2 * s[x]) for x, y in pairs],)
    return ([np.log(np.exp(p + n).sum()) - np.mean(p)],)


@pytest.mark.parametrize("tuplets", [False, True], ids=["triplets", "tuplets"])
@pytest.mark.parametrize(
    "name",
    [
        "contrastive",
        "triplet",
        "batch_hard_triplet",
        "angular",
        "angular_hinge",
        "n_pairs",
    ],
)
def test_explicit_tuples_equal_loops(name, tuplets):
    loss = losses.LOSSES[name]
    lists, measure = _tuples(tuplets), loss.info.similarity

    @jax.jit
    def mean(*lists):
        pairs = rankjax.from_tuples(EMBEDDINGS, *lists, similarity=measure)
        terms = loss(pairs)
        return sum(map(rankjax.mean, terms if isinstance(terms, tuple) else [terms]))

    s = reference.similarity_matrix(measure.__name__, EMBEDDINGS)
    parts = [
        _tuple_loss(name, s, a, np.atleast_1d(p), np.atleast_1d(n))
        for a, p, n in zip(*lists, strict=True)
    ]
    expected = sum(
        np.mean([v for part in column for v in part])
        for column in zip(*parts, strict=True)
    )
    close(mean(*lists), expected)


MISSING = {
    "anchor_label": {
        "quadruplet": {},
        "hierarchical_triplet": {"margins": np.zeros((2, 2))},
        "margin": {"beta": np.ones(2)},
    },
    "reference_label": {"generalized_end_to_end": {}},
    "reference_embeddings": {"angular": {}, "positive_negative": {}},
    "anchor_length": {"mag_face": {}},
    "guide": {"margin_mse": {}},
    "key": {"elastic_face": {}},
}


def test_what_is_made_by_hand_is_checked_by_name():
    yes = jnp.eye(2, dtype=bool)
    pairs = rankjax.Pairs(jnp.zeros((2, 2)), yes.astype(int), ~yes)
    with pytest.raises(TypeError, match=r"^Pairs.positive must be a bool mask, got in"):
        losses.triplet_loss(pairs)
    with pytest.raises(TypeError, match=r"^similarity must be a function, such as"):
        rankjax.from_tuples(EMBEDDINGS, [0], [1], [2], similarity="cosine")
    proxies = rankjax.References(EMBEDDINGS[:4], np.arange(4))
    for loss in (losses.arc_face_loss, losses.cos_face_loss):
        compute = rankjax.objective(functools.partial(loss, margin=[0.1, 0.2, 0.3]))
        with pytest.raises(ValueError, match=r"^margin must be .*, here 4, got 3"):
            compute(EMBEDDINGS, LABELS, references=proxies)


@pytest.mark.parametrize(
    ("field", "name", "settings"),
    [(x, name, given) for x, of in MISSING.items() for name, given in of.items()],
)
def test_a_loss_says_what_it_misses_of_pairs(field, name, settings):
    yes = jnp.eye(2, dtype=bool)
    pairs = rankjax.Pairs(jnp.zeros((2, 2), jnp.float32), yes, ~yes)
    with pytest.raises(ValueError, match=rf"^this needs Pairs\.{field}, which is None"):
        losses.LOSSES[name](pairs, **settings)


@pytest.mark.parametrize(
    ("anchor", "positive", "negative", "error", "message"),
    [
        ([0, 1], [2], [3, 4], ValueError, "anchor, positive and negative must list"),
        ([0], [6], [3], ValueError, "positive names rows 6 to 6; allowed are 0 to 5"),
        (
            [0],
            [1],
            [-1],
            ValueError,
            "negative names rows -1 to -1; allowed are 0 to 5",
        ),
        ([9], [1], [2], ValueError, "anchor names rows 9 to 9; allowed are 0 to 5"),
        ([0.0], [1], [2], TypeError, "anchor must be row numbers, got float64"),
    ],
)
def test_from_tuples_refuses(anchor, positive, negative, error, message):
    with pytest.raises(error, match=f"^{message}"):
        rankjax.from_tuples(
            EMBEDDINGS, anchor, positive, negative, similarity=similarity.dot
        )


# Two towers


@pytest.mark.parametrize("name", ["contrastive", "n_pairs", "angular_hinge"])
def test_two_towers_equal_one_batch_with_masks_between_them(name):
    """In value, and in the gradients of embeddings and references."""
    compute = rankjax.objective(losses.LOSSES[name])
    towers = jax.value_and_grad(
        lambda x, z: compute(x, LABELS, references=References(z, OTHER_LABELS)),
        (0, 1),
    )
    between = np.zeros((11, 11), bool)
    between[:6, 6:] = True
    labels = np.concatenate([LABELS, OTHER_LABELS])
    same = labels[:, None] == labels
    joint = jax.value_and_grad(
        lambda x: compute(x, positive=between & same, negative=between & ~same)
    )
    value, grad = jax.jit(joint)(np.concatenate([EMBEDDINGS, OTHERS]))
    assert np.any(grad[6:])
    close(jax.jit(towers)(EMBEDDINGS, OTHERS), (value, (grad[:6], grad[6:])))


def test_invalid_references_change_nothing_and_get_no_gradient():
    compute = rankjax.objective(losses.n_pairs_loss)

    @jax.jit
    @jax.value_and_grad
    def run(z, y, valid):
        return compute(
            EMBEDDINGS,
            LABELS,
            references=References(z, y, valid),
        )

    valid = np.array([True, False, True, True, False, True, True])
    padded = np.full((7, 4), np.nan, np.float32)
    padded[valid] = OTHERS
    labels = np.zeros(7, int)
    labels[valid] = OTHER_LABELS
    value, grad = run(padded, labels, valid)
    close((value, grad[valid]), run(OTHERS, OTHER_LABELS, None))
    assert not np.any(grad[~valid])


# Averages


def _hinges(margin=3.0):
    distance = -reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    same = LABELS[:, None] == LABELS
    apart = ~np.eye(6, dtype=bool)
    pull = np.where(same & apart, distance, 0)
    push = np.where(~same, np.maximum(margin - distance, 0), 0)
    return (pull, same & apart), (push, ~same)


def _per_anchor(v, where):
    """Means of the anchors' own terms, and which anchors have any."""
    counts = where.sum(1)
    return (v * where).sum(1) / np.maximum(counts, 1), counts > 0


def _mean_per_anchor(v, where, w):
    means, some = _per_anchor(v, where)
    return (w[:, 0] * means)[some].sum() / w[some, 0].sum()


def _class_balanced_mean(v, where, w):
    """With weights of 1: the mean over classes with a term of the class's mean."""
    means, some = _per_anchor(v, where)
    share = w[:, 0] / np.bincount(LABELS)[LABELS]
    return (share * means)[some].sum() / share[some].sum()


AVERAGES = {
    "mean_per_anchor": (rankjax.mean_per_anchor, _mean_per_anchor),
    "class_balanced_mean": (rankjax.class_balanced_mean, _class_balanced_mean),
    "mean": (rankjax.mean, lambda v, where, w: (v * w).sum() / (where * w).sum()),
    "mean_active": (
        rankjax.mean_active,
        lambda v, where, w: (v * w).sum() / ((v > 0) * w).sum(),
    ),
    "total": (rankjax.total, lambda v, where, w: (v * w).sum()),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_reductions_and_weights_by_hand(name):
    reduction, expected = AVERAGES[name]
    compute = rankjax.objective(LINEAR, reduction=reduction)
    parts = _hinges()
    assert 0 < (parts[1][0] > 0).sum() < parts[1][1].sum()
    for weights in (np.ones(6), np.array([0, 1, 2, 0.5, 3, 1])):
        close(
            compute(EMBEDDINGS, LABELS, weights=weights, params={"margin": 3.0}),
            sum(expected(*part, weights[:, None]) for part in parts),
        )


def test_shares_and_similarities_by_hand():
    compute = rankjax.objective(LINEAR, has_aux=True)
    _, aux = compute(EMBEDDINGS, LABELS, params={"margin": 3.0})
    (pull, positive), (push, negative) = _hinges()
    s = reference.similarity_matrix("negative_euclidean", EMBEDDINGS)
    active = (pull > 0).sum() + (push > 0).sum()
    close(
        aux,
        {
            "active_share": active / (positive.sum() + negative.sum()),
            "positive_similarity": s[positive].mean(),
            "negative_similarity": s[negative].mean(),
        },
    )


BATCH = RNG.normal(size=(16, 4)).astype(np.float32)
BATCH_LABELS = np.array([0, 1, 2, 3] * 4)
VALID = np.arange(16) < 11  # unevenly spread: the last devices hold padding alone
BATCH[~VALID] = np.nan


def _penalized(**settings):
    return rankjax.objective(
        losses.n_pairs_loss, regularizers=[(0.25, rankjax.squared_norm)], **settings
    )


def test_a_regularizer_adds_its_weight_times_the_mean_over_valid_rows():
    plain = rankjax.objective(losses.n_pairs_loss)
    squares = (BATCH[VALID] ** 2).sum(-1)
    close(
        _penalized()(BATCH, BATCH_LABELS, valid=VALID),
        plain(BATCH, BATCH_LABELS, valid=VALID) + 0.25 * squares.mean(),
    )


@jax.jit
@jax.value_and_grad
def _one_device(factor):
    return _penalized()(factor * BATCH, BATCH_LABELS, valid=VALID)


def _spread(axis_name, mesh):
    """The loss of the whole batch and the gradient of a factor on the embeddings."""
    compute = _penalized(axis_name=axis_name)

    def step(factor, x, y, valid):
        value, grad = jax.value_and_grad(
            lambda factor: compute(factor * x, y, valid=valid)
        )(factor)
        return value, jax.lax.pmean(grad, axis_name)

    rows = PartitionSpec(axis_name)
    return jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(PartitionSpec(), rows, rows, rows),
            out_specs=PartitionSpec(),
        )
    )


@pytest.mark.parametrize("axis_name", [AXIS, ("data", "model"), ("model", "data")])
def test_penalized_loss_with_padding_is_the_same_on_a_mesh_of_eight(axis_name):
    devices = np.array(jax.devices())
    mesh = (
        Mesh(devices, (AXIS,))
        if axis_name == AXIS
        else Mesh(devices.reshape(4, 2), ("data", "model"))
    )
    factor = jnp.float32(0.9)
    spread = _spread(axis_name, mesh)(factor, BATCH, BATCH_LABELS, VALID)
    close(spread, _one_device(factor))


# Bad input


def never(pairs):
    pytest.fail("the loss was traced in spite of bad input")


MASK = np.zeros((6, 6), bool)
REFERENCES = {"references": References(OTHERS, OTHER_LABELS)}


def others(**changed):
    return {"references": dataclasses.replace(REFERENCES["references"], **changed)}


MASKS = {"labels": None, "positive": MASK, "negative": MASK}
BAD_VALUES = [
    ({"embeddings": EMBEDDINGS[0]}, r"embeddings must have .* neither 0, got \(4,\)"),
    (
        {"labels": LABELS + 2**31},
        "labels run from 2147483648 to 2147483650, which int3",
    ),
    ({"labels": LABELS[:5]}, r"labels must have shape \(6,\), got \(5,\)"),
    (
        MASKS | {"positive": np.eye(6) > 0, "negative": np.eye(6) > 0},
        "positive and negative must not overlap, 6 pairs do",
    ),
    (
        others(copy_of=np.array([0, 6, -1, -1, -1])),
        "references.copy_of must be a row of the batch, .* or -1 for none, got 6",
    ),
    ({"labels": None}, "labels is None; give .*=rankjax.Positives"),
    (others(labels=None), "references.labels is None; give labels, or positive and n"),
    (MASKS | {"negative": None}, "positive and negative must be given together"),
    (MASKS | {"labels": LABELS}, "labels and the masks positive and negative exclude"),
    (
        MASKS | {"positive": MASK[:5]},
        r"positive must have shape \(6, 6\), got \(5, 6\)",
    ),
    (
        others(embeddings=OTHERS[:, :3]),
        "references.embeddings must have the embeddings' dim 4, got 3",
    ),
    ({"valid": np.ones((6, 1), bool)}, r"valid must have shape \(6,\), got \(6, 1\)"),
    ({"weights": np.ones(5)}, r"weights must have shape \(6,\), got \(5,\)"),
    ({"weights": np.arange(6) - 1.0}, "weights must not be negative, got -1.0"),
]
BAD_TYPES = [
    (
        {"embeddings": np.ones((6, 4), int)},
        "embeddings must be floating point, got int",
    ),
    ({"weights": {0: 1.0, 1: 2.0}}, "weights must be an array, got "),
    ({"valid": np.ones(6, int)}, r"valid must be a bool .*int.*valid.astype\(bool\)"),
    (
        {"labels": EMBEDDINGS},
        r"labels must be integers.*float32 \(6, 4\); what another tower .*Positives\(",
    ),
    (
        {
            "labels": None,
            "references": rankjax.Positives(
                EMBEDDINGS, EMBEDDINGS[:, None], negatives_valid=np.ones((6, 1), int)
            ),
        },
        r"references.negatives_valid must be a bool .* references.negatives_valid.asty",
    ),
    ({"labels": LABELS * 1.0}, r"labels must be integers, or a bool mask \[rows, cla"),
    (
        {"labels": np.eye(6, dtype=int)},
        r"labels \[rows, classes\] must be a bool mask, got int64; of 0 and 1 take la",
    ),
    (
        {"labels": LABELS[:, None]},
        r"labels must have shape \[rows\]; write labels\[:, 0",
    ),
    (
        {"embeddings": np.ma.masked_array(EMBEDDINGS)},
        "embeddings must not be masked; l",
    ),
    (
        {"references": OTHERS},
        r"references must be rankjax.References\(embeddings, labe",
    ),
    (MASKS | {"negative": MASK * 1.0}, "negative must be a bool mask, got float"),
    (
        others(embeddings=OTHERS.astype(np.float16)),
        "references.embeddings must have the embeddings' dtype float32, got float16",
    ),
    ({"valid": np.ones(6, np.int32)}, "valid must be a bool mask, got int32"),
    ({"weights": np.ones(6, complex)}, "weights must be real numbers, got complex"),
]


@pytest.mark.parametrize(
    ("error", "given", "message"),
    [(ValueError, *bad) for bad in BAD_VALUES]
    + [(TypeError, *bad) for bad in BAD_TYPES],
)
def test_bad_input_is_named_before_anything_is_compiled(error, given, message):
    with pytest.raises(error, match=f"^{message}"):
        rankjax.objective(never)(**{"embeddings": EMBEDDINGS, "labels": LABELS} | given)


def test_numpy_s_whole_numbers_are_whole_numbers():
    x, y = EMBEDDINGS, LABELS
    for one, other in ((np.int64(4), 4), (np.int8(1), 1)):
        np.testing.assert_array_equal(
            *(
                rankjax.objective(losses.contrastive_loss, block=b)(x, y)
                for b in (one, other)
            )
        )
    found = [rankjax.recall_at_k_loss(x, y, k=k) for k in (np.array([1, 2]), (1, 2))]
    assert found[0] == found[1]
    with pytest.raises(TypeError, match=r"^k must be a tuple of whole.*, got array"):
        rankjax.recall_at_k_loss(x, y, k=np.array([1.5]))


@pytest.mark.parametrize("block", [0, -1])
def test_a_block_below_one_is_refused(block):
    with pytest.raises(ValueError, match=f"^block must be .* at least 1, got {block}$"):
        rankjax.objective(losses.n_pairs_loss, block=block)


NEVER = {
    "angle": [0, 90, 120.0, np.float32(90), float("nan")],
    "temperature": [0, -1.0, float("nan")],
    "scale": [0.0, -2.0],
    "bins": [0, -3],
    "centers": [0],
    "negatives": ["both"],
    "direction": ["both"],
}


@pytest.mark.parametrize(
    ("loss", "setting"),
    [
        pytest.param(loss, setting, id=f"{name}, {setting}")
        for name, loss in losses.LOSSES.items()
        for setting in sorted(NEVER.keys() & hyper_parameters(loss).keys())
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(loss, setting):
    for value in NEVER[setting]:
        shown = repr(value) if isinstance(value, str) else str(value)
        message = rf"^{setting} must be .*, got {re.escape(shown)}$"
        with pytest.raises(ValueError, match=message):
            rankjax.objective(functools.partial(loss, **{setting: value}))
        if not isinstance(value, str):
            with pytest.raises(ValueError, match=message):
                rankjax.objective(loss)(
                    EMBEDDINGS, LABELS, **REFERENCES, params={setting: value}
                )


def test_parts_that_losses_do_without_need_no_import_of_their_own():
    code = "import rankjax; print(rankjax.models.Proxies, rankjax.train.Checkpoints)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(name):
    compute = rankjax.objective(losses.LOSSES[name])
    with pytest.raises(TypeError, match=r"^marginn is not a setting here; there are"):
        compute(EMBEDDINGS, LABELS, **REFERENCES, params={"marginn": 1.0})
    for wrong in ("marginn", "axis_name", "miner"):
        others = (
            rf"^{wrong} is not .*mining, similarity.*valid.*; rankjax.objective has"
        )
        with pytest.raises(TypeError, match=others):
            getattr(rankjax, f"{name}_loss")(EMBEDDINGS, LABELS, **{wrong: 1.0})


def test_mining_for_a_loss_on_features_is_refused():
    with pytest.raises(TypeError, match=r"^mining chooses pairs, and this loss looks"):
        rankjax.objective(rankjax.squared_norm, mining=mining.hardest)


def test_a_loss_with_a_term_per_reference_needs_references_and_takes_no_weights():
    compute = rankjax.objective(losses.proxy_anchor_loss)
    with pytest.raises(ValueError, match=r"^this loss needs references, such as prox"):
        compute(EMBEDDINGS, LABELS)
    with pytest.raises(ValueError, match=r"^weights count rows of the batch, and this"):
        compute(EMBEDDINGS, LABELS, **REFERENCES, weights=np.ones(6))


@pytest.mark.parametrize("name", ["contrastive", "vic_reg"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_bad_weight_of_a_valid_row_makes_the_loss_not_a_number(name, bad):
    compute = rankjax.objective(losses.LOSSES[name])
    weights = jnp.ones(6).at[5].set(bad)
    assert np.isnan(compute(EMBEDDINGS, LABELS, weights=weights))
    padded = functools.partial(compute, EMBEDDINGS, LABELS, valid=np.arange(6) < 5)
    close(padded(weights=weights), padded(weights=np.ones(6)))


def test_weights_whose_sum_is_beyond_float32_make_the_loss_not_a_number():
    compute = rankjax.objective(losses.contrastive_loss)
    for power, finite in [(20, True), (38, False)]:
        weights = np.full(6, 10.0**power, np.float32)
        value = compute(EMBEDDINGS, LABELS, weights=weights)
        assert np.isfinite(value) == finite, power


def test_arrays_of_either_byte_order_are_taken():
    compute = rankjax.objective(losses.contrastive_loss)
    native = [EMBEDDINGS, LABELS.astype(np.int32), np.ones(6, np.float32)]
    swapped = [array.astype(array.dtype.newbyteorder()) for array in native]
    expected, found = (compute(x, y, weights=w) for x, y, w in (native, swapped))
    assert found == expected


def test_class_balanced_mean_without_labels_is_refused():
    compute = rankjax.objective(LINEAR, reduction=rankjax.class_balanced_mean)
    with pytest.raises(ValueError, match=r"^class_balanced_mean needs labels"):
        compute(EMBEDDINGS, positive=MASK, negative=MASK)


@pytest.mark.parametrize("direction", ["column", "symmetric"])
def test_two_towers_have_rows_only(direction):
    loss = functools.partial(losses.n_pairs_loss, direction=direction)
    with pytest.raises(ValueError, match=f"^direction='{direction}' needs anchors"):
        rankjax.objective(loss)(EMBEDDINGS, LABELS, **REFERENCES)


# Tracing


def test_other_numbers_labels_and_validity_do_not_compile_again():
    traces = []

    def counting(pairs, *, margin):
        traces.append(None)
        return losses.triplet_loss(pairs, margin=margin)

    compute = rankjax.objective(counting)
    compute(EMBEDDINGS, LABELS, params={"margin": 0.5})
    first = len(traces)
    values = [
        compute(EMBEDDINGS, LABELS, valid=valid, params={"margin": margin})
        for margin in (0.5, 1.0)
        for valid in (None, np.arange(6) < 4)
    ]
    relabelled = compute(EMBEDDINGS, np.roll(LABELS, 1), params={"margin": 0.5})
    assert len(traces) == first > 0
    assert len({float(v) for v in [*values, relabelled]}) == 5


def test_equal_objectives_share_one_program_whatever_their_numbers():
    traces = []

    def counting(pairs, *, scale=1.0):
        traces.append(None)
        return rankjax.Terms.over_references(scale * pairs.similarity, pairs.negative)

    def made(margin, weight):
        return [
            rankjax.objective(counting, regularizers=[(weight, squared_norm)]),
            rankjax.objective(
                functools.partial(losses.triplet_loss, margin=margin),
                mining=functools.partial(mining.top_k, negatives=2),
            ),
        ]

    first, same, other = made(0.2, 0.1), made(0.2, 0.1), made(0.3, 0.2)
    assert first == same
    assert first != other
    assert [*map(hash, first)] == [*map(hash, same)]
    values = [
        [compute(EMBEDDINGS, LABELS) for compute in row] for row in (first, other)
    ]
    programs = sys.modules["rankjax.objective"]._compiled._cache_size()
    assert len(traces) == 1
    for row in made(0.2, 0.1), made(0.4, 0.7):
        for compute in row:
            compute(EMBEDDINGS, LABELS)
    assert len(traces) == 1
    assert sys.modules["rankjax.objective"]._compiled._cache_size() == programs
    assert all(a != b for a, b in zip(*values, strict=True))


def test_no_derivative_in_blocks_holds_the_whole_matrix():
    rows = 2048
    labels = np.arange(rows, dtype=np.int32) // 4
    compute = rankjax.objective(losses.sup_con_loss, block=64)
    grad = jax.grad(lambda x: compute(x, labels))
    second = jax.grad(lambda x: jnp.vdot(grad(x), x))
    for function in (grad, second):
        program = jax.jit(function).lower(jax.ShapeDtypeStruct((rows, 8), np.float32))
        held = program.compile().memory_analysis().temp_size_in_bytes
        assert held < 4 * rows**2 / 2


def test_an_objective_prints_what_it_computes():
    compute = rankjax.objective(
        functools.partial(losses.triplet_loss, margin=0.3, selection=mining.semi_hard),
        regularizers=[(0.1, squared_norm)],
        block=16,
    )
    assert repr(compute) == (
        "objective(loss=triplet_loss(selection=semi_hard, margin=0.3), mining=None, "
        "similarity=negative_squared_euclidean, reduction=mean, "
        "regularizers=[(0.1, 'squared_norm')], axis_name=None, block=16, "
        "has_aux=False, dims=None, dim_weights=(), relevance=None, symmetric=False)"
    )


def test_one_call_forms_and_objectives_can_be_pickled():
    assert pickle.loads(pickle.dumps(rankjax.triplet_loss)) is rankjax.triplet_loss
    compute = rankjax.objective(losses.sup_con_loss, reduction=rankjax.total)
    assert pickle.loads(pickle.dumps(compute)) == compute


@pytest.mark.parametrize("wrapper", ["pmap", "shard_map"])
def test_a_loss_that_closes_over_arrays_is_exact_on_devices(wrapper):
    """Arrays of all kinds: a learned margin, a table of classes, whole numbers."""

    def value(learned, x, y, axis_name):
        table, lag = jnp.arange(6.0, dtype=jnp.float32), jnp.asarray(y[0] * 0 + 1)

        def loss(pairs):
            def terms(view):
                gap = view.row - view.positive + learned["margin"]
                return rankjax.Terms.over_references(jax.nn.relu(gap), view.negatives)

            found = per_positive(pairs, terms)
            label = jnp.asarray(pairs.anchor_label)
            return found.scaled(1 + learned["scale"] * table[label + lag])

        compute = rankjax.objective(loss, axis_name=axis_name, block=3)
        return compute(jnp.tanh(x @ learned["matrix"]), y)

    learned = {
        "matrix": 0.5 * RNG.normal(size=(4, 4)).astype(np.float32),
        "margin": np.float32(0.7),
        "scale": np.float32(0.3),
    }
    x = RNG.normal(size=(16, 4)).astype(np.float32)
    y = np.arange(16, dtype=np.int32) // 4

    def step(learned, x, y):
        found, grads = jax.value_and_grad(value)(learned, x, y, AXIS)
        return found, jax.lax.pmean(grads, AXIS)

    if wrapper == "pmap":
        run = jax.pmap(step, AXIS, in_axes=(None, 0, 0), out_axes=None)
        got = run(learned, x.reshape(8, 2, 4), y.reshape(8, 2))
    else:
        got = on_eight(step, (WHOLE, SPREAD, SPREAD))(learned, x, y)
    expected = jax.jit(jax.value_and_grad(value), static_argnums=3)(learned, x, y, None)
    jax.tree.map(functools.partial(close, rtol=1e-5, atol=1e-6), got, expected)


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize(
    "changed",
    [{"mining": miner} for name, miner in MINERS.items() if name != "hierarchical"]
    + [{"selection": selection} for selection in SELECTIONS.values()],
    ids=lambda changed: next(iter(changed.values())).__name__,
)
def test_a_similarity_that_is_not_a_number_makes_the_loss_none_if_rows_are_valid(
    changed, valid
):
    """Whatever is chosen among pairs, a run notices; padding may have any."""

    def undefined(anchors, references):
        is_last = (jnp.arange(6) == 5)[None, :]
        return jnp.where(is_last, jnp.nan, anchors @ references.T)

    x, y = RNG.normal(size=(6, 3)).astype(np.float32), np.arange(6) // 3
    selection = {k: changed[k] for k in ("selection",) if k in changed}
    loss = functools.partial(losses.triplet_loss, **selection)
    compute = rankjax.objective(
        loss, mining=changed.get("mining"), similarity=undefined, block=2
    )
    key = jax.random.key(0)
    value = compute(x, y, valid=np.arange(6) < 5 + valid, key=key)
    assert np.isnan(value) == valid


RETURNED = {
    "a scalar": ({"loss": lambda p: p.similarity.sum()}, r"a loss must .* shape \(\)"),
    "nothing": ({"loss": lambda p: None}, "a loss must return .*NoneType"),
    "arrays": (
        {"loss": lambda p: [p.similarity]},
        r"a loss must return .*list of an array of shape \(6, 6\)",
    ),
    "a table of NumPy": (
        {"relevance": lambda a, r: np.eye(4)[a][:, r], "loss": losses.soft_target_loss},
        r"relevance must compute by jax.numpy .* must be jnp.asarray\(array\)",
    ),
    "a NumPy function": (
        {"similarity": lambda a, r: np.array(a) @ np.array(r).T},
        "similarity must compute by jax.numpy and not by NumPy",
    ),
    "Terms and a number": (
        {"loss": lambda p: (losses.triplet_loss(p), 0.0)},
        "a loss must return .*tuple of Terms, float",
    ),
    "a mean as penalty": (
        {"regularizers": [(0.1, lambda f: f.embeddings.mean())]},
        "a penalty must return .*shape",
    ),
    "no terms": ({"loss": lambda p: ()}, "a loss must return .*got tuple of nothing"),
    "few terms": (
        {"loss": lambda p: rankjax.Terms(*3 * (jnp.zeros(2),))},
        r"Terms.total of a loss must have shape \(6,\)",
    ),
    "one mean": (
        {"reduction": lambda terms: terms.total.sum()},
        r"reduction must return a numerator \(6,\)",
    ),
    "two sums": (
        {"reduction": lambda terms: (terms.total.sum(), terms.count.sum())},
        r"reduction must return a numerator \(6,\)",
    ),
    "few counts": (
        {"reduction": lambda terms: (terms.total, terms.count[:2])},
        r"reduction must return a numerator \(6,\)",
    ),
    "one row of masks": (
        {"mining": lambda p: p.narrow(p.positive[:1], p.negative)},
        r"narrow takes .*positive .* \(1, 6\)",
    ),
    "masks of anchors": (
        {"mining": lambda p: p.narrow(p.positive, p.negative.any(-1))},
        r"narrow takes .*got \(6,\)",
    ),
    "no masks": (
        {"mining": lambda p: p.narrow(p.similarity, p.negative)},
        "narrow takes .*as a bool mask, got fl",
    ),
    "two masks": (
        {"mining": lambda p: (p.positive, p.negative)},
        r"mining must return Pairs, as pairs.narrow\(.*, got tuple",
    ),
    "a mask of anchors in Pairs": (
        {"mining": lambda p: dataclasses.replace(p, negative=p.negative.any(-1))},
        r"negative of the Pairs that mining returns must .*\(6, 6\), got \(6,\)",
    ),
    "a mask of whole numbers in Pairs": (
        {"mining": lambda p: dataclasses.replace(p, positive=p.positive.astype(int))},
        "positive of the Pairs that mining returns must be a bool mask, got int",
    ),
    "a row of similarities": (
        {"similarity": lambda anchors, references: anchors[:, 0]},
        r"similarity must return \[anchor, reference\], here \(6, 6\), got \(6,\)",
    ),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_what_a_users_function_returns_is_checked_by_name(kind):
    given, message = RETURNED[kind]
    if "reduction" in given:
        given = {"reduction": rankjax.Reduction(given["reduction"])}
    compute = rankjax.objective(**{"loss": losses.triplet_loss} | given)
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        compute(EMBEDDINGS, LABELS)


OTHER_ROLES = [
    ({"loss": "triplet"}, "loss must be a function, such as rankjax.losses.tri"),
    ({"mining": "hardest"}, "mining must be a function, such as rankjax.mining.har"),
    ({"similarity": "cosine"}, "similarity must be a function, such as rankjax.simil"),
    ({"reduction": "mean"}, "reduction must be a rankjax.Reduction, .*, got 'mean'"),
    ({"regularizers": [(0.1, "koleo")]}, "regularizers must be .*squared_norm, got 'k"),
    ({"loss": rankjax.triplet_loss}, "write rankjax.losses.triplet_loss for"),
    ({"mining": mining.semi_hard}, "got semi_hard, a selection .*=mining.semi_hard"),
    ({"mining": rankjax.mean}, "mining must be .*, got mean, a reduction"),
    ({"mining": rankjax.similarity.cosine}, "mining must .*, got cosine, a similarity"),
    ({"mining": losses.nca_loss}, "mining must be .*, got nca_loss, a loss"),
    (
        {"similarity": mining.hardest},
        "similarity must .*, got hardest, a miner: write mi",
    ),
    (
        {"loss": functools.partial(losses.triplet_loss, selection=mining.hardest)},
        "selection must .*, got hardest, a miner: write mining=rankjax.mining.hardest",
    ),
    (
        {"similarity": functools.partial(losses.triplet_loss, margin=0.1)},
        "similarity must be .*, got triplet_loss, a loss",
    ),
    ({"loss": rankjax.similarity.dot}, "loss must be a .*, got dot, a similarity"),
    ({"relevance": rankjax.total}, "relevance must be a .*, got total, a reduction"),
]


@pytest.mark.parametrize(("settings", "message"), OTHER_ROLES)
def test_a_function_for_something_else_is_refused(settings, message):
    with pytest.raises(TypeError, match=message):
        rankjax.objective(**{"loss": losses.triplet_loss} | settings)


@pytest.mark.parametrize(
    "given", [(EMBEDDINGS, LABELS), (EMBEDDINGS,), ([[0.0], [1.0]],), ()]
)
@pytest.mark.parametrize("loss", [losses.triplet_loss, rankjax.regularizers.koleo])
def test_embeddings_are_no_pairs(loss, given):
    name = loss.__name__
    with pytest.raises(TypeError, match=rf"write rankjax.objective\({name}\)\(embedd"):
        loss(*given)


@pytest.mark.parametrize("rule", [mining.top_k, mining.semi_hard])
def test_settings_without_a_batch_are_to_be_bound(rule):
    with pytest.raises(TypeError, match=rf"functools.partial\({rule.__name__}, ..."):
        rule()


def test_names_of_selections_are_refused():
    with pytest.raises(TypeError, match=r"^selection must be a function, such as"):
        rankjax.triplet_loss(EMBEDDINGS, LABELS, selection="semi_hard")


def test_lists_are_taken_where_tuples_are_meant():
    listed = rankjax.recall_at_k_loss(EMBEDDINGS, LABELS, k=[1, 2])
    assert listed == rankjax.recall_at_k_loss(EMBEDDINGS, LABELS, k=(1, 2))


def test_the_offset_cancels_in_the_softmax_of_generalized_end_to_end():
    values = [
        rankjax.generalized_end_to_end_loss(EMBEDDINGS, LABELS, offset=offset)
        for offset in (-5.0, 1e7)
    ]
    assert values[0] == values[1]


def test_import_loads_jax_and_numpy_alone():
    heavy = "tensorflow flax optax orbax chex PIL sklearn matplotlib"
    code = (
        "import sys; import rankjax; names = [*rankjax.__all__]\n"
        "from rankjax import *\n"
        "assert all(name in globals() for name in names), names\n"
        f"print(*(m for m in {heavy!r}.split() if m in sys.modules))\n"
        "rankjax.memory.empty, rankjax.exported.load"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_a_loss_of_the_users_own_runs_on_cosines():
    def alignment(pairs):
        return rankjax.Terms.over_references(1 - pairs.similarity, pairs.positive)

    s = reference.similarity_matrix("cosine", EMBEDDINGS)
    positive = (LABELS[:, None] == LABELS) & ~np.eye(6, dtype=bool)
    close(rankjax.objective(alignment)(EMBEDDINGS, LABELS), np.mean(1 - s[positive]))


WRONG = {
    "text": (TypeError, {"margin": "1"}, "margin must be a number, got '1'"),
    "none": (TypeError, {"margin": None}, "margin must be a number, got None"),
    "a list": (TypeError, {"margin": [1.0]}, r"margin must be a number, got \[1.0\]"),
    "an array": (
        ValueError,
        {"margin": np.ones(6)},
        r"margin must be one number, got an array \(6,\)",
    ),
    "a penalty": (
        TypeError,
        {"regularizers": rankjax.squared_norm},
        "regularizers must list",
    ),
    "a weight in words": (
        TypeError,
        {"regularizers": [("0.1", rankjax.squared_norm)]},
        "the weight of regularizers must be a number, got '0.1'",
    ),
    "one pair": (
        TypeError,
        {"regularizers": (0.1, rankjax.squared_norm)},
        "regularizers must list pairs of weight and penalty, such as",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_of_another_kind_are_refused_by_name(name):
    error, given, message = WRONG[name]
    with pytest.raises(error, match=f"^{message}"):
        rankjax.contrastive_loss(EMBEDDINGS, LABELS, **given)


def test_rows_of_different_lengths_are_refused_by_name():
    with pytest.raises(ValueError, match=r"^labels must be an array, got .*inhomogen"):
        rankjax.sup_con_loss(EMBEDDINGS, [[0], [1, 2]] * 3)
    with pytest.raises(ValueError, match=r"^embeddings must be an array, got"):
        rankjax.sup_con_loss([[0.0], [1.0, 2.0]], [0, 1])


def test_params_that_are_no_dict_are_refused():
    with pytest.raises(TypeError, match=r"^params must be a dict of settings, got"):
        rankjax.objective(losses.contrastive_loss)(
            EMBEDDINGS, LABELS, params=[("margin", 1.0)]
        )


NOT_WHOLE = {
    "bins": lambda: rankjax.fast_ap_loss(EMBEDDINGS, LABELS, bins=20.5),
    "bins as an array": lambda: rankjax.histogram_loss(
        EMBEDDINGS, LABELS, bins=jnp.asarray(20)
    ),
    "positives": lambda: rankjax.triplet_loss(
        EMBEDDINGS, LABELS, mining=functools.partial(mining.top_k, positives=1.0)
    ),
    "count": lambda: rankjax.triplet_loss(
        EMBEDDINGS,
        LABELS,
        selection=functools.partial(mining.random_negatives, count=1.5),
        key=jax.random.key(0),
    ),
    "k": lambda: rankjax.recall_at_k_loss(EMBEDDINGS, LABELS, k=[1, 2.5]),
    "k as one number": lambda: rankjax.recall_at_k_loss(EMBEDDINGS, LABELS, k=2),
}


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_settings_that_are_not_whole_are_refused_by_name(name):
    with pytest.raises(TypeError, match=rf"^{name.split()[0]} must be .*whole number"):
        NOT_WHOLE[name]()


@pytest.mark.parametrize(
    ("loss", "params"),
    [
        (losses.fast_ap_loss, {"bins": 20}),
        (losses.recall_at_k_loss, {"k": (1, 2)}),
        (losses.triplet_loss, {"selection": mining.semi_hard}),
    ],
)
def test_params_that_shape_the_computation_are_to_be_bound(loss, params):
    (name,) = params
    with pytest.raises(TypeError, match=rf"^params .*functools.partial\(loss, {name}="):
        rankjax.objective(loss)(EMBEDDINGS, LABELS, params=params)


@pytest.mark.parametrize(
    "key", [0, np.random.default_rng(0), jax.random.split(jax.random.key(0)), np.eye(2)]
)
def test_a_key_that_is_none_is_named(key):
    bound = functools.partial(losses.triplet_loss, selection=mining.random_negatives)
    with pytest.raises(TypeError, match=r"^key must be one key, such as jax.random.k"):
        rankjax.objective(bound)(EMBEDDINGS, LABELS, key=key)
    classes = rankjax.References(EMBEDDINGS, LABELS)
    with pytest.raises(TypeError, match=r"^key must be one key"):
        rankjax.sampled_classes(classes, LABELS, key=key)


def test_the_numbers_of_a_key_are_a_key():
    bound = functools.partial(losses.triplet_loss, selection=mining.random_negatives)
    compute = rankjax.objective(bound)
    typed = compute(EMBEDDINGS, LABELS, key=jax.random.key(3))
    assert compute(EMBEDDINGS, LABELS, key=jax.random.PRNGKey(3)) == typed


@pytest.mark.parametrize(
    ("measure", "setting", "value"),
    [
        (rankjax.similarity.negative_hyperbolic, "curvature", 0.5),
        (rankjax.similarity.negative_hyperbolic, "clip", 2.0),
        (rankjax.similarity.negative_lp, "p", 3.0),
    ],
)
def test_settings_of_similarities_may_be_arrays(measure, setting, value):
    def found(value):
        bound = functools.partial(measure, **{setting: value})
        loss = rankjax.nt_xent_loss(EMBEDDINGS, LABELS, similarity=bound)
        return loss, rankjax.metrics.nearest(EMBEDDINGS, k=1, similarity=bound).rows

    for expected, array in zip(found(value), found(jnp.float32(value)), strict=True):
        close(array, expected)
