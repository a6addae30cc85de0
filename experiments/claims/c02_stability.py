"""Which rule of mining fails least over learning rates, batches and lengths."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C2",
    claim=(
        "Semi-hard negatives are the most stable choice: training with them fails the"
        " least."
    ),
    prediction=(
        "Semi-hard mining has the lowest share of failures of the four rules, and the"
        " highest Recall@1 in the worst tenth of settings. It does not have the best "
        "Recall@1 at the best setting."
    ),
    statistic=(
        "A run fails if its test Recall@1 is below 0.9 times that of the inputs, or "
        "its effective rank after the last step is below 1.5. Share of failures over "
        "learning rates, batch sizes, normalised or not, each bench counting the "
        "same. First finding: semi-hard minus hard, both benches; the interval "
        "resamples seeds, the p is McNemar's on identical settings and seeds. Less "
        "means that the interval of semi-hard minus a rule is below 0, more that it "
        "is above. Holds: less than each of random, all and hard, and no higher share"
        " than any of them on either bench. Holds in part: less than hard, but not "
        "the above. Does not hold: not less than hard, and more than some rule. "
        "Cannot tell: otherwise. Beside it: shares with Wilson intervals, failures by"
        " Recall@1 alone, and Recall@1 in a seed's worst tenth of settings."
    ),
    studies=(
        "stability-modes",
        "stability-glyphs",
    ),
    judge=judge,
)
