"""The page and the figures of a training run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rankjax.errors import RunError
from rankjax.files import write_atomic
from rankjax.metrics import leave_one_out, retrieval
from rankjax.report.analysis import series
from rankjax.report.inputs import (
    EvaluationInputs,
    ReportInputs,
    SearchResult,
    Table,
)
from rankjax.report.page import render
from rankjax.report.thumbnails import Shown

ROWS = {
    "test": "Trained",
    "untrained": "Untrained network",
    "features": "Frozen features",
    "raw_pixels": "Raw pixels",
}
_METRICS = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "map": "mAP",
    "nmi": "NMI",
    "accuracy": "Accuracy",
    "auc": "AUC",
}


def write_report(run_dir: Path, inputs: ReportInputs) -> Path:
    """Writes `figures/` and `report.html`, the evaluation of a run's test images.

    The figures are the page's charts and map as SVG, and gallery.png. One is absent
    where the page says that there is nothing to draw.

    Returns:
      The path of report.html, which is written last.

    Raises:
      RunError: the folder cannot be written; each file is its old self or the new.
    """
    labels = inputs.labels
    every, outcome = np.arange(len(labels)), None
    if np.bincount(labels).max() > 1:
        search = leave_one_out(inputs.embeddings, labels)
        found = retrieval(search, recall_at=(1,))
        outcome = SearchResult(search, found, every, every)
    classes = len(np.unique(labels))
    page, figures = render(
        EvaluationInputs(
            title=inputs.title,
            result=result_sentence(inputs.summary, classes),
            facts=_facts(inputs, classes),
            tables=[_table(inputs.summary)],
            health=None,
            outcome=outcome,
            shown=Shown(
                labels,
                inputs.class_names,
                None if inputs.images is None else lambda rows: inputs.images[rows],
            ),
            embeddings=inputs.embeddings,
            command=inputs.command,
            settings={
                key: value
                if isinstance(value, str)
                else json.dumps(value, ensure_ascii=False)
                for key, value in inputs.config.items()
            },
            versions=inputs.versions,
            baselines={
                ROWS[key]: inputs.baselines[key]
                for key in ("raw_pixels", "features", "untrained")
                if key in inputs.baselines
            },
            history=inputs.history,
            seed=inputs.seed,
        )
    )
    folder, target = run_dir / "figures", run_dir / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in figures.items():
            write_atomic(folder / name, content)
        write_atomic(target, page)
    except OSError as error:
        raise RunError(f"cannot write the report to {run_dir}: {error}") from error
    return target


def result_sentence(summary: Mapping[str, Mapping[str, float]], classes: int) -> str:
    """What the run achieved, next to what it would without training."""
    key, name = ("recall_at_1", "Recall@1")
    if "accuracy" in summary["test"]:
        key, name = ("accuracy", "Accuracy")
    figure = summary["test"].get(key, math.nan)
    base = "features" if "features" in summary else "raw_pixels"
    raw = summary.get(base, {}).get(key, math.nan)
    noun = "class" if classes == 1 else "classes"
    sentence = f"{name} {figure:.2f} on {classes:,} unseen {noun}"
    if math.isnan(raw):
        return sentence
    sentence += f"; {ROWS[base].lower()} {raw:.2f}"
    if figure > raw:
        removed = (figure - raw) / (1 - raw)
        sentence += f"; removes {removed:.0%} of {ROWS[base].lower()}' errors"
    return sentence


def _facts(inputs: ReportInputs, classes: int) -> dict[str, str]:
    facts = {
        "test images": f"{len(inputs.labels):,}",
        "test classes": f"{classes:,}",
        "embedding": f"{inputs.embeddings.shape[1]} dimensions",
    }
    steps = [row["step"] for row in inputs.history if "step" in row]
    if steps:
        facts["training steps"] = f"{max(steps):,.0f}"
    speed = series(inputs.history, "images_per_second")[1]
    if np.isfinite(speed).any():
        facts["images per second"] = f"{np.median(speed[np.isfinite(speed)]):,.0f}"
    return facts


def _table(summary: Mapping[str, Mapping[str, float]]) -> Table:
    shown = {key: name for key, name in ROWS.items() if key in summary}
    # Data sets differ in the K that their papers report.
    measured = [key for row in shown for key in summary[row]]
    columns = {
        key: f"R@{key.removeprefix('recall_at_')}"
        for key in measured
        if key.startswith("recall_at_")
    } | {key: name for key, name in _METRICS.items() if key in measured}
    # Compared as printed: two equal figures are both bold or both not.
    values = np.array(
        [[summary[row].get(key, math.nan) for key in columns] for row in shown]
    ).round(3)
    best = np.fmax.reduce(values, axis=0, initial=-math.inf)
    return Table(
        heading="",
        note="All rows are measured on the same test images, whose classes the network"
        " has never seen. Best in bold.",
        head=["", *columns.values()],
        rows=[
            [name, *("–" if math.isnan(x) else f"{x:.3f}" for x in line)]  # noqa: RUF001
            for name, line in zip(shown.values(), values, strict=True)
        ],
        bold={(i, j + 1) for i, j in np.argwhere(values == best).tolist()},
    )
