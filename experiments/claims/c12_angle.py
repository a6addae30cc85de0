"""C12: the angle of the angular loss, and its weight beside N-pairs."""

from experiments.claims.claim import Claim, Results, Verdict
from experiments.claims.effects import RULE


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C12",
    claim=(
        "The angle of the angular loss and its weight beside the N-pair loss matter: "
        "36 to 55 degrees work well, and the two losses together better than one."
    ),
    prediction=(
        "Angles below 30 degrees are worse, for there the loss of unit vectors falls "
        "by collapse; the best angle is between 36 and 55, on a flat top. Adding the "
        "angular loss to N-pairs of a searched scale changes less than a point. Holds "
        "in part."
    ),
    statistic=(
        "Test Recall@1, 24 paired seeds. First: the angle of the angular loss at which "
        "a parabola fitted to Recall@1 at 20 to 60 degrees is highest (an end, if it "
        "opens upwards), drawn classes; intervals from 10,000 resamplings of seeds, p "
        "of its curvature. Decides: the mean at the angles 36 to 55 minus the mean at "
        "20 and 25, and N-pairs with weight 2 of the angular loss minus weight 0, on "
        f"drawn classes and on glyphs. {RULE} It holds only in part if the first "
        "finding's interval does not meet 36 to 55."
    ),
    studies=("angles-modes", "angles-glyphs", "weights-modes", "weights-glyphs"),
    judge=judge,
)
