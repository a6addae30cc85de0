"""C8: what rotating and scaling an embedding does to the angular loss."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C8",
    claim=(
        "The angular loss does not depend on the rotation and the scale of the "
        "embedding, as an angle has neither; a margin of a distance depends on scale."
    ),
    prediction=(
        "Exact, and so in part only. Rotation changes no loss of distances or inner "
        "products, the triplet's as little. Scale leaves the angle, and with it which "
        "terms of the angular hinge are active, but multiplies the hinge's value by "
        "its square; the logarithmic form, which is what is trained, is not free of "
        "scale at all on inner products. The triplet's active share falls with scale. "
        "Holds in part."
    ),
    statistic=(
        "24 random sets of 16 classes of 4 rows in 16 dimensions, multiplied by 21 "
        "scales from 0.1 to 10, and rotated. First: the size of Kendall's tau of the "
        "active share and the scale, triplet (margin 0.2) minus angular hinge; a share "
        "that moves by no more than 0.001 has tau 0. Holds: for both forms of the "
        "angular loss, on inner products, neither rotation nor scale changes the value "
        "by more than 0.001 of itself or the active share by more than 0.001, in any "
        "set. Holds in part: not so, but rotation changes neither, and scale leaves "
        "the hinge's active share. Does not hold: otherwise."
    ),
    studies=(),
    judge=judge,
)
