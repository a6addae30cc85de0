"""Figures of small sets of embeddings and of batches, which can be mapped over."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.study.benches import Part
from rankjax.similarity import normalize


def embeddings(outputs: jax.Array) -> dict[str, jax.Array]:
    """Of [classes, per_class, dim] embeddings of any length.

    Returns:
      recall: Recall@1, leave one out.
      n_way, one_way: how often the first row of a class is nearer to its second than to
        all, or to a random one, of the other classes' second rows (Sohn, NIPS 2016,
        fig. 3).
      norm: mean length.
      cosine: mean cosine of two rows.
      rank: exp of the entropy of the normalised singular values (Roy and Vetterli,
        EUSIPCO 2007); 1 for collapse.
    """
    classes, per_class, dim = outputs.shape
    unit = normalize(outputs)
    anchors, positives = unit[:, 0], unit[:, 1]
    own = jnp.sum(anchors * positives, -1, keepdims=True)
    beaten = (own > anchors @ positives.T) | jnp.eye(classes, dtype=bool)
    rows = unit.reshape(-1, dim)
    values = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(rows.T @ rows), 0))
    share = values / jnp.maximum(jnp.sum(values), 1e-12)
    entropy = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12)))
    squared, count = jnp.sum(jnp.square(jnp.sum(rows, 0))), len(rows)
    return {
        "recall": jnp.mean(recalled(rows, jnp.arange(classes).repeat(per_class))),
        "n_way": jnp.mean(beaten.all(-1)),
        "one_way": (jnp.sum(beaten) - classes) / (classes * (classes - 1)),
        "norm": jnp.mean(jnp.linalg.norm(outputs, axis=-1)),
        "cosine": (squared - count) / (count * (count - 1)),
        "rank": jnp.exp(entropy),
    }


def test(outputs: jax.Array, part: Part) -> dict[str, jax.Array]:
    """Of [classes, per_class, dim] embeddings and the part that they are of.

    Returns:
      recall_at_1, map_at_r: leave one out; ties count against the query.
      raw: Recall@1 of the inputs.
      rank: as above.
      mode_recall: Recall@1 where rows of other modes of the class are wrong, too.
      recall_0, recall_1: Recall@1 of the queries in group 0 and in group 1.
    """
    dim = outputs.shape[-1]
    rows = normalize(outputs).reshape(-1, dim)
    inputs = normalize(part.inputs).reshape(-1, part.inputs.shape[-1])
    labels = part.labels.reshape(-1)
    groups = part.groups.reshape(-1)
    right = recalled(rows, labels)
    modes = labels * (jnp.max(groups) + 1) + groups
    return {
        "recall_at_1": jnp.mean(right),
        "map_at_r": map_at_r(rows, labels, part.labels.shape[1] - 1),
        "raw": jnp.mean(recalled(inputs, labels)),
        "rank": embeddings(outputs)["rank"],
        "mode_recall": jnp.mean(recalled(rows, modes)),
        "recall_0": jnp.mean(right, where=groups == 0),
        "recall_1": jnp.mean(right, where=groups == 1),
    }


def recalled(rows: jax.Array, labels: jax.Array) -> jax.Array:
    """[n] bool: the nearest other row is of the query's class, and no tie is not."""
    similarity = rows @ rows.T
    same = labels[:, None] == labels[None, :]
    others = ~jnp.eye(len(rows), dtype=bool)
    positive = jnp.max(similarity, -1, where=same & others, initial=-jnp.inf)
    negative = jnp.max(similarity, -1, where=~same, initial=-jnp.inf)
    return positive > negative


def map_at_r(rows: jax.Array, labels: jax.Array, positives: int) -> jax.Array:
    """MAP@R where every query has the same number of positives, ties against it.

    The positive that is k-th among a query's positives and r-th in its ranking adds
    k / r if r <= R (Musgrave et al., ECCV 2020).
    """
    similarity = rows @ rows.T
    same = labels[:, None] == labels[None, :]
    others = ~jnp.eye(len(rows), dtype=bool)
    own = jax.lax.top_k(jnp.where(same & others, similarity, -jnp.inf), positives)[0]
    above = jnp.where(same, -jnp.inf, similarity)[:, None, :] >= own[..., None]
    place = jnp.arange(1, positives + 1)
    rank = place + jnp.sum(above, -1)
    return jnp.mean(jnp.where(rank <= positives, place / rank, 0))


DIRECTIONS = ("triplet_toward", "angular_toward", "triplet_out", "angular_out")


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

    def of_step(c_n: Any, c_p: Any, c_m: Any, c_c: Any) -> tuple[jax.Array, jax.Array]:
        """Of the step n - c."""
        toward = p_n - n_n - c_p + c_n > 0
        out = n_n - n_m - c_n + c_m
        squares = (n_n - 2 * c_n + c_c) * (n_n - 2 * n_m + m_m)
        cosine = out / jnp.sqrt(jnp.maximum(squares, 1e-12))
        cosine = jnp.broadcast_to(cosine, chosen.shape)
        return jnp.mean(toward, where=chosen), jnp.mean(cosine, where=chosen)

    triplet = of_step(a_n, a_p, a_m, a_a)
    middle = (
        (a_n + p_n) / 2,
        (a_p + p_p) / 2,
        (a_m + p_m) / 2,
        (a_a + 2 * a_p + p_p) / 4,
    )
    angular = of_step(*middle)
    values = (triplet[0], angular[0], triplet[1], angular[1])
    return dict(zip(DIRECTIONS, values, strict=True))


def shares(
    embeddings: jax.Array, labels: jax.Array, groups: jax.Array, gradient: jax.Array
) -> dict[str, jax.Array]:
    """How much of the gradient the rows of wide classes (group 1) have.

    Returns:
      wide_gradient: their part of the sum of the gradients' lengths, over their part of
        the rows: 1 for an even share.
    """
    del embeddings, labels
    length, wide = jnp.linalg.norm(gradient, axis=-1), groups == 1
    part = jnp.sum(length, where=wide) / jnp.maximum(jnp.sum(length), 1e-12)
    return {"wide_gradient": part / jnp.maximum(jnp.mean(wide), 1e-12)}
