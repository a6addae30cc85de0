"""ImageNet's weights on other images: what two to three minutes of CPU time bring.

python -m experiments.bench.frozen --weights FILE.pth --photos FOLDER \
    --manual-dir DIR --json experiments/results/frozen.json

EfficientNet-Lite0 as it is, with a linear head on its frozen features, fine-tuned, and
a small network from random weights. The rows have the CPU time that each took, with
evaluation and report. Photos are in one folder per class; DIR has the
archives of omniglot_small. What the JSON file has already is not done again.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.bench.output import Row, save, to_write
from experiments.children import run_module

MODEL = "efficientnet_lite0"
# Pixels of a side, views of each image for the head, steps of fine-tuning, and steps
# from random weights: each way then takes about as long.
PLANS = {"photos": (96, 16, 20, 2000), "omniglot_small": (64, 4, 40, 1100)}


class _Data:
    """A data set, and what each way of using weights makes of it."""

    def __init__(self, what: str, options: argparse.Namespace, place: Path) -> None:
        size, views, tuned, scratch = PLANS[what]
        dataset = f"folder:{options.photos}" if what == "photos" else what
        images = ["--dataset", dataset, "--manual-dir", options.manual_dir]
        self.what, self._place = what, place / what
        self._json: Path = options.json
        backbone = ["--model", MODEL, "--weights", options.weights]
        plain, features = self._place / "plain.npz", self._place / "views.npz"
        self._plain, self._embedded = (
            run_module(
                *("experiments.embed", *backbone, *images, "--image-size", size),
                *("--views", number, "--out", file),
            )
            for number, file in ((0, plain), (views, features))
        )
        fine_tune = ["fine_tune_lite0", *images, "--weights", options.weights]
        self._arms = {
            "head": ["frozen_head", "--dataset", f"features:{features}"],
            "fine-tuned": [*fine_tune, "--image-size", size, "--steps", tuned],
            "random": ["omniglot_small", *images, "--steps", scratch],
        }

    def measure(self, seed: int) -> None:
        """Adds the rows of a seed to the file, each when it is there."""
        for arm, words in self._arms.items():
            rows: list[Row] = json.loads(self._json.read_text())
            key = {"data": self.what, "arm": arm, "seed": seed}
            if any(key.items() <= row.items() for row in rows):
                continue
            run = self._place / f"{arm}-{seed}"
            last = ["--seed", seed, "--eval-every", 10_000, "--run-dir", run]
            seconds = run_module("experiments.train", *words, *last)
            found = json.loads((run / "summary.json").read_text())
            if arm == "head":
                seconds += self._embedded
                unchanged = _figures(found["features"], self._plain)
                rows.append(key | {"arm": "zero-shot"} | unchanged)
            rows.append(key | _figures(found["test"], seconds))
            save(self._json, rows)


def _figures(found: dict[str, float], seconds: float) -> Row:
    figures = {key: round(found[key], 4) for key in ("recall_at_1", "map_at_r")}
    return figures | {"cpu_minutes": round(seconds / 60, 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("weights", "photos", "manual-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--json", type=to_write, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    if not options.json.exists():
        save(options.json, [])
    with tempfile.TemporaryDirectory() as place:
        data = [_Data(what, options, Path(place)) for what in PLANS]
        for seed in range(options.seeds):
            for each in data:
                each.measure(seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
