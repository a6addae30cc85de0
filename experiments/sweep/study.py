"""A sweep: arms on a bench, searched alike, then trained with many seeds."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from experiments.sweep import records
from experiments.sweep.arms import Arm
from experiments.sweep.benches import Bench
from experiments.sweep.training import Cell, Outcome, Probe, train

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
      curves: figures whose curves are kept; all that there are by default. The mean of
        each over evaluations is kept in any case.
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
    curves: Sequence[str] | None = None
    probe: Probe | None = None


def run(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """Trains what the study's file in the folder does not have yet."""
    bench = study.bench()
    path = folder / f"{study.name}.json"
    arms = {k: v for k, v in records.stored(path).items() if k in study.arms}
    about = {
        "name": study.name,
        "bench": bench.name,
        "about": bench.about,
        "bench_settings": dict(bench.settings),
        "layers": list(bench.layers),
        "steps": study.steps,
        "every": study.every,
        "trials": study.trials,
        "search_seeds": len(SEARCH_SEEDS),
        "seeds": list(study.seeds),
    }
    for name, arm in study.arms.items():
        settings = dataclasses.asdict(arm)
        digest = records.digest(about, study.settings, study.grid, settings)
        if arms.get(name, {}).get("digest") == digest:
            continue
        start = time.perf_counter()
        arms[name] = {"digest": digest, **_record(study, bench, arm)}
        ordered = {key: arms[key] for key in study.arms if key in arms}
        records.save(path, about, ordered)
        recall = np.mean(arms[name]["final"]["recall_at_1"])
        say(
            f"{study.name} {name}: Recall@1 {recall:.3f} over all cells, "
            f"{time.perf_counter() - start:.0f} s"
        )


def _record(study: Study, bench: Bench, arm: Arm) -> dict[str, Any]:
    def trained(cells: Sequence[Cell]) -> Outcome:
        return train(
            bench,
            arm,
            cells,
            steps=study.steps,
            every=study.every,
            probe=study.probe,
        )

    places = _combinations(study.settings)
    trials = _trials(arm, study.trials)
    chosen: list[dict[str, float]] = [{} for _ in places]
    tried = []
    if trials:
        cells = [
            {"seed": seed, **place, **trial}
            for place in places
            for trial in trials
            for seed in SEARCH_SEEDS
        ]
        recall = trained(cells).curves["recall"][:, -1]
        recall = recall.reshape(len(places), len(trials), -1).mean(-1)
        for i, place in enumerate(places):
            tried += [
                {**place, **trial, "recall": float(value)}
                for trial, value in zip(trials, recall[i], strict=True)
            ]
            chosen[i] = trials[int(np.argmax(recall[i]))]
    cells = [
        {"seed": seed, **place, **found, **point}
        for place, found in zip(places, chosen, strict=True)
        for point in _combinations(study.grid)
        for seed in study.seeds
    ]
    outcome = trained(cells)
    kept = outcome.curves if study.curves is None else study.curves
    means = {f"mean_{k}": v.mean(-1) for k, v in outcome.curves.items()}
    last = {f"last_{k}": v[:, -1] for k, v in outcome.curves.items()}
    return {
        "settings": dataclasses.asdict(arm),
        "chosen": [{**p, **c} for p, c in zip(places, chosen, strict=True)],
        "trials": tried,
        "cells": {name: [cell[name] for cell in cells] for name in cells[0]},
        "final": records.rounded({**outcome.final, **means, **last}),
        "curves": records.rounded({name: outcome.curves[name] for name in kept}),
        "seconds": outcome.seconds,
    }


def _combinations(axes: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    return [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*axes.values())
    ]


def _trials(arm: Arm, count: int) -> list[dict[str, float]]:
    """Points of the arm's box, evenly spread (Sobol), the same in every run."""
    if not (count and arm.searched):
        return []
    points = qmc.Sobol(len(arm.searched), rng=0).random(
        2 ** int(np.ceil(np.log2(count)))
    )
    names, bounds = zip(*arm.searched.items(), strict=True)
    trials = []
    for point in points[:count]:
        values = [
            low * (high / low) ** x if low > 0 else low + x * (high - low)
            for x, (low, high) in zip(point, bounds, strict=True)
        ]
        trials.append(dict(zip(names, map(float, values), strict=True)))
    return trials
