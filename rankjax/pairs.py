"""A batch as losses and miners see it: one similarity matrix and two masks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rankjax.similarity import Similarity


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pairs:
    """Similarities of anchors and references, and which of them belong together.

    Self-pairs and rows that are not valid are in neither mask. Masks may be narrowed
    (by mining, or by the caller), and a pair may be in neither.

    Attributes:
      similarity: [anchor, reference], higher is closer.
      positive: [anchor, reference] bool, pairs that should be close.
      negative: [anchor, reference] bool, pairs that should be apart.
      reference_similarity: [reference, reference], or [anchor, reference, reference]
        where each anchor has references of its own, or None; the rows of positives, for
        losses that also compare a positive with the negatives.
      anchor_occurrence: [anchor] int or None. 0 for the first valid row of a class in
        the global batch, 1 for its second, and so on.
      reference_occurrence: [reference] int or None, the same for references.
    """

    similarity: jax.Array
    positive: jax.Array
    negative: jax.Array
    reference_similarity: jax.Array | None = None
    anchor_occurrence: jax.Array | None = None
    reference_occurrence: jax.Array | None = None

    def narrow(self, positive: jax.Array, negative: jax.Array) -> "Pairs":
        """Keeps the pairs that the masks [anchor, reference] (or wider) keep."""
        return dataclasses.replace(
            self,
            positive=self.positive & positive,
            negative=self.negative & negative,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Embeddings in the role of anchors or of references, all of leading length n.

    Attributes:
      embeddings: [n, dim].
      valid: [n] bool.
      index: [n] int, which row of the global batch this is; a pair of equal indices is
        a row with itself.
      label: [n] int or None, when the masks are given instead.
      occurrence: [n] int or None, see `Pairs`.
      positive: [n, reference] bool or None, a given mask.
      negative: [n, reference] bool or None, a given mask.
    """

    embeddings: jax.Array
    valid: jax.Array
    index: jax.Array
    label: jax.Array | None = None
    occurrence: jax.Array | None = None
    positive: jax.Array | None = None
    negative: jax.Array | None = None


def pair_rows(anchors: Rows, references: Rows, similarity: Similarity) -> Pairs:
    """Pairs every anchor with every reference."""
    if anchors.positive is None or anchors.negative is None:
        assert anchors.label is not None
        assert references.label is not None
        same = anchors.label[:, None] == references.label[None, :]
        positive, negative = same, ~same
    else:
        positive, negative = anchors.positive, anchors.negative
    considered = anchors.valid[:, None] & references.valid[None, :]
    considered &= anchors.index[:, None] != references.index[None, :]
    return Pairs(
        similarity=similarity(anchors.embeddings, references.embeddings),
        positive=considered & positive,
        negative=considered & negative,
        # Never computed under jit unless the loss asks for it.
        reference_similarity=similarity(references.embeddings, references.embeddings),
        anchor_occurrence=anchors.occurrence,
        reference_occurrence=references.occurrence,
    )


def occurrences(label: jax.Array, valid: jax.Array) -> jax.Array:
    """How many valid rows of the same class come before each row, [n] int32."""
    order = jnp.lexsort((~valid, label))  # by class, the valid rows first; stable
    ordered = label[order]
    starts = jnp.searchsorted(ordered, ordered, side="left")
    place = jnp.arange(len(label), dtype=jnp.int32) - starts.astype(jnp.int32)
    return jnp.zeros_like(place).at[order].set(place)


def from_tuples(
    embeddings: jax.Array,
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    similarity: Similarity,
) -> Pairs:
    """Pairs from explicit index tuples, such as triplets or (N+1)-tuplets.

    Each tuple becomes an anchor row of its own, whose references are its positives
    followed by its negatives, so that every loss takes it unchanged.

    Args:
      embeddings: [n, dim].
      anchor: [tuple] int, row of each tuple's anchor.
      positive: [tuple] or [tuple, p] int, rows of its positives.
      negative: [tuple] or [tuple, q] int, rows of its negatives.
      similarity: see `rankjax.similarity`.

    Returns:
      Pairs with similarity [tuple, p + q].

    Raises:
      ValueError: the three disagree in the number of tuples, or name rows that do not
        exist (where they are concrete, as for `masks_from_pairs`).
      TypeError: row numbers are not integers.
    """
    embeddings, n = jnp.asarray(embeddings), len(embeddings)
    anchor = _as_row_numbers("anchor", anchor, n)
    positive, negative = (
        x[:, None] if x.ndim == 1 else x
        for x in (
            _as_row_numbers("positive", positive, n),
            _as_row_numbers("negative", negative, n),
        )
    )
    if not len(anchor) == len(positive) == len(negative):
        raise ValueError(
            "anchor, positive and negative must list the same number of tuples, got "
            f"{len(anchor)}, {len(positive)} and {len(negative)}"
        )
    others = jnp.concatenate([positive, negative], 1)
    rows = embeddings[others]
    similarities = jax.vmap(similarity)
    is_positive = jnp.arange(others.shape[1]) < positive.shape[1]
    is_positive = jnp.broadcast_to(is_positive, others.shape)
    return Pairs(
        similarities(embeddings[anchor][:, None], rows)[:, 0],
        is_positive,
        ~is_positive,
        reference_similarity=similarities(rows, rows),
    )


def masks_from_pairs(
    positive: tuple[jax.Array, jax.Array],
    negative: tuple[jax.Array, jax.Array],
    shape: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
    """Masks [anchor, reference] from lists of (anchor rows, reference rows).

    Raises:
      ValueError: the two lists of a pair differ in length; or rows are outside `shape`,
        where the lists are concrete (NumPy, or not traced).
      TypeError: row numbers are not integers.
    """
    return _mask(positive, shape, "positive"), _mask(negative, shape, "negative")


def _mask(
    pairs: tuple[jax.Array, jax.Array], shape: tuple[int, int], name: str
) -> jax.Array:
    anchors, references = (
        _as_row_numbers(name, rows, size)
        for rows, size in zip(pairs, shape, strict=True)
    )
    if anchors.shape != references.shape:
        raise ValueError(
            f"{name} must pair as many anchor rows as reference rows, got "
            f"{len(anchors)} and {len(references)}"
        )
    return jnp.zeros(shape, bool).at[anchors, references].set(True)


def _as_row_numbers(name: str, rows: Any, size: int) -> jax.Array:
    if isinstance(rows, jax.core.Tracer):
        return rows
    rows = np.asarray(rows)
    if not rows.size:
        return jnp.zeros(rows.shape, jnp.int32)
    if not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"{name} must be row numbers, got {rows.dtype}")
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} names rows {low} to {high}; allowed are 0 to {size - 1}"
        )
    return jnp.asarray(rows)
