"""Penalties on embeddings alone, one value per row, averaged like a loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Regularizer = Callable[[jax.Array], jax.Array]
"""Maps embeddings [row, dim] to penalties [row]."""


def squared_norm(embeddings: jax.Array) -> jax.Array:
    """Squared lengths of rows, [row]; keeps un-normalised N-pair embeddings bounded.

    Known code scales it differently. With weight w times the mean of this over the
    batch: TensorFlow's `npairs_loss` has w = 0.001 (0.002 / 4 for anchors and
    positives each), code that follows the paper 0.01.
    """
    return jnp.sum(jnp.square(embeddings), -1)
