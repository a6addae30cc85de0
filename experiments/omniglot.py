"""Omniglot's one-shot task: which of twenty characters is the one seen once?

python -m experiments.omniglot --manual-dir DIR --json FILE [--set small1 small2]
    [--losses n_pairs sup_con] [--seeds 3] [--steps 1500] [--choices 200]

A network is trained on the characters of a background set and then classifies the
official 20 runs of 20 drawings, each among 20 characters of one alphabet that it never
saw, by the nearest embedding. The sets small1 and small2 have five alphabets each.

DIR has images_background_small1.zip, images_background_small2.zip (or
images_background.zip, for --set background) and all_runs.zip, which
https://github.com/brendenlake/omniglot has in its folder python. Drawings are cut to
their ink. Each quarter turn of a character is a class of its own in training. Errors
are those of one view of each drawing, and of the mean embedding of nine: itself and
eight augmented as in training. What the file has already is not done again.

--choices instead trains so many steps, with one thing changed at a time, and tells
MAP@R and Recall@1 on an alphabet held out from training; the runs are not looked at.
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

from experiments.bench.output import Row, save, show, to_write
from experiments.bench.timing import versions
from experiments.children import run_module
from rankjax.data.archives import Archives
from rankjax.data.augmentation import Augmentation
from rankjax.files import read_npz

SETS = {
    "small1": "images_background_small1.zip",
    "small2": "images_background_small2.zip",
    "background": "images_background.zip",
}
LOSSES: dict[str, tuple[str, str]] = {
    "n_pairs": ("scale=16", "scale=32"),
    "triplet": ("selection=semi_hard", "selection=all_negatives"),
    "sup_con": ("temperature=0.07", "temperature=0.15"),
    "angular": ("angle=45", "angle=36"),
    "proxy_anchor": ("margin=0.1", "margin=0.2"),
}
"""The settings of each loss that are tried on an alphabet held out from training."""

CHOICES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "quarter turns are no classes": {"table": "upright.csv"},
    "not cut to the ink": {"table": "whole.csv"},
    "no augmentation": {"augmentation": "none"},
    "affine augmentation alone": {"augmentation": "affine"},
    "elastic augmentation alone": {"augmentation": "elastic"},
    "4 drawings of 32 characters": {"classes": 32, "per-class": 4},
    "twice the steps": {"times": 2},
    **{
        f"{loss}, {settings[0]}": {"loss": loss, "loss-options": settings[0]}
        for loss, settings in LOSSES.items()
        if loss != "n_pairs"
    },
}
"""What is changed, and its options of `experiments.train`, but for table and times."""

_AFFINE = {"rotation": 15, "scale": 0.2, "shear": 0.3, "shift": 0.06}
_ELASTIC = {"strength": 0.06}
_VIEWS = 8  # of each drawing of the runs, besides itself
_SIDE = 105  # of a drawing, in pixels
_Row = tuple[Path, str, str]  # path, label and split
_PACKAGES = ("jax", "flax", "optax", "numpy", "pillow")
_SHARE_OF_STEPS = 0.3  # that a trial takes


def ink_of(content: bytes) -> Image.Image:
    """A drawing as white ink on black."""
    with Image.open(io.BytesIO(content)) as image:
        return ImageOps.invert(image.convert("L"))


def cut(content: bytes) -> Image.Image:
    """White ink on black, cut to a square about the ink with a margin."""
    ink = ink_of(content)
    left, top, right, bottom = ink.getbbox() or (0, 0, *ink.size)
    half = 0.6 * max(right - left, bottom - top, _SIDE // 3)
    x, y = (left + right) / 2, (top + bottom) / 2
    box = (x - half, y - half, x + half, y + half)
    side = (_SIDE, _SIDE)
    return ink.transform(side, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)


def prepare(archives: Archives, background: str, folder: Path) -> None:
    """Writes the drawings of a background set and of the runs below a folder.

    all.csv names all its alphabets to train on, and the drawings of the runs, whose
    classes are known. trial.csv has the last alphabet to test on instead; so have
    upright.csv, without turned drawings, and whole.csv, whose drawings are not cut.
    """
    train: list[_Row] = []
    whole: list[_Row] = []
    for file, read in archives.images(SETS[background]):
        alphabet, character, name = file.split("/")[-3:]
        for rows, drawing in (
            (train, cut(content := read())),
            (whole, ink_of(content)),
        ):
            place = folder / ("train" if rows is train else "whole")
            for turn in range(4):
                label = f"{alphabet}/{character}/{turn}"
                path = _save(drawing.rotate(90 * turn), place / label / name)
                rows.append((path, label, "train"))
    trial = _held_out(train)
    tables = {"trial": trial, "whole": _held_out(whole)}
    tables["upright"] = [row for row in trial if row[1].endswith("/0")]
    classes = answers(archives)
    augmentation = Augmentation("affine+elastic", _AFFINE | _ELASTIC)
    for number, (file, read) in enumerate(archives.images("all_runs.zip")):
        run, part, name = file.split("/")[-3:]
        drawing = cut(read())
        path = _save(drawing, folder / "runs" / run / f"0_{part}_{name}")
        known = classes.get(f"{run}/{part}/{name}", f"{run}/{part}/{name}")
        train.append((path, known, "gallery" if part == "training" else "query"))
        draws = np.random.default_rng(number).random((_VIEWS, augmentation.draws))
        views = augmentation(
            [np.array(drawing)[..., None]] * _VIEWS, draws, drawing.size
        )
        for view, pixels in enumerate(views, 1):
            path = folder / "runs" / run / f"{view}_{part}_{name}"
            _save(Image.fromarray(pixels[..., 0]), path)
    for name, rows in (tables | {"all": train}).items():
        with (folder / f"{name}.csv").open("w", newline="") as table:
            csv.writer(table).writerows([("path", "label", "split"), *rows])


def _held_out(rows: Sequence[_Row]) -> list[_Row]:
    """The last alphabet to test on, without its turned drawings."""
    last = rows[-1][1].partition("/")[0]
    held_out = []
    for path, label, split in rows:
        alphabet, _, turned = label.split("/")
        if alphabet != last:
            held_out.append((path, label, split))
        elif turned == "0":
            held_out.append((path, label, "test"))
    return held_out


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


def wrong_of_runs(
    embedded: Path, classes: dict[str, str], *, views: int = 1
) -> list[int]:
    """How many of its drawings each run gets wrong.

    Args:
      embedded: of `experiments.embed`, with all drawings of the runs, each in its
        views: run01/0_test_item01.png.
      classes: see `answers`.
      views: of a drawing, whose mean embedding counts.
    """
    arrays = read_npz(embedded, ("embeddings", "paths")).arrays
    row: dict[str, np.ndarray] = {}
    for path, embedding in zip(
        arrays["paths"].tolist(), arrays["embeddings"], strict=True
    ):
        run, name = Path(path).parts[-2:]
        view, part, name = name.split("_")
        if int(view) < views:
            file = f"{run}/{part}/{name}"
            row[file] = row.get(file, 0) + embedding
    row = {file: mean / np.linalg.norm(mean) for file, mean in row.items()}
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
        given = {
            "dataset": f"list:{self._place / table}",
            "loss": loss,
            "loss-options": setting,
            "eval-every": more["steps"],
            "augmentation": "affine+elastic",
            "proxies-per-class": int(loss == "proxy_anchor"),
            "run-dir": run,
        } | more
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        options = {"affine": _AFFINE, "elastic": _ELASTIC, "none": {}}
        words.append("--augmentation-options")
        for name in given["augmentation"].split("+"):
            words += [f"{key}={value}" for key, value in options[name].items()]
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
        mine = [
            row
            for row in self.rows
            if (row["set"], row.get("loss")) == (self._set, loss)
        ]
        setting = mine[0]["setting"] if mine else None
        steps = self._options.steps
        for seed in range(self._options.seeds):
            if any((row["seed"], row["steps"]) == (seed, steps) for row in mine):
                continue
            setting = setting or self.choose(loss)
            run, _, seconds = self._train(
                loss, setting, "all.csv", steps=steps, seed=seed
            )
            embedded = run / "one_shot.npz"
            places = run, self._place / "runs"
            seconds += run_module("experiments.embed", *places, "--out", embedded)
            row = {"set": self._set, "loss": loss, "setting": setting, "seed": seed}
            row |= {"steps": steps, "cpu_minutes": round(seconds / 60, 1)}
            for name, views in (("", 1), ("_of_views", 1 + _VIEWS)):
                wrong = wrong_of_runs(embedded, self._classes, views=views)
                row |= {f"wrong{name}": wrong, f"error{name}": sum(wrong) / 400}
            self._add(row)

    def measure_choices(self) -> None:
        """Adds a row for each of the choices, by N-pairs where it says no loss."""
        done = {(row["set"], row.get("choice"), row["steps"]) for row in self.rows}
        for choice, options in CHOICES.items():
            options, steps = dict(options), self._options.choices
            if (self._set, choice, steps) in done:
                continue
            table, times = options.pop("table", "trial.csv"), options.pop("times", 1)
            loss = options.pop("loss", "n_pairs")
            setting = options.pop("loss-options", LOSSES[loss][0])
            _, summary, seconds = self._train(
                loss, setting, table, steps=times * steps, **options
            )
            row = {"set": self._set, "choice": choice, "steps": steps}
            found = summary["test"]
            row |= {"map_at_r": found["map_at_r"], "recall_at_1": found["recall_at_1"]}
            self._add(row | {"cpu_minutes": round(seconds / 60, 1)})

    def _add(self, row: Row) -> None:
        self.rows.append(row | {"versions": versions(*_PACKAGES)})
        save(self._options.json, self.rows)


def table(rows: Sequence[Row]) -> list[Row]:
    """The mean error of each set, loss and number of steps, and its interval."""
    made: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if "loss" in row:
            made.setdefault((row["set"], row["steps"], row["loss"]), []).append(row)
    return [
        {"set": mine[0]["set"], "loss": mine[0]["loss"], "setting": mine[0]["setting"]}
        | {"steps": mine[0]["steps"], "seeds": len(mine)}
        | {
            "error": _interval(mine, "wrong"),
            "views": _interval(mine, "wrong_of_views"),
        }
        | {"CPU minutes": np.mean([row["cpu_minutes"] for row in mine])}
        for _, mine in sorted(made.items())
    ]


def _interval(rows: Sequence[Row], name: str) -> str:
    """The mean share of wrong drawings and its 95% interval over runs."""
    wrong = [row[name] for row in rows if name in row]
    if not wrong:
        return ""
    runs = np.mean(wrong, 0) / 20
    # Student's t of 19 degrees of freedom; seeds share the runs.
    half = 2.093 * runs.std(ddof=1) / np.sqrt(len(runs))
    return f"{runs.mean():.3f} ± {half:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manual-dir", type=Path, required=True)
    parser.add_argument("--json", type=to_write, required=True)
    parser.add_argument("--set", nargs="+", choices=SETS, default=["small1", "small2"])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--choices", type=int, default=0, metavar="STEPS")
    options = parser.parse_args(arguments)
    for name in ("all_runs.zip", *(SETS[each] for each in options.set)):
        if Archives(options.manual_dir).find(name) is None:
            parser.error(f"--manual-dir must have {name}, got {options.manual_dir}")
    if not options.json.exists():
        save(options.json, [])
    for background in options.set:
        with tempfile.TemporaryDirectory() as place:
            measured = _Measured(background, options, Path(place))
            if options.choices:
                measured.measure_choices()
                continue
            for loss in options.losses:
                measured.measure(loss)
    if options.choices:
        choices = [row for row in measured.rows if "choice" in row]
        columns = {"set": "", "choice": "", "steps": "d", "map_at_r": ".3f"}
        columns |= {"recall_at_1": ".3f", "cpu_minutes": ".1f"}
        show("on an alphabet held out", choices, columns)
        return 0
    columns = {"set": "", "loss": "", "setting": "", "steps": "d", "seeds": "d"}
    columns |= {"error": "", "views": "", "CPU minutes": ".1f"}
    show("error of 20-way one-shot", table(measured.rows), columns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
