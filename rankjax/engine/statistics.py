"""Statistics of sets of references, and of their unions.

A carry is what is known of a set: the value, and for `largest` also its column.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.blocks import spread, sum_rows
from rankjax.engine.program import Statistic, neutral


def empty(statistic: Statistic, like: jax.Array) -> Any:
    """The statistic of no references, [anchor], where another array has as many rows
    and is spread over devices."""

    def full(value: Any, dtype: Any) -> jax.Array:
        return spread(jnp.full((len(like), *statistic.size), value, dtype), like)

    value = full(neutral(statistic.kind, statistic.dtype), statistic.dtype)
    if statistic.kind == "largest":
        return value, full(0, jnp.int32)
    if statistic.kind == "first_largest":
        return value, full(-jnp.inf, like.dtype)
    return (value,)


def carries(
    some: Mapping[int, Statistic],
    operands: Mapping[int, Sequence[jax.Array]],
    position: jax.Array,
    axis: int = 1,
) -> dict[int, tuple[jax.Array, ...]]:
    """Statistics along the rows of their operands, by number; or down the columns, of
    the kinds `EITHER_WAY`."""
    sums = [i for i, s in some.items() if s.kind == "sum"]
    real = [i for i in sums if jnp.issubdtype(some[i].dtype, jnp.floating)]
    whole = [i for i in sums if i not in real]
    found = {}
    for i, j in itertools.zip_longest(real, whole[: len(real)]):
        counted = None if j is None else operands[j][0]
        total, count = sum_rows(operands[i][0], counted, axis)
        found[i] = (total,)
        if count is not None:
            found[j] = (count,)
    return found | {
        i: _carry(s, operands[i], position, axis)
        for i, s in some.items()
        if i not in found
    }


def _carry(
    statistic: Statistic,
    operands: Sequence[jax.Array],
    position: jax.Array,
    axis: int,
) -> tuple[jax.Array, ...]:
    match statistic.kind:
        case "at_positive":
            return (operands[0][:, 0],)
        case "log_sum_exp":
            return (rows.log_sum_exp_along(operands[0], operands[1], axis),)
        case "largest":
            return _chosen(operands[0], operands[1], position)
        case "first_largest":
            return _chosen(operands[0], operands[1], position)[::-1]
    return (_REDUCE[statistic.kind](operands[0], axis),)


_REDUCE: dict[str, Any] = {"sum": jnp.sum, "any": jnp.any, "all": jnp.all}
_REDUCE |= {"max": jnp.max, "min": jnp.min}
EITHER_WAY = frozenset({*_REDUCE, "log_sum_exp"})
_ADD: dict[str, Any] = {"sum": jnp.add, "any": jnp.logical_or, "all": jnp.logical_and}
_ADD |= {"max": jnp.maximum, "min": jnp.minimum, "log_sum_exp": jnp.logaddexp}


def merge(statistic: Statistic, a: Any, b: Any) -> Any:
    """A statistic of two sets of references from those of each."""
    if statistic.kind == "at_positive":
        return b
    if statistic.kind not in ("largest", "first_largest"):
        return (_ADD[statistic.kind](a[0], b[0]),)
    value = 0 if statistic.kind == "largest" else 1
    tie, earlier = a[value] == b[value], a[1 - value] <= b[1 - value]
    first = (a[value] > b[value]) | (tie & earlier)
    return tuple(jnp.where(first, x, y) for x, y in zip(a, b, strict=True))


def _chosen(
    values: jax.Array, where: jax.Array, position: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The largest values, and at what positions they are."""
    column = rows.first_largest(values, where)[:, None]
    values = jnp.where(where, values, -jnp.inf)
    value, at = (jnp.take_along_axis(x, column, 1)[:, 0] for x in (values, position))
    return value, at
