"""Small honest comparisons: many seeds and settings of a loss trained at once.

python -m experiments.study.sweep [NAME ...] [--out DIR]

Without a name, lists the sweeps and the CPU minutes that each takes. What a result file
has already is not trained again, so a sweep that was stopped goes on where it was.
"""

import argparse
import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from experiments.study import records
from experiments.study.benches import Bench
from experiments.study.studies import SEARCH_SEEDS, STUDIES, Study
from experiments.study.training import Arm, Cell, Outcome, train
from rankjax.errors import RunError, UsageError, unknown_name


def run(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """Trains what the study's file in the folder does not have yet."""
    bench = study.bench()
    path = folder / f"{study.name}.json"
    arms = {k: v for k, v in records.stored(path).items() if k in study.arms}
    about = described(study, bench)
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


def described(study: Study, bench: Bench) -> dict[str, Any]:
    """What a file tells of its study, and a digest is made from."""
    return {
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
    final = dict(outcome.final)
    for curve, values in outcome.curves.items():
        final |= {f"mean_{curve}": values.mean(-1), f"last_{curve}": values[:, -1]}
    return {
        "settings": dataclasses.asdict(arm),
        "chosen": [{**p, **c} for p, c in zip(places, chosen, strict=True)],
        "trials": tried,
        "cells": {name: [cell[name] for cell in cells] for name in cells[0]},
        "final": records.rounded({k: final[k] for k in ("recall_at_1", *study.final)}),
        "curves": records.rounded(
            {name: outcome.curves[name] for name in study.curves}
        ),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="or all")
    parser.add_argument(
        "--out", type=Path, default=records.RESULTS, help="folder of results"
    )
    options = parser.parse_intermixed_args(arguments)
    names = list(STUDIES) if options.names == ["all"] else options.names
    try:
        studies = [_named(name) for name in names]
        for study in studies:
            print(f"{study.name}: about {study.budget:g} CPU minutes", flush=True)
            run(study, options.out, functools.partial(print, flush=True))
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not studies:
        for study in STUDIES.values():
            arms = f"{len(study.arms)} arms, {len(study.seeds)} seeds"
            print(f"{study.name:24} {study.budget:4g} CPU minutes, {arms}")
    return 0


def _named(name: str) -> Study:
    if name not in STUDIES:
        raise unknown_name("sweep", name, [*STUDIES])
    return STUDIES[name]


if __name__ == "__main__":
    sys.exit(main())
