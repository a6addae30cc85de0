"""The same training in rankjax and in PyTorch with pytorch-metric-learning.

python -m experiments.bench.peer_training --peer PYTHON
    --json experiments/results/peer-training.json [--manual-dir DIR]

PYTHON is an interpreter with torch, pytorch-metric-learning 2.9.0 and numpy. Both train
the small network from weights of the same distribution, with AdamW and the same
learning rates, on the same augmented batches, which are drawn once and handed to both
as arrays. Each run is a process of its own, rankjax's and PyTorch's in turn; threads
of OpenMP sleep while they wait, so that their CPU time is work. Printed are, means
over seeds:

    Recall@1     on the test classes, counted by `rankjax.metrics`
    step         CPU time of a step, all threads, of the fastest twenty in a row
    images/s     of the fastest twenty by the clock
    first step   CPU time from the start of the process until the first loss is there:
                 imports, initial weights, compiling; then once more with programs that
                 an earlier process compiled
    run          CPU time of the whole process, which embeds the test images as well
    peak         memory of the process at most, with its batches

omniglot_small takes part where DIR has its archives. What the JSON file has already is
not done again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench.output import Row, save, show, to_write
from experiments.bench.peer import ROOT
from experiments.bench.peer_arms import ARMS, LOG_EVERY
from experiments.children import ends_with_us
from experiments.config import Config
from experiments.training.choices import build_augmentation, build_batches
from experiments.training.images import load_data
from experiments.training.optimizer import build_schedule
from rankjax import metrics
from rankjax.data import Loader

_TRIPLETS = {"loss": "triplet", "similarity": "cosine", "reduction": "mean_active"}
_FOURS = {"classes": 32, "per_class": 4}
LOSSES: dict[str, dict[str, Any]] = {
    "nt_xent": {"loss": "nt_xent", "loss_options": ["temperature=0.0625"]},
    "multi_similarity": {"loss": "multi_similarity"} | _FOURS,
    "semi_hard": _TRIPLETS
    | {"loss_options": ["margin=0.3", "selection=semi_hard"]}
    | _FOURS,
    "proxy_anchor": {"loss": "proxy_anchor", "proxies_per_class": 1} | _FOURS,
}
"""Settings of `experiments.train`; pytorch-metric-learning's are in `peer_arms`."""

DATA = ("glyphs", "omniglot_small")
MEASURED = {
    "recall_at_1": ".3f",
    "step_cpu_ms": ".1f",
    "images_per_s": ",.0f",
    "first_step_cpu_s": ".1f",
    "first_step_again_cpu_s": ".1f",
    "total_cpu_s": ".1f",
    "peak_mb": ",.0f",
}


