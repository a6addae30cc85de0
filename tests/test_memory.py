"""The ring of earlier embeddings, alone and as references of losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rankjax
from rankjax import losses, memory
from rankjax.parallel import AXIS

DIM = 3


def rows(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)).astype(np.float32), rng.integers(0, 3, n)


def loop(batch, labels, others, names, margin):
    """Contrastive loss of all pairs but those of a row with itself."""
    near, far = [], []
    for x, a in zip(batch, labels, strict=True):
        for z, b in zip(others, names, strict=True):
            if z is x:
                continue
            distance = np.sqrt(np.sum((x - z) ** 2))
            if a == b:
                near.append(distance**2 / 2)
            else:
                far.append(max(0, margin - distance) ** 2 / 2)
    return np.mean(near) + np.mean(far)


def test_it_holds_the_newest_rows_and_knows_those_of_the_last_batch():
    ring = memory.empty(7, DIM)
    batches = [rows(3, seed) for seed in range(4)]
    for embeddings, labels in batches:
        ring = ring.add(embeddings, labels)
    newest = [(x, y) for e, n in batches for x, y in zip(e, n, strict=True)][-7:]
    expected = {(*x.tolist(), int(y)) for x, y in newest}
    held = zip(np.asarray(ring.embeddings).tolist(), ring.labels, strict=True)
    assert {(*x, int(y)) for x, y in held} == expected
    for row in range(3):
        (place,) = np.flatnonzero(np.asarray(ring.index) == row)
        np.testing.assert_array_equal(ring.embeddings[place], batches[-1][0][row])
    assert sorted(ring.index.tolist()) == [-1, -1, -1, -1, 0, 1, 2]


def test_a_loss_of_the_memory_is_the_loop_over_its_rows_without_own_copies():
    margin = 3.0
    compute = rankjax.objective(
        functools.partial(losses.contrastive_loss, margin=margin)
    )
    ring, seen, names = memory.empty(20, DIM), [], []
    for seed in range(3):
        embeddings, labels = rows(8, seed)
        ring = ring.add(embeddings, labels)
        seen, names = seen + list(embeddings), names + list(labels)
        got = compute(embeddings, labels, references=ring.references(holds_batch=True))
        kept = seen[-20:]
        batch = kept[-8:]
        expected = loop(batch, labels, kept, names[-20:], margin)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_keys_of_another_network_are_references_like_any_others():
    """As in MoCo: a query's own key is its positive, not a copy of it."""
    queries, labels = np.eye(4, dtype=np.float32), np.arange(4)
    keys = np.roll(np.eye(4), 1, 1).astype(np.float32) * 0.5 + queries
    ring = memory.empty(4, 4).add(jnp.asarray(keys), labels)
    compute = rankjax.objective(functools.partial(losses.nt_xent_loss, temperature=1.0))
    got = compute(queries, labels, references=ring.references(holds_batch=False))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    scores = queries @ unit.T
    expected = np.log(np.exp(scores).sum(1)) - np.diag(scores)
    np.testing.assert_allclose(got, expected.mean(), rtol=1e-6)
    copies = compute(queries, labels, references=ring.references(holds_batch=True))
    assert copies == 0


def test_an_empty_memory_has_loss_and_gradient_zero():
    ring = memory.empty(5, DIM)
    given = {"references": ring.references(holds_batch=True)}
    embeddings, labels = rows(4, 0)
    value, grad = jax.value_and_grad(rankjax.objective(losses.sup_con_loss))(
        jnp.asarray(embeddings), labels, **given
    )
    assert value == 0
    assert not np.any(grad)


def test_no_gradient_flows_into_it():
    embeddings, labels = rows(4, 0)

    def held(x):
        return memory.empty(4, DIM).add(x, labels).embeddings.sum()

    assert not np.any(jax.grad(held)(jnp.asarray(embeddings)))


