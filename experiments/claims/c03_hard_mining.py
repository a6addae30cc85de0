"""Hard mining: how often it collapses, and how fast it learns where it does not."""

from collections.abc import Callable

import numpy as np

from experiments.claims.c02_stability import by_seed, failed, ranks_worse
from experiments.claims.claim import Claim, Finding, Results, Verdict, Word
from experiments.claims.effects import BENCHES
from experiments.claims.statistics import interval, logistic, paired, share
from experiments.sweep.records import Record, Result

HARD, OTHERS = "hard-64-unit", ("semi_hard-64-unit", "all-64-unit", "random-64-unit")


def collapsed(record: Record) -> np.ndarray:
    """[seeds, settings] mask by the rule of C2."""
    return by_seed(record, failed(record))


def pinned(record: Record) -> np.ndarray:
    """[n] mask: the loss of the last steps is within 5 % of the margin."""
    margin = record.settings["numbers"]["margin"]
    return np.abs(record.final["last_loss"] / margin - 1) <= 0.05


def surviving(
    result: Result, other: str, gone: Callable[[Record], np.ndarray] = failed
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
    settings = [
        by_seed(record, record.cells[name])[0] for name in ("learning_rate", "noise")
    ]
    x = np.stack([np.log10(settings[0]), settings[1]], -1)
    yes = collapsed(record).astype(float)

    def slope(place: int) -> tuple[float, float, float]:
        def figure(values: np.ndarray, axis: int) -> np.ndarray:
            counts = np.moveaxis(np.sum(values, axis=axis), 0, -1)
            return logistic(x, counts, len(yes))[..., place]

        return float(figure(yes, 0)), *interval(yes, figure)

    return {"log10 learning rate": slope(1), "noise": slope(2)}


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    benches = {BENCHES[b]: results[f"noise-{b}"] for b in ("modes", "glyphs")}
    findings: list[Finding] = []
    for other in OTHERS:
        for bench, result in benches.items():
            gaps, left = surviving(result, other)
            what = f"mean Recall@1 over training, {HARD} - {other}, {bench}"
            if len(gaps) >= 10:
                what += f", the {left:.0%} where both survive"
                findings.append(paired(what, gaps))
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
        if len(gaps) > 1:
            what = f"mean Recall@1 over training, hard - semi_hard, {bench}, the "
            findings.append(paired(f"{what}{left:.0%} where both rank well", gaps))
        arm = result.arms[HARD]
        seeds = len(collapsed(arm))
        flat = pinned(arm)
        findings += [
            Finding(f"logistic slope of collapse of hard on {on}, {bench}", *s, seeds)
            for on, s in slopes_of_collapse(arm).items()
        ]
        findings += [
            share(f"collapses, hard, {bench}", collapsed(arm), seeds),
            share(f"ranks worse than inputs, hard, {bench}", ranks_worse(arm), seeds),
            share(f"loss pinned at the margin, hard, {bench}", flat, seeds),
        ]
        if flat.any():
            well = ~ranks_worse(arm)[flat]
            what = f"ranks well although pinned, hard, {bench}"
            findings.append(share(what, well, seeds))
    faster = [f.low > 0 for f in speed]
    word: Word = "cannot tell"
    if any(faster):
        word = "holds" if all(faster) and more.low > 0 else "holds in part"
    elif any(f.high < 0 for f in speed):
        word = "does not hold"
    says = (
        f"Hard mining collapses in {rates[HARD].mean():.0%} of runs, semi-hard in "
        f"{rates[OTHERS[0]].mean():.0%}. Speed is compared only where both survive, "
        "which are the easier settings. All rules have the margin 0.2, and none was "
        "searched for."
    )
    return Verdict(word, findings, says)


CLAIM = Claim(
    name="C3",
    claim=(
        "Hard mining converges faster than semi-hard mining, provided that it does "
        "not collapse."
    ),
    prediction=(
        "The chance that hard mining collapses rises with the learning rate and with "
        "label noise, and is above that of semi-hard mining. Where neither collapses,"
        " hard mining has the higher mean Recall@1 over training."
    ),
    statistic=(
        "A run has collapsed if it fails by the rule of C2. First finding: validation"
        " Recall@1, mean over training, hard minus semi-hard, on drawn classes, over "
        "the settings (learning rate, label noise) in which both survive with the "
        "seed; mean of a seed's settings, then over seeds. Faster means that this "
        "difference's interval is above 0, slower that it is below. Holds: faster on "
        "both benches, and hard collapses more often than semi-hard (interval of the "
        "difference of shares over both benches above 0). Holds in part: faster on at"
        " least one bench, but not the above. Does not hold: faster on neither, and "
        "slower on some. Cannot tell: otherwise, or fewer than 10 seeds with such a "
        "setting on either bench. Beside it: slopes of a logistic regression of hard "
        "mining's collapse on log10 learning rate and on noise; and how often its "
        "loss is pinned at the margin (within 5 %), and ranks well nevertheless. The "
        "settings where both survive are not a fair sample: how many they are is "
        "told."
    ),
    studies=(
        "noise-modes",
        "noise-glyphs",
    ),
    judge=judge,
)
