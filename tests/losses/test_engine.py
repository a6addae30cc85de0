"""Derived gradients: what is taken apart, and that the result is the plain one's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import rankjax
from rankjax import losses, mining, rows, similarity
from rankjax.engine import program
from rankjax.entry import Kind, entry_of
from rankjax.pairs import Pairs
from rankjax.parallel import AXIS

RNG = np.random.default_rng(7)
EMBEDDINGS = RNG.normal(size=(24, 6)).astype(np.float32)
FEW, MANY, ALL = np.arange(24) % 9, np.arange(24) % 2, np.zeros(24, int)

# Losses of a row or of positives that are not taken apart, and why.
WHOLE = {
    "blackbox_ap": "sorts the row",
    "soft_triple": "puts the centres of a class along an axis of their own",
    "sub_center_arc_face": "puts the centres of a class along an axis of their own",
    "smooth_ndcg": "adds up as many places as there are references",
}
# Losses of positives' rows that look at statistics of the positives' own, or at sums of
# exponentials over both rows.
OF_POSITIVES_ROWS = {"lifted_structure", "angular", "n_pairs_angular"}


def close(actual, expected, tolerance=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance),
        actual,
        expected,
    )


def pairs(anchors=4, references=12):
    matrix = jnp.zeros((anchors, references))
    row, column = (jnp.zeros(n, jnp.int32) for n in (anchors, references))
    return Pairs(
        matrix,
        matrix > 0,
        matrix > 0,
        anchor_label=row,
        reference_label=column,
        anchor_occurrence=row,
        reference_occurrence=column,
    )


def apart(loss):
    return program.trace(lambda pairs, settings: loss(pairs), pairs(), {})


ON_PAIRS = [n for n, f in losses.LOSSES.items() if entry_of(f).kind != Kind.FEATURES]


@pytest.mark.parametrize("name", ON_PAIRS)
def test_losses_of_rows_and_of_positives_are_taken_apart(name):
    kind = entry_of(losses.LOSSES[name]).kind
    expected = kind in (Kind.ROW, Kind.PER_POSITIVE) and name not in WHOLE
    expected |= name in OF_POSITIVES_ROWS
    assert (apart(losses.LOSSES[name]) is not None) == expected


def _mean_of_row(p):
    return rankjax.Terms.each(p.similarity.mean(-1), p.positive.any(-1))


def _sorted(p):
    return rankjax.Terms.of(jnp.sort(p.similarity, -1), p.negative)


def _running(p):
    return rankjax.Terms.of(jnp.cumsum(p.similarity, -1), p.negative)


def _of_the_batch(p):
    share = p.similarity / p.positive.sum(dtype=p.similarity.dtype)
    return rankjax.Terms.of(share, p.positive)


def _row_of_a_positive_by_the_anchor(p):
    """What is summed of a positive's row depends on the anchor: no look-up has it."""

    def terms(view):
        ahead = view.positive_row > view.positive
        return rankjax.Terms.of(view.positive_row, view.negatives & ahead)

    return rows.per_positive(p, terms)


def _largest_of_each_positive(p):
    """Its gradient would go to one entry of the row for each positive."""
    return rows.per_positive(
        p,
        lambda v: rankjax.Terms.each(
            rows.largest(v.row - v.positive, v.negatives), v.negatives.any()
        ),
    )


def _hard_maximum(p):
    largest = jnp.max(p.similarity, -1, where=p.negative, initial=-1.0)
    return rankjax.Terms.each(largest, p.negative.any(-1))


def _two_rows_of_unlike_functions(p):
    return rows.per_positive(
        p,
        lambda v: rankjax.Terms.each(
            rows.log_sum_exp_of_both(v.row, 2 * v.positive_row, v.negatives),
            v.negatives.any(),
        ),
    )


def _one_row_twice(p):
    both = rows.log_sum_exp_of_both(p.similarity, p.similarity, p.negative)
    return rankjax.Terms.each(both, p.negative.any(-1))


def _two_rows_by_another_mask(p):
    return rows.per_positive(
        p,
        lambda v: rankjax.Terms.each(
            rows.log_sum_exp_of_both(
                v.row, v.positive_row, v.negatives & (v.row > v.positive)
            ),
            v.negatives.any(),
        ),
    )


@pytest.mark.parametrize(
    "loss",
    [
        _mean_of_row,
        _sorted,
        _running,
        _of_the_batch,
        _row_of_a_positive_by_the_anchor,
        _largest_of_each_positive,
        _hard_maximum,
        _two_rows_of_unlike_functions,
        _two_rows_by_another_mask,
        _one_row_twice,
    ],
)
def test_a_loss_that_is_not_of_pairs_and_rows_is_left_whole(loss):
    assert apart(loss) is None


