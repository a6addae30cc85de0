"""What is looked at in a batch while a sweep trains: directions and shares."""

from typing import Any

import jax
import jax.numpy as jnp

DIRECTIONS = ("triplet_toward", "angular_toward", "triplet_out", "angular_out")
SHARES = ("wide_gradient", "wide_active")


def directions(
    embeddings: jax.Array, labels: jax.Array, groups: jax.Array, gradient: jax.Array
) -> dict[str, jax.Array]:
    """Where triplet and angular steps would move the negatives of the batch's triplets.

    The triplet hinge moves a negative along n - a, the angular hinge along n - c with c
    the middle of a and p, both of squared distances and without normalisation.

    Returns:
      triplet_toward, angular_toward: share of triplets whose negative comes nearer to
        the positive, <step, p - n> > 0.
      triplet_out, angular_out: mean cosine of the step and n - m, with m the mean of
        the rows of the anchor's class.
    """
    del groups, gradient
    same = labels[:, None] == labels[None, :]
    members = same.astype(embeddings.dtype)
    mean = members @ embeddings / jnp.sum(members, -1, keepdims=True)
    pairs = same & ~jnp.eye(len(labels), dtype=bool)
    chosen = pairs[:, :, None] & ~same[:, None, :]

    # [anchor, positive, negative], of inner products alone.
    product = embeddings @ embeddings.T
    a_n, p_n, a_p = product[:, None, :], product[None, :, :], product[:, :, None]
    square = jnp.diagonal(product)
    n_n, a_a, p_p = square[None, None, :], square[:, None, None], square[None, :, None]
    to_mean = embeddings @ mean.T
    n_m, a_m = to_mean.T[:, None, :], jnp.diagonal(to_mean)[:, None, None]
    p_m = to_mean.T[:, :, None]
    m_m = jnp.sum(jnp.square(mean), -1)[:, None, None]

    def told(c_n: Any, c_p: Any, c_m: Any, c_c: Any) -> tuple[jax.Array, jax.Array]:
        """Of the step n - c."""
        toward = p_n - n_n - c_p + c_n > 0
        out = n_n - n_m - c_n + c_m
        squares = (n_n - 2 * c_n + c_c) * (n_n - 2 * n_m + m_m)
        cosine = out / jnp.sqrt(jnp.maximum(squares, 1e-12))
        cosine = jnp.broadcast_to(cosine, chosen.shape)
        return jnp.mean(toward, where=chosen), jnp.mean(cosine, where=chosen)

    triplet = told(a_n, a_p, a_m, a_a)
    middle = (
        (a_n + p_n) / 2,
        (a_p + p_p) / 2,
        (a_m + p_m) / 2,
        (a_a + 2 * a_p + p_p) / 4,
    )
    angular = told(*middle)
    values = (triplet[0], angular[0], triplet[1], angular[1])
    return dict(zip(DIRECTIONS, values, strict=True))


def shares(
    embeddings: jax.Array, labels: jax.Array, groups: jax.Array, gradient: jax.Array
) -> dict[str, jax.Array]:
    """How much of the gradient the rows of wide classes (group 1) have.

    Returns:
      wide_gradient: their part of the sum of the gradients' lengths, over their part of
        the rows: 1 for an even share.
      wide_active: their part of the rows that have a gradient, likewise.
    """
    del embeddings, labels
    length = jnp.linalg.norm(gradient, axis=-1)
    wide = jnp.maximum(jnp.mean(groups == 1), 1e-12)

    def share(values: jax.Array) -> jax.Array:
        ours = jnp.sum(values, where=groups == 1)
        return ours / jnp.maximum(jnp.sum(values), 1e-12) / wide

    active = (length > 1e-6 * jnp.max(length)).astype(length.dtype)
    return dict(zip(SHARES, (share(length), share(active)), strict=True))
