"""Statistics of sets of references, and of their unions.

A carry is what is known of a set: the value, and for `largest` also its column.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.blocks import apart, spread
from rankjax.program import Statistic, neutral


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


def carry(
    statistic: Statistic, operands: Sequence[jax.Array], position: jax.Array
) -> tuple[jax.Array, ...]:
    """A statistic over the columns of its operands."""
    match statistic.kind:
        case "at_positive":
            return (operands[0][:, 0],)
        case "log_sum_exp":
            return (rows.log_sum_exp(*operands),)
        case "largest":
            return _chosen(operands[0], operands[1], position)
        case "first_largest":
            return _chosen(operands[0], operands[1], position)[::-1]
        case "sum" if jnp.issubdtype(statistic.dtype, jnp.floating):
            return (jnp.sum(apart(operands[0]), 1),)
    return (_REDUCE[statistic.kind](operands[0], 1),)


_REDUCE: dict[str, Any] = {"sum": jnp.sum, "any": jnp.any, "all": jnp.all}
_REDUCE |= {"max": jnp.max, "min": jnp.min}
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
