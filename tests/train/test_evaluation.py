import math
from collections import Counter

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from rankjax.models import Layers, build
from rankjax.train import create_state, evaluate, make_embed, pixels, thumbnails


class Stored:
    """Images in memory, as `rankjax.data.ImageSource` has them."""

    def __init__(self, images):
        self.images, self.shape = images, images.shape[1:]

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        return self.images[indices]


def images(n):
    shape = (n, 32, 32, 1)
    return Stored(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture(scope="module")
def network():
    options = {"channels": 1, "embedding_dim": 4, "normalize": False}
    model = build("convnet", **options, layers=Layers(None, nnx.Rngs(0)))
    return model, *create_state(model, optax.sgd(0.1))


@pytest.mark.parametrize(
    ("n", "batch_size", "devices"), [(7, 4, 1), (3, 8, 1), (7, 7, 8), (19, 5, 8)]
)
def test_each_image_is_embedded_as_if_alone(network, n, batch_size, devices):
    model, definition, state = network
    embed = make_embed(
        definition, devices=jax.devices()[:devices], batch_size=batch_size
    )
    got = embed(state, images(n))
    model.eval()
    alone = jax.jit(lambda image: model(image))
    expected = [alone(images(n).read(np.array([i])))[0] for i in range(n)]
    assert (got.shape, got.dtype) == ((n, 4), np.float32)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def normalized_mutual_information(a, b):
    """Mutual information over the mean of the entropies, from the definition."""
    n, pa, pb = len(a), Counter(a), Counter(b)
    mutual = sum(
        c / n * math.log(c * n / (pa[x] * pb[y]))
        for (x, y), c in Counter(zip(a, b, strict=True)).items()
    )
    entropies = [-sum(c / n * math.log(c / n) for c in p.values()) for p in (pa, pb)]
    return mutual / (sum(entropies) / 2)


@pytest.mark.parametrize(
    ("clusters", "labels"),
    [
        ([0] * 5 + [1] * 5, [5, 5, 5, 9, 9, 9, 9, 5, 9, 9]),
        ([0] * 3 + [1] * 4 + [2] * 3, [0, 0, 1, 1, 1, 1, 2, 2, 0, 2]),
        ([0] * 4 + [1] * 3 + [2] * 3, [3] * 4 + [1] * 3 + [2] * 3),
    ],
)
def test_nmi_compares_classes_with_clusters_of_directions(clusters, labels):
    rng = np.random.default_rng(0)
    directions = np.eye(3)[clusters] + 0.01 * rng.normal(size=(len(clusters), 3))
    lengths = rng.uniform(0.1, 10, (len(clusters), 1))
    figures = evaluate(np.float32(directions * lengths), np.array(labels), seed=0)
    expected = normalized_mutual_information(clusters, labels)
    assert figures["nmi"] == pytest.approx(expected, abs=1e-12)


def test_a_perfect_embedding_scores_one_everywhere():
    labels = np.repeat(np.arange(5), 4)
    figures = evaluate(np.float32(np.eye(5)[labels]), labels, seed=0)
    assert list(figures) == [
        *(f"recall_at_{k}" for k in (1, 2, 4, 8)),
        "mrr",
        "map_at_r",
        "r_precision",
        "map",
        "ndcg",
        "nmi",
    ]
    assert all(value == pytest.approx(1) for value in figures.values())


def test_one_embedding_for_all_has_no_mutual_information_and_no_warning():
    labels = np.repeat(np.arange(5), 4)
    figures = evaluate(np.ones((20, 3), np.float32), labels, seed=0)
    assert figures["nmi"] == pytest.approx(0, abs=1e-12)


def test_pixels_are_rows_of_images_from_zero_to_one():
    stored = np.arange(2 * 2 * 3 * 1, dtype=np.uint8).reshape(2, 2, 3, 1) * 20
    stored[1, 1, 2, 0] = 255
    got = pixels(Stored(stored))
    assert got.dtype == np.float32
    expected = [[0, 20, 40, 60, 80, 100], [120, 140, 160, 180, 200, 255]]
    np.testing.assert_allclose(got, np.array(expected) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "shrunk"), [((8, 6), (8, 6)), ((40, 20), (8, 4)), ((10, 80), (1, 8))]
)
def test_thumbnails_are_at_most_so_large_and_small_images_as_they_are(shape, shrunk):
    stored = np.random.default_rng(0).integers(0, 256, (300, *shape, 3), np.uint8)
    got = thumbnails(Stored(stored), 8)
    assert got.shape == (300, *shrunk, 3)
    if shape == shrunk:
        np.testing.assert_array_equal(got, stored)
    np.testing.assert_allclose(got.mean(), stored.mean(), atol=3)
