"""The page and the figures of a training run."""

import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from rankjax.metrics import Interval, bootstrap, checks, leave_one_out, retrieval
from rankjax.report.analysis import series
from rankjax.report.inputs import Card, EvaluationInputs, SearchResult, Table
from rankjax.report.page import write_evaluation
from rankjax.report.thumbnails import Shown

ROWS = {
    "test": "Trained",
    "untrained": "Before this training",
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


def write_report(
    run_dir: Path,
    *,
    title: str,
    command: str,
    config: Mapping[str, object],
    versions: Mapping[str, str],
    summary: Mapping[str, Mapping[str, float]],
    history: list[dict[str, float]],
    shown: Shown,
    embeddings: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    changed: Container[str] = (),
    suspects: Callable[[], Mapping[str, Sequence[Card]]] = dict,
    seed: int = 0,
) -> Path:
    """Writes `figures/` and `report.html`, the evaluation of a run's test images.

    See `write_evaluation`.

    Args:
      run_dir: where to write; made if missing.
      title: name of the experiment.
      command: reproduces the run.
      config: settings as JSON has them, by name.
      versions: of packages.
      summary: metrics of "test", the trained network, and of any of the baselines
        "untrained", and "raw_pixels" or "features", on the same images; those of
        "test" have "seen_classes" if earlier runs have trained the network on some.
      history: rows of metrics.jsonl, each with any of the keys.
      shown: the test images.
      embeddings: float [n, dim], of any length.
      baselines: float [n, dim] by the names of `summary`.
      changed: names of settings that are not the default, which come first.
      suspects: looks for what is probably wrong, and gives it by a heading.
      seed: of every choice that the page makes.

    Returns:
      The path of report.html, which is written last.

    Raises:
      ValueError: rows of different number or that are not finite, or no "test".
      TypeError: labels are not integers.
      RunError: the folder cannot be written; each file is its old self or the new.
    """
    if "test" not in summary:
        raise ValueError(
            f"summary must have 'test', got {', '.join(summary) or 'none'}"
        )
    labels, outcome, bounds = shown.labels, None, {}
    search = leave_one_out(embeddings, labels)
    for name, rows in baselines.items():
        checks.as_embeddings(f"baselines[{name!r}]", rows, len(labels))
    every = np.arange(len(labels))
    if np.bincount(labels).max() > 1:
        figures = (key.rpartition("recall_at_") for key in summary["test"])
        ranks = {int(k) for _, recall, k in figures if recall and int(k) < len(labels)}
        found = retrieval(search, recall_at=sorted({1, *ranks}))
        outcome = SearchResult(search, found, every, every)
        if len(np.unique(found.labels)) > 1:
            bounds = bootstrap(found.values, labels=found.labels, by="class", seed=seed)
    classes = len(np.unique(labels))
    inputs = EvaluationInputs(
        title=title,
        result=result_sentence(summary, classes),
        facts={
            "test images": f"{len(labels):,}",
            "test classes": f"{classes:,}",
            "embedding": f"{embeddings.shape[1]} dimensions",
            **_facts(history),
        },
        tables=[_table(summary, bounds)],
        health=None,
        outcome=outcome,
        shown=shown,
        embeddings=embeddings,
        command=command,
        settings={
            key: value
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False)
            for key, value in config.items()
        },
        changed=changed,
        suspects=suspects(),
        versions=versions,
        baselines={
            ROWS[key]: baselines[key]
            for key in ("raw_pixels", "untrained")
            if key in baselines
        },
        history=history,
        seed=seed,
    )
    target = run_dir / "report.html"
    write_evaluation(target, inputs, figures=run_dir / "figures")
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
    if seen := summary["test"].get("seen_classes"):
        sentence = (
            f"{name} {figure:.2f} on {classes:,} {noun}, {seen:,} of which an earlier "
            "run has trained the network on"
        )
    if math.isnan(raw):
        return sentence
    sentence += f"; {ROWS[base].lower()} {raw:.2f}"
    if figure > raw:
        removed = (figure - raw) / (1 - raw)
        sentence += f"; removes {removed:.0%} of {ROWS[base].lower()}' errors"
    return sentence


def _facts(history: list[dict[str, float]]) -> dict[str, str]:
    """What rows of metrics tell of the training."""
    facts = {}
    steps = [row["step"] for row in history if "step" in row]
    if steps:
        facts["training steps"] = f"{max(steps):,.0f}"
    speed = series(history, "images_per_second")[1]
    if np.isfinite(speed).any():
        facts["images per second"] = f"{np.median(speed[np.isfinite(speed)]):,.0f}"
    return facts


def _table(
    summary: Mapping[str, Mapping[str, float]], bounds: Mapping[str, Interval]
) -> Table:
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
    note = (
        "All rows are measured on the same test images, whose classes this run has not"
        " trained on. Best in bold."
    )
    rows = [
        [name, *("–" if math.isnan(x) else f"{x:.3f}" for x in line)]  # noqa: RUF001
        for name, line in zip(shown.values(), values, strict=True)
    ]
    # By another protocol the figures are those of other queries.
    known = [
        f"{bounds[key].low:.3f} to {bounds[key].high:.3f}"
        if key in bounds
        and abs(bounds[key].mean - summary["test"].get(key, math.nan)) < 1e-4
        else ""
        for key in columns
    ]
    if any(known):
        note += " The interval, by a bootstrap of classes, is for other classes."
        rows.append([f"{ROWS['test']}, 95% interval", *known])
    return Table(
        heading="",
        note=note,
        head=["", *columns.values()],
        rows=rows,
        bold={(i, j + 1) for i, j in np.argwhere(values == best).tolist()},
    )
