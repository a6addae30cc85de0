"""A positive for each row, negatives mined for it, and both directions."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
import reference
from devices import SPREAD, WHOLE, on_eight

import rankjax
from rankjax import losses, mining
from rankjax.inputs import Positives

RNG = np.random.default_rng(0)
N, K, DIM = 16, 2, 5
QUERIES, DOCUMENTS = RNG.normal(size=(2, N, DIM)).astype(np.float32)
MINED = RNG.normal(size=(N, K, DIM)).astype(np.float32)
GUIDES = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 3)), RNG.normal(size=(N, K, 3))
Q_GUIDE, D_GUIDE, M_GUIDE = (g.astype(np.float32) for g in GUIDES)
VALID = np.arange(N) != 5
MINED_VALID = np.arange(N * K).reshape(N, K) % 3 != 1
AXIS = "batch"


def cosines(x, z):
    return reference.similarity_matrix("cosine", x.astype(float), z.astype(float))


def slow(temperature, *, shared, likely=None, labels=None):
    """-log softmax of each row's document among documents and mined negatives."""
    s, m = cosines(QUERIES, DOCUMENTS), cosines(QUERIES, MINED.reshape(-1, DIM))
    g, gm = cosines(Q_GUIDE, D_GUIDE), cosines(Q_GUIDE, M_GUIDE.reshape(-1, 3))
    names = np.arange(N) if labels is None else labels
    values = []
    for i in range(N):
        positives = [j for j in range(N) if VALID[j] and names[j] == names[i]]
        away = [j for j in range(N) if VALID[j] and names[j] != names[i]]
        others = [(s[i, j], g[i, j]) for j in away]
        for j in range(N):
            for k in range(K):
                if VALID[j] and MINED_VALID[j, k] and (shared or i == j):
                    others.append((m[i, j * K + k], gm[i, j * K + k]))
        if likely is not None:
            nearest = max(g[i, j] for j in positives) if positives else math.inf
            others = [o for o in others if o[1] <= nearest - likely]
        for j in positives if VALID[i] else []:
            against = sum(math.exp((o - s[i, j]) / temperature) for o, _ in others)
            values.append(math.log(1 + against))
    return reference.mean(values)


def given(**changed):
    return Positives(
        DOCUMENTS,
        MINED,
        **{
            "negatives_valid": MINED_VALID,
            "guide": D_GUIDE,
            "negatives_guide": M_GUIDE,
            **changed,
        },
    )


