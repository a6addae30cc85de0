"""Miners and selections against slow loops, on batches that are full of ties.

A miner or a selection that is exported without a slow loop here fails the tests.
"""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rankjax
from rankjax import losses, mining, similarity
from rankjax.parallel import AXIS
from rankjax.rows import View
from rankjax.selections import log_distance_density

ROWS, REFERENCES = 40, 8
RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
SIMILARITY = RNG.integers(-4, 1, (ROWS, REFERENCES)).astype(np.float32) / 2
OWN_ROWS = RNG.integers(-4, 1, (REFERENCES, REFERENCES)).astype(np.float32) / 2
SIDES = RNG.integers(0, 3, (ROWS, REFERENCES))  # 0 positive, 1 negative, 2 neither
SIDES[:3] = [[0], [1], [2]]  # without negatives, without positives, without either
SUPER_CLASS = np.array([0, 1, 0, 1])
CLASS = RNG.integers(-1, 6, ROWS), RNG.integers(-1, 6, REFERENCES)  # 0 to 3 are known
PAIRS = rankjax.Pairs(
    *map(jnp.asarray, (SIMILARITY, SIDES == 0, SIDES == 1)),
    reference_similarity=jnp.asarray(OWN_ROWS),
    anchor_label=jnp.asarray(CLASS[0]),
    reference_label=jnp.asarray(CLASS[1]),
    anchor_index=jnp.arange(ROWS),
    key=KEY,
)


def first(row, among, best, count=1):
    """The mask of the `count` best values; of equals, those of lowest index."""
    chosen = np.zeros(len(row), bool)
    where = sorted(np.flatnonzero(among), key=lambda j: (best * row[j], j))
    chosen[where[:count]] = True
    return chosen


FARTHEST, NEAREST = 1, -1


def draws(i, size):
    """What anchor i draws, a number per reference."""
    return np.asarray(jax.random.uniform(jax.random.fold_in(KEY, i), (size,)))


def out_of_order(row, p, n, epsilon):
    positive, negative = np.zeros_like(p), np.zeros_like(n)
    for i, j in itertools.product(np.flatnonzero(p), np.flatnonzero(n)):
        if row[j] > row[i] - epsilon:  # neither is kept without the other side
            positive[i] = negative[j] = True
    return positive, negative