@pytest.mark.parametrize("replicated", [True, False])
@pytest.mark.parametrize(
    "loss",
    [
        "sup_con_loss",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("triplet_loss", "lifted_structure_loss")
        ),
    ],
)
def test_eight_devices_give_the_loss_of_one(loss, replicated):
    function = getattr(losses, loss)
    batches = [rows(16, seed) for seed in range(3)]

    def of_steps(batches, axis_name, size, replicated):
        compute = rankjax.objective(function, axis_name=axis_name)
        ring, values = memory.empty(size, DIM, replicated=replicated), []
        for embeddings, labels in batches:
            ring = ring.add(embeddings, labels, axis_name=axis_name)
            references = ring.references(holds_batch=True)
            values.append(
                jax.value_and_grad(compute)(embeddings, labels, references=references)
            )
        return values

    expected = of_steps([(jnp.asarray(x), y) for x, y in batches], None, 32, replicated)
    shares = [(jnp.reshape(x, (8, 2, DIM)), np.reshape(y, (8, 2))) for x, y in batches]
    size = 32 if replicated else 4
    got = jax.pmap(
        lambda shares: of_steps(shares, AXIS, size, replicated), axis_name=AXIS
    )(shares)
    for (value, grad), (one, all_rows) in zip(got, expected, strict=True):
        np.testing.assert_allclose(value, np.full(8, one), rtol=1e-5)
        # Every device has the whole loss, hence eight times its gradient.
        np.testing.assert_allclose(
            grad.reshape(16, DIM) / 8, all_rows, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (np.ones((9, DIM)), np.zeros(9, np.int32), "at least"),
        (np.ones((2, DIM + 1)), np.zeros(2, np.int32), "the memory's dim 3"),
        (np.ones((2, DIM)), np.zeros(3, np.int32), "labels must have shape"),
    ],
)
def test_what_does_not_fit_is_named(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        memory.empty(8, DIM).add(jnp.asarray(embeddings), labels)


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(TypeError, match="labels must be integers"):
        memory.empty(8, DIM).add(jnp.ones((2, DIM)), np.zeros(2))


def test_rows_of_several_labels_are_held_and_compared_by_what_they_share():
    """Multi-SupCon of the newest ten rows, in loops over the last batch and them."""
    rng = np.random.default_rng(0)
    compute = rankjax.objective(losses.sup_con_loss)
    ring, seen, sets = memory.empty(10, DIM, classes=4), [], []
    for seed in range(3):
        embeddings, _ = rows(4, seed)
        labels = rng.random((4, 4)) < 0.4
        ring = ring.add(embeddings, labels)
        seen, sets = [*seen, *embeddings], [*sets, *labels]
    got = compute(embeddings, labels, references=ring.references(holds_batch=True))
    terms = []
    for row in range(6, 10):  # the last batch
        cosines, alike = [], []
        for place in {*range(10)} - {row}:
            x, z = seen[-10:][row], seen[-10:][place]
            cosines.append(x @ z / np.linalg.norm(x) / np.linalg.norm(z))
            alike.append(np.any(sets[-10:][row] & sets[-10:][place]))
        scores, alike = np.exp(np.array(cosines) / 0.1), np.array(alike)
        if alike.any():
            terms.append(-np.mean(np.log(scores[alike] / scores.sum())))
    np.testing.assert_allclose(got, np.mean(terms), rtol=1e-5)


def test_labels_of_another_shape_than_the_memorys_are_refused():
    sets = np.zeros((2, 4), bool)
    for classes, labels in ((None, sets), (4, np.zeros(2, int)), (5, sets)):
        ring = memory.empty(8, DIM, classes=classes)
        with pytest.raises(
            TypeError, match=r"labels must be \[n.*for this memory, got"
        ):
            ring.add(jnp.ones((2, DIM)), labels)


@pytest.mark.parametrize(("size", "dim"), [(0, 3), (3, 0), (1.5, 3)])
def test_a_memory_without_room_is_refused(size, dim):
    with pytest.raises(ValueError, match="must be a whole number, at least 1"):
        memory.empty(size, dim)


def test_two_copies_of_one_row_are_refused():
    compute = rankjax.objective(losses.sup_con_loss)
    x, y = rows(4, 0)
    references = rankjax.References(x, y, copy_of=np.array([0, 1, 1, -1]))
    with pytest.raises(ValueError, match="names row 1 twice"):
        compute(x, y, references=references)


@pytest.mark.parametrize("holds_batch", [True, False])
def test_padding_leaves_its_places_empty(holds_batch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype(np.float32)
    y, valid = np.arange(12, dtype=np.int32) // 3, np.arange(12) < 9
    padded = np.where(valid[:, None], x, np.nan).astype(np.float32)
    compute = rankjax.objective(losses.contrastive_loss)
    values = []
    for rows, labels, some in ((padded, y, valid), (x[:9], y[:9], None)):
        held = memory.empty(24, 4).add(rows, labels, valid=some)
        held = held.add(rows, labels, valid=some)
        references = held.references(holds_batch=holds_batch)
        values.append(compute(rows, labels, valid=some, references=references))
    assert np.isfinite(values[0])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