WITHOUT_GUIDE = {"guide": None, "negatives_guide": None}
nt_xent = functools.partial(losses.nt_xent_loss, temperature=0.3)
careful = functools.partial(mining.likely_true_negatives, by="guide", margin=0.1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("likely", [None, 0.1])
def test_equals_slow_loops_over_documents_and_mined_negatives(shared, likely):
    compute = rankjax.objective(nt_xent, mining=None if likely is None else careful)
    changed = WITHOUT_GUIDE if likely is None else {}
    found = compute(
        QUERIES,
        references=given(shared=shared, **changed),
        valid=VALID,
        guide=None if likely is None else Q_GUIDE,
    )
    expected = slow(0.3, shared=shared, likely=likely)
    assert expected != slow(0.3, shared=not shared, likely=likely)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("many", [False, True])
def test_documents_of_rows_with_equal_labels_are_positives_and_mined_ones_are_not(many):
    labels = np.arange(N) // 2
    compute = rankjax.objective(nt_xent)
    given_labels = np.eye(N, dtype=bool)[labels] if many else labels
    references = given(**WITHOUT_GUIDE)
    found = compute(QUERIES, given_labels, references=references, valid=VALID)
    expected = slow(0.3, shared=True, labels=labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_symmetric_is_the_mean_of_both_directions():
    both = rankjax.objective(nt_xent, symmetric=True)
    one = rankjax.objective(nt_xent)
    there = one(QUERIES, references=given(**WITHOUT_GUIDE))
    numbers = np.arange(N)
    back = one(DOCUMENTS, numbers, references=rankjax.References(QUERIES, numbers))
    found = both(QUERIES, references=given(**WITHOUT_GUIDE))
    np.testing.assert_allclose(found, (there + back) / 2, rtol=1e-6)


def test_relevance_of_what_was_mined_is_nothing():
    """So that soft targets are the documents alone."""
    found = rankjax.soft_target_loss(
        QUERIES, references=Positives(DOCUMENTS, MINED), temperature=0.3
    )
    s, m = cosines(QUERIES, DOCUMENTS), cosines(QUERIES, MINED.reshape(-1, DIM))
    every = np.exp(np.concatenate([s, m], 1) / 0.3).sum(1)
    expected = np.mean(np.log(every) - np.diag(s) / 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def step(compute, variables):
    """Value and gradients of all that a batch of pairs and mined rows consists of."""
    rows, guides, valid, mined_valid = variables

    def loss(rows):
        queries, documents, mined = rows
        positives = given(
            negatives_valid=mined_valid, guide=guides[1], negatives_guide=guides[2]
        )
        positives = dataclasses.replace(
            positives, embeddings=documents, negatives=mined, shared=False
        )
        return compute(queries, references=positives, valid=valid, guide=guides[0])

    return jax.value_and_grad(loss)(rows)


BATCH = (
    (QUERIES, DOCUMENTS, MINED),
    (Q_GUIDE, D_GUIDE, M_GUIDE),
    VALID,
    MINED_VALID,
)
LOSSES = {
    "row": nt_xent,
    "per positive": functools.partial(losses.triplet_loss, margin=0.5),
    "positives' rows": losses.lifted_structure_loss,
}


@pytest.mark.parametrize(
    "kind",
    ["row", "per positive", pytest.param("positives' rows", marks=pytest.mark.slow)],
)
def test_eight_devices_and_blocks_of_one_row_equal_one_device_and_the_whole_matrix(
    kind,
):
    settings = {"mining": careful, "symmetric": kind == "row"}
    whole = rankjax.objective(LOSSES[kind], block=None, **settings)
    value, grads = jax.jit(functools.partial(step, whole))(BATCH)
    blocks = rankjax.objective(LOSSES[kind], block=3, **settings)
    spread = rankjax.objective(LOSSES[kind], block=1, axis_name=AXIS, **settings)
    devices = on_eight(functools.partial(step, spread), (SPREAD,), (WHOLE, SPREAD))
    for run in (jax.jit(functools.partial(step, blocks)), devices):
        found, of_rows = run(BATCH)
        np.testing.assert_allclose(found, value, rtol=1e-5)
        for a, b in zip(of_rows, grads, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert not np.any(grads[0][5])
    assert not np.any(grads[2][~MINED_VALID])


def test_positives_without_negatives_are_labelled_references():
    numbers = np.arange(N)
    for loss in (rankjax.quadruplet_loss, rankjax.vic_reg_loss, rankjax.n_pairs_loss):
        found = loss(QUERIES, references=Positives(DOCUMENTS))
        given = rankjax.References(DOCUMENTS, numbers)
        np.testing.assert_allclose(
            found, loss(QUERIES, numbers, references=given), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"negatives": MINED[:, 0]},
            r"^references.negatives must have shape \(16, k, d",
        ),
        (
            {"negatives": MINED[:8]},
            r"^references.negatives must have shape \(16, 2, 5\), got \(8, 2, 5\)",
        ),
        (
            {"embeddings": DOCUMENTS[:8], "guide": D_GUIDE[:8]},
            r"^references.embeddings must have shape \(16, 5\), got \(8, 5\)",
        ),
        (
            {"negatives_valid": MINED_VALID[:, :1]},
            r"^references.negatives_valid must have shape \(16, 2\), got \(16, 1\)",
        ),
        (
            {"negatives_guide": None},
            r"^references.guide and references.negatives_guide must be given together",
        ),
        ({"negatives": None}, r"^references.negatives_valid needs negatives, got None"),
    ],
)
def test_what_does_not_fit_the_batch_is_refused_by_name(changed, message):
    positives = dataclasses.replace(given(), **changed)
    with pytest.raises(ValueError, match=message):
        rankjax.nt_xent_loss(QUERIES, references=positives, guide=Q_GUIDE)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (
            rankjax.vic_reg_loss,
            {},
            r"^references.negatives must be None, for this loss",
        ),
        (
            rankjax.proxy_anchor_loss,
            {},
            r"^references.negatives must be None, for this",
        ),
        (
            rankjax.quadruplet_loss,
            {},
            r"^this needs Pairs.anchor_label, which is None:",
        ),
        (
            rankjax.nt_xent_loss,
            {"positive": np.eye(N, dtype=bool), "negative": ~np.eye(N, dtype=bool)},
            r"^positive and negative must be None where references are rankjax.Positiv",
        ),
        (
            rankjax.nt_xent_loss,
            {"references": rankjax.References(DOCUMENTS), "symmetric": True},
            r"^symmetric=True needs references=rankjax.Positives\(embeddings\), got R",
        ),
    ],
)
def test_what_a_loss_cannot_use_is_refused(loss, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        loss(QUERIES, **{"references": Positives(DOCUMENTS, MINED), **options})