def spread(row, among, draw, bins, count):
    """`count` of each bin at random."""
    chosen = np.zeros(len(row), bool)
    if not among.any():
        return chosen
    low, high = row[among].min(), row[among].max()
    part = np.zeros(len(row), int)
    if high > low:
        part = np.minimum((row - low) // ((high - low) / bins), bins - 1)
    for b in range(bins):
        chosen |= first(draw, among & (part == b), 1, count)
    return chosen


def easiest_and_semi_hard(row, p, n):
    positive = first(row, p, NEAREST)
    negative = first(row, n & (row < row[p].max(initial=-9)), NEAREST)
    found = positive.any() and negative.any()
    return positive & found, negative & found


def semi_hard_and_hardest(row, p, n):
    negative = first(row, n, NEAREST)
    positive = first(row, p & (row > row[n].max(initial=-9)), FARTHEST)
    found = positive.any() and negative.any()
    return positive & found, negative & found


def part_of(row, among, best, share):
    return first(row, among, best, math.ceil(share * among.sum()))


def siblings(i, n):
    mine, theirs = CLASS[0][i], CLASS[1]
    for j in range(len(n)):
        known = 0 <= mine < 4 and 0 <= theirs[j] < 4
        n[j] &= known and SUPER_CLASS[mine] == SUPER_CLASS[theirs[j]]
    return n


# Settings, and a rule of row, positives, negatives and the anchor's number.
MINERS = {
    "all_pairs": ({}, lambda row, p, n, i: (p, n)),
    "hardest": (
        {},
        lambda row, p, n, i: (first(row, p, FARTHEST), first(row, n, NEAREST)),
    ),
    "hardest, positive": (
        {"side": "positive"},
        lambda row, p, n, i: (first(row, p, FARTHEST), n),
    ),
    "hardest, negative": (
        {"side": "negative"},
        lambda row, p, n, i: (p, first(row, n, NEAREST)),
    ),
    "easy_positive": ({}, lambda row, p, n, i: (first(row, p, NEAREST), n)),
    "easy_hard": ({}, lambda row, p, n, i: easiest_and_semi_hard(row, p, n)),
    "easy_hard, semi-hard positive": (
        {"positive": "semi_hard", "negative": "hardest"},
        lambda row, p, n, i: semi_hard_and_hardest(row, p, n),
    ),
    "easy_hard, all": (
        {"positive": "all", "negative": "easiest"},
        lambda row, p, n, i: (p & n.any(), first(row, n, FARTHEST) & p.any()),
    ),
    "multi_similarity": (
        {"epsilon": 0.6},
        lambda row, p, n, i: out_of_order(row, p, n, 0.6),
    ),
    "multi_similarity, strict": (
        {"epsilon": 0.5},
        lambda row, p, n, i: out_of_order(row, p, n, 0.5),
    ),
    "thresholds": (
        {"positive_below": -0.5, "negative_above": -1.0},
        lambda row, p, n, i: (p & (row < -0.5), n & (row > -1.0)),
    ),
    "thresholds, of positives": (
        {"positive_below": -0.5},
        lambda row, p, n, i: (p & (row < -0.5), n),
    ),
    "thresholds, none": ({}, lambda row, p, n, i: (p, n)),
    "top_k": (
        {"positives": 2, "negatives": 3},
        lambda row, p, n, i: (first(row, p, FARTHEST, 2), first(row, n, NEAREST, 3)),
    ),
    "top_k, more than there are": (
        {"negatives": 99},
        lambda row, p, n, i: (p, n),
    ),
    "hard_aware_cascade": (
        {"share": 0.4},
        lambda row, p, n, i: (
            part_of(row, p, FARTHEST, 0.4),
            part_of(row, n, NEAREST, 0.4),
        ),
    ),
    "likely_true_negatives": (
        {"margin": 0.25},
        lambda row, p, n, i: (
            p,
            n & (row <= max(row[p]) - 0.25) if p.any() else n,
        ),
    ),
    "hierarchical": (
        {"super_class": SUPER_CLASS},
        lambda row, p, n, i: (p, siblings(i, n)),
    ),
    "random_pairs": (
        {"positives": 1, "negatives": 2},
        lambda row, p, n, i: (
            first(draws(i, len(p)), p, 1),
            first(draws(i, len(p)), n, 1, 2),
        ),
    ),
    "random_pairs, of negatives": (
        {"negatives": 1},
        lambda row, p, n, i: (p, first(draws(i, len(p)), n, 1)),
    ),
    "uniform_histogram": (
        {"bins": 2, "negatives": 2},
        lambda row, p, n, i: (
            spread(row, p, draws(i, len(p)), 2, 1),
            spread(row, n, draws(i, len(p)), 2, 2),
        ),
    ),
}


def miner(name):
    return functools.partial(mining.MINERS[name.split(",")[0]], **MINERS[name][0])


def expected(name, similarities, positive, negative):
    """Masks by the slow loop."""
    rule = MINERS[name][1]
    rows = enumerate(zip(similarities, positive, negative, strict=True))
    masks = [rule(row, p.copy(), n.copy(), i) for i, (row, p, n) in rows]
    return tuple(np.stack(side) for side in zip(*masks, strict=True))


def test_every_exported_rule_has_a_slow_loop():
    assert {name.split(",")[0] for name in MINERS} == set(mining.MINERS)
    assert {name.split(",")[0] for name in SELECTIONS} == set(mining.SELECTIONS)
    for name, rule in (mining.MINERS | mining.SELECTIONS).items():
        assert getattr(mining, name) is rule


@pytest.mark.parametrize("name", MINERS)
def test_miner_equals_a_slow_loop_and_ties_go_to_the_lowest_index(name):
    mined = jax.jit(miner(name))(PAIRS)
    positive, negative = expected(name, SIMILARITY, SIDES == 0, SIDES == 1)
    np.testing.assert_array_equal(mined.positive, positive)
    np.testing.assert_array_equal(mined.negative, negative)
    # And never a pair that was not there.
    assert not np.any(mined.positive & ~PAIRS.positive)
    assert not np.any(mined.negative & ~PAIRS.negative)
    np.testing.assert_array_equal(mined.similarity, PAIRS.similarity)


def test_narrowing_never_adds_a_pair():
    everything = jnp.ones((ROWS, REFERENCES), bool)
    kept = PAIRS.narrow(everything, everything)
    np.testing.assert_array_equal(kept.positive, PAIRS.positive)
    np.testing.assert_array_equal(kept.negative, PAIRS.negative)
    assert not np.any(PAIRS.narrow(~everything, everything).positive)


def beyond_or_easiest(v):
    beyond = v.negatives & (v.row < v.positive)
    if beyond.any():
        return first(v.row, beyond, NEAREST)
    return first(v.row, v.negatives, FARTHEST)


def wide_angles(v, angle):
    """By the midpoint's squared distance: the median of a triangle."""
    t = math.tan(math.radians(angle)) ** 2
    chosen = []
    for row, own in zip(
        -v.row.astype(float), -v.positive_row.astype(float), strict=True
    ):
        median = row / 2 + own / 2 + v.positive / 4
        chosen.append(-v.positive > 4 * t * median)
    return v.negatives & np.array(chosen)


def density(d, dim):
    """How common a distance is on the sphere, up to a constant."""
    return d ** (dim - 2) * (1 - d**2 / 4) ** ((dim - 3) / 2)


def weighted(v, dim, cutoff, farthest):
    """The largest of log weight plus Gumbel noise is a draw by the weights."""
    noise = np.asarray(jax.random.gumbel(v.key, v.row.shape))
    d = np.sqrt(-v.row.astype(float))
    near = v.negatives & (d < farthest)
    with np.errstate(divide="ignore"):
        weight = np.minimum(
            1 / density(d.clip(max=1.99), dim), 1 / density(cutoff, dim)
        )
    return first(np.log(weight) + noise, near, NEAREST)


# Settings, and a rule of a view. The margin is 1.
SELECTIONS = {
    "all_negatives": ({}, lambda v: v.negatives),
    "hardest_negative": ({}, lambda v: first(v.row, v.negatives, NEAREST)),
    "hard": ({}, lambda v: v.negatives & (v.row >= v.positive)),
    "semi_hard": (
        {},
        lambda v: v.negatives & (v.row < v.positive) & (v.row > v.positive - 1.0),
    ),
    "easy": ({}, lambda v: v.negatives & (v.row <= v.positive - 1.0)),
    "semi_hard_or_easiest": ({}, beyond_or_easiest),
    "random_negatives": (
        {"count": 2},
        lambda v: first(jax.random.uniform(v.key, v.row.shape), v.negatives, 1, 2),
    ),
    "distance_weighted": (
        {"dim": 4, "cutoff": 0.8, "farthest": 1.3},
        lambda v: weighted(v, 4, 0.8, 1.3),
    ),
    "angular": ({"angle": 35.0}, lambda v: wide_angles(v, 35.0)),
}


def selection(name, **settings):
    return functools.partial(
        mining.SELECTIONS[name], **(settings or SELECTIONS[name][0])
    )


def view(own_row, **fields):
    return View(**fields, compute_row=lambda: own_row)


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection_equals_a_slow_loop_and_ties_go_to_the_lowest_index(name):
    positives = np.linspace(-2, 0, 5, dtype=np.float32)
    each = [
        {
            "row": SIMILARITY[i],
            "positives": SIDES[i] == 0,
            "negatives": SIDES[i] == 1,
            "positive": positive,
            "this": np.arange(REFERENCES) == j,
            "own_row": OWN_ROWS[j],
            "key": jax.random.fold_in(KEY, ROWS * i + j),
        }
        for i in range(ROWS)
        for j, positive in enumerate(positives)
    ]
    views = jax.tree.map(lambda *x: jnp.stack(x), *each)
    chosen = jax.jit(jax.vmap(lambda some: selection(name)(view(**some), 1.0)))(views)
    for some, mask in zip(each, chosen, strict=True):
        np.testing.assert_array_equal(mask, SELECTIONS[name][1](view(**some)))
    assert np.any(chosen)


@pytest.mark.parametrize("name", ["semi_hard", "easy"])
def test_a_band_without_a_margin_is_refused(name):
    soft = functools.partial(
        losses.triplet_loss, margin=None, selection=mining.SELECTIONS[name]
    )
    with pytest.raises(ValueError, match=rf"^{name} needs a margin, got None"):
        soft(PAIRS)


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        ("hardest", {"side": "left"}, "side must be 'both' or .*, got 'left'"),
        ("top_k", {"negatives": 0}, "negatives must be at least 1, got 0"),
        ("random_pairs", {"positives": -1}, "positives must be at least 1, got -1"),
        ("multi_similarity", {"epsilon": -0.1}, "epsilon must be at least 0"),
        ("hard_aware_cascade", {"share": 0.0}, "share must be above 0 and at most 1"),
        ("easy_hard", {"negative": "all", "positive": "semi_hard"}, "semi_hard compar"),
        ("easy_hard", {"positive": "semi_hard"}, "semi_hard compares with a single"),
        ("uniform_histogram", {"bins": 0}, "bins must be at least 1, got 0"),
        ("random_negatives", {"count": 0}, "count must be at least 1, got 0"),
        ("distance_weighted", {"dim": 1}, "dim must be at least 2, got 1"),
        ("distance_weighted", {"dim": 3, "farthest": 3.0}, "farthest must be above 0"),
        ("angular", {"angle": 90.0}, "angle must be above 0 and below 90, got 90"),
    ],
)
def test_settings_out_of_range_are_refused(rule, settings, message):
    if rule in mining.MINERS:
        apply = functools.partial(mining.MINERS[rule], **settings)
    else:
        chosen = functools.partial(mining.SELECTIONS[rule], **settings)
        apply = functools.partial(losses.triplet_loss, selection=chosen)
    with pytest.raises(ValueError, match=f"^{message}"):
        apply(PAIRS)


