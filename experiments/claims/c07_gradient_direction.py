"""C7: where the gradients of the triplet and the angular loss send a negative."""

import numpy as np
from scipy import stats

from experiments.claims.claim import Claim, Finding, Results, Verdict
from experiments.claims.effects import RULE, word
from experiments.claims.statistics import paired

DIMS = {"modes-2": 2, "modes-16": 16, "modes-64": 64, "glyphs": 32}
"""Of embeddings, by the ends of the studies' names."""


def toward(dim: int, shared: float) -> tuple[float, float]:
    """How often a step brings a negative nearer to the positive, for Gaussian classes.

    Class means are N(0, shared I) and rows N(class mean, (1 - shared) I). The step
    n - x does so if <n - x, p - n> > 0, which is to say inside the ball of diameter
    [x, p]; x is a for the triplet loss and c = (a + p) / 2 for the angular loss. As
    x - n and p - n are jointly normal, with correlation r in every dimension, that has
    probability P(F < (1 - r) / (1 + r)) for F of Fisher's distribution with dim and dim
    degrees of freedom.

    Returns:
      The shares under a triplet step and under an angular step.
    """
    correlations = (1 + shared) / 2, np.sqrt((3 + shared) / 4)
    triplet, angular = (
        float(stats.f.cdf((1 - r) / (1 + r), dim, dim)) for r in correlations
    )
    return triplet, angular


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""

    def both(end: str, arm: str = "triplet_all") -> list[Finding]:
        record = results[f"directions-{end}"].arms[arm]
        bench = "glyphs" if end == "glyphs" else "drawn classes"
        where = f"{bench}, {DIMS[end]} dimensions, trained by {arm}"
        mean = {k: record.values(f"mean_{k}") for k in PROBED}
        return [
            paired(
                f"share of negatives moved nearer to p, triplet - angular, {where}",
                mean["triplet_toward"],
                mean["angular_toward"],
            ),
            paired(
                f"cosine of step and way out, angular - triplet, {where}",
                mean["angular_out"],
                mean["triplet_out"],
            ),
        ]

    decide = both("modes-16") + both("glyphs")
    others = [*both("modes-2"), *both("modes-64")]
    others += [*both("modes-16", "angular"), *both("modes-16", "n_pairs")]
    record = results["directions-modes-16"].arms["triplet_all"]
    first, last = record.curve("triplet_toward").mean(0)[[0, -1]]
    return Verdict(
        word(decide),
        [*decide, *others],
        f"In 16 dimensions a triplet step moves {first:.2%} of the negatives nearer to "
        f"the positive before training and {last:.2%} after it, {decide[0].effect:.2%} "
        f"more than an angular step on average; in 2 dimensions {others[0].effect:.1%} "
        "more. Cosines with the way out differ by "
        f"{decide[1].effect:.3f} on drawn classes, {decide[3].effect:.3f} on glyphs.",
    )


PROBED = ("triplet_toward", "angular_toward", "triplet_out", "angular_out")


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
        "directions-modes-16",
        "directions-modes-64",
        "directions-glyphs",
    ),
    judge=judge,
)
