import jax.numpy as jnp
import numpy as np
import pytest

from rankjax.metrics import compress
from rankjax.similarity import dot


def embeddings(n, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_signs_are_packed_bits_whose_inner_product_counts_the_differing_ones():
    rows = embeddings(7, 13)
    rows[2, 4] = 0
    got = compress(rows, "binary")
    assert got.stored.dtype == np.uint8
    assert got.bytes_per_row == 2
    bits = np.unpackbits(got.stored, axis=1)
    assert (bits[:, 13:] == 0).all()
    assert bits[:, :13].tolist() == [[int(x > 0) for x in row] for row in rows]
    hamming = (bits[:, None] != bits[None]).sum(-1)
    products = np.asarray(dot(got.rows, got.rows))
    assert products.tolist() == (13 - 2 * hamming).tolist()


@pytest.mark.parametrize(("kind", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_halves_are_the_nearest_numbers_of_so_many_binary_digits(kind, digits):
    rows = 1e6 * embeddings(5, 6)
    got = compress(rows, kind)
    assert got.stored.dtype == jnp.dtype(kind)
    assert got.bytes_per_row == 12
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    # Half a unit in the last place, and as much as float32 itself rounds.
    ulp = 2.0 ** (np.floor(np.log2(np.abs(unit))) + 1 - digits)
    assert (np.abs(got.rows - unit) <= ulp / 2 + 1e-7).all()
    assert (got.rows == got.stored.astype(np.float32)).all()


def test_a_kind_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"kind must be float16, .*, got 'int8'"):
        compress(embeddings(2, 2), "int8")
