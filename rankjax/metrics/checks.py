"""Checks of what users hand to measures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_finite(embeddings: jax.Array) -> jax.Array:
    """The same embeddings.

    Raises:
      ValueError: some are not finite.
    """
    bad = np.flatnonzero(~np.asarray(jnp.isfinite(embeddings).all(-1)))
    if len(bad):
        raise ValueError(
            f"embeddings must be finite, got {len(bad)} rows that are not, the first "
            f"in row {bad[0]}"
        )
    return embeddings


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
