"""N-pairs against triplets: who needs fewer steps."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C1",
    claim=(
        "The N-pairs loss, which compares a positive with many negatives at once, "
        "converges faster than the triplet loss with its one."
    ),
    prediction=(
        "Against one random negative per pair N-pairs needs at most half the steps. "
        "Against all, semi-hard or hard negatives of the same batch the difference is"
        " small (a ratio between 0.8 and 1.25) or none; per pair looked at, one "
        "random negative is ahead."
    ),
    statistic=(
        "Steps until validation Recall@1 is first at 90 % of the best that any arm of"
        " the study reaches with the same seed, 600 where it never is (restricted "
        "mean over seeds). First finding: ratio of these means, one random negative "
        "over N-pairs, on drawn classes; the p is of the paired steps. N-pairs is "
        "faster than an arm where the ratio's interval is above 1, slower where it is"
        " below. Holds: faster than all four triplet arms (random, all, semi-hard, "
        "hard) on drawn classes and on characters. Holds in part: faster in some of "
        "these eight comparisons. Does not hold: faster in none and slower in some. "
        "Cannot tell: otherwise. Beside it: the mean of validation Recall@1 over "
        "training, and the ratios per pair looked at and per second."
    ),
    studies=(
        "losses-modes",
        "losses-glyphs",
        "losses-digits",
    ),
    judge=judge,
)