def _compiled(loss, block, **settings):
    compute = rankjax.objective(loss, block=block, **settings)
    return jax.jit(jax.value_and_grad(lambda x, y, valid: compute(x, y, valid=valid)))


def _of_both_rows(p):
    """Compares statistics of an anchor's row with those of its positive's."""

    def terms(view):
        some = view.negatives.any()
        own, other = (
            jnp.where(some, rows.log_sum_exp(2 * x, view.negatives), 0)
            for x in (view.row, view.positive_row)
        )
        squares = jnp.sum(jnp.square(view.positive_row), where=view.negatives)
        return rankjax.Terms.each(own + other * squares - view.positive, some)

    return rows.per_positive(p, terms)


def _with_every_column(p):
    """Looks at pairs that are neither positive nor negative as well."""
    every = jnp.ones_like(p.positive)
    return rankjax.Terms.each(rows.log_sum_exp(p.similarity, every), p.positive.any(-1))


@pytest.mark.parametrize(
    "loss",
    [
        losses.multi_similarity_loss,
        losses.triplet_loss,
        losses.lifted_structure_loss,
        losses.n_pairs_angular_loss,
        *(
            pytest.param(loss, marks=pytest.mark.slow)
            for loss in (
                losses.nt_xent_loss,
                losses.batch_hard_triplet_loss,
                losses.smooth_ap_loss,
                _of_both_rows,
                _with_every_column,
            )
        ),
    ],
)
def test_classes_of_any_size_give_the_plain_value_and_gradient(loss):
    valid = np.arange(24) != 5
    plain, whole, blocks = (_compiled(loss, block) for block in (None, "auto", 7))
    for labels in (FEW, MANY, ALL):
        expected = plain(EMBEDDINGS, labels, valid)
        close(whole(EMBEDDINGS, labels, valid), expected)
        close(blocks(EMBEDDINGS, labels, valid), expected)


@pytest.mark.parametrize(
    "loss",
    [losses.triplet_loss, losses.recall_at_k_loss, losses.angular_loss],
)
def test_more_positives_than_are_recorded_give_the_plain_value_and_gradient(loss):
    x = RNG.normal(size=(44, 6)).astype(np.float32)
    labels, valid = np.arange(44) % 2, np.arange(44) != 5
    plain, blocks = (_compiled(loss, block) for block in (None, 11))
    close(blocks(x, labels, valid), plain(x, labels, valid))


def test_two_rows_that_share_no_large_entry_have_the_plain_value_and_gradient():
    """Each one's largest exponential is at the other's least: products vanish."""
    x = np.array([[1, 0], [-1, 0], [1, 0.1], [-1, 0.1]], np.float32)
    x, labels = np.tile(x, (5, 1)), np.tile([0, 0, 1, 1], 5)
    plain, whole = (
        _compiled(functools.partial(losses.angular_loss, angle=89.0), block)
        for block in (None, 7)
    )
    valid = np.ones(20, bool)
    close(whole(x, labels, valid), plain(x, labels, valid))


@pytest.mark.slow
@pytest.mark.parametrize("block", ["auto", 7])
@pytest.mark.parametrize(
    "loss", [losses.sup_con_loss, losses.triplet_loss, losses.lifted_structure_loss]
)
def test_batches_side_by_side_give_what_each_gives_alone(loss, block):
    batches = np.stack([EMBEDDINGS, EMBEDDINGS[::-1]])
    labels = np.stack([FEW, MANY])
    compute = jax.value_and_grad(rankjax.objective(loss, block=block))
    together = jax.jit(jax.vmap(compute))(batches, labels)
    alone = [jax.jit(compute)(x, y) for x, y in zip(batches, labels, strict=True)]
    close(together, jax.tree.map(lambda *x: jnp.stack(x), *alone))


@pytest.mark.parametrize(
    "miner", [mining.hardest, mining.easy_positive, mining.multi_similarity]
)
def test_mined_pairs_give_the_plain_value_and_gradient(miner):
    loss = functools.partial(losses.contrastive_loss, margin=2.0)
    valid = np.ones(24, bool)
    derived, plain = (
        _compiled(loss, block, mining=miner)(EMBEDDINGS, FEW, valid)
        for block in ("auto", None)
    )
    close(derived, plain)


