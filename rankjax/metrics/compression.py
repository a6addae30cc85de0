"""Embeddings in fewer bytes."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from rankjax.metrics import checks
from rankjax.metrics.directions import unit_rows

Kind = Literal["float16", "bfloat16", "binary"]


class Compressed(NamedTuple):
    """Embeddings as they are kept, and as they are compared.

    Attributes:
      stored: [n, dim] in half precision, or uint8 [n, ceil(dim / 8)] packed bits.
      rows: float32 [n, dim], what `stored` stands for, to be compared by `dot`.
    """

    stored: np.ndarray
    rows: np.ndarray

    @property
    def bytes_per_row(self) -> int:
        """What keeping one embedding takes."""
        return self.stored.nbytes // len(self.stored)


def compress(embeddings: Any, kind: Kind) -> Compressed:
    """Unit vectors rounded to half precision, or to the signs of their entries.

    Both sides of a search are compressed and compared by inner product, in float32 and
    of rows that are as they are after rounding: `retrieval(search,
    similarity=rankjax.similarity.dot)` tells what recall the rounding costs.

    A sign is a bit, 1 above 0. `rows` has it as 1 and -1, so that an inner product is
    dim - 2 x Hamming distance, exactly. Of so few values many tie, and `retrieval`
    counts ties against the query: the figure is the least that any order of equals has.

    Args:
      embeddings: [n, dim].
      kind: `float16` or `bfloat16`, 2 dim bytes a row, or `binary`, dim / 8.

    Raises:
      ValueError: embeddings not finite or of a wrong shape, or no such kind.
    """
    rows = unit_rows(checks.as_embeddings("embeddings", embeddings))
    if kind == "binary":
        bits = rows > 0
        signs = np.where(bits, np.float32(1), np.float32(-1))
        return Compressed(np.packbits(bits, axis=1), signs)
    if kind not in ("float16", "bfloat16"):
        raise ValueError(f"kind must be float16, bfloat16 or binary, got {kind!r}")
    stored = rows.astype(jnp.dtype(kind))
    return Compressed(stored, stored.astype(np.float32))
