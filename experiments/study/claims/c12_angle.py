"""C12: the angle of the angular loss, and its weight beside N-pairs."""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.study.claims.claim import Results, Verdict, claim, word
from experiments.study.drawing import SERIES, TEXT, band, legend, panels
from experiments.study.records import BENCHES, BOTH, load
from experiments.study.statistics import Finding, of_draws, paired, resampled

GOOD = (36.0, 55.0)
CRITICAL = 30.0
"""Degrees at which a collapsed embedding of unit vectors has the loss of N-pairs at
collapse: the exponent of `rankjax.angular_loss` is 6 tan(angle)^2 - 2 there."""


def best_angle(what: str, angles: np.ndarray, values: np.ndarray) -> Finding:
    """Where a parabola through values [seeds, angles] is highest between the angles."""
    fits = np.polyfit(angles, values.T, 2).T
    square, linear = resampled(fits)[:, :2].T
    ends = angles[[0, -1]]
    at_ends = square[:, None] * ends**2 + linear[:, None] * ends
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.clip(-linear / (2 * square), *ends)
    best = np.where(square < 0, inside, ends[at_ends.argmax(1)])
    curved = fits[:, 0].any()
    p = float(stats.wilcoxon(fits[:, 0]).pvalue) if curved else 1.0
    return of_draws(what, best, len(values), p)


@claim("C12", "angles-modes", "angles-glyphs", "weights-modes", "weights-glyphs")
def angle_of_loss(results: Results) -> Verdict:
    """The angle of the angular loss and its weight beside the N-pair loss matter: 36 to
    55 degrees work well, and the two losses together better than one.

    Expected: Angles below 30 degrees are worse, for there the loss of unit vectors
    falls by collapse; the best angle is between 36 and 55, on a flat top. Adding the
    angular loss to N-pairs of a searched scale changes less than a point. Holds in
    part.

    Decides: Test Recall@1, 24 paired seeds. First: the angle of the angular loss at
    which a parabola fitted to Recall@1 at 20 to 60 degrees is highest (an end, if it
    opens upwards), drawn classes; intervals from 10,000 resamplings of seeds, p of its
    curvature. Decides: the mean at the angles 36 to 55 minus the mean at 20 and 25, and
    N-pairs with weight 2 of the angular loss minus weight 0, on drawn classes and on
    glyphs. {RULE} It holds only in part if the first finding's interval does not meet
    36 to 55.
    """
    best: list[Finding] = []
    angle: list[Finding] = []
    weight: list[Finding] = []
    others: list[Finding] = []
    for bench in BOTH:
        result, where = results[f"angles-{bench}"], BENCHES[bench]
        for arm in ("angular", "n_pairs_angular"):
            angles, recall = result.arms[arm].over("angle", "recall_at_1")
            what = f"best angle of {arm}, degrees, {where}"
            best.append(best_angle(what, angles, recall))
            good = (angles >= GOOD[0]) & (angles <= GOOD[1])
            contrast = paired(
                f"Recall@1, 36 to 55 degrees - 20 and 25, {arm}, {where}",
                recall[:, good].mean(1),
                recall[:, angles < CRITICAL].mean(1),
            )
            (angle if arm == "angular" else others).append(contrast)
        angular = result.arms["angular"]
        ranks = (angular.values("last_rank", angle=a) for a in (45.0, 20.0))
        what = f"effective rank, 45 degrees - 20, angular, {where}"
        others.append(paired(what, *ranks))
        what = f"Recall@1, n_pairs_angular - angular, 45 degrees, {where}"
        gap = result.gap("n_pairs_angular", "angular", angle=45.0)
        others.append(paired(what, gap))
        mixed = results[f"weights-{bench}"].arms["n_pairs_angular"]
        what = f"Recall@1, weight 2 of the angular loss - weight 0, {where}"
        two, none = (mixed.values("recall_at_1", angular_weight=w) for w in (2.0, 0.0))
        weight.append(paired(what, two, none))
    found = word([*angle, *weight])
    meets = best[0].low <= GOOD[1] and best[0].high >= GOOD[0]
    if found == "holds" and not meets:
        found = "holds in part"
    return Verdict(
        found,
        [best[0], *angle, *weight, *best[1:], *others],
        f"Recall@1 at angles of 36 to 55 degrees differs by {angle[0].effect:+.3f} "
        f"(drawn classes) and {angle[1].effect:+.3f} (glyphs) from that at 20 and 25. "
        f"Adding the angular loss to N-pairs changes it by {weight[0].effect:+.3f} and "
        f"{weight[1].effect:+.3f}. Learning rates were searched at 45 degrees and "
        "weight 2 alone, which favours these.",
    )


@angle_of_loss.figure
def angle_and_weight() -> Figure:
    """The angle of the angular loss, and its weight beside N-pairs.

    Recall@1 on unseen classes. Left and middle: by the angle. Shaded are 36 to 55
    degrees, which the paper finds to work; the dotted line at 30 is where the angular
    loss of unit vectors that all lie together is that of N-pairs, below which it is
    less: there collapse pays. Thin lines are the parabolas whose highest point is the
    claim's statistic. Right: by the weight of the angular loss beside N-pairs.

    Bands are 95 % intervals over 24 seeds. Learning rates were searched at 45 degrees
    and weight 2.
    """
    _, (left, middle, weights) = panels(3, height=3.8)
    names = {"angular": "angular", "n_pairs_angular": "N-pairs + 2 angular"}
    for i, (bench, panel) in enumerate(zip(BOTH, (left, middle), strict=True)):
        arms = load(f"angles-{bench}").arms
        panel.axvspan(*GOOD, color=TEXT, alpha=0.12, lw=0)
        panel.axvline(CRITICAL, color=TEXT, lw=1.2, ls=":")
        for series, (arm, name) in enumerate(names.items()):
            angles, recall = arms[arm].over("angle", "recall_at_1")
            band(panel, angles, recall, name, series)
            line = np.linspace(angles[0], angles[-1], 60)
            fit = np.polyval(np.polyfit(angles, recall.mean(0), 2), line)
            panel.plot(line, fit, color=SERIES[series], lw=0.9, ls="-")
        panel.set(title=BENCHES[bench].capitalize(), xlabel="angle, degrees")
        mixed = load(f"weights-{bench}").arms["n_pairs_angular"]
        tried, recall = mixed.over("angular_weight", "recall_at_1")
        places = np.arange(len(tried))
        band(weights, places, recall, BENCHES[bench], i + 2)
        weights.set(xticks=places, xticklabels=[f"{w:g}" for w in tried])
    left.set_ylabel("Recall@1")
    legend(left, "left", ncols=2)
    weights.set(title="Weight beside N-pairs", xlabel="weight of the angular loss")
    return legend(weights, "right", ncols=2)