def _gradients(loss, block, operands, given):
    def compute(operands):
        return rankjax.objective(loss, block=block)(**operands, **given)

    return jax.jit(jax.value_and_grad(compute))(operands)


@pytest.mark.parametrize(
    ("loss", "params"),
    [
        (losses.sigmoid_loss, {"scale": 5.0, "bias": -2.0}),
        (losses.margin_loss, {"margin": 0.3, "beta": np.linspace(0.8, 1.4, 9)}),
        (losses.nt_xent_loss, {"temperature": 0.2}),
        (losses.triplet_loss, {"margin": 3.0}),
    ],
)
@pytest.mark.parametrize("block", ["auto", 5])
def test_settings_have_the_plain_gradient(loss, params, block):
    operands = {
        "embeddings": EMBEDDINGS,
        "params": jax.tree.map(jnp.float32, params),
    }
    derived, plain = (
        _gradients(loss, b, operands, {"labels": FEW}) for b in (block, None)
    )
    close(derived, plain)
    assert all(np.any(x) for x in jax.tree.leaves(derived))


@pytest.mark.parametrize("loss", [losses.sup_con_loss, losses.triplet_loss])
def test_two_towers_both_have_the_plain_gradient(loss):
    name = "temperature" if loss is losses.sup_con_loss else "margin"
    operands = {
        "embeddings": EMBEDDINGS,
        "references": EMBEDDINGS[:10] + 1,
        "params": {name: jnp.float32(0.3)},
    }
    given = {"labels": FEW, "reference_labels": FEW[:10]}
    plain = _gradients(loss, None, operands, given)
    for block in ("auto", 7):
        close(_gradients(loss, block, operands, given), plain)


def test_given_masks_have_the_plain_gradient():
    masks = {"positive": RNG.random((24, 24)) < 0.2}
    masks["negative"] = ~masks["positive"]
    operands = {"embeddings": EMBEDDINGS}
    for loss in (losses.sup_con_loss, losses.triplet_loss):
        derived, plain = (_gradients(loss, b, operands, masks) for b in (5, None))
        close(derived, plain)


def test_several_labels_per_row_have_the_plain_gradient():
    given = {"labels": RNG.random((24, 4)) < 0.4}
    operands = {"embeddings": EMBEDDINGS}
    for loss in (losses.multi_sup_con_loss, losses.batch_hard_triplet_loss):
        derived, plain = (_gradients(loss, b, operands, given) for b in (5, None))
        close(derived, plain)


def test_what_a_loss_holds_on_to_has_a_gradient():
    def gradient(block):
        def of_margin(margin):
            loss = lambda p: losses.contrastive_loss(p, margin=margin)  # noqa: E731
            compute = rankjax.objective(
                loss, block=block, similarity=similarity.negative_euclidean
            )
            return compute(EMBEDDINGS, FEW)

        return jax.jit(jax.grad(of_margin))(2.0)

    assert gradient("auto") == pytest.approx(float(gradient(None)), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.sup_con_loss, losses.triplet_loss])
def test_blocks_need_no_memory_for_the_whole_matrix(loss):
    compute = jax.value_and_grad(rankjax.objective(loss, block=64))
    rows = jax.ShapeDtypeStruct((2048, 16), jnp.float32)
    labels = jax.ShapeDtypeStruct((2048,), jnp.int32)
    memory = jax.jit(compute).lower(rows, labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2048**2 * 4 / 2


def test_the_number_of_valid_pairs_compiles_nothing_again():
    compute = jax.jit(
        lambda y, v: rankjax.objective(losses.triplet_loss)(EMBEDDINGS, y, valid=v)
    )
    values = [
        compute(y, np.arange(24) < n) for y in (FEW, MANY, ALL) for n in (24, 12, 3)
    ]
    assert compute._cache_size() == 1
    assert len(set(map(float, values))) > 4


def test_devices_exchange_no_gradients_of_embeddings():
    """Backward of rows, they tell each other a few numbers per anchor."""

    def collectives(block):
        def loss(x, y):
            return rankjax.objective(losses.sup_con_loss, axis_name=AXIS, block=block)(
                x, y
            )

        spread = jax.shard_map(
            jax.grad(loss),
            mesh=Mesh(np.array(jax.devices()), (AXIS,)),
            in_specs=PartitionSpec(AXIS),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
        text = jax.jit(spread).lower(EMBEDDINGS, FEW).compile().as_text()
        return text.count(" reduce-scatter(")

    assert collectives(None) > 0
    assert collectives("auto") == 0
