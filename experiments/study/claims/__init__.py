"""The survey's claims, a file each: prediction, statistic, judge, and its figure."""

from experiments.study.claims import (
    c01_convergence,
    c02_stability,
    c03_hard_mining,
    c04_variation,
    c05_classes,
    c06_regulariser,
    c07_gradient_direction,
    c08_invariance,
    c09_fixed_margin,
    c10_superiority,
    c11_sampling,
    c12_angle,
)
from experiments.study.claims.claim import CLAIMS

__all__ = [
    "CLAIMS",
    "c01_convergence",
    "c02_stability",
    "c03_hard_mining",
    "c04_variation",
    "c05_classes",
    "c06_regulariser",
    "c07_gradient_direction",
    "c08_invariance",
    "c09_fixed_margin",
    "c10_superiority",
    "c11_sampling",
    "c12_angle",
]
