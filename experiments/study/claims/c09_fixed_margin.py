"""C9: one margin for classes that spread little and classes that spread much."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from experiments.study.claims.claim import Results, Verdict, claim, word
from experiments.study.drawing import TEXT, band, intervals, legend, panels, rows
from experiments.study.records import ARM_NAMES, BENCHES, BOTH, Record, load
from experiments.study.statistics import Finding, paired

TRIPLETS = ("triplet_all", "triplet_semi_hard", "triplet_hard")


def gap(record: Record) -> np.ndarray:
    """Recall@1 of queries of narrow classes minus that of wide ones, [seeds]."""
    return record.values("recall_0") - record.values("recall_1")


def log_share(record: Record) -> np.ndarray:
    """Log of wide classes' part of the gradient over their part of rows, [seeds]."""
    return np.log(record.values("mean_wide_gradient"))


@claim("C9", "spreads-modes", "spreads-glyphs")
def fixed_margin(results: Results) -> Verdict:
    """The triplet loss asks one fixed margin of all classes, which suits badly where
    some spread more than others; the angular loss has no such flaw.

    Expected: The mechanism is there: under a triplet loss wide classes have more than
    their part of the gradient, and more than under the angular loss. The harm is open;
    we expect no difference of a point in how much worse wide classes are retrieved.
    Does not hold, or cannot tell.

    Decides: How far Recall@1 of queries of wide classes is below that of narrow ones on
    unseen classes, triplet minus angular, 24 paired seeds. First: triplet with all
    negatives, drawn classes, every second one four times as wide. That figure for
    triplets of all, semi-hard and hardest negatives, on drawn classes and on glyphs
    (the half of the classes that spread more is wide), decides. {RULE} Beside it: the
    log of the wide classes' part of the gradient over their part of the rows, mean over
    training, likewise; and all with N-pairs in the place of the angular loss.
    """
    of = {bench: results[f"spreads-{bench}"].arms for bench in BOTH}

    def minus(
        what: str, figure: Callable[[Record], np.ndarray], other: str
    ) -> list[Finding]:
        return [
            paired(
                f"{what}, {triplet} - {other}, {BENCHES[bench]}",
                figure(arms[triplet]),
                figure(arms[other]),
            )
            for bench, arms in of.items()
            for triplet in TRIPLETS
        ]

    harm, share = "Recall@1, narrow - wide classes", "log share of gradient, wide"
    wide = "Recall@1 of wide classes"
    decide, shares = minus(harm, gap, "angular"), minus(share, log_share, "angular")
    others = minus(harm, gap, "n_pairs") + minus(share, log_share, "n_pairs")
    others += minus(wide, lambda record: record.values("recall_1"), "angular")
    most = int(np.argmax([f.effect for f in decide]))
    even = [np.exp(log_share(arms["triplet_all"])).mean() for arms in of.values()]
    return Verdict(
        word(decide),
        [*decide, *shares, *others],
        f"Under triplets of all negatives wide classes have {even[0]:.2f} times their "
        f"part of the gradient on drawn classes and {even[1]:.2f} times on glyphs, "
        f"{np.exp(shares[0].effect):.2f} and {np.exp(shares[3].effect):.2f} times what "
        "they have under the angular loss. Their gap in Recall@1 differs by "
        f"{decide[0].effect:+.3f} and {decide[3].effect:+.3f}. It differs most for "
        f"{TRIPLETS[most % 3]} on {BENCHES[BOTH[most // 3]]}, by "
        f"{decide[most].effect:+.3f}, where Recall@1 of wide classes themselves is "
        f"{others[12 + most].effect:+.3f} from that under the angular loss.",
    )


@fixed_margin.figure
def wide_and_narrow_classes() -> Figure:
    """Classes that spread more: their gradient, and how they are retrieved.

    Left and middle: wide classes' part of the gradient over their part of the rows, as
    training goes on; 1 is an even share. On drawn classes every second one is wide,
    with four times the spread; on glyphs it is the half of the classes whose features
    spread more. Right: how far Recall@1 of wide classes is below that of narrow ones
    on unseen classes, triplets minus the angular loss. To the right of 0 the triplet
    loss is harder on wide classes.

    Bands and bars are 95 % intervals over 24 paired seeds; settings are searched alike
    for all losses.
    """
    _, (left, middle, gaps) = panels(3, height=3.9)
    for i, (bench, panel) in enumerate(zip(BOTH, (left, middle), strict=True)):
        result = load(f"spreads-{bench}")
        for series, name in enumerate((*TRIPLETS, "angular", "n_pairs")):
            curve = result.arms[name].curve("wide_gradient")
            band(panel, result.steps, curve, ARM_NAMES[name], series)
        panel.axhline(1, color=TEXT, lw=1, ls="-")
        panel.set(title=f"Gradient, {BENCHES[bench]}", xlabel="step")
        angular = gap(result.arms["angular"])
        found = [paired(name, gap(result.arms[name]), angular) for name in TRIPLETS]
        height = np.arange(len(found)) + (i - 0.5) / 4
        intervals(gaps, found, height, BENCHES[bench], i)
    left.set_ylabel("part of gradient / part of rows")
    legend(left, "left", ncols=3)
    rows(gaps, [ARM_NAMES[name] for name in TRIPLETS])
    gaps.set(title="Gap of Recall@1", xlabel="triplets - angular")
    return legend(gaps, "right", ncols=1)
