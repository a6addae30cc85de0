"""The page of a training run."""

import json
import math
from collections.abc import Mapping

import numpy as np

from rankjax.report.analysis import Map, judged_on, series
from rankjax.report.document import (
    Section,
    document,
    picture,
    reproduce,
    wide_table,
)
from rankjax.report.inputs import ReportInputs
from rankjax.report.pictures import Found, Shown, class_map, gallery, similarities

METRICS = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "map": "mAP",
    "nmi": "NMI",
    "accuracy": "Accuracy",
    "auc": "AUC",
}
ROWS = {"test": "Trained", "untrained": "Untrained network", "raw_pixels": "Raw pixels"}


def result_sentence(summary: Mapping[str, Mapping[str, float]], classes: int) -> str:
    """What the run achieved, next to what raw pixels achieve on the same images."""
    key, name = ("recall_at_1", "Recall@1")
    if "accuracy" in summary["test"]:
        key, name = ("accuracy", "Accuracy")
    figure = summary["test"].get(key, math.nan)
    raw = summary.get("raw_pixels", {}).get(key, math.nan)
    noun = "class" if classes == 1 else "classes"
    sentence = f"{name} {figure:.2f} on {classes:,} unseen {noun}"
    if math.isnan(raw):
        return sentence
    sentence += f"; raw pixels {raw:.2f}"
    if figure > raw:
        removed = (figure - raw) / (1 - raw)
        sentence += f"; removes {removed:.0%} of raw pixels' errors"
    return sentence


def render(
    inputs: ReportInputs,
    *,
    neighbours: np.ndarray,
    groups: dict[str, np.ndarray],
    confusions: list[tuple[int, int]],
    layout: Map | None,
    charts: dict[str, list[bytes]],
) -> str:
    """The whole page; `charts` maps a section to its light and its dark PNG."""
    shown = Shown(inputs.labels, inputs.class_names, lambda rows: inputs.images[rows])
    classes = len(np.unique(inputs.labels))
    sections = {
        "metrics": Section("Metrics", _metrics(inputs.summary)),
        "curves": Section("Training", _curves(inputs.history, charts["curves"])),
        "similarity": Section("Similarities", similarities(charts["similarity"])),
        "gallery": Section("Retrieval", _gallery(shown, neighbours, groups)),
        "map": Section("Map", class_map(shown, layout, "random test classes")),
        "health": Section("Health", _health(charts["health"])),
        "confusions": Section("Confusions", _confusions(shown, neighbours, confusions)),
        "reproduce": Section("Reproduce", _reproduce(inputs)),
    }
    result = result_sentence(inputs.summary, classes)
    return document(inputs.title, result, _facts(inputs, classes), sections)


def _facts(inputs: ReportInputs, classes: int) -> dict[str, str]:
    facts = {
        "test images": f"{len(inputs.images):,}",
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


def _metrics(summary: Mapping[str, Mapping[str, float]]) -> str:
    shown = {key: name for key, name in ROWS.items() if key in summary}
    # Data sets differ in the K that their papers report.
    measured = [key for row in shown for key in summary[row]]
    columns = {
        key: f"R@{key.removeprefix('recall_at_')}"
        for key in measured
        if key.startswith("recall_at_")
    } | {key: name for key, name in METRICS.items() if key in measured}

    def cell(row: str, metric: str) -> str:
        value = summary[row].get(metric, math.nan)
        if math.isnan(value):
            return "&ndash;"
        # Compared as printed: two equal figures are both bold or both not.
        rivals = (summary[other].get(metric, math.nan) for other in shown)
        best = max(round(rival, 3) for rival in rivals if not math.isnan(rival))
        bold = round(value, 3) == best
        return f"<b>{value:.3f}</b>" if bold else f"{value:.3f}"

    rows = (
        (row, [name, *(cell(row, metric) for metric in columns)])
        for row, name in shown.items()
    )
    return (
        "<p>All rows are measured on the same test images, whose classes the network"
        " has never seen. Best in bold.</p>" + wide_table(["", *columns.values()], rows)
    )


def _curves(history: list[dict[str, float]], chart: list[bytes]) -> str:
    on = judged_on(history)
    images = {
        "validation": "the validation split",
        "training": "the training images, as the classes are too few to hold some out",
    }
    return (
        f"<p>The right curve is measured on {images[on]}: it is not to be"
        " compared with the test figures above.</p>"
        + picture(chart, f"Training loss and {on} retrieval over the steps")
        + _gaps(history)
    )


def _gaps(history: list[dict[str, float]]) -> str:
    broken = sum(
        any(isinstance(value, float) and not math.isfinite(value) for value in values)
        for values in (row.values() for row in history)
    )
    if not broken:
        return ""
    return (
        f"<p>{broken:,} of {len(history):,} logged rows hold values that are not"
        " finite; they leave gaps in the curves here and under Health.</p>"
    )


def _gallery(
    shown: Shown, neighbours: np.ndarray, groups: dict[str, np.ndarray]
) -> str:
    if not groups:
        return "<p>No image has another of its class to find.</p>"
    found = {
        caption: [Found(query, neighbours[query]) for query in queries.tolist()]
        for caption, queries in groups.items()
    }
    return (
        f"<p>A query and its {neighbours.shape[1]} nearest among all test images, the"
        " most similar first.</p>" + gallery(shown, found)
    )


def _health(chart: list[bytes]) -> str:
    return (
        "<p>What to look for: a norm that explodes; a mean cosine over all pairs near"
        " 1, which is collapse; an active share of 0, where the loss has nothing left"
        " to teach.</p>"
        + picture(chart, "Embedding norm, mean cosines and active share over steps")
    )


def _confusions(
    shown: Shown, neighbours: np.ndarray, confusions: list[tuple[int, int]]
) -> str:
    if not confusions:
        return "<p>No query has a nearest neighbour of another class.</p>"
    items = []
    sizes = np.bincount(shown.labels)
    for count, query in confusions:
        found = int(neighbours[query, 0])
        names = shown.name(query), shown.name(found)
        images = sizes[shown.labels[query]] + sizes[shown.labels[found]]
        items.append(
            "<li>"
            + shown.thumbnail(query, f"query: {names[0]}", "query")
            + shown.thumbnail(found, f"nearest: {names[1]}", "miss")
            + f"<div><bdi>{names[0]}</bdi><bdi>{names[1]}</bdi>"
            f"<small>{count} of {images} images</small></div></li>"
        )
    return (
        "<p>The class pairs confused most often, counted over the images of both whose"
        " nearest neighbour is of the other class, with one such query and its"
        f' neighbour.</p><ul class="cards">{"".join(items)}</ul>'
    )


def _reproduce(inputs: ReportInputs) -> str:
    config = (
        (
            key,
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        )
        for key, value in inputs.config.items()
    )
    return reproduce(config, inputs.command, inputs.versions)
