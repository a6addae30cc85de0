"""C6: N-pairs without normalisation, with and without a penalty on lengths."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.study.claims.claim import Results, Verdict, claim, verdict_word
from experiments.study.drawing import LINES, SERIES, TEXT, legend, panels, points
from experiments.study.records import Record, Result, load
from experiments.study.statistics import Finding, paired, slopes

CASES = {
    "norms-modes-adam": "drawn classes, Adam",
    "norms-modes-sgd": "drawn classes, SGD",
    "norms-glyphs-adam": "glyphs, Adam",
}


def weights(record: Record) -> list[float]:
    """Those of the penalty, the least, which is none, first."""
    return np.unique(record.cells["l2_weight"]).tolist()


def growth(result: Result, record: Record, weight: float) -> np.ndarray:
    """[seeds] slope of log length on log step over the last half; nan if not finite."""
    last = result.steps >= result.study["steps"] / 2
    lengths = record.curve("norm", l2_weight=weight)[:, last]
    return slopes(np.log(result.steps[last]), np.log(lengths))


def _recall(record: Record, weight: float, figure: str = "recall_at_1") -> np.ndarray:
    return record.values(figure, l2_weight=weight)


def best_weight(record: Record) -> float:
    """The penalty of the best Recall@1 on the validation classes."""
    tried, recalls = record.over("l2_weight", "last_recall")
    return float(tried[1:][recalls[:, 1:].mean(0).argmax()])


def _finite(what: str, values: np.ndarray) -> Finding:
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return Finding(what, np.nan, np.nan, np.nan, len(finite))
    return paired(what, finite)


def _falling(what: str, rates: np.ndarray) -> Finding:
    """Spearman's correlation, mean over seeds, with Page's p (here two-sided).

    Args:
      what: see `Finding`.
      rates: [weights, seeds]; seeds in which one is not finite are left out.
    """
    whole = rates[:, np.isfinite(rates).all(0)].T
    if len(whole) < 2:
        return Finding(what, np.nan, np.nan, np.nan, len(whole))
    order = stats.rankdata(whole, axis=-1) - (len(rates) + 1) / 2
    place = np.arange(len(rates)) - (len(rates) - 1) / 2
    found = paired(what, order @ place / (place @ place))
    page = stats.page_trend_test(whole[:, ::-1], method="asymptotic")
    return dataclasses.replace(found, p=min(1.0, 2 * float(page.pvalue)))


# Announced for 1600 steps and four cases; glyphs with SGD, 1600 steps and a penalty of
# 0.5 were left out for time, and "all four" became "all".
@claim("C6", *CASES)
def regulariser(results: Results) -> Verdict:
    """N-pairs on embeddings that are not normalised needs a regulariser of their
    length, without which training degenerates.

    Expected: Without a penalty the mean length grows, but slowly, about as a root of
    the logarithm of steps, and the less the larger the penalty. Recall@1 is nearly flat
    over a wide range of penalties: 'needs' is too strong.

    Decides: Slope of the log mean length on the log step over the last half of
    training, by l2_weight. First finding: its mean without a penalty, drawn classes,
    Adam. Lengths grow where this interval is above 0. Harm: the interval of Recall@1
    without a penalty minus with the best one (by validation Recall@1) is below 0.
    Cases: drawn classes with Adam and with SGD, glyphs with Adam. Holds: growth and
    harm in all. Holds in part: growth in all, harm in some. Does not hold: harm in
    none, and every such interval is above -0.02. Cannot tell: otherwise. Runs that are
    no longer finite have a Recall@1 of 0 and no slope. Beside it: Page's test that
    slopes fall with the penalty, Recall@1 at each penalty, and the normalised loss.
    """
    grown: list[Finding] = []
    harm: list[Finding] = []
    beside: list[Finding] = []
    for study, case in CASES.items():
        result = results[study]
        lengths, unit = result.arms["lengths"], result.arms["normalized"]
        some = weights(lengths)
        rates = np.array([growth(result, lengths, weight) for weight in some])
        for weight, rate in zip(some, rates, strict=True):
            what = f"slope of log length on log step, l2_weight {weight:g}, {case}"
            (beside if weight else grown).append(_finite(what, rate))
        best = best_weight(lengths)
        final = {weight: _recall(lengths, weight) for weight in some}
        what = f"Recall@1, no penalty - l2_weight {best:g}, the best, {case}"
        harm.append(paired(what, final[0.0], final[best]))
        beside.append(_falling(f"rank correlation of slope and penalty, {case}", rates))
        what = f"Recall@1, no penalty - l2_weight {some[-1]:g}, the largest, {case}"
        beside.append(paired(what, final[0.0], final[some[-1]]))
        what = f"Recall@1, normalized - l2_weight {best:g}, {case}"
        beside.append(paired(what, _recall(unit, 0.0), final[best]))
        what = f"mean length after the last step, no penalty, {case}"
        beside.append(_finite(what, _recall(lengths, 0.0, "last_norm")))
    growing = [f.low > 0 for f in grown]
    harmed = [f.high < 0 for f in harm]
    word = verdict_word(
        holds=all(growing) and all(harmed),
        in_part=all(growing) and any(harmed),
        fails=not any(harmed) and all(f.low > -0.02 for f in harm),
    )
    worst = min(harm, key=lambda f: f.effect)
    says = (
        f"Lengths grow without a penalty in {sum(growing)} of {len(CASES)} cases, and "
        f"Recall@1 is lower than with the best penalty in {sum(harmed)}; at worst by "
        f"{-worst.effect:.3f} ({worst.what.split('best, ')[1]}). The length goes about "
        f"as the step to the power of {grown[0].effect:.2f}. The normalised loss has "
        "the scale 10, which was not searched for."
    )
    return Verdict(word, [*grown, *harm, *beside], says)


@regulariser.figure
def claim_regulariser() -> Figure:
    """Does N-pairs without normalisation need a penalty on lengths?

    Left: mean length of the embeddings of validation classes while training with Adam
    on drawn classes, by the weight of the penalty, mean over 24 seeds; both axes are
    logarithmic. Middle: the slope of such lines over the last half of the steps. Right:
    Recall@1 on unseen classes, with the loss on normalised embeddings (scale 10) beside
    it. Bars are 95 % intervals.
    """
    _, (left, middle, right) = panels(3, height=4.3)
    names: list[str] = []
    for i, (study, case) in enumerate(CASES.items()):
        result = load(study)
        arm, unit = result.arms["lengths"], result.arms["normalized"]
        some = weights(arm)
        names = [f"{weight:g}" for weight in some]
        for j, weight in enumerate(some if i == 0 else ()):
            length = np.nanmean(arm.curve("norm", l2_weight=weight), 0)[1:]
            style = {"color": SERIES[j], "ls": LINES[j], "label": names[j]}
            left.plot(result.steps[1:], length, **style)
        at = np.arange(len(some)) + 0.08 * (i - 1.5)
        points(middle, at, [_finite("", growth(result, arm, w)) for w in some], case, i)
        points(right, at, [paired("", _recall(arm, w)) for w in some], case, i)
        points(right, [at[-1] + 1], [paired("", _recall(unit, 0.0))], "", i)
    left.set(title="Length, drawn, Adam", xlabel="step", xscale="log", yscale="log")
    for formatted in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        formatted("{x:g}")
    middle.axhline(0, color=TEXT, lw=1)
    middle.set(title="Slope of log length", xlabel="weight of the penalty")
    right.set(title="Recall@1", xlabel="weight of the penalty")
    middle.set_xticks(range(len(names)), names)
    right.set_xticks(range(len(names) + 1), [*names, "normalized"], rotation=30)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16)}
    left.legend(ncols=2, title="weight", **below)
    return legend(middle, ncols=4)
