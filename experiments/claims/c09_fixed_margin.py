"""C9: one margin for classes that spread little and classes that spread much."""

from experiments.claims.claim import Claim, Results, Verdict
from experiments.claims.effects import RULE


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C9",
    claim=(
        "The triplet loss asks one fixed margin of all classes, which suits badly "
        "where some spread more than others; the angular loss has no such flaw."
    ),
    prediction=(
        "The mechanism is there: under a triplet loss wide classes have more than "
        "their part of the gradient, and more than under the angular loss. The harm "
        "is open; we expect no difference of a point in how much worse wide classes "
        "are retrieved. Does not hold, or cannot tell."
    ),
    statistic=(
        "How far Recall@1 of queries of wide classes is below that of narrow ones on "
        "unseen classes, triplet minus angular, 24 paired seeds. First: triplet with "
        "all negatives, drawn classes, every second one four times as wide. That "
        "figure for triplets of all, semi-hard and hardest negatives, on drawn classes "
        "and on glyphs (the half of the classes that spread more is wide), decides. "
        f"{RULE} Beside it: the log of the wide classes' part of the gradient over "
        "their part of the rows, mean over training, likewise; and all with N-pairs "
        "in the place of the angular loss."
    ),
    studies=("spreads-modes", "spreads-glyphs"),
    judge=judge,
)
