"""Figures of small sets of embeddings, in plain arrays that can be mapped over."""

import jax
import jax.numpy as jnp

from experiments.sweep.benches import Part
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
