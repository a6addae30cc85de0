"""Rows of a data set on a page: what queries found, a map, similarities."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rankjax.report.analysis import Map
from rankjax.report.document import data_uri, picture, text
from rankjax.report.drawing import class_colour


@dataclass(frozen=True)
class Shown:
    """Rows as a page shows them: by their picture, or else by the name of their class.

    Attributes:
      labels: int [n], indices into `class_names`.
      class_names: any text.
      read: rows -> uint8 [h, w, c] each, c 1 or 3; None where there are no pictures.
    """

    labels: np.ndarray
    class_names: Sequence[str]
    read: Callable[[np.ndarray], Any] | None

    def name(self, row: int) -> str:
        """The name of the row's class, escaped."""
        return text(self.class_names[self.labels[row]])

    def uri(self, row: int) -> str:
        """At most 64 pixels a side; drawings stay exact, photographs stay small."""
        assert self.read is not None
        image = self.read(np.array([row]))[0]
        grey = image.shape[2] == 1
        small = Image.fromarray(image[..., 0] if grey else image)
        small.thumbnail((64, 64))
        buffer = io.BytesIO()
        if grey:
            small.save(buffer, "png", optimize=True)
            return data_uri("image/png", buffer.getvalue())
        small.save(buffer, "jpeg", quality=88)
        return data_uri("image/jpeg", buffer.getvalue())

    def thumbnail(self, row: int, note: str, kind: str) -> str:
        """The row in a frame: `query`, `hit` or `miss`; `note` is escaped already."""
        if self.read is None:
            name = f"<bdi>{self.name(row)}</bdi>"
            return f'<span class="thumb named {kind}" title="{note}">{name}</span>'
        return (
            f'<span class="thumb {kind}"><img src="{self.uri(row)}" alt="{note}"'
            f' title="{note}"></span>'
        )


class Found(NamedTuple):
    """A query, the rows found for it in order, and what there is to say of it."""

    query: int
    rows: np.ndarray
    note: str = ""


def gallery(shown: Shown, groups: Mapping[str, Sequence[Found]]) -> str:
    """Queries and what they found, under the captions of their groups."""
    key = (
        '<p class="key"><span class="thumb hit"></span> same class'
        '<span class="thumb miss"></span> another class</p>'
    )
    return key + "".join(
        f'<h3>{caption}</h3><div class="rows">'
        + "".join(_line(shown, found) for found in several)
        + "</div>"
        for caption, several in groups.items()
    )


def _line(shown: Shown, found: Found) -> str:
    items = []
    for rank, row in enumerate(found.rows.tolist(), start=1):
        right = shown.labels[row] == shown.labels[found.query]
        verdict = "same class" if right else "another class"
        note = f"{rank}: {shown.name(row)}, {verdict}"
        items.append(
            f"<li>{shown.thumbnail(row, note, 'hit' if right else 'miss')}</li>"
        )
    name = shown.name(found.query)
    said = f" <small>{text(found.note)}</small>" if found.note else ""
    query = ""  # without a picture it is the caption again
    if shown.read is not None:
        query = shown.thumbnail(found.query, f"query: {name}", "query")
    return (
        f'<figure class="row"><figcaption><bdi>{name}</bdi>{said}</figcaption>'
        f"<div>{query}<ol>{''.join(items)}</ol></div></figure>"
    )


def class_map(shown: Shown, layout: Map | None, classes_are: str) -> str:
    """The map, from pictures or dots; `classes_are` says what kind of classes."""
    if layout is None:
        return "<p>No map: it takes ten embeddings that are not all in one point.</p>"
    labels = shown.labels[layout.indices]
    classes = np.unique(labels)
    groups = []
    for number, label in enumerate(classes):
        own = labels == label
        marks = "".join(
            _mark(shown, row, 40 * column, 40 * line)
            for row, (column, line) in zip(
                layout.indices[own].tolist(), layout.cells[own].tolist(), strict=True
            )
        )
        name = text(shown.class_names[label])
        colour = class_colour(number)
        groups.append(
            f'<g stroke="{colour}" style="--colour: {colour}"><title>{name}</title>'
            f"{marks}</g>"
        )
    noun = "rows" if shown.read is None else "images"
    return (
        f"<p>{len(labels)} {noun} of {len(classes)} {classes_are}, laid out by t-SNE"
        " and then moved to the nearest free cell so that none hides another. A colour"
        " is a class; point at one to see which, and where its others are.</p>"
        f'<figure class="map"><svg viewBox="0 0 {40 * layout.columns}'
        f' {40 * layout.rows}" role="img"'
        f' aria-label="Map of {len(classes)} classes">{"".join(groups)}</svg>'
        "</figure>"
    )


def _mark(shown: Shown, row: int, x: int, y: int) -> str:
    if shown.read is None:
        return f'<circle cx="{x + 20}" cy="{y + 20}" r="12"/>'
    return (
        f'<image x="{x + 4}" y="{y + 4}" width="32" height="32"'
        f' href="{shown.uri(row)}"/>'
        f'<rect x="{x + 2}" y="{y + 2}" width="36" height="36" rx="4"/>'
    )


def similarities(chart: Sequence[bytes]) -> str:
    """Histograms of pairs, and what they are."""
    return (
        "<p>Cosine similarity of pairs of one class (positive) and of two classes"
        " (negative): the less the two overlap, the better. AUC is how often a positive"
        " pair is more similar than a negative one.</p>"
        + picture(chart, "Histograms of the similarity of positive and negative pairs")
    )
