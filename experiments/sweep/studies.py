"""The sweeps by name, with the CPU minutes that each takes."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.sweep import probes
from experiments.sweep.arms import Arm
from experiments.sweep.benches import Bench, drawn
from experiments.sweep.images import digits, glyphs
from experiments.sweep.study import Study

_RATE = (1e-4, 3e-2)
_PAIRS: dict[str, Any] = {"classes": 32, "per_class": 2}
_GROUPS: dict[str, Any] = {"classes": 16, "per_class": 4}


def _triplet(margin: tuple[float, float] = (0.05, 1.0), **settings: Any) -> Arm:
    return Arm(
        "triplet",
        reduction="mean_active",
        numbers={"learning_rate": 1e-3, "margin": 0.2},
        searched={"learning_rate": _RATE, "margin": margin},
        **settings,
    )


def _hard(**settings: Any) -> Arm:
    return Arm(
        "batch_hard_triplet",
        numbers={"learning_rate": 1e-3, "margin": 0.2},
        searched={"learning_rate": _RATE, "margin": (0.05, 1.0)},
        **settings,
    )


ARMS: dict[str, Arm] = {
    "contrastive": Arm(
        "contrastive",
        numbers={"learning_rate": 1e-3, "margin": 1.0},
        searched={"learning_rate": _RATE, "margin": (0.2, 1.4)},
        **_PAIRS,
    ),
    "triplet_random": _triplet(selection="random_negatives", **_PAIRS),
    "triplet_all": _triplet(selection="all_negatives", **_PAIRS),
    "triplet_semi_hard": _triplet(selection="semi_hard", **_PAIRS),
    "triplet_hard": _hard(**_GROUPS),
    "triplet_hard_pairs": _hard(**_PAIRS),
    "triplet_easy_positive": _triplet(
        selection="semi_hard", miner="easy_positive", **_GROUPS
    ),
    "n_pairs_ovo": Arm(
        "n_pairs_ovo",
        numbers={"learning_rate": 1e-3, "scale": 10.0},
        searched={"learning_rate": _RATE, "scale": (1.0, 40.0)},
        **_PAIRS,
    ),
    "n_pairs": Arm(
        "n_pairs",
        numbers={"learning_rate": 1e-3, "scale": 10.0},
        searched={"learning_rate": _RATE, "scale": (1.0, 40.0)},
        **_PAIRS,
    ),
    "n_pairs_lengths": Arm(
        "n_pairs",
        normalize=False,
        numbers={"learning_rate": 1e-3, "l2_weight": 0.02},
        searched={"learning_rate": _RATE, "l2_weight": (1e-4, 0.1)},
        **_PAIRS,
    ),
    "angular": Arm(
        "angular",
        numbers={"learning_rate": 1e-3, "angle": 45.0},
        searched={"learning_rate": _RATE, "angle": (25.0, 60.0)},
        **_PAIRS,
    ),
    "n_pairs_angular": Arm(
        "n_pairs_angular",
        numbers={
            "learning_rate": 1e-3,
            "angle": 45.0,
            "angular_weight": 2.0,
            "scale": 10.0,
        },
        searched={
            "learning_rate": _RATE,
            "angular_weight": (0.1, 4.0),
            "scale": (1.0, 40.0),
        },
        **_PAIRS,
    ),
}
"""The losses of the survey with 64 rows a batch. Pairs losses see 32 classes of two,
batch-hard and easy-positive mining 16 of four, as their papers ask for more rows."""


def _reshaped(classes: int, per_class: int) -> dict[str, Arm]:
    return {
        name: dataclasses.replace(arm, classes=classes, per_class=per_class)
        for name, arm in ARMS.items()
    }


def _some(*names: str, **settings: Any) -> dict[str, Arm]:
    return {name: dataclasses.replace(ARMS[name], **settings) for name in names}


def _mining_arms(
    sizes: tuple[int, ...], lengths: tuple[bool, ...] = (True, False)
) -> Mapping[str, Arm]:
    rules = {
        "random": _triplet(selection="random_negatives"),
        "all": _triplet(selection="all_negatives"),
        "semi_hard": _triplet(selection="semi_hard"),
        "hard": _hard(),
    }
    return {
        f"{rule}-{size}-{'unit' if unit else 'free'}": dataclasses.replace(
            arm, classes=size // 4, per_class=4, normalize=unit
        )
        for rule, arm in rules.items()
        for size in sizes
        for unit in lengths
    }


def _class_arms(classes: int, batches: tuple[int, ...]) -> Mapping[str, Arm]:
    arms = {}
    for count in batches:
        for repeats in ("never", "blind", "aware"):
            if repeats != "never" or count <= classes:
                arms[f"{repeats}-{count}"] = dataclasses.replace(
                    ARMS["n_pairs"],
                    classes=count,
                    repeats=repeats,
                    options={"negatives": "positives"},
                    searched={},
                )
    return arms


def _sampling_arms() -> Mapping[str, Arm]:
    rate = {"learning_rate": 1e-3}
    losses = {
        "contrastive": Arm("contrastive", numbers={**rate, "margin": 1.0}),
        "triplet": Arm("triplet", numbers={**rate, "margin": 0.2}),
        "multi_similarity": Arm("multi_similarity", numbers=rate),
        "n_pairs": Arm(
            "n_pairs", options={"negatives": "all"}, numbers={**rate, "scale": 10.0}
        ),
    }
    miners: dict[str, tuple[str, dict[str, object]]] = {
        "all": ("all_pairs", {}),
        "random": ("random_pairs", {"positives": 1, "negatives": 1}),
        "hardest": ("hardest", {}),
        "semi_hard": ("easy_hard", {"positive": "hardest", "negative": "semi_hard"}),
    }
    return {
        f"{loss}-{name}": dataclasses.replace(
            arm,
            miner=miner,
            miner_options=options,
            reduction="mean_active",
            **_GROUPS,
        )
        for loss, arm in losses.items()
        for name, (miner, options) in miners.items()
    }


def _spreads() -> Bench:
    bench = drawn()
    settings = {**bench.settings, "spread": 0.15, "spread_ratio": 4.0, "modes": 1}
    return dataclasses.replace(bench, name="modes-spreads", settings=settings)


def _wide(dim: int) -> Bench:
    bench = drawn()
    layers = (*bench.layers[:-1], dim)
    return dataclasses.replace(bench, name=f"modes-dim-{dim}", layers=layers)


_RATES = tuple(float(f"{x:.3g}") for x in np.geomspace(1e-4, 1e-1, 7))
_ANGLES = (20.0, 25.0, 30.0, 36.0, 40.0, 45.0, 50.0, 55.0, 60.0)
_OPTIMIZERS: tuple[tuple[str, Any, Any, float], ...] = (
    ("modes", drawn, "adam", 1e-3),
    ("modes", drawn, "sgd", 1e-2),
    ("glyphs", glyphs, "adam", 1e-3),
)

_ON_DIGITS = (
    "triplet_random",
    "triplet_all",
    "triplet_semi_hard",
    "triplet_hard",
    "n_pairs",
    "angular",
    "n_pairs_angular",
)

_ALL = [
    Study("losses-modes", drawn, ARMS, 6),
    Study("losses-glyphs", glyphs, ARMS, 8),
    Study("losses-cases", functools.partial(glyphs, "modes"), ARMS, 8),
    Study(
        "losses-digits",
        digits,
        {k: v for k, v in _reshaped(5, 12).items() if k in _ON_DIGITS},
        7,
    ),
    Study(
        "variation-modes",
        drawn,
        _some(
            "triplet_hard",
            "triplet_hard_pairs",
            "triplet_easy_positive",
            "n_pairs",
            "angular",
        ),
        8,
        settings={"modes": (1, 2, 4, 8), "spread": (0.2, 0.5)},
        trials=6,
        curves=(),
    ),
    *(
        Study(
            f"stability-{name}",
            bench,
            _mining_arms(sizes),
            budget,
            grid={"learning_rate": _RATES},
            trials=0,
            steps=400,
            curves=(),
        )
        for name, bench, sizes, budget in (
            ("modes", drawn, (8, 16, 64), 9),
            ("glyphs", glyphs, (16,), 3),
        )
    ),
    *(
        Study(
            f"noise-{name}",
            bench,
            _mining_arms((64,), (True,)),
            7,
            settings={"noise": (0.0, 0.1, 0.3)},
            grid={"learning_rate": _RATES[1:6]},
            trials=0,
            curves=(),
        )
        for name, bench in (("modes", drawn), ("glyphs", glyphs))
    ),
    *(
        Study(
            f"classes-modes-{classes}",
            functools.partial(drawn, classes),
            _class_arms(classes, batches),
            1,
            trials=0,
            curves=("recall", "loss"),
        )
        for classes, batches in (
            (10, (8, 64)),
            (20, (16, 64)),
            (50, (32, 64)),
            (100, (64,)),
        )
    ),
    *(
        Study(
            f"classes-glyphs-{classes}",
            functools.partial(glyphs, classes=classes),
            _class_arms(classes, (16, 64)),
            1,
            trials=0,
            curves=("recall", "loss"),
        )
        for classes in (20, 50)
    ),
    *(
        Study(
            f"shapes-{name}",
            bench,
            {
                f"{classes}x{128 // classes}": dataclasses.replace(
                    ARMS["n_pairs"],
                    classes=classes,
                    per_class=128 // classes,
                    searched={"learning_rate": _RATE},
                )
                for classes in (64, 32, 16)
            },
            2,
            trials=6,
            curves=("recall",),
        )
        for name, bench in (("modes", drawn), ("glyphs", glyphs))
    ),
    *(
        Study(
            f"norms-{name}-{optimizer}",
            bench,
            {
                "lengths": dataclasses.replace(
                    ARMS["n_pairs_lengths"],
                    optimizer=optimizer,
                    numbers={"learning_rate": rate, "l2_weight": 0.0},
                ),
                "normalized": dataclasses.replace(
                    ARMS["n_pairs"],
                    optimizer=optimizer,
                    numbers={"learning_rate": rate, "scale": 10.0, "l2_weight": 0.0},
                ),
            },
            2,
            grid={"l2_weight": (0.0, 5e-4, 5e-3, 5e-2)},
            trials=0,
            steps=1200,
            every=50,
            curves=("recall", "norm", "loss"),
        )
        for name, bench, optimizer, rate in _OPTIMIZERS
    ),
    *(
        Study(
            f"directions-{name}",
            bench,
            _some("triplet_all", "angular", "n_pairs", **_GROUPS),
            1,
            trials=0,
            curves=("recall", *probes.DIRECTIONS),
            probe=probes.directions,
        )
        for name, bench in (
            ("modes-2", functools.partial(_wide, 2)),
            ("modes-16", functools.partial(_wide, 16)),
            ("modes-64", functools.partial(_wide, 64)),
            ("glyphs", glyphs),
        )
    ),
    *(
        Study(
            f"spreads-{name}",
            bench,
            _some(
                "triplet_all", "triplet_semi_hard", "triplet_hard", "angular", "n_pairs"
            ),
            4,
            curves=("recall", *probes.SHARES),
            probe=probes.shares,
        )
        for name, bench in (("modes", _spreads), ("glyphs", glyphs))
    ),
    *(
        Study(
            f"sampling-{name}",
            bench,
            _sampling_arms(),
            7,
            grid={"learning_rate": _RATES[2:5]},
            trials=0,
            curves=(),
        )
        for name, bench in (("modes", drawn), ("glyphs", glyphs))
    ),
    *(
        Study(
            f"angles-{name}",
            bench,
            {
                "angular": dataclasses.replace(
                    ARMS["angular"], searched={"learning_rate": _RATE}
                ),
                "n_pairs_angular": dataclasses.replace(
                    ARMS["n_pairs_angular"], searched={"learning_rate": _RATE}
                ),
            },
            4,
            grid={"angle": _ANGLES},
            trials=6,
            curves=("recall", "rank"),
        )
        for name, bench in (("modes", drawn), ("glyphs", glyphs))
    ),
    *(
        Study(
            f"weights-{name}",
            bench,
            {
                "n_pairs_angular": dataclasses.replace(
                    ARMS["n_pairs_angular"], searched={"learning_rate": _RATE}
                ),
            },
            2,
            grid={"angular_weight": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)},
            trials=6,
            curves=("recall",),
        )
        for name, bench in (("modes", drawn), ("glyphs", glyphs))
    ),
]

STUDIES: dict[str, Study] = {study.name: study for study in _ALL}
