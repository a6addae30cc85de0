"""All claims by name; a claim module is listed here and nowhere else."""

from experiments.claims.claim import Claim

_ALL: list[Claim] = []

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _ALL}
