"""Functions of anchors, some anchors at a time: memory for a block of the matrix."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def cached(anchors: int, references: int) -> int:
    """Anchors at a time whose pairs stay in the cache of a CPU; elsewhere all."""
    if jax.default_backend() != "cpu":
        return anchors
    return min(anchors, max(2**17 // references, 32))


def in_blocks(function: Callable[..., Any], block: int, *trees: Any) -> Any:
    """Applies a function of [anchor] arrays to `block` of them at a time."""
    return scan_blocks(lambda _, *x: (None, function(*x)), block, None, *trees)[1]


def scan_blocks(
    function: Callable[..., Any], block: int, carry: Any, *trees: Any
) -> tuple[Any, Any]:
    """Scans a function of a carry and of [anchor] arrays over blocks of anchors."""
    n = len(jax.tree.leaves(trees)[0])
    if n <= block:
        return function(carry, *trees)
    padding = -n % block
    split = jax.tree.map(
        lambda x: x.reshape(-1, block, *x.shape[1:]), pad(trees, padding)
    )
    carry, results = lax.scan(lambda c, x: function(c, *x), carry, split)
    return carry, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], results)


def cut(tree: Any, start: jax.Array, size: int) -> Any:
    """Some rows of arrays."""
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), tree)


def put(tree: Any, rows: Any, start: jax.Array) -> Any:
    """Arrays with some rows replaced."""
    return jax.tree.map(
        lambda x, y: lax.dynamic_update_slice_in_dim(x, y, start, 0), tree, rows
    )


def pad(tree: Any, rows: int) -> Any:
    """Appends rows to arrays: masks are False there, all else as in the last row.

    What is computed for them is then finite, and counts for nothing. Of a node of the
    tree that has a method `padded`, it is called instead.
    """
    return jax.tree.map(
        lambda x: x.padded(rows) if hasattr(x, "padded") else _pad(x, rows),
        tree,
        is_leaf=lambda x: hasattr(x, "padded"),
    )


def _pad(x: jax.Array, rows: int) -> jax.Array:
    mode = "constant" if x.dtype == bool else "edge"
    return jnp.pad(x, [(0, rows)] + [(0, 0)] * (x.ndim - 1), mode=mode)


def apart(x: jax.Array) -> jax.Array:
    """The same array; no matrix product or sum takes over what it is computed from.

    XLA's CPU backend moves the arithmetic in front of a matrix product or a sum into a
    kernel of its own, where it is several times slower; but not a selection.
    """
    return jnp.where(jnp.isnan(x), jnp.nan, x)


def sum_rows(
    values: jax.Array, counted: jax.Array | None = None, axis: int = -1
) -> tuple[jax.Array, jax.Array | None]:
    """Sums over an axis of floating point values, and of integers beside them.

    XLA's CPU backend hands the sum of one array to a kernel of its own, for which it
    first writes out the terms; the sums of two arrays together stay with what they are
    computed from, and take half the time. Where none is given, the second one counts
    what is not a number, and is asked whether there was any.
    """
    if axis == 0 and values.ndim > 1:
        values = apart(values)  # down the columns that kernel is the faster one
    if jax.default_backend() != "cpu" or (axis == 0 and values.ndim > 1):
        beside = counted if counted is None else jnp.sum(counted, axis)
        return jnp.sum(values, axis), beside
    other = jnp.isnan(values).astype(jnp.int32) if counted is None else counted
    zeros = jnp.zeros((), values.dtype), jnp.zeros((), other.dtype)
    total, beside = lax.reduce(
        (values, other),
        zeros,
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        (axis % values.ndim,),
    )
    if counted is None:
        return jnp.where(beside > 0, jnp.nan, total), None
    return total, beside


def transposed_matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """The product of a transposed matrix [n, m] and one of few columns, [n, k].

    XLA's CPU backend is three times slower along the first axis of a left operand, and
    turns the product of the other order into that one where it may.
    """
    return lax.optimization_barrier(matmul_transposed(a, b)).T


def matmul_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """The transpose of `transposed_matmul`, [k, m]."""
    return jnp.matmul(b.T, a, precision=lax.Precision.HIGHEST)


def spread(tree: Any, over: Any) -> Any:
    """Arrays spread over mapped axes as `shard_map` wants them: those named, or those
    that another array is spread over."""
    axes = frozenset(over) if isinstance(over, tuple) else _spread_over(over)

    def cast(x: Any) -> Any:
        missing = tuple(axes - _spread_over(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree)


def unspread(tree: Any, like: Any) -> Any:
    """Gradients summed over the mapped axes that their arrays are not spread over.

    Such an array is one for all devices, and what each has for it is a part.
    """

    def add(x: Any, y: Any) -> Any:
        more = tuple(_spread_over(x) - _spread_over(y))
        return lax.psum(x, more) if more else x

    return jax.tree.map(add, tree, like)


def _spread_over(x: Any) -> frozenset[str]:
    known = jax.typeof(x)
    if hasattr(known, "vma"):
        return known.vma
    return known.manual_axis_type.varying
