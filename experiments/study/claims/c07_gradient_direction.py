"""C7: where the gradients of the triplet and the angular loss send a negative."""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.study.claims.claim import Results, Verdict, claim, word
from experiments.study.drawing import (
    LINES,
    MARKERS,
    SERIES,
    band,
    legend,
    panels,
    reach,
)
from experiments.study.records import load
from experiments.study.statistics import Finding, paired

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


@claim("C7", *(f"directions-{end}" for end in DIMS))
def gradient_direction(results: Results) -> Verdict:
    """The triplet loss sends a negative away from the anchor alone, which need not lead
    it out of the class; the angular loss sends it away from the middle of anchor and
    positive, and so in a better direction.

    Expected: True by geometry, but small. A step brings the negative nearer to the
    positive exactly inside a ball (Thales): that of diameter [a, p] for the triplet
    loss, of diameter [c, p], half as wide, for the angular loss. Few negatives are in
    either, the fewer the more dimensions there are and the longer training has gone on:
    several in a hundred in 2 dimensions, less than one in a hundred in 16 and in 64.
    The cosine with the way out of the class is larger for the angular loss everywhere.
    Holds in part.

    Decides: Over all triplets of a batch, as a network is trained by the triplet loss
    with all negatives (mean over its evaluations, 24 paired seeds): the share whose
    negative comes nearer to the positive, triplet minus angular; and the mean cosine of
    the step with the way from the class's mean to the negative, angular minus triplet.
    First: the share, drawn classes, 16 dimensions. Both figures, there and on glyphs,
    decide. {RULE}
    """

    def both(end: str, arm: str = "triplet_all") -> list[Finding]:
        record = results[f"directions-{end}"].arms[arm]
        bench = "glyphs" if end == "glyphs" else "drawn classes"
        where = f"{bench}, {DIMS[end]} dimensions, trained by {arm}"

        def minus(what: str, one: str, other: str) -> Finding:
            values = (record.values(f"mean_{name}") for name in (one, other))
            return paired(f"{what}, {where}", *values)

        nearer = "share of negatives moved nearer to p, triplet - angular"
        out = "cosine of step and way out, angular - triplet"
        return [
            minus(nearer, "triplet_toward", "angular_toward"),
            minus(out, "angular_out", "triplet_out"),
        ]

    decide = both("modes-16") + both("glyphs")
    others = both("modes-2") + both("modes-64")
    others += both("modes-16", "angular") + both("modes-16", "n_pairs")
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


@gradient_direction.figure
def gradient_directions() -> Figure:
    """Where steps send the negatives of real batches.

    Left: the share of a batch's triplets whose negative a step brings nearer to the
    positive, as networks with embeddings in 2 and in 16 dimensions are trained by the
    triplet loss on drawn classes. Middle: its mean over training, by dimension, beside
    the closed form for Gaussian rows without classes (lines); shares below one in
    100,000 are not drawn. Training parts the classes, which lowers the share; that an
    embedding does not fill its dimensions raises it. Right: the mean cosine of the step
    with the way from the class's mean to the negative, 1 for straight out.

    Bands and bars are 95 % intervals over 24 seeds. Of all triplets of the batch, in
    a loss or not.
    """
    _, (shares, dims, out) = panels(3, height=3.8)
    across = {end: dim for end, dim in DIMS.items() if end != "glyphs"}
    results = {end: load(f"directions-{end}") for end in across}
    records = {end: result.arms["triplet_all"] for end, result in results.items()}
    line = np.geomspace(2, 64, 40)
    gaussian = np.array([toward(d, 0.0) for d in line])
    for i, step in enumerate(("triplet", "angular")):
        for place, end in enumerate(("modes-2", "modes-16")):
            name = f"{step}, {DIMS[end]} dim."
            for panel, what in ((shares, "toward"), (out, "out")):
                curve = records[end].curve(f"{step}_{what}")
                band(panel, results[end].steps, curve, name, i + 2 * place)
        found = [
            paired(step, r.values(f"mean_{step}_toward")) for r in records.values()
        ]
        style = {"fmt": MARKERS[i], "ms": 7, "color": SERIES[i], "label": step}
        dims.errorbar([*across.values()], *reach(found), **style)
        dims.plot(line, gaussian[:, i], color=SERIES[i], ls=LINES[i], lw=1.4)
    shares.set(title="Nearer to the positive", xlabel="step", ylabel="share")
    shares.set_ylim(bottom=0)
    dims.set(title="Mean over training", xlabel="dimension", ylim=(1e-5, 1))
    dims.loglog()
    dims.set_xticks([*across.values()], [*across.values()], minor=False)
    dims.minorticks_off()
    out.set(title="Cosine with the way out", xlabel="step")
    legend(shares, "left", ncols=2)
    return legend(dims, "right", ncols=1)
