"""Embeddings of earlier batches, as further references for any loss.

    memory = empty(size, dim)
    memory = memory.add(embeddings, labels)
    references = memory.references(holds_batch=True)
    value = objective(loss)(embeddings, labels, references=references)

A cross-batch memory (Wang, Zhang, Huang, Scott, "Cross-Batch Memory for Embedding
Learning", CVPR 2020) holds the newest `size` embeddings without their gradients. A
batch is added before it is compared, as in the paper's algorithm 1, and no row is
compared with its own copy, so that a memory as large as the batch gives the loss of the
batch: of every loss but the N-pairs ones, which take a second row of each class for the
references of a batch, and all rows of a memory.
The paper adds the loss of the memory to that of the batch, once embeddings move slowly
enough, after some 1,000 steps.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import inputs
from rankjax.blocks import on_any_mesh
from rankjax.inputs import References

AxisName = str | tuple[str, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
    """A ring of the newest embeddings; a pytree of plain arrays, as checkpoints want.

    Attributes:
      embeddings: [size, dim].
      labels: [size] integers, or [size, classes] bool.
      index: [size] int32, which row of the newest batch this is; -1 for one of an
        earlier batch, -2 for a place that is still empty.
      start: [] int32, the place of the next row.
      replicated: whether every device holds the whole memory, the same everywhere, and
        adds everyone's rows; otherwise each holds a share of it and adds its own.
    """

    embeddings: jax.Array
    labels: jax.Array
    index: jax.Array
    start: jax.Array
    replicated: bool = dataclasses.field(default=True, metadata={"static": True})

    def add(
        self,
        embeddings: jax.Array,
        labels: jax.Array,
        *,
        valid: Any = None,
        axis_name: AxisName | None = None,
    ) -> "Memory":
        """The memory with a batch in place of its oldest rows; no gradient flows.

        Args:
          embeddings: [n, dim], n at most the size.
          labels: [n] integers, or [n, classes] bool, as the memory holds them.
          valid: [n] bool, or None for all; False rows are padding, and their places
            stay empty.
          axis_name: the mapped axis over which the batch is spread, or None.

        Raises:
          ValueError: shapes that do not fit, or a batch larger than the memory.
          TypeError: labels of another type than the memory's.
        """
        rows = inputs.as_rows("", embeddings, labels, valid)
        dim = self.embeddings.shape[1]
        if rows.label is None or rows.label.shape[1:] != self.labels.shape[1:]:
            held = ", ".join(["n", *map(str, self.labels.shape[1:])])
            raise TypeError(
                f"labels must be [{held}] for this memory, got "
                f"{None if rows.label is None else rows.label.shape}; "
                "rankjax.memory.empty(..., classes=...) holds several labels per row"
            )
        if jnp.asarray(labels).dtype.itemsize > self.labels.dtype.itemsize:
            raise TypeError(
                f"labels are {jnp.asarray(labels).dtype}, the memory holds "
                f"{self.labels.dtype}"
            )
        if rows.embeddings.shape[1] != dim:
            raise ValueError(
                f"embeddings must have the memory's dim {dim}, "
                f"got {rows.embeddings.shape[1]}"
            )
        embeddings, labels = lax.stop_gradient(rows.embeddings), rows.label
        valid = rows.valid
        first: Any = 0
        if axis_name is not None and self.replicated:
            embeddings, labels, valid = (
                lax.all_gather(x, axis_name, tiled=True, to="invarying")
                for x in (embeddings, labels, valid)
            )
        elif axis_name is not None:
            first = lax.axis_index(axis_name) * len(labels)
        size, n = len(self.labels), len(labels)
        if n > size:
            raise ValueError(
                f"a memory of {size} rows holds no batch of {n}: size must be at least "
                "that of the batch"
            )
        return _add(embeddings, labels, valid, self, first)

    def references(self, *, holds_batch: bool) -> References:
        """Makes the rows references of an objective.

        Args:
          holds_batch: whether the embeddings that the objective is called with are
            those that were added last, so that the newest rows are their copies. They
            are not where another network embedded the same images, as in MoCo.
        """
        return References(
            self.embeddings,
            self.labels,
            self.index > -2,
            jnp.maximum(self.index, -1) if holds_batch else None,
            self.replicated,
        )


@jax.jit  # which takes arrays of one device and of a mesh together
def _add(*operands: Any) -> Memory:
    result: Memory = on_any_mesh(_with, *operands)
    return result


def _with(
    embeddings: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    memory: Memory,
    first: Any,
) -> Memory:
    """The memory with rows in place of its oldest, numbered from `first` on."""
    size, n = len(memory.labels), len(labels)
    count = jnp.arange(n, dtype=jnp.int32)
    place = (memory.start + count) % size
    return dataclasses.replace(
        memory,
        embeddings=memory.embeddings.at[place].set(
            embeddings.astype(memory.embeddings.dtype)
        ),
        labels=memory.labels.at[place].set(labels.astype(memory.labels.dtype)),
        index=jnp.minimum(memory.index, -1)
        .at[place]
        .set(jnp.where(valid, first + count, -2)),
        start=(memory.start + n) % size,
    )


def empty(
    size: int,
    dim: int,
    dtype: Any = jnp.float32,
    *,
    classes: int | None = None,
    replicated: bool = True,
) -> Memory:
    """A memory without rows.

    Args:
      size: number of rows that it will hold, on each device.
      dim: length of an embedding.
      dtype: of the embeddings.
      classes: their number, where rows have several labels [n, classes]; None where
        each has one.
      replicated: see `Memory`.

    Raises:
      ValueError: a number is not whole or below 1.
    """
    sizes = {"size": size, "dim": dim, "classes": classes}
    for name, value in sizes.items():
        if value is not None:
            inputs.check_count(name, value, 1)
    return Memory(
        jnp.zeros((size, dim), dtype),
        jnp.zeros(size, jax.dtypes.canonicalize_dtype(int))
        if classes is None
        else jnp.zeros((size, classes), bool),
        jnp.full(size, -2, jnp.int32),
        jnp.zeros((), jnp.int32),
        replicated,
    )
