"""Ranking losses: `Pairs` and hyper-parameters in, `Terms` out.

`LOSSES` is the list of them all. Being on it puts a loss through the conformance tests,
into the README's table and within reach of `experiments.train --loss`.
"""

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any

from rankjax import similarity as _similarity
from rankjax.losses.angular import (
    angular_hinge_loss,
    angular_loss,
    n_pairs_angular_loss,
)
from rankjax.losses.contrastive import contrastive_loss
from rankjax.losses.n_pairs import n_pairs_loss
from rankjax.losses.triplet import batch_hard_triplet_loss, triplet_loss
from rankjax.similarity import Similarity
from rankjax.terms import Terms

Loss = Callable[..., Terms | tuple[Terms, ...]]
"""`loss(pairs, *, hyper-parameters)`; several Terms are reduced apart and added."""


class Kind(enum.Enum):
    """How a loss looks at the batch, the simplest way that carries it."""

    ROW = "statistics of the anchor's row"
    PER_POSITIVE = "the anchor's row, seen from each positive"
    POSITIVE_ROWS = "the anchor's row and the positive's, for each positive"
    PLAIN = "any function of the pairs"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of a loss besides its equation.

    Attributes:
      loss: the function.
      kind: see `Kind`.
      similarity: the paper's, used when the caller names none.
      paper: where it comes from.
    """

    loss: Loss
    kind: Kind
    similarity: Similarity
    paper: str


LOSSES: dict[str, Entry] = {
    "contrastive": Entry(
        contrastive_loss,
        Kind.ROW,
        _similarity.negative_euclidean,
        "Hadsell et al., CVPR 2006",
    ),
    "triplet": Entry(
        triplet_loss,
        Kind.PER_POSITIVE,
        _similarity.negative_squared_euclidean,
        "Schroff et al. (FaceNet), CVPR 2015",
    ),
    "batch_hard_triplet": Entry(
        batch_hard_triplet_loss,
        Kind.ROW,
        _similarity.negative_euclidean,
        "Hermans et al., 2017",
    ),
    "n_pairs": Entry(
        n_pairs_loss,
        Kind.ROW,
        _similarity.dot,
        "Sohn, NIPS 2016",
    ),
    "angular": Entry(
        angular_loss,
        Kind.POSITIVE_ROWS,
        _similarity.cosine,
        "Wang et al., ICCV 2017",
    ),
    "angular_hinge": Entry(
        angular_hinge_loss,
        Kind.POSITIVE_ROWS,
        _similarity.negative_squared_euclidean,
        "Wang et al., ICCV 2017",
    ),
    "n_pairs_angular": Entry(
        n_pairs_angular_loss,
        Kind.POSITIVE_ROWS,
        _similarity.dot,
        "Wang et al., ICCV 2017",
    ),
}


def default_similarity(loss: Any) -> Similarity:
    """The similarity of a listed loss, with settings bound or not; else the cosine."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    for entry in LOSSES.values():
        if entry.loss is loss:
            return entry.similarity
    return _similarity.cosine


__all__ = [
    "LOSSES",
    "Entry",
    "Kind",
    "Loss",
    "angular_hinge_loss",
    "angular_loss",
    "batch_hard_triplet_loss",
    "contrastive_loss",
    "default_similarity",
    "n_pairs_angular_loss",
    "n_pairs_loss",
    "triplet_loss",
]
