"""A batch as losses and miners see it: one similarity matrix and two masks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.blocks import on_any_mesh
from rankjax.similarity import (
    Similarity,
    apply,
    at_least_float32,
    cosine,
    dot,
    lengths,
)

Relevance = Callable[[jax.Array, jax.Array], jax.Array]
"""Maps labels [anchor] and [reference] to numbers [anchor, reference] in [0, 1]."""
_STATIC = {"static": True}
BY_LABEL, EVERY = -1, -2
"""Of `Rows.negative_of`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pairs:
    """Similarities of anchors and references, and which of them belong together.

    Self-pairs and rows that are not valid are in neither mask. Masks may be narrowed
    (by mining, or by the caller), and a pair may be in neither. What follows the masks
    is context that few losses need; it is None where the caller did not give it.

    Attributes:
      similarity: [anchor, reference], higher is closer.
      positive: [anchor, reference] bool, pairs that should be close.
      negative: [anchor, reference] bool, pairs that should be apart.
      reference_similarity: [reference, reference], or [anchor, reference, reference]
        where each anchor has references of its own; rows of positives, for losses that
        also compare a positive with the negatives. None where they are computed, when
        a loss asks for them, from `reference_embeddings`.
      reference_embeddings: [reference, dim].
      anchor_occurrence: [anchor] int, 0 for the first valid row of a class in the
        global batch, 1 for its second, and so on; None where anchors and references
        come from different batches.
      reference_occurrence: [reference] int, the same for references.
      anchor_label: [anchor] int, the class.
      reference_label: [reference] int.
      reference_valid: [reference] bool, False for padding; None where all are valid.
      relevance: [anchor, reference] in [0, 1], how well two rows match: what the
        objective's `relevance` makes of their labels; or how much of their labels they
        share (Jaccard index), hence 1 or 0 of one label per row.
      guide: [anchor, reference], cosines of what another model makes of the rows.
      anchor_length: [anchor] at least 0, Euclidean lengths of the anchors' embeddings.
      anchor_index: [anchor] int, number of the row in the global batch.
      reference_index: [reference] int, the same; negative for rows of another batch.
      key: the key of random choices.
      measure: the function that computed `similarity`.
      dim: length of the embeddings.
      forward_mode: whether `rows.per_positive` can be differentiated in forward mode,
        too. It then takes as many steps as there are references under `vmap`.
      reference_axis: the mapped axis over which the references are spread, so that
        this device has a part of each row; None where rows are whole.
    """

    similarity: jax.Array
    positive: jax.Array
    negative: jax.Array
    reference_similarity: jax.Array | None = None
    reference_embeddings: jax.Array | None = None
    anchor_occurrence: jax.Array | None = None
    reference_occurrence: jax.Array | None = None
    anchor_label: jax.Array | None = None
    reference_label: jax.Array | None = None
    reference_valid: jax.Array | None = None
    relevance: jax.Array | None = None
    guide: jax.Array | None = None
    anchor_length: jax.Array | None = None
    anchor_index: jax.Array | None = None
    reference_index: jax.Array | None = None
    key: jax.Array | None = None
    measure: Similarity | None = dataclasses.field(default=None, metadata=_STATIC)
    dim: int | None = dataclasses.field(default=None, metadata=_STATIC)
    forward_mode: bool = dataclasses.field(default=False, metadata=_STATIC)
    reference_axis: str | tuple[str, ...] | None = dataclasses.field(
        default=None, metadata=_STATIC
    )

    def narrow(self, positive: jax.Array, negative: jax.Array) -> "Pairs":
        """Keeps the pairs that both masks keep, [anchor, reference] or [anchor, 1].

        Raises:
          ValueError: a mask of another shape.
          TypeError: a mask that is not bool.
        """
        shape = self.positive.shape
        for name, mask in (("positive", positive), ("negative", negative)):
            if jnp.shape(mask) not in (shape, (*shape[:-1], 1)):
                raise ValueError(
                    f"narrow takes {name} [anchor, reference], here {shape}, got "
                    f"{jnp.shape(mask)}"
                )
            if mask.dtype != bool:
                raise TypeError(f"narrow takes {name} as a bool mask, got {mask.dtype}")
        return dataclasses.replace(
            self,
            positive=self.positive & positive,
            negative=self.negative & negative,
        )

    def reference_rows(self) -> jax.Array:
        """Computes the similarities [reference, reference] of references.

        Raises:
          ValueError: they are not known.
        """
        if self.reference_similarity is not None:
            return self.reference_similarity
        self.need("reference_embeddings")
        assert self.measure is not None
        assert self.reference_embeddings is not None
        return self.measure(self.reference_embeddings, self.reference_embeddings)

    def need(self, *names: str) -> None:
        """Raises a ValueError for context that a loss needs and the caller left out."""
        for name in names:
            if getattr(self, name) is None:
                raise ValueError(
                    f"this needs Pairs.{name}, which is None: {_WHY[name]}"
                )


