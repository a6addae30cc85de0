"""N-pairs without normalisation, with and without a penalty on lengths."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C6",
    claim=(
        "N-pairs on embeddings that are not normalised needs a regulariser of their "
        "length, without which training degenerates."
    ),
    prediction=(
        "Without a penalty the mean length grows, but slowly, about as a root of the "
        "logarithm of steps, and the less the larger the penalty. Recall@1 is nearly "
        "flat over a wide range of penalties: 'needs' is too strong."
    ),
    statistic=(
        "Slope of the log mean length on the log step over the last half of 1600 "
        "steps, by l2_weight 0, 0.0005, 0.005, 0.05, 0.5. First finding: its mean "
        "without a penalty, drawn classes, Adam. Lengths grow where this interval is "
        "above 0. Harm: the interval of Recall@1 without a penalty minus with the "
        "best one (by validation Recall@1) is below 0. Four cases: drawn classes and "
        "characters, Adam and SGD. Holds: growth and harm in all four. Holds in part:"
        " growth in all four, harm in one to three. Does not hold: harm in none, and "
        "every such interval is above -0.02. Cannot tell: otherwise. Runs that are no"
        " longer finite have a Recall@1 of 0 and no slope. Beside it: Page's test "
        "that slopes fall with the penalty, Recall@1 at each penalty, and the "
        "normalised loss."
    ),
    studies=(
        "norms-modes-adam",
        "norms-modes-sgd",
        "norms-glyphs-adam",
        "norms-glyphs-sgd",
    ),
    judge=judge,
)
