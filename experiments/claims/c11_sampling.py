"""C11: does it matter more which pairs are chosen, or which loss is put on them?"""

from experiments.claims.claim import Claim, Results, Verdict
from experiments.claims.effects import RULE


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C11",
    claim="How pairs are sampled matters more than which loss is put on them.",
    prediction=(
        "True over all learning rates, as hard mining fails at some of them; at the "
        "best learning rate of each combination the two are closer, and the claim may "
        "fail. Holds in part."
    ),
    statistic=(
        "Five losses with each of four minings (all pairs, random, hardest, semi-hard) "
        "at four learning rates, 24 seeds: partial eta squared of test Recall@1, of "
        "mining minus of loss, the error being what seeds do to differences between "
        "combinations; intervals from 10,000 resamplings of seeds. First: drawn "
        "classes, all rates. That figure over all rates, and over each combination's "
        "rate of best validation Recall@1, on drawn classes and on glyphs, decides. "
        f"{RULE}"
    ),
    studies=("sampling-modes", "sampling-glyphs"),
    judge=judge,
)
