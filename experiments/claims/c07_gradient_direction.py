"""C7: where the gradients of the triplet and the angular loss send a negative."""

from experiments.claims.claim import Claim, Results, Verdict
from experiments.claims.effects import RULE


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C7",
    claim=(
        "The triplet loss sends a negative away from the anchor alone, which need not "
        "lead it out of the class; the angular loss sends it away from the middle of "
        "anchor and positive, and so in a better direction."
    ),
    prediction=(
        "True by geometry, but small. A step brings the negative nearer to the "
        "positive exactly inside a ball (Thales): that of diameter [a, p] for the "
        "triplet loss, of diameter [c, p], half as wide, for the angular loss. Few "
        "negatives are in either, the fewer the more dimensions there are and the "
        "longer training has gone on: several in a hundred in 2 dimensions, less than "
        "one in a hundred in 16 and in 64. The cosine with the way out of the class "
        "is larger for the angular loss everywhere. Holds in part."
    ),
    statistic=(
        "Over all triplets of a batch, as a network is trained by the triplet loss "
        "with all negatives (mean over its evaluations, 24 paired seeds): the share "
        "whose negative comes nearer to the positive, triplet minus angular; and the "
        "mean cosine of the step with the way from the class's mean to the negative, "
        "angular minus triplet. First: the share, drawn classes, 16 dimensions. Both "
        f"figures, there and on glyphs, decide. {RULE}"
    ),
    studies=(
        "directions-modes-2",
        "directions-modes-4",
        "directions-modes-16",
        "directions-modes-64",
        "directions-glyphs",
    ),
    judge=judge,
)