@pytest.mark.parametrize("rule", [mining.top_k, mining.random_negatives])
def test_a_setting_that_a_rule_does_not_have_is_refused(rule):
    with pytest.raises(TypeError, match=r"^colour is not a setting"):
        rule(PAIRS, colour=1)


# Relations between miners


def same_pairs(a, b):
    np.testing.assert_array_equal(a.positive, b.positive)
    np.testing.assert_array_equal(a.negative, b.negative)


@pytest.mark.parametrize("rule", [mining.hardest, mining.semi_hard])
def test_a_rule_called_with_embeddings_says_where_it_goes(rule):
    for given in ((), (np.eye(4), np.arange(4))):
        with pytest.raises(
            TypeError, match=rf"^{rule.__name__} takes .* mining or sel"
        ):
            rule(*given)


@functools.partial(jax.jit, static_argnums=0)
def mine(rule, **settings):
    return mining.MINERS[rule](PAIRS, **settings)


def test_shares_of_ten_pairs_are_whole_numbers():
    row = jnp.asarray(np.random.default_rng(2).normal(size=(1, 20)), jnp.float32)
    side = jnp.arange(20)[None] < 10
    cascade = jax.jit(mining.hard_aware_cascade)
    for number in range(1, 11):
        mined = cascade(rankjax.Pairs(row, side, ~side), share=number / 10)
        assert mined.positive.sum() == mined.negative.sum() == number


