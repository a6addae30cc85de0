"""Omniglot's one-shot task: which of twenty characters is the one seen once?

python -m experiments.omniglot --manual-dir DIR --json FILE [--set small1 small2]
    [--losses n_pairs sup_con] [--seeds 3] [--steps 1500]

A network is trained on the characters of a background set and then classifies the
official 20 runs of 20 drawings, each among 20 characters of one alphabet that it never
saw, by the nearest embedding. The sets small1 and small2 have five alphabets each.

DIR has images_background_small1.zip, images_background_small2.zip (or
images_background.zip, for --set background) and all_runs.zip, which
https://github.com/brendenlake/omniglot has in its folder python. Drawings are cut to
their ink. Each quarter turn of a character is a class of its own in training. What the
file has already is not done again.
"""

import argparse
import csv
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from experiments.bench.output import Row, save, show
from experiments.bench.timing import versions
from experiments.children import run_module
from rankjax.data.archives import Archives
from rankjax.files import read_npz

SETS = {
    "small1": "images_background_small1.zip",
    "small2": "images_background_small2.zip",
    "background": "images_background.zip",
}
LOSSES: dict[str, tuple[str, str]] = {
    "n_pairs": ("scale=16", "scale=32"),
    "triplet": ("selection=semi_hard", "selection=all"),
    "sup_con": ("temperature=0.07", "temperature=0.15"),
    "angular": ("angle=45", "angle=36"),
    "proxy_anchor": ("margin=0.1", "margin=0.2"),
}
"""The settings of each loss that are tried on an alphabet held out from training."""

_AUGMENTATION = ("rotation=15", "scale=0.2", "shear=0.3", "shift=0.06", "strength=0.06")
_SIDE = 105  # of a drawing, in pixels
_PACKAGES = ("jax", "flax", "optax", "numpy", "pillow")
_SHARE_OF_STEPS = 0.3  # that a trial takes


