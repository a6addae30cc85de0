"""C3, hard mining: how often it collapses, and how fast it learns where it does not."""

import numpy as np
from matplotlib.figure import Figure

from experiments.study.claims.c02_stability import (
    Measure,
    by_seed,
    failed,
    ranks_worse,
)
from experiments.study.claims.claim import Results, Verdict, claim, verdict_word
from experiments.study.drawing import (
    BLUE,
    LINES,
    MARKERS,
    ORANGE,
    intervals,
    legend,
    panels,
    reach,
    rows,
)
from experiments.study.records import BENCHES, BOTH, Record, Result, load
from experiments.study.statistics import Finding, interval, logistic, paired, share

HARD, OTHERS = "hard-64-unit", ("semi_hard-64-unit", "all-64-unit", "random-64-unit")


def collapsed(record: Record) -> np.ndarray:
    """[seeds, settings] mask by the rule of C2."""
    return by_seed(record, failed(record))


def pinned(record: Record) -> np.ndarray:
    """[n] mask: the loss of the last steps is within 5 % of the margin."""
    margin = record.settings["numbers"]["margin"]
    return np.abs(record.final["last_loss"] / margin - 1) <= 0.05


def surviving(
    result: Result, other: str, gone: Measure = failed
) -> tuple[np.ndarray, float]:
    """Hard minus another rule in mean Recall@1 over training, where both survive.

    Args:
      result: of a noise study.
      other: arm.
      gone: [n] mask of the cells of an arm that do not survive.

    Returns:
      [seeds] the mean over a seed's settings, of the seeds that have any; and the share
      of settings and seeds that are left.
    """
    one, two = result.arms[HARD], result.arms[other]
    alive = ~by_seed(one, gone(one) | gone(two))
    gap = by_seed(one, one.final["mean_recall"] - two.final["mean_recall"])
    some = alive.any(-1)
    means = np.sum(np.where(alive, gap, 0), -1)[some] / alive.sum(-1)[some]
    return means, float(alive.mean())


def slopes_of_collapse(record: Record) -> dict[str, tuple[float, float, float]]:
    """Logistic slope of collapse, and its interval, by what it is on."""
    rate, noise = (
        by_seed(record, record.cells[name])[0] for name in ("learning_rate", "noise")
    )
    x = np.stack([np.log10(rate), noise], -1)
    yes = collapsed(record).astype(float)

    def slope(place: int) -> tuple[float, float, float]:
        def figure(values: np.ndarray, axis: int) -> np.ndarray:
            counts = np.moveaxis(np.sum(values, axis=axis), 0, -1)
            return logistic(x, counts, len(yes))[..., place]

        return float(figure(yes, 0)), *interval(yes, figure)

    return {"log10 learning rate": slope(1), "noise": slope(2)}


