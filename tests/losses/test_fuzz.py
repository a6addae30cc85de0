"""No batch, however odd, gives a value or a gradient that is not finite."""

import cases
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

EXPORTED, VARIANTS = cases.collect()
every_setting = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in VARIANTS))
        for name, case in (EXPORTED | VARIANTS).items()
    ],
)
ROWS, DIM, CLASSES = 16, cases.DIM, cases.CLASSES


@st.composite
def batches(draw, rows=ROWS, dim=DIM):
    """Embeddings, labels in 0 ... 7, and which rows are valid.

    Rows repeat, vanish, point the opposite way, and differ in length by many orders of
    magnitude; classes have from one to all of the rows.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    distinct = rng.normal(size=(draw(st.integers(1, rows)), dim))
    if draw(st.booleans()):
        distinct = np.sign(distinct)  # corners, where cosines are exactly 1, 0 or -1
    distinct[rng.random(len(distinct)) < draw(st.sampled_from([0, 0, 0.3]))] = 0
    x = distinct[rng.integers(len(distinct), size=rows)]
    x *= 10.0 ** rng.uniform(0, draw(st.sampled_from([0, 0, 3])), (rows, 1))
    x *= draw(st.sampled_from([1, 1, -1])) ** rng.integers(0, 2, (rows, 1))
    x *= 10.0 ** draw(st.sampled_from([-30, -12, -4, 0, 0, 0, 1, 4]))
    classes = draw(st.integers(1, CLASSES))
    valid = rng.random(rows) < draw(st.sampled_from([1, 1, 0.7, 0.1]))
    return x, rng.integers(0, classes, rows), valid


NAMES = np.array([-(2**31), -1, 0, 1, 2**24, 2**24 + 1, 2**31 - 2, 2**31 - 1])
settings = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@every_setting
@hypothesis.settings(settings, max_examples=40)
@hypothesis.given(batch=batches())
def test_odd_batches_have_finite_values_and_gradients(case, batch):
    x, y, valid = batch
    names = None if case.table else NAMES
    value, grad = cases.evaluate(case, x, y, valid=valid, names=names)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    assert not np.any(grad[~valid])


@pytest.mark.slow
@pytest.mark.parametrize("case", EXPORTED.values(), ids=list(EXPORTED))
@pytest.mark.parametrize(
    ("rows", "dim", "dtype"),
    [(1, 1, "float32"), (7, 3, "bfloat16"), (33, 40, "float16")],
)
@hypothesis.settings(settings, max_examples=15)
@hypothesis.given(data=st.data())
def test_any_shape_and_precision_stays_finite(case, rows, dim, dtype, data):
    x, y, valid = data.draw(batches(rows, dim))
    limit = float(jnp.finfo(dtype).max) / 8  # what the precision itself can hold
    x = jnp.asarray(np.clip(x, -limit, limit), dtype)
    value, grad = _compiled(case)(x, case.labels(y), valid=valid)
    assert np.isfinite(value)
    if dtype != "float16":  # whose largest number slopes at small lengths exceed
        assert np.isfinite(np.asarray(grad, np.float32)).all()


_CACHE = {}


def _compiled(case):
    if case not in _CACHE:
        compute = case.objective()
        _CACHE[case] = jax.jit(
            jax.value_and_grad(lambda x, y, **given: compute(x, y, **given))
        )
    return _CACHE[case]