def cut(content: bytes) -> Image.Image:
    """A drawing as white ink on black, cut to a square about the ink with a margin."""
    with Image.open(io.BytesIO(content)) as image:
        ink = ImageOps.invert(image.convert("L"))
    left, top, right, bottom = ink.getbbox() or (0, 0, *ink.size)
    half = 0.6 * max(right - left, bottom - top, _SIDE // 3)
    x, y = (left + right) / 2, (top + bottom) / 2
    box = (x - half, y - half, x + half, y + half)
    side = (_SIDE, _SIDE)
    return ink.transform(side, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)


def prepare(archives: Archives, background: str, folder: Path) -> None:
    """Writes the drawings of a background set and of the runs below a folder.

    all.csv names all its alphabets to train on, and the drawings of the runs, whose
    classes are known. trial.csv has the last alphabet to test on instead.
    """
    train, trial = [], []
    for file, read in archives.images(SETS[background]):
        alphabet, character, name = file.split("/")[-3:]
        drawing = cut(read())
        for turn in range(4):
            label = f"{alphabet}/{character}/{turn}"
            path = _save(drawing.rotate(90 * turn), folder / "train" / label / name)
            train.append((path, label, "train"))
    last = train[-1][1].partition("/")[0]
    for path, label, split in train:
        alphabet, _, turned = label.split("/")
        if alphabet != last:
            trial.append((path, label, split))
        elif turned == "0":
            trial.append((path, label, "test"))
    classes = answers(archives)
    for file, read in archives.images("all_runs.zip"):
        run, part, name = file.split("/")[-3:]
        path = _save(cut(read()), folder / "runs" / run / f"{part}_{name}")
        known = classes.get(f"{run}/{part}/{name}", f"{run}/{part}/{name}")
        train.append((path, known, "gallery" if part == "training" else "query"))
    for name, rows in (("all.csv", train), ("trial.csv", trial)):
        with (folder / name).open("w", newline="") as table:
            csv.writer(table).writerows([("path", "label", "split"), *rows])


def answers(archives: Archives) -> dict[str, str]:
    """The drawing of its class by each drawing to classify: run01/test/item01.png."""
    return {
        item: known
        for file, read in archives.members("all_runs.zip")
        if file.endswith("class_labels.txt")
        for item, known in (
            line.split() for line in read().decode().splitlines() if line
        )
    }


def wrong_of_runs(embedded: Path, classes: dict[str, str]) -> list[int]:
    """How many of its drawings each run gets wrong.

    Args:
      embedded: of `experiments.embed`, with all drawings of the runs, below folders
        of runs: run01/test_item01.png.
      classes: see `answers`.
    """
    arrays = read_npz(embedded, ("embeddings", "paths")).arrays
    row = {}
    for path, embedding in zip(
        arrays["paths"].tolist(), arrays["embeddings"], strict=True
    ):
        run, name = Path(path).parts[-2:]
        row[f"{run}/{name.replace('_', '/')}"] = embedding
    wrong: dict[str, int] = {}
    for item, known in sorted(classes.items()):
        run = item.partition("/")[0]
        among = sorted({k for i, k in classes.items() if i.startswith(f"{run}/")})
        nearest = among[int(np.argmax([row[name] @ row[item] for name in among]))]
        wrong[run] = wrong.get(run, 0) + (nearest != known)
    return list(wrong.values())


def _save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


class _Measured:
    """A background set, and the rows of a file."""

    def __init__(self, background: str, options: argparse.Namespace, place: Path):
        self._set, self._options, self._place = background, options, place
        self._classes = answers(Archives(options.manual_dir))
        self.rows: list[Row] = json.loads(options.json.read_text())
        prepare(Archives(options.manual_dir), background, place)

    def _train(self, loss: str, setting: str, table: str, **more: Any) -> Any:
        """Trains; returns the run's folder, its figures and the CPU seconds it took."""
        run = self._place / f"run-{len(list(self._place.glob('run-*')))}"
        steps = more.pop("steps")
        given = {
            "dataset": f"list:{self._place / table}",
            "loss": loss,
            "loss-options": setting,
            "steps": steps,
            "eval-every": steps,
            "augmentation": "affine+elastic",
            "proxies-per-class": int(loss == "proxy_anchor"),
            "run-dir": run,
        } | more
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        words += ["--augmentation-options", *_AUGMENTATION]
        seconds = run_module("experiments.train", "omniglot_small", *words)
        return run, json.loads((run / "summary.json").read_text()), seconds

    def choose(self, loss: str) -> str:
        """The setting with the best Recall@1 on the alphabet held out."""
        steps = max(round(_SHARE_OF_STEPS * self._options.steps), 1)
        found = {}
        for setting in LOSSES[loss]:
            _, summary, _ = self._train(loss, setting, "trial.csv", steps=steps)
            found[setting] = summary["test"]["recall_at_1"]
        return max(found, key=found.__getitem__)

    def measure(self, loss: str) -> None:
        """Adds the rows of a loss, each when it is there."""
        mine = [r for r in self.rows if (r["set"], r["loss"]) == (self._set, loss)]
        setting = mine[0]["setting"] if mine else None
        for seed in range(self._options.seeds):
            if any(row["seed"] == seed for row in mine):
                continue
            setting = setting or self.choose(loss)
            steps = self._options.steps
            run, _, seconds = self._train(
                loss, setting, "all.csv", steps=steps, seed=seed
            )
            embedded = run / "one_shot.npz"
            places = run, self._place / "runs"
            seconds += run_module("experiments.embed", *places, "--out", embedded)
            wrong = wrong_of_runs(embedded, self._classes)
            row = {"set": self._set, "loss": loss, "setting": setting, "seed": seed}
            row |= {"steps": steps, "wrong": wrong, "error": sum(wrong) / 400}
            row |= {"cpu_minutes": round(seconds / 60, 1)}
            self.rows.append(row | {"versions": versions(*_PACKAGES)})
            save(self._options.json, self.rows)


def table(rows: Sequence[Row]) -> list[Row]:
    """The mean error of each set and loss, and its 95% interval over runs."""
    made = []
    for key in dict.fromkeys((row["set"], row["loss"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["loss"]) == key]
        runs = np.mean([row["wrong"] for row in mine], 0) / 20
        # Student's t of 19 degrees of freedom; seeds share the runs.
        half = 2.093 * runs.std(ddof=1) / np.sqrt(len(runs))
        minutes = np.mean([row["cpu_minutes"] for row in mine])
        made.append(
            {"set": key[0], "loss": key[1], "setting": mine[0]["setting"]}
            | {"seeds": len(mine), "error": runs.mean(), "±": half}
            | {"CPU minutes": minutes}
        )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manual-dir", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--set", nargs="+", choices=SETS, default=["small1", "small2"])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args(arguments)
    for name in ("all_runs.zip", *(SETS[each] for each in options.set)):
        if Archives(options.manual_dir).find(name) is None:
            parser.error(f"--manual-dir must have {name}, got {options.manual_dir}")
    if not options.json.exists():
        save(options.json, [])
    for background in options.set:
        with tempfile.TemporaryDirectory() as place:
            measured = _Measured(background, options, Path(place))
            for loss in options.losses:
                measured.measure(loss)
    columns = {"set": "", "loss": "", "setting": "", "seeds": "d", "error": ".3f"}
    columns |= {"±": ".3f", "CPU minutes": ".1f"}
    show("error of 20-way one-shot", table(measured.rows), columns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
