"""Every exported loss, and settings of it that take another path.

`slow` is the paper's value by loops. The two switches are the only exceptions from the
conformance suite, each with its reason.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import reference

import rankjax
from rankjax import losses, mining, similarity

EUCLIDEAN = {similarity.negative_euclidean, similarity.negative_squared_euclidean}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    loss: Callable[..., Any]
    similarity: Callable[..., Any]
    slow: Callable[[np.ndarray, np.ndarray], float]
    mining: Callable[..., Any] | None = None
    reduction: Callable[..., Any] = rankjax.mean
    params: dict[str, float] = dataclasses.field(default_factory=dict)
    # The roles of anchor and positive follow the order of the batch within a class.
    ordered: bool = False
    # Positives share one softmax, so that an easy one is pushed off by a hard one.
    shares_softmax: bool = False

    def objective(self, **settings):
        return rankjax.objective(
            self.loss,
            similarity=self.similarity,
            mining=self.mining,
            reduction=self.reduction,
            **settings,
        )


def _on(name, function, **settings):
    return lambda x, y: function(reference.similarity_matrix(name, x), y, **settings)


def _triplets(name, reduce=reference.mean, **settings):
    return lambda x, y: reduce(
        reference.triplets(reference.similarity_matrix(name, x), y, **settings)
    )


_SLOW = {
    "contrastive": reference.contrastive,
    "triplet": _triplets("negative_squared_euclidean"),
    "batch_hard_triplet": _on("negative_euclidean", reference.batch_hard),
    "n_pairs": _on("dot", reference.n_pairs),
    "angular": _on("cosine", reference.angular),
    "angular_hinge": reference.angular_hinge,
    "n_pairs_angular": lambda x, y: (
        _on("dot", reference.n_pairs)(x, y) + 2 * _on("dot", reference.angular)(x, y)
    ),
}
_PARAMS = {
    "contrastive": {"margin": 1.5, "positive_margin": 0.5},
    "triplet": {"margin": 0.5},
    "angular": {"angle": 40.0},
    "angular_hinge": {"angle": 40.0},
    "n_pairs_angular": {"angle": 40.0, "angular_weight": 0.5},
}

EXPORTED = {
    name: Case(
        entry.loss,
        entry.similarity,
        _SLOW[name],
        params=_PARAMS.get(name, {}),
        ordered=name.startswith("n_pairs"),
        shares_softmax=name.startswith("n_pairs"),
    )
    for name, entry in losses.LOSSES.items()
}

VARIANTS = {
    "contrastive, hinges on cosine": Case(
        partial(
            losses.contrastive_loss, margin=-0.3, positive_margin=-1.0, squared=False
        ),
        similarity.cosine,
        lambda x, y: _cosine_contrastive(x, y, 0.3),
    ),
    "triplet, semi-hard": Case(
        partial(losses.triplet_loss, margin=0.8, selection=mining.semi_hard),
        similarity.negative_squared_euclidean,
        _triplets("negative_squared_euclidean", margin=0.8, rule="semi_hard"),
    ),
    "triplet, TensorFlow's rule": Case(
        partial(losses.triplet_loss, selection=mining.semi_hard_or_easiest, margin=1.0),
        similarity.negative_squared_euclidean,
        _triplets("negative_squared_euclidean", margin=1.0, rule="tensorflow"),
    ),
    "triplet, soft, not squared": Case(
        partial(losses.triplet_loss, margin=None),
        similarity.negative_euclidean,
        _triplets("negative_euclidean", margin=None),
    ),
    "triplet, mean over active": Case(
        losses.triplet_loss,
        similarity.negative_squared_euclidean,
        _triplets("negative_squared_euclidean", reduce=reference.mean_nonzero),
        reduction=rankjax.mean_active,
    ),
    "triplet, hardest mining": Case(
        losses.triplet_loss,
        similarity.negative_euclidean,
        _on("negative_euclidean", reference.batch_hard, margin=0.2),
        mining=mining.hardest,
    ),
    "batch-hard, hinge": Case(
        partial(losses.batch_hard_triplet_loss, margin=0.2),
        similarity.negative_squared_euclidean,
        _on("negative_squared_euclidean", reference.batch_hard, margin=0.2),
    ),
    "n-pairs, all negatives, symmetric": Case(
        partial(losses.n_pairs_loss, negatives="all", direction="symmetric"),
        similarity.cosine,
        _on("cosine", reference.n_pairs, negatives="all", direction="symmetric"),
        ordered=True,
        shares_softmax=True,
    ),
    "n-pairs, column": Case(
        partial(losses.n_pairs_loss, direction="column"),
        similarity.dot,
        _on("dot", reference.n_pairs, direction="column"),
        ordered=True,
        shares_softmax=True,
    ),
}


def _cosine_contrastive(x, y, threshold):
    s = reference.similarity_matrix("cosine", x)
    pull, push = [], []
    for i in range(len(x)):
        positives, negatives = reference.sides(y, i)
        pull += [1 - s[i, j] for j in positives]
        push += [max(0.0, s[i, j] - threshold) for j in negatives]
    return reference.mean(pull) + reference.mean(push)
