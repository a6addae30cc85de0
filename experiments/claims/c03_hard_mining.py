"""Hard mining: how often it collapses, and how fast it learns where it does not."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C3",
    claim=(
        "Hard mining converges faster than semi-hard mining, provided that it does "
        "not collapse."
    ),
    prediction=(
        "The chance that hard mining collapses rises with the learning rate and with "
        "label noise, and is above that of semi-hard mining. Where neither collapses,"
        " hard mining has the higher mean Recall@1 over training."
    ),
    statistic=(
        "A run has collapsed if it fails by the rule of C2. First finding: validation"
        " Recall@1, mean over training, hard minus semi-hard, on drawn classes, over "
        "the settings (learning rate, label noise) in which both survive with the "
        "seed; mean of a seed's settings, then over seeds. Faster means that this "
        "difference's interval is above 0, slower that it is below. Holds: faster on "
        "both benches, and hard collapses more often than semi-hard (interval of the "
        "difference of shares over both benches above 0). Holds in part: faster on at"
        " least one bench, but not the above. Does not hold: faster on neither, and "
        "slower on some. Cannot tell: otherwise, or fewer than 10 seeds with such a "
        "setting on either bench. Beside it: slopes of a logistic regression of hard "
        "mining's collapse on log10 learning rate and on noise; and how often its "
        "loss is pinned at the margin (within 5 %), and ranks well nevertheless. The "
        "settings where both survive are not a fair sample: how many they are is "
        "told."
    ),
    studies=(
        "noise-modes",
        "noise-glyphs",
    ),
    judge=judge,
)
