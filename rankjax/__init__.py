"""Ranking losses and metric learning for JAX."""

from rankjax import losses, metrics, mining, parallel, regularizers, similarity
from rankjax.objective import Objective, objective
from rankjax.pairs import Pairs, from_tuples, masks_from_pairs
from rankjax.regularizers import squared_norm
from rankjax.simple import (
    angular_hinge_loss,
    angular_loss,
    batch_hard_triplet_loss,
    contrastive_loss,
    n_pairs_angular_loss,
    n_pairs_loss,
    triplet_loss,
)
from rankjax.terms import Reduction, Terms, mean, mean_active, total

__version__ = "0.1.0"

__all__ = [
    "Objective",
    "Pairs",
    "Reduction",
    "Terms",
    "angular_hinge_loss",
    "angular_loss",
    "batch_hard_triplet_loss",
    "contrastive_loss",
    "from_tuples",
    "losses",
    "masks_from_pairs",
    "mean",
    "mean_active",
    "metrics",
    "mining",
    "n_pairs_angular_loss",
    "n_pairs_loss",
    "objective",
    "parallel",
    "regularizers",
    "similarity",
    "squared_norm",
    "total",
    "triplet_loss",
]
