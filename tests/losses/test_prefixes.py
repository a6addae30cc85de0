"""A loss of several lengths of an embedding at once."""

import functools

import cases
import jax
import numpy as np
import pytest
from cases import DIM, EMBEDDINGS, LABELS
from devices import SPREAD, WHOLE, on_eight

import rankjax
from rankjax import losses
from rankjax.parallel import AXIS

EXPORTED = cases.collect()[0]
DIMS, WEIGHTS = (2, 3, DIM), (0.5, 2.0, 1.0)
OF_LOSSES = {k: v for k, v in EXPORTED.items() if k in losses.LOSSES}


def close(actual, expected, tolerance=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance),
        actual,
        expected,
    )


def apart(case, x, y, **given):
    """The weighted sum of what the loss is of each prefix."""
    total = 0.0
    for dim, weight in zip(DIMS, WEIGHTS, strict=True):
        if case.proxies:
            rows, names = case.references()
            given["references"] = rankjax.References(rows[:, :dim], names)
        if case.key:
            given["key"] = jax.random.key(0)
        if case.guided:
            given["guide"] = case.guide(y)
        plain = rankjax.objective(
            case.loss, similarity=case.similarity, reduction=case.reduction, block=None
        )
        total += weight * plain(x[:, :dim], y, params=dict(case.params), **given)
    return total


# One of each way to look at the batch, of several Terms, of sums of the batch,
# and of references.
LOOKS = (
    *("contrastive", "triplet", "angular", "n_pairs", "margin_mse", "histogram"),
    *("quadruplet", "proxy_anchor", "soft_triple", "vic_reg"),
)
# To compile.
SLOW = {"quadruplet", "histogram", "vic_reg", "angular", "soft_triple", "proxy_anchor"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.slow] * (x in SLOW)) for x in LOOKS],
)
def test_lengths_at_once_are_the_weighted_sum_of_the_losses_of_prefixes(name):
    """Whatever the loss, in one block and in several."""
    case = OF_LOSSES[name]
    y = case.labels(LABELS)
    expected = jax.value_and_grad(functools.partial(apart, case))(EMBEDDINGS, y)
    for block in (None, 5):
        compute = case.objective(dims=DIMS, dim_weights=WEIGHTS, block=block)
        compute = functools.partial(compute, params=dict(case.params))
        close(jax.value_and_grad(compute)(EMBEDDINGS, y), expected, case.tolerance)


def test_lengths_at_once_on_eight_devices_are_those_of_one():
    compute = functools.partial(
        rankjax.objective, losses.contrastive_loss, dims=DIMS, dim_weights=WEIGHTS
    )
    expected = jax.value_and_grad(compute(block=None))(EMBEDDINGS, LABELS)
    step = jax.value_and_grad(compute(axis_name=AXIS, block=1))
    spread = on_eight(step, (SPREAD, SPREAD), (WHOLE, SPREAD))
    value, grad = spread(EMBEDDINGS, LABELS)
    close(value, expected[0])
    close(grad, expected[1])


def test_the_order_of_lengths_and_new_weights_change_no_program():
    order = rankjax.objective(losses.nt_xent_loss, dims=[4, 2], dim_weights=[3, 1])
    other = rankjax.objective(losses.nt_xent_loss, dims=(2, 4), dim_weights=(1, 3))
    assert order == other
    close(order(EMBEDDINGS, LABELS), other(EMBEDDINGS, LABELS), 0)
    more = rankjax.objective(losses.nt_xent_loss, dims=(2, 4), dim_weights=(1, 5))
    counted = rankjax.objective(losses.nt_xent_loss, dims=(4,), dim_weights=(2,))
    difference = more(EMBEDDINGS, LABELS) - other(EMBEDDINGS, LABELS)
    close(difference, counted(EMBEDDINGS, LABELS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dims": ()}, r"^dims must be different lengths of at least 1, got \(\)"),
        ({"dims": (2, 2)}, r"^dims must be different lengths"),
        ({"dims": (0, 2)}, r"^dims must be different lengths"),
        ({"dims": (2.5,)}, r"^dims must be whole numbers, got \(2.5,\)"),
        ({"dims": {2: 0.5, 4: 1}}, r"^dims must be a tuple of lengths, their weights"),
        ({"dims": {2, 4}}, r"^dims must be a tuple of lengths"),
        ({"dims": "64"}, r"^dims must be whole numbers, got '64'"),
        ({"dims": (2, 4), "dim_weights": (1,)}, r"^dim_weights must be one number"),
        (
            {"dims": (2, 4), "dim_weights": {2: 1, 4: 2}},
            r"^dim_weights must be a tuple",
        ),
        ({"dims": (2,), "dim_weights": ("1",)}, r"^a weight .* must be a number, got"),
        ({"dim_weights": (1,)}, r"^dim_weights need dims"),
        ({"dims": (2, 64)}, r"^dims must be at most the embeddings' dim 5, got 64"),
    ],
)
def test_bad_lengths_are_refused_by_name(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        rankjax.objective(losses.nt_xent_loss, **given)(EMBEDDINGS, LABELS)
