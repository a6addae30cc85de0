"""All claims by name; a claim module is listed here and nowhere else."""

from experiments.claims import (
    c01_convergence,
    c02_stability,
    c03_hard_mining,
    c04_variation,
    c05_classes,
    c06_regulariser,
)
from experiments.claims.claim import Claim

_ALL: list[Claim] = [
    c01_convergence.CLAIM,
    c02_stability.CLAIM,
    c03_hard_mining.CLAIM,
    c04_variation.CLAIM,
    c05_classes.CLAIM,
    c06_regulariser.CLAIM,
]

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
