"""Planted faults, and how many of them are found: changed labels and doubled images.

python -m experiments.bench.suspects RUN... --manual-dir DIR --peer PYTHON \
    --json experiments/results/suspects.json

RUN is a run of experiments.train, whose test images are embedded: classes that it was
not trained on. Of their labels 1, 5 or 10% are changed to any other class, and 1% of
the images are doubled in another split: a third as they are, a third as JPEG of
quality 75 makes them, a third moved by a pixel. Rows are then ranked by how suspect
they are: at random; by how many of ten neighbours have another label; by
`rankjax.metrics.nearer_class`; and by Cleanlab, whose interpreter is PYTHON. Recall is
that of as many rows as there are changed labels.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.bench import output
from experiments.bench.output import Row
from experiments.children import ends_with_us

SHARES = (0.01, 0.05, 0.1)
_DOUBLED = 0.01
_FIRST = 50
COLUMNS = {
    "data": "",
    "share": ".2f",
    "seed": "",
    "fault": "",
    "method": "",
    "planted": ",",
    "rows": ",",
    "precision": ".3f",
    "recall": ".3f",
}


class Images(NamedTuple):
    """Embedded test images of a run.

    Attributes:
      name: of the data set.
      embeddings: [n, dim] of images, and by name of the same changed a little.
      labels: int [n].
    """

    name: str
    embeddings: dict[str, np.ndarray]
    labels: np.ndarray


def embedded(path: Path, *, data_dir: Path, manual_dir: Path | None) -> Images:
    """The test images of a run.

    Raises:
      RunError: see `load_run`.
    """
    import jax

    from experiments.images import Held
    from experiments.runs import load_run
    from experiments.training.images import load_data
    from rankjax.train import make_embed

    run = load_run(path, images=False)
    config = run.config.replace(data_dir=data_dir, manual_dir=manual_dir)
    test = load_data(config.data, config.run.seed).test
    images = test.images.read(np.arange(len(test.labels)))
    embed = make_embed(run.definition, devices=jax.local_devices())
    changed = {
        "copy": images,
        "copy, as JPEG": np.stack([_as_jpeg(image) for image in images]),
        "copy, moved by a pixel": np.roll(images, 1, axis=2),
    }
    found = {name: embed(run.state, Held(each)) for name, each in changed.items()}
    return Images(config.data.dataset, found, test.labels)


def _as_jpeg(image: np.ndarray) -> np.ndarray:
    from rankjax.data.images import decode, to_pil

    content = io.BytesIO()
    to_pil(image).save(content, "JPEG", quality=75)
    return decode(content.getvalue(), channels=image.shape[2])


def measure(
    images: Images, *, share: float, seed: int, peer: str | None
) -> Iterator[Row]:
    """A row for each method and each fault."""
    from rankjax import metrics

    rng = np.random.default_rng(seed)
    n, classes = len(images.labels), images.labels.max() + 1
    changed, labels = np.zeros(n, bool), images.labels.copy()
    wrong = rng.choice(n, round(share * n), replace=False)
    changed[wrong] = True
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    kinds = images.embeddings
    doubled = rng.choice(n, len(kinds) * round(_DOUBLED * n / len(kinds)), False)
    parts = dict(zip(kinds, np.split(doubled, len(kinds)), strict=True))
    copies = [kinds[kind][some] for kind, some in parts.items()]
    rows = np.concatenate([kinds["copy"], *copies])
    every = np.concatenate([labels, images.labels[doubled]])
    key: Row = {"data": images.name, "share": share, "seed": seed}

    neighbours = metrics.nearest(rows, k=50)
    votes = (every[neighbours.rows[:, :10]] != every[:, None]).mean(1)
    scores = {
        "random": rng.random(n),
        # Of equally many votes the order is random.
        "ten neighbours": votes[:n] + rng.random(n) / 100,
        "rankjax": metrics.nearer_class(rows, every, neighbours).ratio[:n],
    }
    if peer is not None:
        for name, quality in _qualities(peer, rows, every).items():
            scores[f"cleanlab, {name}"] = -quality[:n]
    for method, score in scores.items():
        order = np.argsort(-score, kind="stable")
        yield key | {
            "fault": "label",
            "method": method,
            "planted": len(wrong),
            "rows": n,
            "precision": float(changed[order[:_FIRST]].mean()),
            "recall": float(changed[order[: len(wrong)]].mean()),
        }
    pairs, _ = metrics.duplicates(neighbours)
    found = {*map(tuple, pairs.tolist())}
    planted = dict(zip(doubled.tolist(), range(n, len(rows)), strict=True))
    across = [pair for pair in found if pair[0] < n <= pair[1]]
    right = sum(planted.get(one) == two for one, two in across)
    for fault, some in parts.items():
        hits = sum((row, planted[row]) in found for row in some.tolist())
        yield key | {
            "fault": fault,
            "method": "rankjax",
            "planted": len(some),
            "rows": len(across),
            "precision": right / len(across) if across else None,
            "recall": hits / len(some),
        }


def _qualities(
    python: str, rows: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "rows.npz", Path(folder) / "quality.npz"
        np.savez(given, embeddings=rows, labels=labels)
        script = Path(__file__).with_name("peer_labels.py")
        # It warns of classes with fewer rows than folds, and of its own convergence.
        command = [python, "-W", "ignore", str(script), str(given), str(found)]
        subprocess.run(ends_with_us(command), check=True)
        with np.load(found) as qualities:
            return dict(qualities)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument(
        "--json", type=output.to_write, help="also write the rows to this file"
    )
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with Cleanlab")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, default=Path("~/.cache/rankjax"))
    parser.add_argument("--manual-dir", type=Path, help="of archives fetched by hand")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for run in options.runs:
        images = embedded(
            run, data_dir=options.data_dir.expanduser(), manual_dir=options.manual_dir
        )
        for share in SHARES:
            for seed in range(options.seeds):
                rows += measure(images, share=share, seed=seed, peer=options.peer)
                output.save(options.json, rows)
    output.show("Planted faults", rows, COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
