"""C11: does it matter more which pairs are chosen, or which loss is put on them?"""

import numpy as np
from matplotlib.figure import Figure

from experiments.study.claims.claim import Results, Verdict, claim, word
from experiments.study.drawing import (
    HATCHES,
    SERIES,
    TEXT,
    intervals,
    legend,
    panels,
    reach,
    rows,
)
from experiments.study.records import BENCHES, BOTH, Result, load
from experiments.study.statistics import (
    Finding,
    of_draws,
    paired,
    partial_eta_squared,
)

FACTORS = ("loss", "mining", "rate")


def levels(result: Result) -> tuple[list[str], list[str]]:
    """The losses and the minings of the design."""
    losses, minings = zip(*(name.split("-") for name in result.arms), strict=True)
    return [*dict.fromkeys(losses)], [*dict.fromkeys(minings)]


def design(result: Result, figure: str) -> np.ndarray:
    """A figure in the full design, [seeds, losses, minings, rates]."""
    losses, minings = levels(result)
    values = [
        [result.arms[f"{x}-{y}"].over("learning_rate", figure)[1] for y in minings]
        for x in losses
    ]
    return np.moveaxis(np.asarray(values), 2, 0)


def at_best_rate(result: Result) -> np.ndarray:
    """Test Recall@1 [seeds, losses, minings] at the rate of best mean validation."""
    best = design(result, "last_recall").mean(0).argmax(-1)[None, ..., None]
    return np.take_along_axis(design(result, "recall_at_1"), best, -1)[..., 0]


@claim("C11", "sampling-modes", "sampling-glyphs")
def sampling(results: Results) -> Verdict:
    """How pairs are sampled matters more than which loss is put on them.

    Expected: True over all learning rates, as hard mining fails at some of them; at the
    best learning rate of each combination the two are closer, and the claim may fail.
    Holds in part.

    Decides: Four losses with each of four minings (all pairs, random, hardest,
    semi-hard) at three learning rates, 24 seeds: partial eta squared of test Recall@1,
    of mining minus of loss, the error being what seeds do to differences between
    combinations; intervals from 10,000 resamplings of seeds. First: drawn classes, all
    rates. That figure over all rates, and over each combination's rate of best
    validation Recall@1, on drawn classes and on glyphs, decides. {RULE}
    """
    decide: list[Finding] = []
    others: list[Finding] = []
    told, both = [], []
    for bench in BOTH:
        result = results[f"sampling-{bench}"]
        for rates, values in (
            ("all rates", design(result, "recall_at_1")),
            ("best rates", at_best_rate(result)),
        ):
            seeds, where = len(values), f"{BENCHES[bench]}, {rates}"
            parts = partial_eta_squared(values)
            what = f"partial eta squared, mining - loss, {where}"
            decide.append(of_draws(what, parts[1,] - parts[0,], seeds))
            for factors, part in parts.items():
                name = " x ".join(FACTORS[f] for f in factors)
                what = f"partial eta squared of {name}, {where}"
                others.append(of_draws(what, part, seeds))
            by_pair = values.reshape(*values.shape[:3], -1).mean((0, 3))
            spread = [by_pair.mean(axis).std() for axis in (0, 1)]
            both.append(f"{parts[0, 1][0]:.2f}")
            told.append(f"{spread[0]:.3f} and {spread[1]:.3f} ({where})")
    return Verdict(
        word(decide),
        [*decide, *others],
        "Standard deviations of mean Recall@1 between minings and between losses: "
        f"{'; '.join(told)}. Partial eta squared of their interaction is "
        f"{', '.join(both)}: which mining is good depends on the loss. Settings other "
        "than the rate were not searched.",
    )


@sampling.figure
def loss_or_sampling() -> Figure:
    """Losses and minings, each with each.

    Left and middle: Recall@1 on unseen classes of every loss with every mining, at the
    learning rate of best validation Recall@1 of the combination. Differences from row
    to row are the loss's, differences within a row the mining's. Right: partial eta
    squared, the part of the variance of Recall@1 that goes with a factor, beside what
    seeds do; at the best rates, and hatched over all rates.

    Bars are 95 % intervals over 24 seeds; on the right from 10,000 resamplings of
    them.
    """
    _, (left, middle, parts) = panels(3, height=3.9)
    factors = {(1,): "mining", (0,): "loss", (0, 1): "both (interaction)"}
    for i, (bench, panel) in enumerate(zip(BOTH, (left, middle), strict=True)):
        result = load(f"sampling-{bench}")
        losses, minings = levels(result)
        best = at_best_rate(result)
        for series, mining in enumerate(minings):
            found = [paired(loss, best[:, k, series]) for k, loss in enumerate(losses)]
            height = np.arange(len(losses)) + (series - 1.5) / 6
            intervals(panel, found, height, mining.replace("_", "-"), series)
        rows(panel, [loss.replace("_", " ") for loss in losses], effects=False)
        panel.set(title=BENCHES[bench].capitalize(), xlabel="Recall@1")
        every = design(result, "recall_at_1")
        for j, (rates, values) in enumerate((("best", best), ("all", every))):
            eta = partial_eta_squared(values)
            found = [of_draws(name, eta[k], len(values)) for k, name in factors.items()]
            effect, error = reach(found)
            height = np.arange(len(found)) + (2 * i + j - 1.5) / 5
            style = {"color": SERIES[i], "edgecolor": TEXT, "ecolor": TEXT, "lw": 0}
            style |= {"alpha": 0.85 - 0.4 * j, "hatch": HATCHES[4 - 4 * j]}
            name = f"{BENCHES[bench]}, {rates} rates"
            parts.barh(height, effect, 0.18, xerr=error, label=name, **style)
    middle.set_yticklabels([])
    rows(parts, [*factors.values()])
    parts.set(title="Partial eta squared", xlim=(0, 1))
    legend(left, "left", title="mining", ncols=4)
    return legend(parts, "right", ncols=2)
