"""The losses that are timed, with the settings that both libraries share."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

import rankjax
from rankjax import Pairs, Terms, losses, mining, rows, terms
from rankjax.similarity import (
    Similarity,
    cosine,
    dot,
    negative_normalized_euclidean,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss with its settings.

    Attributes:
      loss: settings bound.
      similarity: or None for the loss's own.
      reduction: of the terms.
      peer: the peer's name for the same computation, or None.
      peer_best: its name for a faster way to the same value, or None.
      differs: what the peer computes instead, if it is not the same; it is timed, but
        neither compared nor put in proportion.
      batch: 'rows' against themselves, the first of the 'halves' against the second,
        or rows against learned 'proxies', one for each class.
      per_class: rows of each class, where the loss leaves no choice.
    """

    loss: Callable[..., Any]
    similarity: Similarity | None = None
    reduction: rankjax.Reduction = terms.mean
    peer: str | None = None
    peer_best: str | None = None
    differs: str = ""
    batch: Literal["rows", "halves", "proxies"] = "rows"
    per_class: int | None = None


def two_sided(pairs: Pairs) -> Terms:
    """A loss nobody has published, in three lines of row statistics."""
    pull = rows.log_one_plus_sum_exp(4 - 8 * pairs.similarity, pairs.positive)
    push = rows.log_one_plus_sum_exp(8 * pairs.similarity - 4, pairs.negative)
    return Terms.one_per_anchor(pull + push, pairs.positive.any(1))


def squared_logistic(pairs: Pairs) -> Terms:
    """Another, in plain jnp on similarities and masks."""
    signed = jnp.where(pairs.positive, -pairs.similarity, pairs.similarity)
    values = jnp.square(jax.nn.softplus(6 * signed))
    return Terms.over_references(values, pairs.positive | pairs.negative)


EUCLIDEAN = negative_normalized_euclidean
ACTIVE = terms.mean_active

CASES: dict[str, Case] = {
    "contrastive": Case(
        partial(losses.contrastive_loss, squared=False, margin=1.3),
        EUCLIDEAN,
        ACTIVE,
        "contrastive",
    ),
    "sup_con": Case(losses.sup_con_loss, reduction=ACTIVE, peer="sup_con"),
    "nt_xent": Case(losses.nt_xent_loss, peer="nt_xent"),
    "multi_similarity": Case(losses.multi_similarity_loss, peer="multi_similarity"),
    "circle": Case(losses.circle_loss, reduction=ACTIVE, peer="circle"),
    "lifted_structure": Case(
        losses.lifted_structure_loss, EUCLIDEAN, peer="lifted_structure"
    ),
    "generalized_lifted_structure": Case(
        losses.generalized_lifted_structure_loss,
        EUCLIDEAN,
        peer="generalized_lifted_structure",
    ),
    # A sum, because the peer reduces positives and negatives one by one.
    "margin": Case(losses.margin_loss, EUCLIDEAN, terms.total, "margin"),
    "batch_hard_triplet": Case(
        partial(losses.batch_hard_triplet_loss, margin=0.3),
        EUCLIDEAN,
        ACTIVE,
        "batch_hard_triplet",
    ),
    "n_pairs": Case(
        losses.n_pairs_loss, cosine, peer="n_pairs", batch="halves", per_class=2
    ),
    "proxy_anchor": Case(
        losses.proxy_anchor_loss, peer="proxy_anchor", batch="proxies"
    ),
    "default_triplet": Case(losses.triplet_loss),
    "triplet": Case(
        partial(losses.triplet_loss, margin=0.3),
        cosine,
        ACTIVE,
        "triplet",
        "triplet_listed",
    ),
    "semi_hard": Case(
        partial(losses.triplet_loss, margin=0.3, selection=mining.semi_hard),
        cosine,
        ACTIVE,
        "semi_hard",
    ),
    "angular": Case(partial(losses.angular_loss, angle=40.0), peer="angular"),
    "fast_ap": Case(losses.fast_ap_loss, peer="fast_ap"),
    "smooth_ap": Case(
        losses.smooth_ap_loss,
        peer="smooth_ap",
        differs="counts the query as its own positive",
    ),
    "recall_at_k": Case(losses.recall_at_k_loss),
    "sigmoid": Case(losses.sigmoid_loss),
    "new_rows": Case(two_sided),
    "new_jnp": Case(squared_logistic),
}


def make(case: Case, **settings: Any) -> Callable[..., jax.Array]:
    """The loss of ([rows, proxies if any], labels, labels of proxies or None).

    `settings` are of `rankjax.objective`; without any it is as a user gets it.
    """
    compute = rankjax.objective(
        case.loss, similarity=case.similarity, reduction=case.reduction, **settings
    )

    def value(
        weights: list[jax.Array], labels: jax.Array, classes: jax.Array | None
    ) -> jax.Array:
        x = weights[0]
        if case.batch == "proxies":
            return compute(
                x, labels, references=rankjax.References(weights[1], classes)
            )
        if case.batch == "halves":
            half = len(x) // 2
            return compute(
                x[:half],
                labels[:half],
                references=rankjax.References(x[half:], labels[half:]),
            )
        return compute(x, labels)

    return value


def bare(unit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least that a loss on a stored matrix does: two products, one pass of exp."""
    shares = jnp.exp(dot(unit, unit) - 1)
    product = jnp.matmul(shares, unit, precision="highest")
    return shares.sum(1), product


def bare_blocks(unit: jax.Array, *, block: int = 256) -> jax.Array:
    """Two products, row block by row block."""

    def one(part: jax.Array) -> jax.Array:
        return jnp.matmul(dot(part, unit), unit, precision="highest")

    return jax.lax.map(one, unit.reshape(-1, block, unit.shape[1]))
