"""What the sweeps of claims C1 to C6 found."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.claims import (
    c01_convergence,
    c02_stability,
    c03_hard_mining,
    c04_variation,
    c05_classes,
    c06_regulariser,
)
from experiments.claims.effects import BENCHES
from experiments.claims.statistics import paired, share
from experiments.figures.effects import (
    LABELS,
    intervals,
    legend,
    of_claim,
    points,
    reach,
    rows,
)
from experiments.figures.style import (
    BLUE,
    HATCHES,
    LINES,
    MARKERS,
    ORANGE,
    SERIES,
    SHADES,
    TEXT,
    panels,
)
from experiments.sweep.records import load

BOTH = ("modes", "glyphs")


@of_claim(c01_convergence.CLAIM)
def claim_convergence() -> Figure:
    """Does N-pairs converge faster than triplets?

    Top: Recall@1 on validation classes while training, mean of 24 seeds. Bottom: what
    each other loss needs to reach 90 % of the seed's best, over what N-pairs needs, as
    steps, as pairs of rows looked at, and as CPU seconds; right of 1, N-pairs is ahead.
    Bars are 95 % intervals. All losses see 64 rows a batch, and each has its own
    learning rate and one more setting from the same number of trials on the validation
    classes. Drawn classes are in the left column, glyphs in the right.

    Read from experiments/results/sweeps/losses-modes.json and losses-glyphs.json.
    """
    drawn, axes = panels(2, rows=2, height=7.2)
    shown = ("n_pairs", "triplet_random", "triplet_semi_hard", "triplet_hard")
    for i, key in enumerate(BOTH):
        result, curve, below = load(f"losses-{key}"), axes[i], axes[2 + i]
        for j, arm in enumerate((*shown, "contrastive")):
            mean = result.arms[arm].curve("recall").mean(0)
            curve.plot(result.steps, mean, color=SERIES[j], ls=LINES[j],
                       label=LABELS[arm])  # fmt: skip
        curve.set(title=BENCHES[key].capitalize(), xlabel="step", ylabel="Recall@1")
        curve.legend(loc="lower right")
        found = c01_convergence.compared(key, result)
        height = np.arange(len(found))
        for j, unit in enumerate(c01_convergence.UNITS):
            each = [f[unit] for f in found.values()]
            intervals(below, each, height + 0.22 * (j - 1), unit, j)
        rows(below, [LABELS[arm] if i == 0 else "" for arm in found], effects=False)
        below.axvline(1, color=TEXT, lw=1)
        below.set(xscale="log", xlabel="needed, over what N-pairs needs")
        ticks = (0.125, 0.25, 0.5, 1, 2, 4, 8)
        below.set_xticks(ticks, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        below.xaxis.set_minor_formatter(NullFormatter())
    legend(axes[2], "center", ncols=3)
    return drawn


@of_claim(c02_stability.CLAIM)
def claim_stability() -> Figure:
    """Which mining fails least?

    Share of 24 runs that fail, by learning rate (across), and by rows of the batch
    (down), with embeddings normalised (unit) or not (free): the page's colour for none,
    blue for all, hatched where more than half fail. A run fails if its Recall@1 on test
    classes is below 0.9 times that of its inputs, or if it uses fewer than 1.5
    dimensions. Above each panel: the share of all its runs that fail. Top: drawn
    classes. Bottom: glyphs.

    Read from experiments/results/sweeps/stability-modes.json and stability-glyphs.json.
    """
    drawn, axes = panels(4, rows=2, height=4.4, sharex=True, height_ratios=(6, 2))
    for i, key in enumerate(BOTH):
        result = load(f"stability-{key}")
        for j, rule in enumerate(c02_stability.RULES):
            panel = axes[4 * i + j]
            arms = [name for name in result.arms if name.startswith(f"{rule}-")]
            arms.sort(key=lambda name: (name.endswith("free"), int(name.split("-")[1])))
            failed = np.array(
                [
                    c02_stability.by_seed(arm, c02_stability.failed(arm)).mean(0)
                    for arm in (result.arms[name] for name in arms)
                ]
            )
            panel.pcolormesh(failed, cmap=SHADES, vmin=0, vmax=1)
            half = np.ma.masked_less_equal(failed, 0.5)
            panel.pcolor(half, facecolor="none", edgecolor=TEXT, hatch=HATCHES[0], lw=0)
            rates = result.arms[arms[0]].cells["learning_rate"]
            ticks = np.arange(0, 7, 2)
            panel.set_xticks(
                ticks + 0.5,
                [f"{x:.0e}".replace("-0", "-") for x in np.unique(rates)[ticks]],
            )
            names = [name.split("-")[1:] for name in arms]
            panel.set_yticks(np.arange(len(arms)) + 0.5, [" ".join(n) for n in names])
            panel.tick_params(length=0, labelsize=8, labelleft=j == 0)
            panel.grid(False)
            panel.invert_yaxis()
            rule = rule.replace("_", "-")
            panel.set(title=f"{rule}: {failed.mean():.0%} fail")
            if i == 1:
                panel.set(xlabel="learning rate")
        axes[4 * i].set(ylabel=BENCHES[key])
    return drawn


@of_claim(c03_hard_mining.CLAIM)
def claim_hard_mining() -> Figure:
    """Is hard mining faster where it does not collapse?

    Left and middle: share of 24 runs that collapse, by learning rate and by the share
    of training labels that are wrong. Right: Recall@1 on validation classes, mean over
    training, hard mining minus another rule, in the settings where both survive with
    the seed; right of 0, hard mining is faster. These are the easier settings: the
    share of runs that is left is beside each row. Bars are 95 % intervals (Wilson's for
    shares).

    Read from experiments/results/sweeps/noise-modes.json and noise-glyphs.json.
    """
    drawn, (*left, right) = panels(3, height=4.3)
    names = {c03_hard_mining.HARD: "hard", c03_hard_mining.OTHERS[0]: "semi-hard"}
    labels, number = [], 0
    for i, key in enumerate(BOTH):
        result, panel = load(f"noise-{key}"), left[i]
        for j, noise in enumerate((0.0, 0.1, 0.3)):
            for shift, (arm, name) in zip((0.9, 1.1), names.items(), strict=True):
                record = result.arms[arm]
                rates = np.unique(record.cells["learning_rate"])
                gone = c02_stability.failed(record)
                found = [
                    share("", gone[record.where(noise=noise, learning_rate=r)], 24)
                    for r in rates
                ]
                effect, error = reach(found)
                panel.errorbar(rates * 1.06 ** (j - 1) * shift, effect,
                               error,
                               color=ORANGE if name == "hard" else BLUE,
                               marker=MARKERS[j], ls=LINES[j], ms=5, lw=1.6,
                               elinewidth=1,
                               label=f"{name}, {noise:.0%}")  # fmt: skip
        panel.set(title=f"Collapse, {BENCHES[key]}", xscale="log", ylim=(-0.03, 1.03))
        panel.set(xlabel="learning rate")
        for other in c03_hard_mining.OTHERS:
            gaps, alive = c03_hard_mining.surviving(result, other)
            if len(gaps) > 1:
                intervals(right, [paired("", gaps)], [number], "", i)
            rule = other.split("-")[0].replace("_", "-")
            labels.append(f"{rule}, {BENCHES[key]}\n({alive:.0%} left)")
            number += 1
    legend(left[0], "center", ncols=3)
    rows(right, labels)
    right.tick_params(axis="y", labelsize=8)
    right.set(title="Hard minus others", xlabel="Recall@1 over training")
    return drawn


@of_claim(c04_variation.CLAIM)
def claim_variation() -> Figure:
    """Hard triplets for one mode, N-pairs for many?

    Left and middle: Recall@1 on unseen drawn classes, another loss minus N-pairs, by
    the number of modes of a class, for two spreads of a mode. Right: the same on
    glyphs, where both cases of a letter are apart, or joined to one class
    that has two modes. Below 0, N-pairs is better. Bars are 95 % intervals over 24
    seeds. The easy-positive triplet draws an anchor to its nearest positive, where the
    hard triplet draws it to the farthest. Settings are searched for at each point.

    Read from experiments/results/sweeps/variation-modes.json, losses-glyphs.json and
    losses-cases.json.
    """
    drawn, axes = panels(3, height=4.2)
    arms = ("triplet_hard", "triplet_easy_positive", "angular")
    result = load("variation-modes")
    glyphs = load("losses-glyphs"), load("losses-cases")
    for i, arm in enumerate(arms):
        gap = c04_variation.gap(result, arm, "n_pairs")
        for panel, one in zip(axes, gap, strict=False):
            found = [paired("", each) for each in one.T]
            at = 0.06 * (i - 1) + np.arange(len(found))
            points(panel, at, found, LABELS[arm], i)
        found = [
            paired(
                "",
                *(each.arms[name].values("recall_at_1") for name in (arm, "n_pairs")),
            )
            for each in glyphs
        ]
        points(axes[2], 0.06 * (i - 1) + np.arange(2), found, LABELS[arm], i)
    for panel, spread in zip(axes, c04_variation.SPREADS, strict=False):
        panel.set_xticks(range(4), [str(modes) for modes in c04_variation.MODES])
        panel.set(title=f"Drawn, spread {spread}", xlabel="modes of a class")
    axes[2].set_xticks(range(2), ["apart", "joined"])
    axes[2].set(title="Glyphs", xlabel="cases of a letter", xlim=(-0.4, 1.4))
    for panel in axes:
        panel.axhline(0, color=TEXT, lw=1)
    axes[0].set(ylabel="Recall@1, minus N-pairs")
    legend(axes[0], "center", ncols=3)
    return drawn


@of_claim(c05_classes.CLAIM)
def claim_classes() -> Figure:
    """Is the N-pairs batch bounded by the number of classes?

    Top: differences in Recall@1 on unseen classes, by the number of classes to train
    on. Never: no class comes twice in a batch, which cannot have more pairs than there
    are classes. Aware: classes are drawn with replacement, and the loss is told. Blind:
    it is not told, and takes rows of an anchor's own class for negatives. The largest
    never is the largest of the batches of 8, 16, 32 and 64 pairs (on glyphs of 16) that
    has no class twice. Bottom left: the share of anchors
    with such a false negative, and by how much the least loss rises, both in closed
    form. Bottom right: batches of 128 rows of more or of fewer classes, Recall@1
    of 64 classes of 2 rows minus another shape. Bars are 95 % intervals over 24 seeds.

    Read from experiments/results/sweeps/classes-*.json and shapes-*.json.
    """
    drawn, axes = panels(2, rows=2, height=7.2)
    counts = {"modes": (10, 20, 50, 100), "glyphs": (20, 50)}
    for panel, key in zip(axes, BOTH, strict=False):
        gaps = [
            c05_classes.differences(load(f"classes-{key}-{classes}"), "")
            for classes in counts[key]
        ]
        for i, name in enumerate(gaps[0]):
            height = np.arange(len(gaps)) + 0.18 * (i - 1.5)
            intervals(panel, [each[name] for each in gaps], height, name, i)
        rows(panel, [f"{classes} classes" for classes in counts[key]])
        panel.set(title=BENCHES[key].capitalize(), xlabel="Recall@1")
    legend(axes[0], "center", ncols=2)
    pairs = range(2, 65)
    rise = axes[2].twinx()
    for number, classes in enumerate(counts["modes"]):
        false = [c05_classes.false_negatives(classes, n) for n in pairs]
        least = [c05_classes.floor(classes, n) for n in pairs]
        axes[2].plot(pairs, false, color=SERIES[number], ls="-",
                     label=f"{classes} classes")  # fmt: skip
        rise.plot(pairs, least, color=SERIES[number], ls=":")
    axes[2].set(
        title="Anchors with a false negative", ylabel="share (solid)", ylim=(0, 1.02)
    )
    rise.set(ylabel="rise of the least loss (dotted)", ylim=(0, None))
    rise.grid(False)
    rise.spines["right"].set_visible(True)
    axes[2].set(xlabel="pairs in the batch", xscale="log")
    axes[2].set_xticks([2, 4, 8, 16, 32, 64], ["2", "4", "8", "16", "32", "64"])
    axes[2].xaxis.set_minor_formatter(NullFormatter())
    for i, key in enumerate(BOTH):
        shapes = load(f"shapes-{key}").arms
        first = shapes["64x2"].values("recall_at_1")
        found = [
            paired("", first, shapes[shape].values("recall_at_1"))
            for shape in ("32x4", "16x8")
        ]
        intervals(axes[3], found, np.arange(2) + 0.2 * i - 0.1, BENCHES[key], i)
    rows(axes[3], ["minus 32 x 4", "minus 16 x 8"])
    axes[3].set(title="64 x 2 rows", xlabel="Recall@1")
    for panel in axes[2:]:
        panel.legend(loc="best")
    return drawn


@of_claim(c06_regulariser.CLAIM)
def claim_regulariser() -> Figure:
    """Does N-pairs without normalisation need a penalty on lengths?

    Left: mean length of the embeddings of validation classes while training with Adam
    on drawn classes, by the weight of the penalty, mean over 24 seeds; both axes are
    logarithmic. Middle: the slope of such lines over the last half of the steps. Right:
    Recall@1 on unseen classes, with the loss on normalised embeddings (scale 10) beside
    it. Bars are 95 % intervals.

    Read from experiments/results/sweeps/norms-*.json.
    """
    drawn, (left, middle, right) = panels(3, height=4.3)
    for i, (study, case) in enumerate(c06_regulariser.CASES.items()):
        result = load(study)
        arm, unit = result.arms["lengths"], result.arms["normalized"]
        weights = c06_regulariser.weights(arm)
        names = [f"{weight:g}" for weight in weights]
        if i == 0:
            for j, weight in enumerate(weights):
                length = np.nanmean(arm.curve("norm", l2_weight=weight), 0)
                left.plot(result.steps[1:], length[1:], color=SERIES[j], ls=LINES[j],
                          label=names[j])  # fmt: skip
        at = np.arange(len(weights)) + 0.08 * (i - 1.5)
        slopes = [c06_regulariser.growth(result, arm, w) for w in weights]
        found = [paired("", slope[np.isfinite(slope)]) for slope in slopes]
        points(middle, at, found, case, i)
        recalls = [arm.values("recall_at_1", l2_weight=w) for w in weights]
        points(right, at, [paired("", recall) for recall in recalls], case, i)
        normal = paired("", unit.values("recall_at_1", l2_weight=0.0))
        points(right, [len(weights) + 0.08 * (i - 1.5)], [normal], "", i)
    left.set(title="Length, drawn, Adam", xlabel="step", xscale="log", yscale="log")
    for formatted in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        formatted("{x:g}")
    middle.axhline(0, color=TEXT, lw=1)
    middle.set(title="Slope of log length", xlabel="weight of the penalty")
    right.set(title="Recall@1", xlabel="weight of the penalty")
    middle.set_xticks(range(len(names)), names)
    right.set_xticks(range(len(names) + 1), [*names, "normalized"], rotation=30)
    left.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, title="weight"
    )
    legend(middle, "center", ncols=4)
    return drawn
