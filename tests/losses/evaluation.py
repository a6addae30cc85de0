"""Evaluating a loss for the tests of what its paper says.

On the whole matrix and by autodiff, which compiles fastest; the conformance suite and
`test_objective.py` hold the other ways of evaluating a loss to this one.
"""

import functools

import jax
import numpy as np

import rankjax


@functools.cache
def _value_and_grad(loss):
    compute = rankjax.objective(loss, block=None)
    return jax.jit(
        jax.value_and_grad(lambda x, y, params: compute(x, y, params=params))
    )


def evaluate(loss, x, y, **params):
    """Mean and gradient; compiled once per loss, shape and names."""
    return _value_and_grad(loss)(x, y, params)


def close(actual, expected, rtol=1e-9, atol=1e-9):
    """Of arrays, or of trees of them."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        actual,
        expected,
    )
