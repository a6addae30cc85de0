"""One mode or several in a class: hard triplets against N-pairs."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C4",
    claim=(
        "Hard triplets are better where a class has one mode, as faces do; N-pairs "
        "and angular losses where a class varies much."
    ),
    prediction=(
        "Recall@1 of hard triplets minus N-pairs falls with the number of modes, "
        "because the farthest positives are pulled together across modes; the easy-"
        "positive triplet does not fall so. Modes are told apart less well by hard "
        "triplets than by N-pairs."
    ),
    statistic=(
        "Slope of Recall@1, batch-hard triplet (16 classes of 4) minus N-pairs, on "
        "log2 of the number of modes 1, 2, 4, 8: one slope per seed, mean of the "
        "spreads 0.2 and 0.5. First finding: its mean, drawn classes. On characters: "
        "the difference with both cases of a letter as one class minus that with each"
        " a class of its own. Holds: the slope's interval is below 0, the difference "
        "is above 0 at one mode and below 0 at eight (intervals, mean of the "
        "spreads), and the characters' interval is below 0. Holds in part: the "
        "slope's interval is below 0, but not all of the above. Does not hold: the "
        "slope's interval is above 0, or holds 0 and lies within 0.01 to either side."
        " Cannot tell: otherwise. Beside it: angular for N-pairs, pairs and easy "
        "positives for the hard triplet's batch and positives, and Recall@1 of modes."
    ),
    studies=(
        "variation-modes",
        "losses-glyphs",
        "losses-cases",
    ),
    judge=judge,
)
