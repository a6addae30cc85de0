"""Checks of what users hand to measures."""

import importlib
from typing import Any

import numpy as np

from rankjax.inputs import check_count as check_count
from rankjax.registry import check_mask


def as_embeddings(name: str, embeddings: Any, n: int | None = None) -> np.ndarray:
    """Rows [n, dim], float64 as they are and all else in float32.

    Raises:
      ValueError: a wrong shape, no row, or an entry that is not finite.
      TypeError: integers or no real numbers.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or not rows.size or (n is not None and len(rows) != n):
        raise ValueError(
            f"{name} must have shape [{'rows' if n is None else n}, dim], neither 0, "
            f"got {rows.shape}"
        )
    if rows.dtype.type is np.void:  # as NumPy's files have it
        raise TypeError(
            f"{name} must be floating point, got {rows.dtype}, as bfloat16 is saved; "
            f"save {name}.astype(np.float32)"
        )
    if rows.dtype.kind in "iubcUSMm":
        raise TypeError(f"{name} must be floating point, got {rows.dtype}")
    if rows.dtype != np.float64:
        rows = rows.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(wrong):
        raise ValueError(
            f"{name} must be finite, got {len(wrong)} rows that are not, the first in "
            f"row {wrong[0]}"
        )
    return rows


def _vector(name: str, x: np.ndarray, n: int | None) -> np.ndarray:
    if x.ndim != 1 or not x.size or (n is not None and len(x) != n):
        raise ValueError(
            f"{name} must have shape ({'n' if n is None else n},), n at least 1, "
            f"got {x.shape}"
        )
    return x


def as_labels(name: str, labels: Any, n: int | None = None) -> np.ndarray:
    """Integers or strings [n], as they are: never cast, whatever their size.

    Raises:
      ValueError: a wrong shape, or none.
      TypeError: neither.
    """
    labels = _vector(name, np.asarray(labels), n)
    if labels.dtype == object:
        other = [i for i, label in enumerate(labels) if not isinstance(label, str)]
        if other:
            raise TypeError(
                f"{name} must be integers or strings, got {labels[other[0]]!r} in row "
                f"{other[0]}"
            )
        labels = labels.astype(str)
    if labels.dtype.kind not in "iuUS":
        raise TypeError(f"{name} must be integers or strings, got {labels.dtype}")
    if labels.dtype.kind in "US":
        empty = np.flatnonzero(labels == labels.dtype.type())
        if len(empty):
            raise ValueError(f"{name} must not be empty words, row {empty[0]} is")
    return labels


def as_label_sets(name: str, labels: Any, n: int) -> np.ndarray:
    """Labels [n] as they are, or masks bool [n, classes] of rows with several.

    Raises:
      ValueError: a wrong shape, or none.
      TypeError: neither.
    """
    sets = np.asarray(labels)
    if sets.ndim != 2:
        return as_labels(name, labels, n)
    if sets.shape[1] == 1:
        raise TypeError(f"{name} must have shape [n], take {name}[:, 0]")
    if sets.dtype != bool:
        raise TypeError(
            f"{name} must be labels [n], or a bool mask [n, classes], got "
            f"{sets.dtype} {sets.shape}; of 0 and 1 take {name}.astype(bool)"
        )
    if len(sets) != n or not sets.size:
        raise ValueError(f"{name} must have shape ({n}, classes), got {sets.shape}")
    return sets


def as_values(name: str, values: Any, n: int | None = None) -> np.ndarray:
    """Numbers [n] in float64, none of them NaN.

    Raises:
      ValueError: a wrong shape, none, or a NaN.
    """
    values = _vector(name, np.asarray(values, np.float64), n)
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        raise ValueError(
            f"{name} must not be NaN, got {len(bad)} of them, first at {bad[0]}"
        )
    return values


def as_scores(name: str, scores: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Similarities [q, n], those of whole numbers in float64: some have no negative.

    Raises:
      ValueError: a wrong shape, or an entry that is not finite.
      TypeError: not real numbers.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or not scores.size or shape not in (None, scores.shape):
        raise ValueError(
            f"{name} must have shape {shape or '[q, n]'}, got {scores.shape}"
        )
    if scores.dtype.kind in "cUSOMm":
        raise TypeError(f"{name} must be real numbers, got {scores.dtype}")
    scores = scores.astype(np.float64) if scores.dtype.kind in "iub" else scores
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite")
    return scores


def as_rates(name: str, rates: Any) -> list[float]:
    """One rate from 0 to 1, or several.

    Raises:
      ValueError: one is not from 0 to 1.
    """
    values = np.atleast_1d(np.asarray(rates, np.float64))
    wrong = values[~((values >= 0) & (values <= 1))]
    if wrong.size:
        raise ValueError(f"{name} must be from 0 to 1, got {wrong[0]}")
    return values.tolist()


def as_cutoffs(name: str, cutoffs: Any, most: int | None = None) -> list[int]:
    """One number of the first ranks, or several.

    Raises:
      ValueError: one is not a whole number from 1 to what a query can meet.
    """
    values = np.atleast_1d(cutoffs).tolist()
    for k in values:
        known = isinstance(k, int | float) and k == k // 1
        if not known or not 1 <= k <= (np.inf if most is None else most):
            limit = "" if most is None else f" to {most}, what a query can meet"
            raise ValueError(f"{name} must be whole numbers from 1{limit}, got {k!r}")
    return [int(k) for k in values]


def as_mask(name: str, mask: Any, n: int) -> np.ndarray:
    """A mask [n].

    Raises:
      ValueError: a wrong shape.
      TypeError: not bool.
    """
    mask = np.asarray(mask)
    if mask.shape != (n,):
        raise ValueError(f"{name} must have shape {(n,)}, got {mask.shape}")
    check_mask(name, mask)
    return mask


def as_rows(name: str, rows: Any, n: int) -> np.ndarray:
    """Row numbers [m] from 0 to n - 1, each once, of these or of a bool mask [n].

    Integers 0 and 1 for each of n rows are a mask that lost its type, and refused: as
    row numbers they would be the first two rows.

    Raises:
      ValueError: a wrong shape, a number out of range, or one that is there twice.
      TypeError: neither bool nor integers.
    """
    rows = np.asarray(rows)
    if rows.dtype == bool:
        return np.flatnonzero(as_mask(name, rows, n))
    if not rows.size:
        return np.zeros(0, np.int64)
    if not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"{name} must be a bool mask or row numbers, got {rows.dtype}")
    rows = within(name, as_labels(name, rows), n)
    numbers, counts = np.unique(rows, return_counts=True)
    if counts.max() > 1:
        mask = len(rows) == n and numbers[-1] <= 1
        raise ValueError(
            f"{name} must be a bool mask or row numbers that differ, got row "
            f"{numbers[counts.argmax()]} {counts.max()} times"
            + (f"; of 0 and 1 take {name}.astype(bool)" if mask else "")
        )
    return rows


def within(name: str, rows: np.ndarray, n: int) -> np.ndarray:
    """Row numbers of any shape as they are.

    Raises:
      ValueError: one is not from 0 to n - 1.
      TypeError: they are not integers.
    """
    if not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"{name} must be row numbers, got {rows.dtype}")
    wrong = rows[(rows < 0) | (rows >= n)]
    if wrong.size:
        raise ValueError(f"{name} must be rows from 0 to {n - 1}, got {wrong[0]}")
    return rows


def extra(module: str) -> Any:
    """A module that the `train` extra brings and `import rankjax` does without.

    Raises:
      ImportError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module}: pip install 'rankjax[train]' ({error})"
        ) from error
