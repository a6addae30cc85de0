"""N-pairs batches of more pairs than there are classes."""

from experiments.claims.claim import Claim, Results, Verdict


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C5",
    claim=(
        "An N-pairs batch holds every class once, so its size is bounded by the "
        "number of classes."
    ),
    prediction=(
        "Past the number of classes, batches that take repeated classes for negatives"
        " (blind) lose Recall@1, the more the fewer classes there are. A loss that "
        "knows of the repetition (aware) loses nothing against the largest batch "
        "without repetition. At one batch size, more classes of fewer rows are "
        "better."
    ),
    statistic=(
        "Recall@1 of batches of 64 classes drawn with replacement. First finding: "
        "blind minus aware, mean over 10, 20 and 50 classes to train on, drawn "
        "classes; on characters 20 and 50. Second: aware minus the largest batch "
        "without repetition (never). Harm means that an interval is below 0. Holds: "
        "blind is harmed on both benches, and aware too. Holds in part: blind is "
        "harmed on both benches, aware not on both. Does not hold: blind is harmed on"
        " neither bench. Cannot tell: blind is harmed on one bench alone. Beside it: "
        "the closed-form share of false negatives and rise of the loss's floor, the "
        "measured rise of the loss, and 64 x 2 against 32 x 4 and 16 x 8 rows a "
        "batch."
    ),
    studies=(
        "classes-modes-10",
        "classes-modes-20",
        "classes-modes-50",
        "classes-modes-100",
        "classes-glyphs-20",
        "classes-glyphs-50",
        "shapes-modes",
        "shapes-glyphs",
    ),
    judge=judge,
)
