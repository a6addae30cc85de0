"""Angular losses: slow loops, and what the paper claims, in double precision."""

import functools
import math

import jax
import numpy as np
import pytest
import reference
from cases import Case
from devices import SPREAD, WHOLE, on_eight

import rankjax
from rankjax.losses.angular import (
    angular_hinge_loss,
    angular_loss,
    n_pairs_angular_loss,
)


def angular_of_roles(s, y, angle=45.0):
    """Anchors are every other row of a class; so are the rows that they see."""
    t = math.tan(math.radians(angle)) ** 2
    role = [sum(y[k] == y[i] for k in range(i)) % 2 for i in range(len(y))]
    seen = [j for j in range(len(y)) if role[j] == 1]
    values = []
    for a in range(len(s)):
        negatives = [n for n in seen if y[n] != y[a]]
        positives = [p for p in seen if y[p] == y[a]]
        for p in positives if role[a] == 0 and negatives else []:
            logits = [4 * t * (s[a, n] + s[p, n]) for n in negatives]
            target = 2 * (1 + t) * s[a, p]
            others = sum(math.exp(v) for v in logits)
            values.append(-math.log(math.exp(target) / (math.exp(target) + others)))
    return reference.mean(values)


def combined(
    s, y, negatives="positives", direction="row", angle=45.0, angular_weight=2, scale=1
):
    n_pairs = reference.n_pairs(s, y, negatives, direction, scale)
    return n_pairs + angular_weight * reference.angular(s, y, angle)


of_roles = functools.partial(angular_loss, negatives="positives")
CASES = {
    "angular": Case(reference.on("cosine", reference.angular), params={"angle": 40.0}),
    "angular, other positives": Case(
        reference.on("cosine", angular_of_roles), loss=of_roles, params={"angle": 40.0}
    ),
    "angular_hinge": Case(reference.angular_hinge, params={"angle": 40.0}),
    "n_pairs_angular": Case(
        reference.on("dot", combined),
        params={"angle": 40.0, "angular_weight": 0.5, "scale": 0.7},
    ),
    "n_pairs_angular, all negatives, symmetric": Case(
        reference.on("dot", combined, negatives="all", direction="symmetric"),
        loss=functools.partial(
            n_pairs_angular_loss, negatives="all", direction="symmetric"
        ),
        params={"angle": 40.0, "angular_weight": 0.5, "scale": 0.7},
    ),
}


# Two roles


@pytest.mark.parametrize("check", [True, False])
def test_replicated_references_get_the_gradient_of_one_device(check):
    """Their own rows of similarities are the same everywhere, and used by parts."""
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(n, 8)).astype(np.float32) for n in (32, 16))
    y, names = rng.permutation(np.arange(32) // 4), np.arange(16) // 2

    def gradient(axis_name, z, x, y):
        compute = rankjax.objective(angular_hinge_loss, axis_name=axis_name)
        references = functools.partial(
            rankjax.References, labels=names, replicated=True
        )
        return jax.grad(lambda z: compute(x, y, references=references(z)))(z)

    def inside(z, x, y):
        return jax.lax.pmean(gradient("batch", z, x, y), "batch")

    spread = on_eight(inside, (WHOLE, SPREAD, SPREAD), check_vma=check)
    expected = jax.jit(functools.partial(gradient, None))(z, x, y)
    np.testing.assert_allclose(spread(z, x, y), expected, rtol=1e-4, atol=1e-6)