# Random choices


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw_pairs(pairs, positives, negatives):
    return mining.random_pairs(pairs, positives=positives, negatives=negatives)


def test_narrowing_what_was_not_drawn_leaves_the_draw():
    once = draw_pairs(PAIRS, 1, 2)
    other = np.random.default_rng(3).random((ROWS, REFERENCES)) < 0.5
    narrowed = PAIRS.narrow(once.positive | other, once.negative | other)
    assert np.any(narrowed.negative != PAIRS.negative)
    same_pairs(draw_pairs(narrowed, 1, 2), once)


def test_more_references_leave_the_draws_of_the_others():
    """As padding does, and a memory that grows."""
    wider = rankjax.Pairs(
        *(jnp.pad(x, ((0, 0), (0, 5))) for x in (SIMILARITY, SIDES == 0, SIDES == 1)),
        anchor_index=PAIRS.anchor_index,
        key=KEY,
    )
    drawn = draw_pairs(PAIRS, 1, 2)
    np.testing.assert_array_equal(
        draw_pairs(wider, 1, 2).negative[:, :REFERENCES], drawn.negative
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "^super_class must have shape"),
        ([[0, 1]], "^super_class must have shape"),
        (["a", "b"], "^super_class must be integers"),
        ([0.0, 1.0], "^super_class must be integers"),
    ],
)
def test_a_table_of_super_classes_that_is_none_is_refused(table, message):
    mine = functools.partial(mining.hierarchical, super_class=table)
    with pytest.raises((TypeError, ValueError), match=message):
        rankjax.contrastive_loss(np.eye(4, dtype="f4"), [0, 0, 1, 1], mining=mine)


