"""One call per loss: embeddings and labels in, the mean loss out.

The same names and defaults as in `rankjax.losses`, on the paper's similarity, jitted.
Numbers are traced: changing a margin compiles nothing, and gradients reach it. For
mining, references, devices, blocks or another reduction, use `rankjax.objective`.
"""

import functools
from typing import Any

import jax

from rankjax import losses
from rankjax.losses.angular import check_angle
from rankjax.losses.n_pairs import Direction, Negatives
from rankjax.mining import Selection, all_negatives
from rankjax.objective import Objective, objective
from rankjax.regularizers import squared_norm

Number = float | jax.Array


@functools.lru_cache(maxsize=64)
def _objective(loss: losses.Loss, l2_weight: float = 0.0, **settings: Any) -> Objective:
    penalties = [(l2_weight, squared_norm)] if l2_weight else []
    return objective(functools.partial(loss, **settings), regularizers=penalties)


def contrastive_loss(
    embeddings: Any,
    labels: Any,
    *,
    margin: Number = 1.0,
    positive_margin: Number = 0.0,
    squared: bool = True,
) -> jax.Array:
    """See `rankjax.losses.contrastive_loss`; on Euclidean distances."""
    compute = _objective(losses.contrastive_loss, squared=squared)
    params = {"margin": margin, "positive_margin": positive_margin}
    return compute(embeddings, labels, params=params)


def triplet_loss(
    embeddings: Any,
    labels: Any,
    *,
    margin: Number | None = 0.2,
    selection: Selection = all_negatives,
) -> jax.Array:
    """See `rankjax.losses.triplet_loss`; on squared Euclidean distances."""
    compute = _objective(losses.triplet_loss, selection=selection)
    return compute(embeddings, labels, params={"margin": margin})


def batch_hard_triplet_loss(
    embeddings: Any, labels: Any, *, margin: Number | None = None
) -> jax.Array:
    """See `rankjax.losses.batch_hard_triplet_loss`; on Euclidean distances."""
    compute = _objective(losses.batch_hard_triplet_loss)
    return compute(embeddings, labels, params={"margin": margin})


def n_pairs_loss(
    embeddings: Any,
    labels: Any,
    *,
    scale: Number = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
    l2_weight: float = 0.001,
) -> jax.Array:
    """See `rankjax.losses.n_pairs_loss`; on inner products.

    `l2_weight` times the mean squared length is added. The default is TensorFlow's; the
    paper's own number is not known to us.
    """
    compute = _objective(
        losses.n_pairs_loss, l2_weight, negatives=negatives, direction=direction
    )
    return compute(embeddings, labels, params={"scale": scale})


def angular_loss(embeddings: Any, labels: Any, *, angle: Number = 45.0) -> jax.Array:
    """See `rankjax.losses.angular_loss`; on cosines."""
    check_angle(angle)
    compute = _objective(losses.angular_loss)
    return compute(embeddings, labels, params={"angle": angle})


def angular_hinge_loss(
    embeddings: Any, labels: Any, *, angle: Number = 45.0
) -> jax.Array:
    """See `rankjax.losses.angular_hinge_loss`; on squared Euclidean distances."""
    check_angle(angle)
    compute = _objective(losses.angular_hinge_loss)
    return compute(embeddings, labels, params={"angle": angle})


def n_pairs_angular_loss(
    embeddings: Any,
    labels: Any,
    *,
    angle: Number = 45.0,
    angular_weight: Number = 2.0,
    scale: Number = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
    l2_weight: float = 0.001,
) -> jax.Array:
    """See `rankjax.losses.n_pairs_angular_loss`; `l2_weight` as in `n_pairs_loss`."""
    check_angle(angle)
    compute = _objective(
        losses.n_pairs_angular_loss, l2_weight, negatives=negatives, direction=direction
    )
    params = {"angle": angle, "angular_weight": angular_weight, "scale": scale}
    return compute(embeddings, labels, params=params)
