"""The survey's losses side by side on characters that training never saw.

python -m experiments.compare [NAME ...] [--dataset LEVEL] [--quick] [--json FILE]

Trains every `glyphs` experiment, or those named, with three seeds, one after the other,
and prints the mean and standard deviation over seeds of the figures on the test
classes. Runs that are finished are not trained again. `--dataset glyphs/modes` has both
cases of a letter as one class, for example. `--quick` trains for a third of the steps.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.bench.output import to_write
from experiments.config import EXPERIMENTS
from experiments.train import default_run_dir, run
from experiments.training.loop import Interrupted
from rankjax.errors import RunError, unknown_name
from rankjax.files import write_atomic

SEEDS = (0, 1, 2)
FIGURES = ("recall_at_1", "map_at_r", "r_precision", "nmi")
QUICK_STEPS = 500


def compare(
    names: Sequence[str], *, quick: bool, data_dir: Path, dataset: str | None = None
) -> list[dict[str, object]]:
    """Runs all that is not yet run; one row per experiment, and two for baselines."""
    rows = []
    baselines: dict[str, list[dict[str, float]]] = {"raw_pixels": [], "untrained": []}
    for name in names:
        results = []
        for seed in SEEDS:
            config = EXPERIMENTS[name]().replace(seed=seed, data_dir=data_dir)
            if dataset is not None:
                config = config.replace(dataset=dataset)
            if quick:
                config = config.replace(steps=QUICK_STEPS, eval_every=QUICK_STEPS)
            file = default_run_dir(name, config) / "summary.json"
            if not file.exists():
                steps = config.optimizer.steps
                print(f"trains {name}, seed {seed}, {steps:,} steps", file=sys.stderr)
                try:
                    run(name, config)
                except RunError as error:  # a collapse is a result, too
                    print(f"{name}, seed {seed}: {error}", file=sys.stderr)
                    continue
            summary = json.loads(file.read_text())
            results.append(summary["test"])
            for who, collected in baselines.items():
                collected.append(summary[who])
        rows.append(_row(name, results))
    return [*rows, *(_row(who, results) for who, results in baselines.items())]


def table(rows: Sequence[dict[str, object]]) -> str:
    """The rows as Markdown, the best Recall@1 first."""
    pixels = next(row for row in rows if row["name"] == "raw_pixels")
    lines = [
        "| experiment | seeds | errors removed | " + " | ".join(FIGURES) + " |",
        "|---|---|---|" + "---|" * len(FIGURES),
    ]
    for row in sorted(rows, key=lambda row: -_mean(row, "recall_at_1")):
        removed = 1 - (1 - _mean(row, "recall_at_1")) / (
            1 - _mean(pixels, "recall_at_1")
        )
        figures = [
            f"{_mean(row, f):.3f} ± {row[f'{f}_sd']:.3f}" if f in row else ""
            for f in FIGURES
        ]
        lines.append(
            f"| {row['name']} | {row['seeds']} | {removed:.0%} | "
            + " | ".join(figures)
            + " |"
        )
    return "\n".join(lines)


def _row(name: str, results: Sequence[dict[str, float]]) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "seeds": len(results)}
    for figure in FIGURES:
        values = [result[figure] for result in results if figure in result]
        if results and not values:
            continue
        row[figure] = statistics.mean(values) if values else 0.0
        row[f"{figure}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return row


def _mean(row: dict[str, object], figure: str) -> float:
    value = row[figure]
    assert isinstance(value, float)
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [name for name in EXPERIMENTS if name.startswith("glyphs")]
    parser.add_argument("names", nargs="*", metavar="NAME", help="all if none")
    parser.add_argument("--dataset", help="instead of the experiments' own")
    parser.add_argument("--quick", action="store_true", help="a third of the steps")
    parser.add_argument(
        "--json", type=to_write, help="also write the rows to this file"
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path("~/.cache/rankjax"), help="of data sets"
    )
    options = parser.parse_intermixed_args(arguments)
    for name in set(options.names) - set(known):
        parser.error(str(unknown_name("experiment", name, known)))
    try:
        rows = compare(
            options.names or known,
            quick=options.quick,
            data_dir=options.data_dir,
            dataset=options.dataset,
        )
    except Interrupted as error:
        print(f"{error}; run again to go on", file=sys.stderr)
        return 130
    print(table(rows))
    if options.json:
        write_atomic(options.json, json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
