"""C1, N-pairs against triplets: who needs fewer steps."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.study.claims.claim import Results, Verdict, claim, verdict_word
from experiments.study.drawing import (
    LINES,
    SERIES,
    TEXT,
    intervals,
    legend,
    panels,
    rows,
)
from experiments.study.records import ARM_NAMES, BENCHES, BOTH, Record, Result, load
from experiments.study.statistics import Finding, first_reached, paired, ratio

TRIPLETS = ("triplet_random", "triplet_all", "triplet_semi_hard", "triplet_hard")
OTHERS = (*TRIPLETS, "contrastive", "n_pairs_ovo")
UNITS = ("steps", "pairs", "seconds")


def steps_needed(result: Result) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps to 90 % of the seed's best, [seeds] by arm, and whether they were enough.

    Where they were not, it is the last step.
    """
    curves = {k: np.nan_to_num(r.curve("recall")) for k, r in result.arms.items()}
    target = 0.9 * np.max([c.max(-1) for c in curves.values()], axis=0)
    return {k: first_reached(result.steps, c, target) for k, c in curves.items()}


def pairs_compared(record: Record) -> int:
    """Pairs of rows whose similarity a step needs.

    Mining looks at all pairs of the batch, whichever it then chooses. One random
    negative per anchor and positive needs these two pairs alone. N-pairs needs every
    pair of an anchor and a row that acts as a positive.
    """
    arm = record.settings
    rows, others = arm["classes"] * arm["per_class"], arm["per_class"] - 1
    if arm["selection"] == "random_negatives":
        return rows * others // 2 + rows * others
    if arm["loss"].startswith("n_pairs"):
        return (rows // 2) ** 2
    return rows * (rows - 1) // 2


def compared(key: str, result: Result) -> dict[str, dict[str, Finding]]:
    """What each other arm needs over what N-pairs needs, by arm and `UNITS`.

    Pairs and seconds of a step are constants, which scale the ratio of the steps.
    """
    steps, found = steps_needed(result), {}
    ours, (mine, enough) = result.arms["n_pairs"], steps["n_pairs"]
    for name in (name for name in OTHERS if name in steps):
        arm, versus = result.arms[name], f"{name} / n_pairs, {BENCHES[key]}"
        theirs, some = steps[name]
        what = f"steps, {versus} (reached by {some.sum()} / {enough.sum()} seeds)"
        first = ratio(what, theirs, mine)
        pairs = pairs_compared(arm) / pairs_compared(ours)
        found[name] = {
            "steps": first,
            "pairs": _scaled(f"pairs looked at, {versus}", first, pairs),
            "seconds": _scaled(f"seconds, {versus}", first, arm.seconds / ours.seconds),
        }
    return found


def _scaled(what: str, steps: Finding, factor: float) -> Finding:
    ends = factor * steps.low, factor * steps.high
    return Finding(what, factor * steps.effect, *ends, steps.seeds)


@claim("C1", "losses-modes", "losses-glyphs", "losses-digits")
def convergence(results: Results) -> Verdict:
    """The N-pairs loss, which compares a positive with many negatives at once,
    converges faster than the triplet loss with its one.

    Expected: Against one random negative per pair N-pairs needs at most half the steps.
    Against all, semi-hard or hard negatives of the same batch the difference is small
    (a ratio between 0.8 and 1.25) or none; per pair looked at, one random negative is
    ahead.

    Decides: Steps until validation Recall@1 is first at 90 % of the best that any arm
    of the study reaches with the same seed, 600 where it never is (restricted mean over
    seeds). First finding: ratio of these means, one random negative over N-pairs, on
    drawn classes; the p is of the paired steps. N-pairs is faster than an arm where the
    ratio's interval is above 1, slower where it is below. Holds: faster than all four
    triplet arms (random, all, semi-hard, hard) on drawn classes and on glyphs. Holds in
    part: faster in some of these eight comparisons. Does not hold: faster in none and
    slower in some. Cannot tell: otherwise. Beside it: the mean of validation Recall@1
    over training, and the ratios per pair looked at and per second.
    """
    findings: list[Finding] = []
    faster, slower = 0, []
    for key in ("modes", "glyphs", "digits"):
        result, bench = results[f"losses-{key}"], BENCHES[key]
        found = compared(key, result)
        findings += [each["steps"] for each in found.values()]
        if key == "digits":
            continue
        for name, each in found.items():
            what = f"mean Recall@1 over training, n_pairs - {name}, {bench}"
            gap = result.gap("n_pairs", name, "mean_recall")
            findings += [paired(what, gap), each["pairs"], each["seconds"]]
            if name in TRIPLETS:
                faster += each["steps"].low > 1
                slower += [f"{name}, {bench}"] * (each["steps"].high < 1)
    every = 2 * len(TRIPLETS)
    word = verdict_word(holds=faster == every, in_part=bool(faster), fails=bool(slower))
    more = f"{len(slower)} ({'; '.join(slower)})" if slower else "0"
    says = f"N-pairs needs fewer steps in {faster} of {every} comparisons with triplets"
    return Verdict(word, findings, f"{says}, and more in {more}.")


@convergence.figure
def claim_convergence() -> Figure:
    """Does N-pairs converge faster than triplets?

    Top: Recall@1 on validation classes while training, mean of 24 seeds. Bottom: what
    each other loss needs to reach 90 % of the seed's best, over what N-pairs needs, as
    steps, as pairs of rows looked at, and as CPU seconds; right of 1, N-pairs is ahead.
    Bars are 95 % intervals. All losses see 64 rows a batch, and each has its own
    learning rate and one more setting from the same number of trials on the validation
    classes. Drawn classes are in the left column, glyphs in the right.
    """
    _, axes = panels(2, rows=2, height=7.2)
    shown = ("n_pairs", "triplet_random", "triplet_semi_hard", "triplet_hard")
    for i, key in enumerate(BOTH):
        result, curve, below = load(f"losses-{key}"), axes[i], axes[2 + i]
        for j, arm in enumerate((*shown, "contrastive")):
            mean = result.arms[arm].curve("recall").mean(0)
            style = {"color": SERIES[j], "ls": LINES[j]}
            curve.plot(result.steps, mean, label=ARM_NAMES[arm], **style)
        curve.set(title=BENCHES[key].capitalize(), xlabel="step", ylabel="Recall@1")
        curve.legend(loc="lower right")
        found = compared(key, result)
        height = np.arange(len(found))
        for j, unit in enumerate(UNITS):
            each = [f[unit] for f in found.values()]
            intervals(below, each, height + 0.22 * (j - 1), unit, j)
        names = [ARM_NAMES[arm] if i == 0 else "" for arm in found]
        rows(below, names, effects=False)
        below.axvline(1, color=TEXT, lw=1)
        below.set(xscale="log", xlabel="needed, over what N-pairs needs")
        ticks = (0.125, 0.25, 0.5, 1, 2, 4, 8)
        below.set_xticks(ticks, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        below.xaxis.set_minor_formatter(NullFormatter())
    return legend(axes[2])
