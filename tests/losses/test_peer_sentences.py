"""Losses of pairs, grades, guides and lengths against sentence-transformers 6.2.0.

`peer_sentences.json` holds its values and gradients in float64, written by
`experiments/parity/peer_sentences.py`. `DIFFERS` says what we do not compute.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rankjax
from rankjax import losses, mining, similarity

FILE = pathlib.Path(__file__).with_name("peer_sentences.json")
PEER = json.loads(FILE.read_text())
EMBEDDINGS, GUIDE = np.array(PEER["embeddings"]), np.array(PEER["guide"])
SCORES = np.array(PEER["scores"])


def partners(x, guide=None, **settings):
    """The second column is of positives, the others are of negatives."""
    given = {"guide": None if guide is None else guide[1]}
    if len(x) > 2:
        given["negatives"] = jnp.swapaxes(x[2:], 0, 1)
        if guide is not None:
            given["negatives_guide"] = jnp.swapaxes(guide[2:], 0, 1)
    return rankjax.Positives(x[1], **given, **settings)


def ranking(x, *, scale=20.0, hardness=0.0, **settings):
    loss = functools.partial(
        losses.nt_xent_loss, temperature=1 / scale, hardness=hardness
    )
    return rankjax.objective(loss, **settings)(x[0], references=partners(x))


def of_scored_pairs(x, *, measure):
    """All pairs are ordered together, as the references of one anchor."""
    found = jnp.diagonal(measure(x[0], x[1]))[None]
    every = jnp.ones(found.shape, bool)
    pairs = rankjax.Pairs(found, every, ~every, relevance=SCORES[None])
    return rankjax.mean(losses.cosent_loss(pairs))


def margin_mse(x):
    """Row by row: negatives are those of the row alone, without other positives."""
    compute, guide = rankjax.objective(losses.margin_mse_loss), GUIDE[: len(x)]
    rows = [
        compute(
            x[0, i : i + 1],
            references=partners(x[:, i : i + 1], guide[:, i : i + 1]),
            guide=guide[0, i : i + 1],
        )
        for i in range(x.shape[1])
    ]
    return jnp.mean(jnp.stack(rows))


def gist(x, **settings):
    miner = functools.partial(mining.likely_true_negatives, by="guide", **settings)
    loss = functools.partial(losses.nt_xent_loss, temperature=0.1)
    guide = GUIDE[: len(x)]
    return rankjax.objective(loss, mining=miner)(
        x[0], references=partners(x, guide), guide=guide[0]
    )


OURS = {
    "ranking": ranking,
    "ranking, negatives": ranking,
    "ranking, both directions": functools.partial(ranking, scale=5.0, symmetric=True),
    "ranking, hardness": functools.partial(ranking, hardness=5.0),
    "matryoshka": functools.partial(
        ranking, dims=(3, 5, 8), dim_weights=(2.0, 1.0, 0.5)
    ),
    "cosent": functools.partial(of_scored_pairs, measure=similarity.cosine),
    "angle": functools.partial(of_scored_pairs, measure=similarity.complex_angle),
    "margin mse": margin_mse,
    "gist": gist,
    "gist, absolute margin": functools.partial(gist, margin=0.2),
    "gist, relative margin": functools.partial(gist, margin=0.2, relative=True),
}
DIFFERS = {
    "ranking, all directions": "one softmax also over anchors among each other",
    "gist, its default": "one softmax also over anchors among each other",
}


def test_every_peer_vector_is_compared_or_said_to_differ():
    assert OURS.keys() | DIFFERS.keys() == PEER["losses"].keys()
    assert not OURS.keys() & DIFFERS.keys()


@pytest.mark.parametrize("name", OURS)
def test_value_and_gradient_equal_the_peer(name):
    peer = PEER["losses"][name]
    with jax.enable_x64(True):
        x = jnp.asarray(EMBEDDINGS[: peer["columns"]])
        value, grad = jax.jit(jax.value_and_grad(OURS[name]))(x)
    np.testing.assert_allclose(value, peer["value"], rtol=1e-9)
    np.testing.assert_allclose(grad, peer["gradient"], rtol=1e-7, atol=1e-8)