class Work:
    """Jobs in a folder, each of one data set and one seed."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        """`place` is a folder for what the two libraries share."""
        self._options, self._place = options, place
        self._python = {"rankjax": sys.executable, "pytorch": options.peer}

    def draw(self, data: str, loss: str, seed: int) -> tuple[Path, np.ndarray]:
        """Writes a job: settings, batches and test images; returns test labels too."""
        options = self._options
        config = Config().replace(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in LOSSES[loss].items()
            },
            dataset=data,
            seed=seed,
            steps=options.steps,
            learning_rate=2e-3,
            data_dir=options.data_dir,
            manual_dir=options.manual_dir,
        )
        found = load_data(config.data, seed)
        settings = LOSSES[loss] | {
            "seed": seed,
            "steps": options.steps,
            "learning_rate": config.optimizer.learning_rate,
            "proxy_learning_rate": config.loss.proxy_learning_rate,
        }
        schedule = build_schedule(config.optimizer)
        job = {
            "loss": loss,
            "settings": settings,
            "classes": len(found.train.class_names),
            "shape": found.train.images.shape,
            "dim": config.model.embedding_dim,
            "weight_decay": config.optimizer.weight_decay,
            "rates": [float(schedule(step)) for step in range(options.steps)],
            "compiled": str(self._place / f"programs-{data}-{loss}-{seed}"),
        }
        (self._place / "job.json").write_text(json.dumps(job))
        loader = Loader(
            found.train,
            build_batches(config.batch, found.train, seed),
            augmentation=build_augmentation(config.data),
            seed=seed,
            start_step=0,
            stop_step=options.steps,
        )
        with loader:
            batches = [batch for _, batch in loader]
        np.savez(
            self._place / "batches.npz",
            images=np.stack([batch["image"] for batch in batches]),
            labels=np.stack([batch["label"] for batch in batches]),
        )
        everything = np.arange(len(found.test.labels))
        np.savez(self._place / "test.npz", images=found.test.images.read(everything))
        return self._place, found.test.labels

    def measure(self, library: str, labels: np.ndarray) -> Row:
        """Trains with a library on the job that was drawn last."""
        found = self._run(library)
        embeddings = np.load(self._place / "embeddings.npy")
        figures = metrics.retrieval_metrics(embeddings, labels, recall_at=1)
        row: Row = {key: figures[key] for key in ("recall_at_1", "map_at_r")} | found
        if library == "rankjax":
            again = self._run(library, "--steps", "1")
            row["first_step_again_cpu_s"] = again["first_step_cpu_s"]
        return row

    def _run(self, library: str, *more: str) -> Row:
        words = [self._python[library], "-m", "experiments.bench.peer_arms", library]
        subprocess.run(
            ends_with_us([*words, str(self._place), *more]),
            cwd=ROOT,
            check=True,
            env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        )
        found: Row = json.loads((self._place / "found.json").read_text())
        return found


def bench(options: argparse.Namespace) -> list[Row]:
    """Runs all that the file has not; each row is there once it is measured."""
    rows: list[Row] = []
    if options.json is not None and options.json.exists():
        rows = json.loads(options.json.read_text())
    for seed in range(options.seeds):
        for data in options.data:
            for loss in options.losses:
                key = {"data": data, "loss": loss, "seed": seed, "steps": options.steps}
                wanted = [key | {"library": library} for library in ARMS]
                missing = [
                    want
                    for want in wanted
                    if not any(want.items() <= row.items() for row in rows)
                ]
                if not missing:
                    continue
                print(f"{data}, {loss}, seed {seed}", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory() as place:
                    work = Work(options, Path(place))
                    _, labels = work.draw(data, loss, seed)
                    for want in missing:
                        found = work.measure(want["library"], labels)
                        rounded = {
                            name: round(x, 4) if isinstance(x, float) else x
                            for name, x in found.items()
                        }
                        rows.append(want | rounded)
                        save(options.json, rows)
    return rows


def summary(rows: Sequence[Row]) -> list[Row]:
    """A row per data set, loss and library: means over its seeds, and their number."""
    keys = ("data", "loss", "library", "steps")
    lines: list[Row] = []
    for group in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        same = [row for row in rows if tuple(row[key] for key in keys) == group]
        line: Row = dict(zip(keys, group, strict=True)) | {"seeds": len(same)}
        for name in MEASURED:
            values = [row[name] for row in same if row.get(name) is not None]
            line[name] = float(np.mean(values)) if values else None
        lines.append(line)
    return sorted(lines, key=lambda line: (line["data"], line["loss"], line["steps"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="interpreter that has PyTorch")
    parser.add_argument(
        "--json", type=to_write, help="file for the rows, and of those done"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... so many")
    parser.add_argument("--data", nargs="+", choices=DATA)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--data-dir", type=Path, default=Path("~/.cache/rankjax"))
    parser.add_argument("--manual-dir", type=Path, help="of omniglot_small's archives")
    options = parser.parse_args(arguments)
    if options.steps < 2 * LOG_EVERY:
        parser.error(f"--steps must be at least {2 * LOG_EVERY}, got {options.steps}")
    if options.data is None:
        options.data = DATA if options.manual_dir else DATA[:1]
    try:
        rows = bench(options)
    except subprocess.SubprocessError as error:
        print(f"error: {error}; what is done is kept", file=sys.stderr)
        return 1
    texts = dict.fromkeys(("data", "loss", "library"), "")
    show(
        "training beside PyTorch",
        summary(rows),
        texts | {"steps": "d", "seeds": "d"} | MEASURED,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
