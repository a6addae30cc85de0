"""The sweeps by name, with the CPU minutes that each takes."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.study.benches import Bench, digits, drawn, glyphs
from experiments.study.measures import DIRECTIONS, directions, shares
from experiments.study.training import Arm, Probe

SEARCH_SEEDS = tuple(range(4))
SEEDS = tuple(range(100, 124))
"""Never used in a search."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What is trained.

    For every combination of `settings` and every arm: `trials` points of the arm's
    `searched` box, the same number for all arms, are trained with four seeds each, and
    the one of the best mean Recall@1 on the validation classes after the last step is
    kept. Then every combination of `grid` is trained with every seed, and the test
    classes are looked at once.

    Attributes:
      name: of the file.
      bench: makes the bench; it is called when the study runs.
      arms: by name.
      budget: CPU minutes that it takes, about.
      settings: bench settings by name, each with its values.
      grid: numbers of arms by name, each with its values.
      trials: of the search; 0 for none.
      seeds: of the final runs.
      steps: of training.
      every: steps between evaluations.
      final: figures that are kept of the test classes besides Recall@1; `mean_` and
        `last_` before the name of a curve are its mean over evaluations and its last.
      curves: figures whose curves are kept.
      probe: see `training.Probe`.
    """

    name: str
    bench: Callable[[], Bench]
    arms: Mapping[str, Arm]
    budget: float
    settings: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    grid: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    trials: int = 12
    seeds: Sequence[int] = SEEDS
    steps: int = 600
    every: int = 25
    final: Sequence[str] = ()
    curves: Sequence[str] = ()
    probe: Probe | None = None


_RATE = (1e-4, 3e-2)
_PAIRS: dict[str, Any] = {"classes": 32, "per_class": 2}
_GROUPS: dict[str, Any] = {"classes": 16, "per_class": 4}


def _arm(loss: str, searched: Mapping[str, Any], **settings: Any) -> Arm:
    """An arm whose learning rate is searched, and the numbers that are named.

    Args:
      loss: of the arm.
      searched: by number, what it is where it is not searched, and the range; no range
        for one that never is.
      settings: of the arm.
    """
    found = {name: value for name, value in searched.items() if len(value) == 3}
    return Arm(
        loss,
        numbers={"learning_rate": 1e-3} | {k: v[0] for k, v in searched.items()},
        searched={"learning_rate": _RATE} | {k: v[1:] for k, v in found.items()},
        **settings,
    )


_MARGIN, _SCALE = {"margin": (0.2, 0.05, 1.0)}, {"scale": (10.0, 1.0, 40.0)}
_triplet = functools.partial(_arm, "triplet", _MARGIN, reduction="mean_active")
_hard = functools.partial(_arm, "batch_hard_triplet", _MARGIN)
_RULES = {
    "random": _triplet(selection="random_negatives"),
    "all": _triplet(selection="all_negatives"),
    "semi_hard": _triplet(selection="semi_hard"),
    "hard": _hard(),
}

ARMS: dict[str, Arm] = {
    "contrastive": _arm("contrastive", {"margin": (1.0, 0.2, 1.4)}, **_PAIRS),
    "triplet_random": _triplet(selection="random_negatives", **_PAIRS),
    "triplet_all": _triplet(selection="all_negatives", **_PAIRS),
    "triplet_semi_hard": _triplet(selection="semi_hard", **_PAIRS),
    "triplet_hard": _hard(**_GROUPS),
    "triplet_hard_pairs": _hard(**_PAIRS),
    "triplet_easy_positive": _triplet(
        selection="semi_hard", miner="easy_positive", **_GROUPS
    ),
    "n_pairs_ovo": _arm("n_pairs_ovo", _SCALE, **_PAIRS),
    "n_pairs": _arm("n_pairs", _SCALE, **_PAIRS),
    "n_pairs_lengths": _arm(
        "n_pairs", {"l2_weight": (0.02, 1e-4, 0.1)}, normalize=False, **_PAIRS
    ),
    "angular": _arm("angular", {"angle": (45.0, 25.0, 60.0)}, **_PAIRS),
    "n_pairs_angular": _arm(
        "n_pairs_angular",
        {"angle": (45.0,), "angular_weight": (2.0, 0.1, 4.0), **_SCALE},
        **_PAIRS,
    ),
}
"""The losses of the survey with 64 rows a batch. Pairs losses see 32 classes of two,
batch-hard and easy-positive mining 16 of four, as their papers ask for more rows."""


def _some(*names: str, **settings: Any) -> dict[str, Arm]:
    return {name: dataclasses.replace(ARMS[name], **settings) for name in names}


def _rate_alone(*names: str) -> dict[str, Arm]:
    return _some(*names, searched={"learning_rate": _RATE})


def _mining_arms(
    sizes: Sequence[int], lengths: Sequence[str] = ("unit", "free")
) -> dict[str, Arm]:
    return {
        f"{rule}-{size}-{length}": dataclasses.replace(
            arm, classes=size // 4, per_class=4, normalize=length == "unit"
        )
        for rule, arm in _RULES.items()
        for size in sizes
        for length in lengths
    }


def _class_arms(classes: int, batches: Sequence[int]) -> dict[str, Arm]:
    plain = dataclasses.replace(
        ARMS["n_pairs"], options={"negatives": "positives"}, searched={}
    )
    return {
        f"{repeats}-{count}": dataclasses.replace(plain, classes=count, repeats=repeats)
        for count in batches
        for repeats in ("never", "blind", "aware")
        if repeats != "never" or count <= classes
    }


def _shape_arms() -> dict[str, Arm]:
    arm = _rate_alone("n_pairs")["n_pairs"]
    return {
        f"{n}x{128 // n}": dataclasses.replace(arm, classes=n, per_class=128 // n)
        for n in (64, 32, 16)
    }


def _norm_arms(optimizer: str, rate: float) -> dict[str, Arm]:
    return {
        "lengths": dataclasses.replace(
            ARMS["n_pairs_lengths"],
            optimizer=optimizer,  # type: ignore[arg-type]
            numbers={"learning_rate": rate, "l2_weight": 0.0},
        ),
        "normalized": dataclasses.replace(
            ARMS["n_pairs"],
            optimizer=optimizer,  # type: ignore[arg-type]
            numbers={"learning_rate": rate, "scale": 10.0, "l2_weight": 0.0},
        ),
    }


def _sampling_arms() -> dict[str, Arm]:
    losses: dict[str, dict[str, Any]] = {
        "contrastive": {"numbers": {"margin": 1.0}},
        "triplet": {"numbers": {"margin": 0.2}},
        "multi_similarity": {"numbers": {}},
        "n_pairs": {"numbers": {"scale": 10.0}, "options": {"negatives": "all"}},
    }
    miners: dict[str, tuple[str, dict[str, Any]]] = {
        "all": ("all_pairs", {}),
        "random": ("random_pairs", {"positives": 1, "negatives": 1}),
        "hardest": ("hardest", {}),
        "semi_hard": ("easy_hard", {"positive": "hardest", "negative": "semi_hard"}),
    }
    return {
        f"{loss}-{name}": Arm(
            loss,
            numbers={"learning_rate": 1e-3, **settings["numbers"]},
            options=settings.get("options", {}),
            miner=miner,
            miner_options=options,
            reduction="mean_active",
            **_GROUPS,
        )
        for loss, settings in losses.items()
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
_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_BOTH: dict[str, Callable[..., Bench]] = {"modes": drawn, "glyphs": glyphs}
_TRIPLETS = ("triplet_random", "triplet_all", "triplet_semi_hard", "triplet_hard")
_SURVEY = (*_TRIPLETS, "n_pairs", "angular", "n_pairs_angular")
_SPREAD = (*_TRIPLETS[1:], "angular", "n_pairs")
_HARD = ("triplet_hard", "triplet_hard_pairs", "triplet_easy_positive")
_VARIATION = (*_HARD, "n_pairs", "angular")


def losses_study(
    name: str, bench: Callable[[], Bench], budget: float, *curves: str
) -> Study:
    """All losses on a bench."""
    final = ("map_at_r", "mean_recall", "rank")
    return Study(name, bench, ARMS, budget, final=final, curves=("recall", *curves))


def _on(
    benches: Mapping[str, Callable[[], Bench]],
    name: str,
    arms: Mapping[str, Arm],
    budget: float,
    **settings: Any,
) -> list[Study]:
    """The same on several benches, which are named by the ends of their studies."""
    return [
        Study(f"{name}-{end}", bench, arms, budget, **settings)
        for end, bench in benches.items()
    ]


def _stability(name: str, sizes: Sequence[int], budget: float) -> Study:
    arms, grid = _mining_arms(sizes), {"learning_rate": _RATES}
    final = ("last_recall", "rank", "raw")
    settings: dict[str, Any] = {"trials": 0, "grid": grid, "final": final}
    return Study(f"stability-{name}", _BOTH[name], arms, budget, steps=400, **settings)


def _classes(name: str, classes: int, *batches: int) -> Study:
    bench = functools.partial(_BOTH[name], classes=classes)
    arms, name = _class_arms(classes, batches), f"classes-{name}-{classes}"
    return Study(name, bench, arms, 1, trials=0, final=("last_loss",))


def _norms(name: str, optimizer: str, rate: float) -> Study:
    return Study(
        f"norms-{name}-{optimizer}",
        _BOTH[name],
        _norm_arms(optimizer, rate),
        2,
        grid={"l2_weight": (0.0, 5e-4, 5e-3, 5e-2)},
        trials=0,
        steps=1200,
        every=50,
        final=("last_norm", "last_recall"),
        curves=("norm",),
    )


def _directions(name: str, bench: Callable[[], Bench], *curves: str) -> Study:
    arms = _some("triplet_all", "angular", "n_pairs", **_GROUPS)
    final = [f"mean_{figure}" for figure in DIRECTIONS]
    settings: dict[str, Any] = {"curves": curves, "probe": directions, "trials": 0}
    return Study(f"directions-{name}", bench, arms, 1, final=final, **settings)


_ALL = [
    losses_study("losses-modes", drawn, 6, "loss", "n_way", "one_way"),
    losses_study("losses-glyphs", glyphs, 8),
    *_on(
        {"cases": functools.partial(glyphs, "modes")},
        *("losses", ARMS, 8),
        final=("map_at_r",),
    ),
    *_on(
        {"digits": digits},
        *("losses", _some(*_SURVEY, classes=5, per_class=12), 7),
        final=("map_at_r",),
        curves=("recall",),
    ),
    *_on(
        {"modes": drawn},
        *("variation", _some(*_VARIATION), 8),
        settings={"modes": (1, 2, 4, 8), "spread": (0.2, 0.5)},
        trials=6,
        final=("mode_recall",),
    ),
    _stability("modes", (8, 16, 64), 9),
    _stability("glyphs", (16,), 3),
    *_on(
        _BOTH,
        *("noise", _mining_arms((64,), ("unit",)), 7),
        settings={"noise": (0.0, 0.1, 0.3)},
        grid={"learning_rate": _RATES[1:6]},
        trials=0,
        final=("last_loss", "last_recall", "mean_recall", "rank", "raw"),
    ),
    _classes("modes", 10, 8, 64),
    _classes("modes", 20, 16, 64),
    _classes("modes", 50, 32, 64),
    _classes("modes", 100, 64),
    _classes("glyphs", 20, 16, 64),
    _classes("glyphs", 50, 16, 64),
    *_on(_BOTH, "shapes", _shape_arms(), 2, trials=6),
    _norms("modes", "adam", 1e-3),
    _norms("modes", "sgd", 1e-2),
    _norms("glyphs", "adam", 1e-3),
    _directions("modes-2", functools.partial(_wide, 2), *DIRECTIONS),
    _directions("modes-16", functools.partial(_wide, 16), *DIRECTIONS),
    _directions("modes-64", functools.partial(_wide, 64)),
    _directions("glyphs", glyphs),
    *_on(
        {"modes": _spreads, "glyphs": glyphs},
        *("spreads", _some(*_SPREAD), 4),
        final=("mean_wide_gradient", "recall_0", "recall_1"),
        curves=("wide_gradient",),
        probe=shares,
    ),
    *_on(
        _BOTH,
        *("sampling", _sampling_arms(), 7),
        grid={"learning_rate": _RATES[2:5]},
        trials=0,
        final=("last_recall",),
    ),
    *_on(
        _BOTH,
        *("angles", _rate_alone("angular", "n_pairs_angular"), 4),
        grid={"angle": _ANGLES},
        trials=6,
        final=("last_rank",),
    ),
    *_on(
        _BOTH,
        *("weights", _rate_alone("n_pairs_angular"), 2),
        grid={"angular_weight": _WEIGHTS},
        trials=6,
    ),
]

STUDIES: dict[str, Study] = {study.name: study for study in _ALL}