def test_a_random_choice_without_a_key_is_refused():
    bare = dataclasses.replace(PAIRS, key=None)
    for name in ("random_pairs", "uniform_histogram"):
        with pytest.raises(ValueError, match=r"Pairs\.key, which is None.*jax.random"):
            miner(name)(bare)
    for name in ("random_negatives", "distance_weighted"):
        draw = functools.partial(losses.triplet_loss, selection=selection(name))
        with pytest.raises(
            ValueError, match=rf"^{name} draws at random: it needs key="
        ):
            draw(bare)


# Distances on the sphere


@pytest.mark.parametrize("dim", [3, 8, 64])
def test_distances_of_random_points_follow_their_density(dim):
    rng = np.random.default_rng(dim)
    points = rng.normal(size=(2, 60_000, dim))
    a, b = points / np.linalg.norm(points, axis=-1, keepdims=True)
    distance = np.linalg.norm(a - b, axis=-1)
    edges = np.quantile(distance, np.linspace(0.02, 0.98, 13))
    counted = np.histogram(distance, edges)[0]
    fine = np.linspace(edges[:-1], edges[1:], 201)
    law = np.trapezoid(np.exp(log_distance_density(fine**2, dim)), fine, axis=0)
    np.testing.assert_allclose(counted / counted.sum(), law / law.sum(), rtol=0.06)


def test_each_reading_of_the_similarity_draws_the_same():
    squared, everyone = 2 - 2 * np.cos(np.linspace(0.1, 3.0, 8)), np.ones(8, bool)
    rows = {"squared": -squared, "euclidean": -np.sqrt(squared)}
    rows["cosine"] = 1 - squared / 2

    def draw(distance, key):
        row = jnp.asarray(rows[distance], jnp.float32)
        view = View(row, ~everyone, everyone, 0, ~everyone, key)
        return mining.distance_weighted(
            view, None, dim=6, farthest=1.9, distance=distance
        )

    keys = jax.random.split(KEY, 1000)
    chosen, *others = (
        jax.jit(jax.vmap(functools.partial(draw, name)))(keys) for name in rows
    )
    assert chosen.any(0).sum() == 6
    for other in others:
        np.testing.assert_array_equal(other, chosen)


def test_angular_selects_where_the_angle_at_the_negative_is_wider():
    a, p, *negatives = np.random.default_rng(5).normal(size=(62, 2))
    to_centre = np.linalg.norm(np.array(negatives) - (a + p) / 2, axis=1)
    angle = np.degrees(np.arctan(np.linalg.norm(a - p) / (2 * to_centre)))
    x = np.stack([a, p, *negatives])
    s = similarity.negative_squared_euclidean(x, x)
    this = np.arange(62) == 1
    for distance, convert in [
        ("squared", lambda s: s),
        ("euclidean", lambda s: -jnp.sqrt(-s)),
        ("cosine", lambda s: 1 + s / 2),
    ]:
        row, own = convert(s[0]), convert(s[1])
        view = View(
            row, this, np.arange(62) > 1, row[1], this, None, None, lambda own=own: own
        )
        chosen = mining.angular(view, None, angle=40.0, distance=distance)
        np.testing.assert_array_equal(chosen[2:], angle > 40)
    assert 5 < np.sum(angle > 40) < 55


# The whole way, with references from elsewhere such as a memory


def _contrastive(**settings):
    compute = rankjax.objective(
        functools.partial(losses.contrastive_loss, margin=3.0),
        similarity=similarity.negative_squared_euclidean,
        **settings,
    )
    return jax.jit(jax.value_and_grad(compute))


_of_given_masks = functools.cache(_contrastive)


@pytest.mark.parametrize("name", [n for n in MINERS if "," not in n])
def test_mining_has_value_and_gradient_of_the_mined_masks(name):
    """So that no gradient flows through a choice."""
    rng = np.random.default_rng(6)
    x, memory = rng.normal(size=(2, 12, 3)).astype(np.float32)
    y, names = rng.integers(0, 4, (2, 12))
    same = y[:, None] == names
    s = -((x[:, None] - memory) ** 2).sum(-1)
    if name == "hierarchical":
        negative = SUPER_CLASS[y][:, None] == SUPER_CLASS[names]
        masks = {"positive": same, "negative": negative & ~same}
    else:
        masks = dict(
            zip(("positive", "negative"), expected(name, s, same, ~same), strict=True)
        )
    mined = _contrastive(mining=miner(name))(
        x, y, references=rankjax.References(memory, names), key=KEY
    )
    _close(mined, _of_given_masks()(x, references=rankjax.References(memory), **masks))
    assert np.any(mined[1])


