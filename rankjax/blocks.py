"""Tools for sums over blocks of anchors: scans, derivatives and mapped axes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax


def sum_blocks(
    function: Callable[[Any], tuple[Any, Any]], block: int, rows: Any
) -> tuple[Any, Any]:
    """Applies a function to blocks of rows; adds one result and joins the other.

    Args:
      function: maps `block` rows to a tree that is added over blocks, and to a tree of
        arrays of leading length `block`.
      block: number of rows at a time.
      rows: a tree of arrays, all of one leading length. Where blocks do not divide it,
        the last rows are repeated with masks that are False.

    Returns:
      The sum, and arrays of the leading length of `rows`.
    """
    n = len(jax.tree.leaves(rows)[0])
    if n <= block:
        return function(rows)
    padded = pad(rows, -n % block)
    split = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), padded)
    first = jax.tree.map(lambda x: x[0], split)
    zeros = zeros_of(jax.eval_shape(lambda: function(first)[0]))

    def one(total: Any, rows: Any) -> tuple[Any, Any]:
        term, result = function(rows)
        return jax.tree.map(jnp.add, total, term), result

    total, results = lax.scan(one, zeros, split)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], results)


def pad(tree: Any, rows: int) -> Any:
    """Appends rows to arrays: masks are False there, all else is as in the last row."""

    def one(x: jax.Array) -> jax.Array:
        mode = "constant" if x.dtype == bool else "edge"
        return jnp.pad(x, [(0, rows)] + [(0, 0)] * (x.ndim - 1), mode=mode)

    return jax.tree.map(one, tree)


def pullback(function: Callable[..., Any], *operands: Any) -> Callable[[Any], Any]:
    """Derives a function in reverse mode, by its floating-point operands alone.

    Returns:
      A function from the cotangents of the result to those of the operands, with None
      in place of every operand that has no gradient.
    """
    pull = jax.vjp(function, *operands)[1]
    return lambda cotangents: floating(pull(cotangents))


def floating(gradients: Any) -> Any:
    """Replaces the gradients of integers, masks and keys by None."""
    return jax.tree.map(
        lambda x: None if x.dtype == jax.dtypes.float0 else x, gradients
    )


def without_closure(
    function: Callable[..., Any], *examples: Any
) -> tuple[Callable[..., Any], list[jax.Array]]:
    """Turns the arrays that a function closes over into an operand.

    A custom derivative only knows gradients of operands, and a user's loss may close
    over anything: a margin that is learned, a table, a random key.

    Returns:
      A function of the arrays and of operands like the examples, and the arrays.
    """
    leaves, tree = jax.tree.flatten(examples)
    results: list[Any] = []

    def flat(*leaves: Any) -> list[Any]:
        found, result = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
        results.append(result)
        return found

    program = jax.make_jaxpr(flat)(*leaves)

    def evaluate(arrays: list[jax.Array], *operands: Any) -> Any:
        closed = jax.extend.core.ClosedJaxpr(program.jaxpr, arrays)
        found = jax.extend.core.jaxpr_as_fun(closed)(*jax.tree.leaves(operands))
        return jax.tree.unflatten(results[0], found)

    return evaluate, program.consts


def zeros_of(shapes: Any) -> Any:
    """Zeros of given shapes, that vary over the same mapped axes."""
    return jax.tree.map(
        lambda x: cast_varying(jnp.zeros(x.shape, x.dtype), varying_axes(x)), shapes
    )


def cast_varying(tree: Any, axes: frozenset[str]) -> Any:
    """Casts arrays to vary over mapped axes, which `shard_map` keeps track of."""

    def cast(x: Any) -> Any:
        missing = tuple(axes - varying_axes(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree)


def sum_unvarying(gradients: Any, like: Any) -> Any:
    """Adds gradients over the mapped axes that their arrays do not vary over.

    Such an array is one for all devices, and what each has for it is a part.
    """

    def add(x: Any, y: Any) -> Any:
        more = tuple(varying_axes(x) - varying_axes(y))
        return lax.psum(x, more) if more else x

    return jax.tree.map(add, gradients, like)


def on_any_mesh(compute: Callable[..., Any], *operands: Any) -> Any:
    """Computes where operands lie on a mesh of explicit axes as on any other.

    Explicit axes leave open what is exchanged for a matrix of all pairs. Here the
    compiler chooses, and the result is whole on every device.
    """
    for mesh in (jax.typeof(x).sharding.mesh for x in jax.tree.leaves(operands)):
        if mesh.explicit_axes and not mesh.manual_axes:
            whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            spread = jax.sharding.auto_axes(compute, out_sharding=whole)
            return jax.jit(spread)(*operands)  # alone it knows one device
    return compute(*operands)


def varying_axes(x: Any) -> frozenset[str]:
    """The mapped axes over which an array varies; none where `shard_map` is not."""
    known = x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x)
    if hasattr(known, "vma"):  # named otherwise from jax 0.10.2 on
        return frozenset(known.vma or ())
    axes = known.manual_axis_type
    return frozenset() if axes is None else axes.varying
