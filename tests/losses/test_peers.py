"""Losses, regularisers and miners against pytorch-metric-learning 2.9.0.

`peer_vectors.json` holds its values and gradients in float64, written by
`experiments/parity/peer_vectors.py`. `DIFFERS` says where it does not compute the
paper's loss, or we define it otherwise; notebooks/from_pytorch_metric_learning.md says
more.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

import rankjax
from rankjax import losses, mining, similarity
from rankjax.similarity import (
    cosine,
    dot,
    negative_euclidean,
    negative_squared_euclidean,
    normalize,
)

PEER = json.loads(pathlib.Path(__file__).with_name("peer_vectors.json").read_text())
X, PROXIES = (np.array(PEER[name]) for name in ("embeddings", "proxies"))
PER_CLASS = PEER["per_class"]
CLASSES = len(PROXIES) // PER_CLASS


def unit(measure):
    return lambda a, b: measure(normalize(a), normalize(b))


EUCLIDEAN = unit(negative_euclidean)
SQUARED = unit(negative_squared_euclidean)

# Ours for each of its entries: loss, similarity, and what else differs from defaults.
OURS = {
    "contrastive, raw": (
        functools.partial(losses.contrastive_loss, squared=False),
        negative_euclidean,
        {"positive_margin": 0.5, "margin": 4.0},
    ),
    "contrastive": (
        functools.partial(losses.contrastive_loss, squared=False),
        EUCLIDEAN,
        {"margin": 1.3},
    ),
    "contrastive, cosine": (
        functools.partial(losses.contrastive_loss, squared=False),
        cosine,
        {"positive_margin": -0.8, "margin": -0.2},
    ),
    "triplet, raw": (losses.triplet_loss, negative_squared_euclidean, {"margin": 0.5}),
    "triplet": (losses.triplet_loss, SQUARED, {"margin": 0.2}),
    "triplet, swap": (
        functools.partial(losses.triplet_loss, swap=True),
        EUCLIDEAN,
        {"margin": 0.2},
    ),
    "triplet, soft": (
        functools.partial(losses.triplet_loss, margin=None),
        EUCLIDEAN,
        {},
    ),
    "triplet, semi-hard": (
        functools.partial(losses.triplet_loss, selection=mining.semi_hard),
        negative_squared_euclidean,
        {"margin": 2.0},
    ),
    "batch-hard triplet": (losses.batch_hard_triplet_loss, EUCLIDEAN, {"margin": 0.3}),
    "batch-hard triplet, soft": (
        losses.batch_hard_triplet_loss,
        negative_euclidean,
        {},
    ),
    "n-pairs, raw": (losses.n_pairs_loss, dot, {}),
    "n-pairs, cosine": (losses.n_pairs_loss, cosine, {}),
    "angular": (losses.angular_loss, cosine, {"angle": 40.0}),
    "snr contrastive": (
        losses.signal_to_noise_contrastive_loss,
        unit(similarity.negative_snr_distance),
        {"positive_margin": 0.1, "margin": 3.0},
    ),
    "threshold-consistent margin": (
        losses.threshold_consistent_margin_loss,
        None,
        {"positive_margin": 0.6, "negative_margin": 0.1},
    ),
    "intra-pair variance": (losses.intra_pair_variance_loss, None, {}),
    "tuplet margin": (losses.tuplet_margin_loss, None, {"slack": 10.0, "scale": 8.0}),
    "lifted structure, raw": (losses.lifted_structure_loss, None, {}),
    "lifted structure": (losses.lifted_structure_loss, EUCLIDEAN, {}),
    "generalized lifted structure": (
        losses.generalized_lifted_structure_loss,
        EUCLIDEAN,
        {},
    ),
    "multi-similarity": (losses.multi_similarity_loss, None, {"beta": 10.0}),
    "multi-similarity, mined": (losses.multi_similarity_loss, None, {"beta": 10.0}),
    "circle": (losses.circle_loss, None, {"gamma": 8.0}),
    "nt-xent": (losses.nt_xent_loss, None, {"temperature": 0.2}),
    "sup-con": (losses.sup_con_loss, None, {"temperature": 0.2}),
    "nca": (losses.nca_loss, SQUARED, {"scale": 2.0}),
    "fast-ap": (losses.fast_ap_loss, None, {}),
    "histogram": (functools.partial(losses.histogram_loss, bins=100), None, {}),
    "proxy-nca": (losses.proxy_nca_pp_loss, None, {"temperature": 1 / 3}),
    "proxy-anchor": (losses.proxy_anchor_loss, None, {"alpha": 8.0}),
    "soft-triple": (
        functools.partial(losses.soft_triple_loss, centers=PER_CLASS),
        None,
        {},
    ),
    "normalized softmax": (losses.normalized_softmax_loss, None, {"temperature": 0.2}),
    "cos-face": (losses.cos_face_loss, None, {"scale": 8.0}),
    "arc-face": (losses.arc_face_loss, None, {"scale": 8.0}),
    "sub-center arc-face": (
        functools.partial(losses.sub_center_arc_face_loss, centers=PER_CLASS),
        None,
        {"scale": 8.0},
    ),
    "p2s-grad": (losses.p2s_grad_loss, None, {}),
    "vicreg": (losses.vic_reg_loss, None, {}),
}
# Its value over ours, where that is a constant.
FACTOR = {
    "p2s-grad": 2 / CLASSES,  # it averages over classes as well, without the half
    "multi-similarity, mined": 11 / 12,  # one anchor has no pair left, and counts
}
DIFFERS = {
    "triplet, angular mining": "mines rows as they are for a loss of normalised ones",
    "margin": "sums both hinges over triplets, so that a pair counts many times",
    "smooth-ap": "right only where there are as many classes as rows of each",
    "instance": "takes the number of a class as the number of a row",
    "ranked list": "adds 1e-5 to each weight in the denominators",
    "dynamic soft margin": "its histogram is not interpolated, and has all triplets",
    "sphere-face": "multiplies by the length of the embedding, unknown to similarities",
    "large-margin softmax": "multiplies by lengths, which similarities do not have",
    **{
        f"pnp {variant}": "counts the anchor as a positive of its own"
        for variant in ("Ds", "Dq", "Iu", "Ib", "O")
    },
}
ROWS_PER_CLASS = {"soft-triple": PER_CLASS, "sub-center arc-face": PER_CLASS}


def reduction_of(code):
    active = ("Contrastive", "TripletMargin", "Circle", "SupCon", "SignalToNoise")
    return rankjax.mean_active if any(c in code for c in active) else rankjax.mean


def test_every_peer_vector_is_compared_or_said_to_differ():
    assert OURS.keys() | DIFFERS.keys() == PEER["losses"].keys()
    assert not OURS.keys() & DIFFERS.keys()


@pytest.mark.parametrize("name", OURS)
def test_value_and_gradient_equal_the_peer(name):
    loss, measure, params = OURS[name]
    peer = PEER["losses"][name]
    given, code = {"params": params}, peer["loss"]
    if peer["labels"] == "pairs in turn":
        labels = np.repeat(np.arange(6), 2)
    else:
        labels = np.array(PEER["labels"][peer["labels"]])
    if "num_classes" in code:
        rows = ROWS_PER_CLASS.get(name, 1)
        given["references"] = rankjax.References(
            PROXIES[:: PER_CLASS // rows], np.repeat(np.arange(CLASSES), rows)
        )
    compute = rankjax.objective(
        loss,
        similarity=measure,
        mining=mining.multi_similarity if "mined" in name else None,
        reduction=reduction_of(code),
        block=None,
    )
    with jax.enable_x64(True):
        value, grad = jax.value_and_grad(compute)(X, labels, **given)
    factor = FACTOR.get(name, 1)
    tolerance = 2e-6 if name == "histogram" else 1e-7  # it has parts in float32
    expected = (peer["value"] / factor, np.array(peer["gradient"]) / factor)
    np.testing.assert_allclose(value, expected[0], rtol=tolerance)
    np.testing.assert_allclose(grad, expected[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PEER["regularizers"])
def test_value_and_gradient_of_a_regulariser_equal_the_peer(name):
    peer = PEER["regularizers"][name]
    x = X if peer["rows"] == "raw" else PROXIES
    labels = np.arange(len(x))
    if name == "sparse_centers":
        labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    compute = rankjax.objective(rankjax.regularizers.REGULARIZERS[name], block=None)
    with jax.enable_x64(True):
        value, grad = jax.value_and_grad(compute)(x, labels)
    np.testing.assert_allclose(value, peer["value"], rtol=1e-7)
    np.testing.assert_allclose(grad, peer["gradient"], rtol=1e-7, atol=1e-9)


MINERS = {
    "hardest": mining.hardest,
    "multi_similarity": mining.multi_similarity,
    "thresholds": functools.partial(
        mining.thresholds, positive_below=-1.1, negative_above=-1.3
    ),
    "easy_positive": mining.easy_positive,
    "easy_positive, semi-hard negative": functools.partial(
        mining.easy_hard, positive="easiest", negative="semi_hard"
    ),
}
SELECTIONS = {
    "all_negatives": mining.all_negatives,
    "semi_hard": mining.semi_hard,
    "hard": mining.hard,
    "easy": mining.easy,
    "angular": functools.partial(mining.angular, angle=40, distance="euclidean"),
}
MINERS_DIFFER = {
    "hard_aware_cascade": "ranks the pairs of the whole batch",
}


def test_every_peer_miner_is_compared_or_said_to_differ():
    ours = MINERS.keys() | SELECTIONS.keys() | MINERS_DIFFER.keys()
    assert ours == PEER["miners"].keys()


def seen(miner, measure=EUCLIDEAN):
    """The pairs that a loss is handed."""
    found = []

    def look(pairs):
        jax.debug.callback(lambda *x: found.append(x), pairs.positive, pairs.negative)
        return rankjax.Terms.over_references(pairs.similarity, pairs.positive)

    compute = rankjax.objective(look, mining=miner, similarity=measure, block=None)
    with jax.enable_x64(True):
        compute(X, np.array(PEER["labels"]["uneven"]))
    jax.effects_barrier()
    return found[0]


def listed(mask):
    return np.argwhere(mask).tolist()


@pytest.mark.parametrize("name", MINERS)
def test_a_miner_picks_what_the_peer_picks(name):
    peer = PEER["miners"][name]
    cosines = name == "multi_similarity"
    positive, negative = map(
        np.asarray, seen(MINERS[name], cosine if cosines else EUCLIDEAN)
    )
    if "triplets" in peer:
        complete = positive.any(1) & negative.any(1)
        triplets = [
            [a, p, n]
            for a in np.flatnonzero(complete)
            for p in np.flatnonzero(positive[a])
            for n in np.flatnonzero(negative[a])
        ]
        assert triplets == peer["triplets"]
        return
    assert listed(positive) == peer["positive"]
    assert listed(negative) == peer["negative"]


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_picks_what_the_peer_picks(name):
    labels = np.array(PEER["labels"]["uneven"])
    margin = 10.0 if name == "all_negatives" else 0.3

    triplets = []
    with jax.enable_x64(True):
        # Its angular miner alone takes rows as they are.
        s = (rankjax.similarity.negative_euclidean if name == "angular" else EUCLIDEAN)(
            X, X
        )
        for a in range(12):
            for p in np.flatnonzero((labels == labels[a]) & (np.arange(12) != a)):
                view = rankjax.rows.View(
                    row=s[a],
                    positives=(labels == labels[a]) & (np.arange(12) != a),
                    negatives=labels != labels[a],
                    positive=s[a, p],
                    this=np.arange(12) == p,
                    compute_row=lambda p=p: s[p],
                )
                chosen = SELECTIONS[name](view, margin)
                triplets += [[a, int(p), int(n)] for n in np.flatnonzero(chosen)]
    assert sorted(triplets) == PEER["miners"][name]["triplets"]