# Draws, and ties between duplicates. The duplicates' coordinates are small integers and
# the rows sixteen, so that every sum is exact whatever its order, and equal distances
# are equal bit by bit.

LABELS = np.array([0, 1, 2, 3] * 4)
UNIT = np.random.default_rng(4).normal(size=(16, 3)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)
DUPLICATES = np.random.default_rng(1).integers(-1, 2, (16, 3)).astype(np.float32)
DUPLICATES[8:] = DUPLICATES[:8]


def triplets(selection, margin):
    return functools.partial(losses.triplet_loss, selection=selection, margin=margin)


CHOICES = {
    "random pairs, random negatives": (
        triplets(selection("random_negatives", count=2), 2.0),
        functools.partial(mining.random_pairs, positives=2, negatives=6),
        UNIT,
    ),
    "uniform histogram, distance-weighted": (
        triplets(selection("distance_weighted", dim=3), 2.0),
        functools.partial(mining.uniform_histogram, bins=4, negatives=2),
        UNIT,
    ),
    "batch-hard": (
        functools.partial(losses.batch_hard_triplet_loss, margin=1.0),
        None,
        DUPLICATES,
    ),
    "triplets, hardest mining": (losses.triplet_loss, mining.hardest, DUPLICATES),
    "triplets, semi-hard or easiest": (
        triplets(mining.semi_hard_or_easiest, 1.0),
        None,
        DUPLICATES,
    ),
}


def _chosen(name, key=KEY, **settings):
    loss, miner, x = CHOICES[name]
    compute = rankjax.objective(loss, mining=miner, **settings)
    given = {"key": key} if x is UNIT else {}
    return functools.partial(compute, **given), x


@functools.cache
def _at_once(name):
    """One device, all rows at once."""
    compute, x = _chosen(name)
    return jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(compute))(x, LABELS))


def _close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("block", [1, 3])
def test_blocks_cannot_change_a_draw_or_a_tie(name, block):
    compute, x = _chosen(name, block=block)
    _close(jax.jit(jax.value_and_grad(compute))(x, LABELS), _at_once(name))
    if x is UNIT:
        other, _ = _chosen(name, jax.random.key(1))
        assert abs(other(x, LABELS) - _at_once(name)[0]) > 1e-4


@pytest.mark.parametrize("name", CHOICES)
def test_eight_devices_cannot_change_a_draw_or_a_tie(name):
    compute, x = _chosen(name, axis_name=AXIS)

    def step(x, rows, labels):
        device_rows = lambda x: x.reshape(8, 2, 3)[rows[0]]  # noqa: E731
        value, grad = jax.value_and_grad(lambda x: compute(device_rows(x), labels))(x)
        return value, jax.lax.pmean(grad, AXIS)

    spread = jax.pmap(step, AXIS, in_axes=(None, 0, 0), out_axes=None)
    found = spread(x, np.arange(8)[:, None], LABELS.reshape(8, 2))
    _close(found, _at_once(name))


def test_of_duplicates_the_lowest_alone_receives_the_gradient():
    """An anchor at 0; two positives at 2 and three negatives at 1, all identical."""
    x = np.zeros((8, 1), np.float32)
    x[[2, 5]] = 2
    x[[3, 4, 7]] = 1
    positive = np.zeros((8, 8), bool)
    negative = np.zeros((8, 8), bool)
    positive[0, [2, 5]] = True
    negative[0, [3, 4, 7]] = True
    compute = rankjax.objective(
        functools.partial(losses.batch_hard_triplet_loss, margin=0.5)
    )
    value, grad = jax.value_and_grad(compute)(x, positive=positive, negative=negative)
    np.testing.assert_allclose(value, 2 - 1 + 0.5, rtol=1e-6)
    expected = np.zeros((8, 1))
    expected[2], expected[3] = 1, -1  # the anchor's two pulls cancel
    np.testing.assert_allclose(grad, expected, atol=1e-6)
