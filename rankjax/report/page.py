"""The page: one HTML document that asks nothing of the network or of scripts."""

import base64
import html
import io
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from rankjax.report.analysis import Map, series
from rankjax.report.figures import class_colour
from rankjax.report.inputs import ReportInputs

METRICS = {
    "recall_at_1": "R@1",
    "recall_at_2": "R@2",
    "recall_at_4": "R@4",
    "recall_at_8": "R@8",
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "nmi": "NMI",
}
ROWS = {"test": "Trained", "untrained": "Untrained network", "raw_pixels": "Raw pixels"}
SECTIONS = {
    "metrics": "Metrics",
    "curves": "Training",
    "similarity": "Similarities",
    "gallery": "Retrieval",
    "map": "Map",
    "health": "Health",
    "confusions": "Confusions",
    "reproduce": "Reproduce",
}


def text(value: object) -> str:
    """Escaped for HTML; what no font can draw is spelt as its code point."""
    drawn = [
        f"U+{ord(character):04X}"
        if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn")
        else character
        for character in str(value)
    ]
    return html.escape("".join(drawn)) or "(empty)"


def result_sentence(summary: Mapping[str, Mapping[str, float]], classes: int) -> str:
    """What the run achieved, next to what raw pixels achieve on the same images."""
    recall = summary["test"].get("recall_at_1", math.nan)
    raw = summary.get("raw_pixels", {}).get("recall_at_1", math.nan)
    noun = "class" if classes == 1 else "classes"
    sentence = f"Recall@1 {recall:.2f} on {classes:,} unseen {noun}"
    if math.isnan(raw):
        return sentence
    sentence += f"; raw pixels {raw:.2f}"
    if recall > raw:
        removed = (recall - raw) / (1 - raw)
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
    sections = {
        "metrics": _metrics(inputs.summary),
        "curves": _curves(inputs.history, charts["curves"]),
        "similarity": _similarity(charts["similarity"]),
        "gallery": _gallery(inputs, neighbours, groups),
        "map": _map(inputs, layout),
        "health": _health(charts["health"]),
        "confusions": _confusions(inputs, neighbours, confusions),
        "reproduce": _reproduce(inputs),
    }
    classes = len(np.unique(inputs.labels))
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in SECTIONS.items())
    body = "".join(
        f'<section id="{key}"><h2>{SECTIONS[key]}</h2>{content}</section>\n'
        for key, content in sections.items()
    )
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(inputs.title)} | rankjax report</title>
<style>{css}</style>
</head>
<body>
<main>
<header>
<h1>{text(inputs.title)}</h1>
<p class="result">{result_sentence(inputs.summary, classes)}</p>
{_facts(inputs, classes)}
<nav aria-label="Sections">{links}</nav>
</header>
{body}</main>
</body>
</html>
"""


def _facts(inputs: ReportInputs, classes: int) -> str:
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
    items = (f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def _metrics(summary: Mapping[str, Mapping[str, float]]) -> str:
    shown = {key: name for key, name in ROWS.items() if key in summary}

    def cell(row: str, metric: str) -> str:
        value = summary[row].get(metric, math.nan)
        if math.isnan(value):
            return "<td>&ndash;</td>"
        # Compared as printed: two equal figures are both bold or both not.
        rivals = (summary[other].get(metric, math.nan) for other in shown)
        best = max(round(rival, 3) for rival in rivals if not math.isnan(rival))
        bold = round(value, 3) == best
        return f"<td><b>{value:.3f}</b></td>" if bold else f"<td>{value:.3f}</td>"

    head = "".join(f'<th scope="col">{name}</th>' for name in METRICS.values())
    body = "".join(
        f'<tr class="{row}"><th scope="row">{name}</th>'
        + "".join(cell(row, metric) for metric in METRICS)
        + "</tr>"
        for row, name in shown.items()
    )
    return (
        "<p>All rows are measured on the same test images, whose classes the network"
        " has never seen. Best in bold.</p>"
        f'<div class="wide"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _curves(history: list[dict[str, float]], chart: list[bytes]) -> str:
    return (
        "<p>The right curve is measured on the validation split: it is not to be"
        " compared with the test figures above.</p>"
        + _picture(chart, "Training loss and validation retrieval over the steps")
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


def _similarity(chart: list[bytes]) -> str:
    return (
        "<p>Cosine similarity of two images of one class (positive) and of two classes"
        " (negative): the less the two overlap, the better. AUC is how often a positive"
        " pair is more similar than a negative one.</p>"
        + _picture(chart, "Histograms of the similarity of positive and negative pairs")
    )


def _gallery(
    inputs: ReportInputs, neighbours: np.ndarray, groups: dict[str, np.ndarray]
) -> str:
    if not groups:
        return "<p>No image has another of its class to find.</p>"
    intro = (
        f"<p>A query and its {neighbours.shape[1]} nearest among all test images, the"
        ' most similar first.</p><p class="key">'
        '<span class="thumb hit"></span> same class'
        '<span class="thumb miss"></span> another class</p>'
    )
    return intro + "".join(
        f'<h3>{name}</h3><div class="rows">'
        + "".join(_row(inputs, int(query), neighbours[query]) for query in queries)
        + "</div>"
        for name, queries in groups.items()
    )


def _row(inputs: ReportInputs, query: int, found: np.ndarray) -> str:
    items = []
    for rank, index in enumerate(found, start=1):
        right = inputs.labels[index] == inputs.labels[query]
        verdict = "same class" if right else "another class"
        note = f"{rank}: {_name(inputs, index)}, {verdict}"
        kind = "hit" if right else "miss"
        items.append(f"<li>{_thumbnail(inputs, index, note, kind)}</li>")
    name = _name(inputs, query)
    return (
        f'<figure class="row"><figcaption><bdi>{name}</bdi></figcaption><div>'
        + _thumbnail(inputs, query, f"query: {name}", "query")
        + f"<ol>{''.join(items)}</ol></div></figure>"
    )


def _map(inputs: ReportInputs, layout: Map | None) -> str:
    if layout is None:
        return "<p>No map: it takes ten images that are not all in one point.</p>"
    labels = inputs.labels[layout.indices]
    classes = np.unique(labels)
    groups = []
    for number, label in enumerate(classes):
        marks = "".join(
            f'<image x="{40 * column + 4}" y="{40 * row + 4}" width="32" height="32"'
            f' href="{_uri(inputs.images[index])}"/>'
            f'<rect x="{40 * column + 2}" y="{40 * row + 2}" width="36" height="36"'
            ' rx="4"/>'
            for index, (column, row) in zip(
                layout.indices[labels == label],
                layout.cells[labels == label],
                strict=True,
            )
        )
        name = text(inputs.class_names[label])
        groups.append(
            f'<g stroke="{class_colour(number)}"><title>{name}</title>{marks}</g>'
        )
    return (
        f"<p>{len(labels)} images of {len(classes)} random test classes, laid out by"
        " t-SNE and then moved to the nearest free cell so that none hides another. A"
        " colour is a class; point at an image to see which, and where its others"
        " are.</p>"
        f'<figure class="map"><svg viewBox="0 0 {40 * layout.columns}'
        f' {40 * layout.rows}" role="img"'
        f' aria-label="Map of {len(classes)} test classes">{"".join(groups)}</svg>'
        "</figure>"
    )


def _health(chart: list[bytes]) -> str:
    return (
        "<p>What to look for: a norm that explodes; a mean cosine over all pairs near"
        " 1, which is collapse; an active share of 0, where the loss has nothing left"
        " to teach.</p>"
        + _picture(chart, "Embedding norm, mean cosines and active share over steps")
    )


def _confusions(
    inputs: ReportInputs, neighbours: np.ndarray, confusions: list[tuple[int, int]]
) -> str:
    if not confusions:
        return "<p>No query has a nearest neighbour of another class.</p>"
    items = []
    sizes = np.bincount(inputs.labels)
    for count, query in confusions:
        found = neighbours[query, 0]
        names = _name(inputs, query), _name(inputs, found)
        images = sizes[inputs.labels[query]] + sizes[inputs.labels[found]]
        items.append(
            "<li>"
            + _thumbnail(inputs, query, f"query: {names[0]}", "query")
            + _thumbnail(inputs, found, f"nearest: {names[1]}", "miss")
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
    return (
        f"<details open><summary>Config</summary>{_table(config)}</details>"
        "<details><summary>Command and versions</summary>"
        f"<pre><code>{text(inputs.command)}</code></pre>"
        f"{_table(inputs.versions.items())}</details>"
    )


def _table(rows: Iterable[tuple[str, object]]) -> str:
    lines = (
        f'<tr><th scope="row">{text(key)}</th><td>{text(value)}</td></tr>'
        for key, value in rows
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _name(inputs: ReportInputs, index: int) -> str:
    return text(inputs.class_names[inputs.labels[index]])


def _thumbnail(inputs: ReportInputs, index: int, note: str, kind: str) -> str:
    """An image in a frame; `note` is escaped already."""
    source = _uri(inputs.images[index])
    return (
        f'<span class="thumb {kind}"><img src="{source}" alt="{note}" title="{note}">'
        "</span>"
    )


def _picture(chart: list[bytes], alt: str) -> str:
    light, dark = ("data:image/png;base64," + _base64(png) for png in chart)
    return (
        '<figure class="wide"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{alt}"></picture></figure>'
    )


def _uri(image: np.ndarray) -> str:
    """At most 64 pixels a side; drawings stay exact, photographs stay small."""
    grey = image.shape[2] == 1
    small = Image.fromarray(image[..., 0] if grey else image)
    small.thumbnail((64, 64))
    buffer = io.BytesIO()
    if grey:
        small.save(buffer, "png", optimize=True)
        return "data:image/png;base64," + _base64(buffer.getvalue())
    small.save(buffer, "jpeg", quality=88)
    return "data:image/jpeg;base64," + _base64(buffer.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