_WHY = {
    "reference_embeddings": "it compares positives with negatives",
    "anchor_label": "give labels [n], not masks, several labels or mined negatives",
    "reference_label": "give labels [n], not masks, several labels or mined negatives",
    "relevance": "give labels rather than masks",
    "guide": "give guide=[n, dim], what another model makes of the rows",
    "anchor_length": "give embeddings, or the lengths of their rows beside the masks",
    "anchor_index": "a random choice is drawn by the rows' numbers",
    "reference_index": "a random choice is drawn by the rows' numbers",
    "key": "a random choice needs key=jax.random.key(seed), a new one in each step",
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Features:
    """Embeddings of anchors, for losses that look at features rather than pairs.

    Attributes:
      embeddings: [anchor, dim].
      valid: [anchor] bool.
      partner: [anchor, dim], the other view of the anchor: of rows with equal labels
        the first and the second are partners, the third and the fourth, and so on; of
        references from another batch, the first that is positive.
      paired: [anchor] bool, where the anchor is the first of two partners. Each pair of
        views is named once.
    """

    embeddings: jax.Array
    valid: jax.Array
    partner: jax.Array
    paired: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Embeddings in the role of anchors or of references, all of leading length n.

    Attributes:
      embeddings: [n, dim].
      valid: [n] bool.
      index: [n] int, which row of the global batch this is, or is a copy of; a pair of
        equal indices is a row with itself. Negative for rows of another batch.
      label: [n] int, or [n, classes] bool where rows have several, or None, when the
        masks are given instead.
      occurrence: [n] int or None, see `Pairs`.
      positive: [n, reference] bool or None, a given mask.
      negative: [n, reference] bool or None, a given mask.
      guide: [n, guide's dim] or None, embeddings by another model; constants.
      negative_of: [n] int or None. The number of the row of the batch that this one is
        a negative of, alone; `EVERY` for a negative of all rows, `BY_LABEL` where
        labels or masks decide, as they do of None.
    """

    embeddings: jax.Array
    valid: jax.Array
    index: jax.Array
    label: jax.Array | None = None
    occurrence: jax.Array | None = None
    positive: jax.Array | None = None
    negative: jax.Array | None = None
    guide: jax.Array | None = None
    negative_of: jax.Array | None = None


def pair_rows(
    anchors: Rows,
    references: Rows,
    similarity: Similarity,
    key: jax.Array | None = None,
    relevance: Relevance | None = None,
) -> Pairs:
    """Pairs every anchor with every reference.

    Raises:
      ValueError: the similarity or the relevance returns another shape.
    """
    positive, negative = masks(anchors, references)
    single = anchors.label is not None and anchors.label.ndim == 1
    single &= references.negative_of is None
    return Pairs(
        similarity=apply(similarity, anchors.embeddings, references.embeddings),
        positive=positive,
        negative=negative,
        reference_embeddings=references.embeddings,
        anchor_occurrence=anchors.occurrence,
        reference_occurrence=references.occurrence,
        anchor_label=anchors.label if single else None,
        reference_label=references.label if single else None,
        reference_valid=references.valid,
        relevance=_relevance(anchors, references, relevance),
        guide=_guide(anchors, references),
        anchor_length=lengths(anchors.embeddings),
        anchor_index=anchors.index,
        reference_index=references.index,
        key=key,
        measure=similarity,
        dim=anchors.embeddings.shape[1],
    )


def prefix(rows: Rows, dim: int) -> Rows:
    """The rows by the first entries of their embeddings."""
    return dataclasses.replace(rows, embeddings=rows.embeddings[:, :dim])


def features(anchors: Rows, references: Rows) -> Features:
    """The anchors' embeddings, each with that of its partner among the references."""
    partners, _ = masks(anchors, references)
    if anchors.occurrence is not None and references.occurrence is not None:
        partners &= (
            anchors.occurrence[:, None] // 2 == references.occurrence[None, :] // 2
        )
    partner = jnp.argmax(partners, 1)
    number = references.index[partner]
    return Features(
        embeddings=anchors.embeddings,
        valid=anchors.valid,
        partner=references.embeddings[partner],
        paired=partners.any(1) & ((number < 0) | (anchors.index < number)),
    )


def masks(anchors: Rows, references: Rows) -> tuple[jax.Array, jax.Array]:
    """Makes the masks [anchor, reference] of positives and of negatives."""
    considered = anchors.valid[:, None] & references.valid[None, :]
    considered &= anchors.index[:, None] != references.index[None, :]
    if anchors.positive is not None and anchors.negative is not None:
        return considered & anchors.positive, considered & anchors.negative
    assert anchors.label is not None
    assert references.label is not None
    if anchors.label.ndim == 2:
        same = _shared(anchors.label, references.label) > 0
    else:
        same = anchors.label[:, None] == references.label[None, :]
    if references.negative_of is not None:
        of = references.negative_of[None, :]
        same &= of == BY_LABEL
        considered &= (of < 0) | (of == anchors.index[:, None])
    return considered & same, considered & ~same


def _shared(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """How many labels rows share, from masks [anchor, class] and [reference, class]."""
    return dot(anchors.astype(jnp.float32), references.astype(jnp.float32))


def _guide(anchors: Rows, references: Rows) -> jax.Array | None:
    if anchors.guide is None or references.guide is None:
        return None
    guide = lax.stop_gradient(cosine(anchors.guide, references.guide))
    return guide.astype(at_least_float32(anchors.embeddings).dtype)


def _relevance(
    anchors: Rows, references: Rows, of_labels: Relevance | None
) -> jax.Array | None:
    """What is given, or the Jaccard index of labels: of one per row, their equality.

    Of what was mined as a negative it is 0.
    """
    if anchors.label is None or references.label is None:
        return None
    relevance = _relevance_of_labels(anchors, references, of_labels)
    if references.negative_of is None:
        return relevance
    return jnp.where(references.negative_of[None, :] == BY_LABEL, relevance, 0)


def _relevance_of_labels(
    anchors: Rows, references: Rows, of_labels: Relevance | None
) -> jax.Array:
    assert anchors.label is not None
    assert references.label is not None
    if of_labels is not None:
        grades = apply(of_labels, anchors.label, references.label, name="relevance")
        return at_least_float32(grades)
    if anchors.label.ndim == 1:
        same = anchors.label[:, None] == references.label[None, :]
        return same.astype(jnp.float32)
    shared = _shared(anchors.label, references.label)
    sizes = jnp.sum(anchors.label, 1)[:, None] + jnp.sum(references.label, 1)[None, :]
    return shared / jnp.maximum(sizes.astype(jnp.float32) - shared, 1)


def class_sizes(anchors: Rows, label: jax.Array | None, valid: jax.Array) -> Any:
    """How many valid rows have the class of each anchor, [anchor]; or None."""
    if label is None or anchors.label is None or label.ndim == 2:
        return None
    same = anchors.label[:, None] == label[None, :]
    return jnp.sum(same & valid[None, :], 1, dtype=jnp.int32)


def not_finite(rows: Rows) -> jax.Array:
    """How many valid rows hold a number that is not finite."""
    given = [x for x in (rows.embeddings, rows.guide) if x is not None]
    finite = [jnp.isfinite(lax.stop_gradient(x)).all(1) for x in given]
    return jnp.sum(~jnp.stack(finite).all(0) & rows.valid, dtype=jnp.int32)


def occurrences(label: jax.Array, valid: jax.Array) -> jax.Array:
    """How many valid rows of the same class come before each row, [n] int32."""
    order = jnp.lexsort((~valid, label))  # by class, the valid rows first; stable
    ordered = label[order]
    starts = jnp.searchsorted(ordered, ordered, side="left", method="sort")
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
    return on_any_mesh(
        functools.partial(_of_tuples, similarity),
        embeddings,
        anchor,
        positive,
        negative,
    )


def _of_tuples(
    similarity: Similarity,
    embeddings: jax.Array,
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
) -> Pairs:
    others = jnp.concatenate([positive, negative], 1)
    rows = embeddings[others]
    similarities = jax.vmap(functools.partial(apply, similarity))
    is_positive = jnp.arange(others.shape[1]) < positive.shape[1]
    is_positive = jnp.broadcast_to(is_positive, others.shape)
    return Pairs(
        similarities(embeddings[anchor][:, None], rows)[:, 0],
        is_positive,
        ~is_positive,
        reference_similarity=similarities(rows, rows),
        anchor_length=lengths(embeddings[anchor]),
        dim=embeddings.shape[1],
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
