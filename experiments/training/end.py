"""The end of a run: figures on the test classes, the table of them, and the report."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench.output import Row, show
from experiments.config import Config
from experiments.evaluation.subjects import Subject
from experiments.features import folder_of, names_of, pictures_of
from experiments.training.loop import Records
from experiments.training.validation import Validation
from rankjax import __version__
from rankjax.data import Batches, Dataset
from rankjax.train import TrainState, evaluate_test, pixels, read_history

_MOST_PIXELS = 20_000  # images, of which raw pixels are a baseline

_SHOWN = {
    "recall_at_1": "Recall@1",
    "map_at_r": "MAP@R",
    "accuracy": "Accuracy",
    "auc": "AUC",
}
"""Figures that the command ends with."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


def finish(
    records: Records | None,
    config: Config,
    data: Dataset,
    *,
    usual: Config,
    batches: Batches,
    embed: Any,
    seen: int,
    untrained: TrainState,
    trained: TrainState,
    devices: int,
    command: str,
) -> None:
    """Evaluates on the test classes and writes summary.json and report.html.

    Args:
      records: where to write, in the first process.
      config: the settings, for the report.
      data: the data set, whose test images all processes embed.
      usual: the settings of the experiment, of which the report says what differs.
      batches: what a step sees, for the report.
      embed: maps a state and images to embeddings.
      seen: how many test classes earlier runs have trained its network on.
      untrained: the first state.
      trained: the last one.
      devices: their number.
      command: the words that train this again.
    """
    splits = [data.test] if data.gallery is None else [data.test, data.gallery]
    rows: dict[str, list[np.ndarray]] = {
        who: [embed(variables, split.images) for split in splits]
        for who, variables in (("test", trained), ("untrained", untrained))
    }
    if records is None:
        return
    # Takes as long to import as all else; runs that do not get here need not wait.
    from experiments.evaluation.suspects import cards
    from rankjax.report import ROWS, write_report

    folder, seed = records.folder, config.run.seed
    if config.data.features():
        rows["features"] = [
            split.images.read(np.arange(len(split.images))).reshape(
                len(split.images), -1
            )
            for split in splits
        ]
    elif sum(len(split.labels) for split in splits) <= _MOST_PIXELS:
        rows["raw_pixels"] = [pixels(split.images) for split in splits]
    summary = {
        who: evaluate_test(
            data, *each, seed=seed, clusters=who in ("test", "untrained")
        )
        for who, each in rows.items()
    }
    if seen:
        summary["test"]["seen_classes"] = seen
    folder.write("summary.json", json.dumps(summary, indent=2) + "\n")
    _show(data.name, {ROWS[who]: figures for who, figures in summary.items()})
    # Junk is in the gallery, which comes last; a report has no use for it.
    kept = np.ones(sum(len(split.labels) for split in splits), bool)
    if data.junk is not None:
        kept[-len(data.junk) :] = ~data.junk
    embeddings = {who: np.concatenate(each)[kept] for who, each in rows.items()}
    pictures, names = pictures_of(splits, kept), names_of(splits)
    values, codes = np.unique(
        np.concatenate([split.labels for split in splits])[kept], return_inverse=True
    )
    settings, before = config.settings(), usual.settings()
    subject = Subject(
        f"{data.name}, {config.loss.name}",
        embeddings.pop("test"),
        codes,
        values,
        [data.test.class_names[value] for value in values],
        data.protocol,
        read=None if pictures is None else pictures.read,
        paths=None if names is None else names[kept],
        folder=folder_of(names),
    )
    write_report(
        folder.path,
        title=subject.name,
        command=command,
        config=settings
        | {
            "devices": devices,
            "processes": jax.process_count(),
            "wrapper": config.devices.wrapper,
            "protocol": data.protocol,
            "validation": Validation.of(data).words(),
            "epoch": f"{batches.epoch:.4g} steps, with {batches.classes:.0%} of the "
            f"classes and {batches.images:.0%} of the images",
        },
        versions={"python": platform.python_version(), "rankjax": __version__}
        | {package: version(package) for package in _PACKAGES},
        summary=summary,
        history=read_history(folder.path),
        shown=subject.shown(),
        embeddings=subject.embeddings,
        changed={name for name, value in settings.items() if value != before[name]},
        suspects=lambda: cards(subject, folder=Path()),
        baselines=embeddings,
        seed=seed,
    )


def _show(name: str, figures: dict[str, dict[str, float]]) -> None:
    """Prints those figures that most people look for, by the title of their row."""
    rows: list[Row] = [
        {"": title} | {shown: found.get(key) for key, shown in _SHOWN.items()}
        for title, found in figures.items()
    ]
    columns = {
        key: ".3f" for key in rows[0] if any(row[key] is not None for row in rows)
    }
    show(f"{name}, test images", rows, columns)
