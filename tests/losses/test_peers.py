"""The losses equal pytorch-metric-learning 2.9.0 where it computes the paper's loss.

`peer_vectors.json` holds its values and gradients in float64, each with the exact class
and settings. Where it differs from the papers, and so from us:

- It normalises what every loss is given unless the distance says otherwise, N-pair
  embeddings included, which the paper leaves at their length.
- Its N-pair loss takes the first pair of each class and ignores the other rows, which
  then get no gradient; compared with one pair per class.
- Its angular loss normalises anchors and positives, but not negatives; compared on
  embeddings of unit length. Negatives are all rows of other classes, as here.
- Contrastive and triplet losses are averaged over the terms above zero, not over all:
  `rankjax.mean_active`. Contrastive hinges are not squared: `squared=False`.
- Its semi-hard band includes D(a, n) = D(a, p) + margin, where the loss is zero.
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
)

PEER = json.loads(pathlib.Path(__file__).with_name("peer_vectors.json").read_text())


def unit(measure):
    return lambda a, b: measure(similarity.normalize(a), similarity.normalize(b))


contrastive = functools.partial(losses.contrastive_loss, squared=False)
triplet, hardest = losses.triplet_loss, losses.batch_hard_triplet_loss
semi_hard = functools.partial(triplet, selection=mining.semi_hard)

# Loss, similarity, hyper-parameters; the mean over active terms where there is a hinge.
OURS = {
    "contrastive, raw": (
        contrastive,
        negative_euclidean,
        {"positive_margin": 0.5, "margin": 4.0},
    ),
    "contrastive, unit length": (
        contrastive,
        unit(negative_euclidean),
        {"margin": 1.3},
    ),
    "batch-all triplet, raw": (triplet, negative_squared_euclidean, {"margin": 0.5}),
    "batch-all triplet, unit length": (
        triplet,
        unit(negative_squared_euclidean),
        {"margin": 0.2},
    ),
    "semi-hard triplet, raw": (semi_hard, negative_squared_euclidean, {"margin": 2.0}),
    "semi-hard triplet, unit length": (
        semi_hard,
        unit(negative_squared_euclidean),
        {"margin": 0.5},
    ),
    "batch-hard triplet, raw": (hardest, negative_euclidean, {"margin": 0.3}),
    "batch-hard triplet, unit length": (
        hardest,
        unit(negative_euclidean),
        {"margin": 0.3},
    ),
    "batch-hard triplet, soft margin": (hardest, negative_euclidean, {}),
    "n-pairs, raw": (losses.n_pairs_loss, dot, {}),
    "n-pairs, unit length": (losses.n_pairs_loss, cosine, {}),
    "angular, unit length": (losses.angular_loss, cosine, {"angle": 40.0}),
    "angular, unit length, pairs": (losses.angular_loss, cosine, {"angle": 55.0}),
}


def test_every_peer_vector_is_compared():
    assert OURS.keys() == PEER["losses"].keys()


@pytest.mark.parametrize("name", OURS)
def test_value_and_gradient_equal_the_peer(name):
    loss, measure, params = OURS[name]
    peer = PEER["losses"][name]
    labels = np.array(PEER["labels"][peer["labels"]])
    compute = rankjax.objective(
        loss,
        similarity=measure,
        reduction=rankjax.mean if "angular" in name else rankjax.mean_active,
    )
    with jax.enable_x64(True):
        value, grad = jax.value_and_grad(compute)(
            np.array(PEER["embeddings"]), labels, params=params
        )
    np.testing.assert_allclose(value, peer["value"], rtol=1e-6)
    np.testing.assert_allclose(grad, peer["gradient"], rtol=1e-6, atol=1e-6)
