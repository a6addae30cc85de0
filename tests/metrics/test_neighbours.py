import jax
import numpy as np
import pytest

from rankjax import similarity
from rankjax.metrics import nearest


def ranking(scores, i):
    """The other rows, most similar first; of equals the lower number first."""
    others = [j for j in range(len(scores)) if j != i]
    return sorted(others, key=lambda j: (-scores[i][j], j))


def grid(n, seed=0):
    """Small integers: inner products are exact, and many are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (n, 3)).astype(np.float32)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("block", [1, 5, 12, 100])
def test_neighbours_depend_neither_on_the_block_nor_on_devices(block, devices):
    embeddings = grid(12)
    scores = (embeddings @ embeddings.T).tolist()
    got = nearest(
        embeddings,
        k=11,
        similarity=similarity.dot,
        block=block,
        devices=jax.devices()[:devices],
    )
    assert got.rows.tolist() == [ranking(scores, i) for i in range(12)]
    expected = [[scores[i][j] for j in ranking(scores, i)] for i in range(12)]
    assert got.similarities.tolist() == expected


def test_neighbours_in_a_gallery_may_be_any_of_its_rows():
    queries, gallery = grid(5, seed=1), grid(9)
    got = nearest(queries, k=9, gallery=gallery, similarity=similarity.dot, block=2)
    scores = queries @ gallery.T
    expected = [sorted(range(9), key=lambda j: (-row[j], j)) for row in scores]
    assert got.rows.tolist() == expected


@pytest.mark.parametrize("k", [0, 12])
def test_k_out_of_range_is_named(k):
    with pytest.raises(ValueError, match=f"k must be a whole .* from 1 to 11, got {k}"):
        nearest(grid(12), k=k)


def test_a_gallery_of_other_dimensions_is_named():
    with pytest.raises(ValueError, match=r"gallery must have 3 dimensions .*, got 2"):
        nearest(grid(12), k=1, gallery=grid(12)[:, :2])


@pytest.mark.parametrize("name", ["cosine", "negative_normalized_euclidean"])
@pytest.mark.parametrize("length", [1, 48**-0.5, 1e-30])
def test_of_equal_cosines_the_lower_number_comes_first(name, length):
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (60, 48))
    function = similarity.SIMILARITIES[name]
    got = nearest(np.float32(signs * length), k=59, similarity=function)
    scores = signs @ signs.T
    expected = [ranking(scores.tolist(), i) for i in range(60)]
    assert got.rows.tolist() == expected
    values = np.take_along_axis(scores / 48, got.rows, 1)
    if name != "cosine":
        values = -np.sqrt(2 - 2 * values)
    np.testing.assert_allclose(got.similarities, values, atol=1e-6)


@pytest.mark.parametrize("name", ["cosine", "negative_normalized_euclidean"])
def test_similarities_of_neighbours_are_those_of_the_function(name):
    rows = np.float32(np.random.default_rng(0).normal(size=(30, 6)))
    rows[[3, 4]] = 0  # of no direction
    function = similarity.SIMILARITIES[name]
    got = nearest(rows, k=29, similarity=function)
    expected = np.take_along_axis(np.asarray(function(rows, rows)), got.rows, 1)
    np.testing.assert_allclose(got.similarities, expected, atol=1e-6)
    assert (np.diff(got.similarities) <= 0).all()
