"""C11: does it matter more which pairs are chosen, or which loss is put on them?"""

import numpy as np

from experiments.claims.claim import Claim, Finding, Results, Verdict
from experiments.claims.effects import (
    BENCHES,
    RULE,
    of_draws,
    partial_eta_squared,
    word,
)
from experiments.sweep.records import Result

FACTORS = ("loss", "mining", "rate")


def design(result: Result, figure: str) -> tuple[list[list[float | str]], np.ndarray]:
    """A figure in the full design.

    Returns:
      The levels of the factors, and [seeds, losses, minings, rates].
    """
    named = [name.split("-") for name in result.arms]
    losses, minings = (list(dict.fromkeys(part)) for part in zip(*named, strict=True))
    record = next(iter(result.arms.values()))
    rates = sorted({*record.cells["learning_rate"].tolist()})
    values = [
        [
            [
                result.arms[f"{loss}-{mining}"].values(figure, learning_rate=r)
                for r in rates
            ]
            for mining in minings
        ]
        for loss in losses
    ]
    return [losses, minings, rates], np.moveaxis(np.asarray(values), -1, 0)


def at_best_rate(result: Result) -> np.ndarray:
    """Test Recall@1 [seeds, losses, minings] at the rate of best mean validation."""
    validation = design(result, "last_recall")[1].mean(0)
    test = design(result, "recall_at_1")[1]
    best = validation.argmax(-1)[None, ..., None]
    return np.take_along_axis(test, best, -1)[..., 0]


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    decide: list[Finding] = []
    others: list[Finding] = []
    told, both = [], []
    for bench in ("modes", "glyphs"):
        result = results[f"sampling-{bench}"]
        for rates, values in (
            ("all rates", design(result, "recall_at_1")[1]),
            ("best rates", at_best_rate(result)),
        ):
            seeds, where = len(values), f"{BENCHES[bench]}, {rates}"
            parts = partial_eta_squared(values)
            decide.append(
                of_draws(
                    f"partial eta squared, mining - loss, {where}",
                    parts[1,] - parts[0,],
                    seeds,
                )
            )
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


CLAIM = Claim(
    name="C11",
    claim="How pairs are sampled matters more than which loss is put on them.",
    prediction=(
        "True over all learning rates, as hard mining fails at some of them; at the "
        "best learning rate of each combination the two are closer, and the claim may "
        "fail. Holds in part."
    ),
    statistic=(
        "Four losses with each of four minings (all pairs, random, hardest, semi-hard) "
        "at three learning rates, 24 seeds: partial eta squared of test Recall@1, of "
        "mining minus of loss, the error being what seeds do to differences between "
        "combinations; intervals from 10,000 resamplings of seeds. First: drawn "
        "classes, all rates. That figure over all rates, and over each combination's "
        "rate of best validation Recall@1, on drawn classes and on glyphs, decides. "
        f"{RULE}"
    ),
    studies=("sampling-modes", "sampling-glyphs"),
    judge=judge,
)
