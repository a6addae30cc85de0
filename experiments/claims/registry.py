"""All claims by name; a claim module is listed here and nowhere else."""

from experiments.claims import (
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
from experiments.claims.claim import Claim

_ALL: list[Claim] = [
    c01_convergence.CLAIM,
    c02_stability.CLAIM,
    c03_hard_mining.CLAIM,
    c04_variation.CLAIM,
    c05_classes.CLAIM,
    c06_regulariser.CLAIM,
    c07_gradient_direction.CLAIM,
    c08_invariance.CLAIM,
    c09_fixed_margin.CLAIM,
    c10_superiority.CLAIM,
    c11_sampling.CLAIM,
    c12_angle.CLAIM,
]

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
