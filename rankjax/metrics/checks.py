"""Checks of what users hand to measures."""

from typing import Any

import numpy as np


def as_embeddings(name: str, embeddings: Any) -> np.ndarray:
    """Rows [n, dim], float64 as they are and all else in float32.

    Raises:
      ValueError: a wrong shape, no row, or an entry that is not finite.
      TypeError: integers.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(
            f"{name} must have shape [rows, dim], neither 0, got {rows.shape}"
        )
    if rows.dtype.kind in "iub":
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


def as_labels(name: str, labels: Any, n: int | None = None) -> np.ndarray:
    """Integers [n], as they are: never cast, whatever their size.

    Raises:
      ValueError: a wrong shape, or none.
      TypeError: not integers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size or (n is not None and len(labels) != n):
        raise ValueError(
            f"{name} must have shape {('n',) if n is None else (n,)}, n at least 1, "
            f"got {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {labels.dtype}")
    return labels


def as_values(name: str, values: Any, n: int | None = None) -> np.ndarray:
    """Numbers [n] in float64, none of them NaN.

    Raises:
      ValueError: a wrong shape, none, or a NaN.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or (n is not None and len(values) != n):
        raise ValueError(
            f"{name} must have shape {('n',) if n is None else (n,)}, n at least 1, "
            f"got {values.shape}"
        )
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        raise ValueError(
            f"{name} must not be NaN, got {len(bad)} of them, first at {bad[0]}"
        )
    return values


def as_mask(name: str, mask: Any, n: int) -> np.ndarray:
    """A mask [n].

    Raises:
      ValueError: a wrong shape.
      TypeError: not bool.
    """
    mask = np.asarray(mask)
    if mask.shape != (n,):
        raise ValueError(f"{name} must have shape {(n,)}, got {mask.shape}")
    if mask.dtype != bool:
        raise TypeError(f"{name} must be a bool mask, got {mask.dtype}")
    return mask