@claim("C3", "noise-modes", "noise-glyphs")
def hard_mining(results: Results) -> Verdict:
    """Hard mining converges faster than semi-hard mining, provided that it does not
    collapse.

    Expected: The chance that hard mining collapses rises with the learning rate and
    with label noise, and is above that of semi-hard mining. Where neither collapses,
    hard mining has the higher mean Recall@1 over training.

    Decides: A run has collapsed if it fails by the rule of C2. First finding:
    validation Recall@1, mean over training, hard minus semi-hard, on drawn classes,
    over the settings (learning rate, label noise) in which both survive with the seed;
    mean of a seed's settings, then over seeds. Faster means that this difference's
    interval is above 0, slower that it is below. Holds: faster on both benches, and
    hard collapses more often than semi-hard (interval of the difference of shares over
    both benches above 0). Holds in part: faster on at least one bench, but not the
    above. Does not hold: faster on neither, and slower on some. Cannot tell: otherwise,
    or fewer than 10 seeds with such a setting on either bench. Beside it: slopes of a
    logistic regression of hard mining's collapse on log10 learning rate and on noise;
    and how often its loss is pinned at the margin (within 5 %), and ranks well
    nevertheless. The settings where both survive are not a fair sample: how many they
    are is told.
    """
    benches = {BENCHES[b]: results[f"noise-{b}"] for b in BOTH}
    over = "mean Recall@1 over training, "
    findings: list[Finding] = []
    for other in OTHERS:
        for bench, result in benches.items():
            gaps, left = surviving(result, other)
            what = f"{over}{HARD} - {other}, {bench}, the {left:.0%} where both survive"
            findings += [paired(what, gaps)] if len(gaps) >= 10 else []
    enough = all(len(surviving(x, OTHERS[0])[0]) >= 10 for x in benches.values())
    speed = findings[: len(benches)] if enough else []
    rates = {
        arm: np.mean([collapsed(x.arms[arm]).mean(-1) for x in benches.values()], 0)
        for arm in (HARD, OTHERS[0])
    }
    more = paired("collapses, hard - semi_hard, both", *rates.values())
    findings.append(more)
    for bench, result in benches.items():
        # Not announced: in how few dimensions embeddings lie does not bar a run here.
        gaps, left = surviving(result, OTHERS[0], ranks_worse)
        what = f"{over}hard - semi_hard, {bench}, the {left:.0%} where both rank well"
        findings += [paired(what, gaps)] if len(gaps) > 1 else []
        arm = result.arms[HARD]
        gone, flat, seeds = collapsed(arm), pinned(arm), len(collapsed(arm))
        findings += [
            Finding(f"logistic slope of collapse of hard on {on}, {bench}", *s, seeds)
            for on, s in slopes_of_collapse(arm).items()
        ]
        findings += [
            share(f"collapses, hard, {bench}", gone, seeds),
            share(f"ranks worse than inputs, hard, {bench}", ranks_worse(arm), seeds),
            share(f"loss pinned at the margin, hard, {bench}", flat, seeds),
        ]
        if flat.any():
            well = ~ranks_worse(arm)[flat]
            what = f"ranks well although pinned, hard, {bench}"
            findings.append(share(what, well, seeds))
    faster = [f.low > 0 for f in speed]
    word = verdict_word(
        holds=enough and all(faster) and more.low > 0,
        in_part=any(faster),
        fails=any(f.high < 0 for f in speed),
    )
    says = (
        f"Hard mining collapses in {rates[HARD].mean():.0%} of runs, semi-hard in "
        f"{rates[OTHERS[0]].mean():.0%}. Speed is compared only where both survive, "
        "which are the easier settings. All rules have the margin 0.2, and none was "
        "searched for."
    )
    return Verdict(word, findings, says)


@hard_mining.figure
def claim_hard_mining() -> Figure:
    """Is hard mining faster where it does not collapse?

    Left and middle: share of 24 runs that collapse, by learning rate and by the share
    of training labels that are wrong. Right: Recall@1 on validation classes, mean over
    training, hard mining minus another rule, in the settings where both survive with
    the seed; right of 0, hard mining is faster. These are the easier settings: the
    share of runs that is left is beside each row. Bars are 95 % intervals (Wilson's for
    shares).
    """
    drawn, (*left, right) = panels(3, height=4.3)
    series = ((HARD, "hard", ORANGE, 0.9), (OTHERS[0], "semi-hard", BLUE, 1.1))
    labels: list[str] = []
    for i, key in enumerate(BOTH):
        result, panel = load(f"noise-{key}"), left[i]
        for j, noise in enumerate((0.0, 0.1, 0.3)):
            for arm, name, colour, shift in series:
                record = result.arms[arm]
                rates, gone = np.unique(record.cells["learning_rate"]), failed(record)
                at = [record.where(noise=noise, learning_rate=rate) for rate in rates]
                effect, error = reach([share("", gone[some], 24) for some in at])
                style = {"color": colour, "marker": MARKERS[j], "ls": LINES[j]}
                style |= {"ms": 5, "lw": 1.6, "elinewidth": 1}
                x, name = rates * 1.06 ** (j - 1) * shift, f"{name}, {noise:.0%}"
                panel.errorbar(x, effect, error, label=name, **style)
        panel.set(title=f"Collapse, {BENCHES[key]}", xscale="log", ylim=(-0.03, 1.03))
        panel.set(xlabel="learning rate")
        for other in OTHERS:
            gaps, alive = surviving(result, other)
            if len(gaps) > 1:
                intervals(right, [paired("", gaps)], [len(labels)], "", i)
            rule = other.split("-")[0].replace("_", "-")
            labels.append(f"{rule}, {BENCHES[key]}\n({alive:.0%} left)")
    legend(left[0], ncols=3)
    rows(right, labels)
    right.tick_params(axis="y", labelsize=8)
    right.set(title="Hard minus others", xlabel="Recall@1 over training")
    return drawn
