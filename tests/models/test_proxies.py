import numpy as np
import pytest
from flax import nnx

import rankjax
from rankjax.models.proxies import Proxies


def test_rows_of_a_class_are_consecutive():
    proxies = Proxies(3, 4, per_class=2, rngs=nnx.Rngs(0))
    assert proxies.embeddings.shape == (6, 4)
    np.testing.assert_array_equal(proxies.labels, [0, 0, 1, 1, 2, 2])


def test_rows_start_with_length_about_one_in_all_directions():
    rows = np.asarray(Proxies(500, 64, rngs=nnx.Rngs(0)).embeddings[...], float)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1).mean(), 1, atol=0.02)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.linalg.norm(units.mean(0)) < 0.1  # 1 / sqrt(500) is 0.045
    np.testing.assert_allclose((units * units).mean(0), 1 / 64, rtol=0.3)


def test_rows_that_fill_up_a_multiple_are_of_no_class_and_change_no_loss():
    filled = Proxies(3, 4, multiple_of=8, rngs=nnx.Rngs(0))
    plain = Proxies(3, 4, rngs=nnx.Rngs(0))
    assert filled.embeddings.shape == (8, 4)
    np.testing.assert_array_equal(filled.embeddings[:3], plain.embeddings[...])
    x, y = np.random.default_rng(0).normal(size=(5, 4)), [0, 2, 1, 1, 0]
    found, expected = (
        rankjax.normalized_softmax_loss(
            x.astype(np.float32), y, references=each.references()
        )
        for each in (filled, plain)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 4, 1), "num_classes"), ((3, 4.0, 1), "dim"), ((3, 4, 0), "per_class")],
)
def test_sizes_below_one_or_not_whole_are_refused(sizes, message):
    classes, dim, per_class = sizes
    with pytest.raises(
        ValueError, match=f"{message} must be a whole number, at least 1"
    ):
        Proxies(classes, dim, per_class=per_class, rngs=nnx.Rngs(0))
