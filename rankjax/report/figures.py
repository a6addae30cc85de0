"""The figures, as PNG bytes."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rankjax.report.analysis import Map, judged_on, separation, series
from rankjax.report.drawing import (
    HIT,
    LIGHT,
    MISS,
    Theme,
    as_png,
    class_colour,
    put_title,
    row_of_panels,
)

History = list[dict[str, float]]
SPACES = {"raw_pixels": "Raw pixels", "untrained": "Untrained", "test": "Trained"}


def curves(history: History, theme: Theme) -> bytes:
    """Training loss and validation retrieval over the steps."""
    figure, (loss, recall) = row_of_panels(2, theme)
    _plot(loss, history, {"loss": "loss"}, theme, "Training loss")
    on = judged_on(history)
    names = {f"{on}/recall_at_1": "Recall@1", f"{on}/map_at_r": "MAP@R"}
    _plot(recall, history, names, theme, f"{on.capitalize()} retrieval")
    return as_png(figure)


def health(history: History, theme: Theme) -> bytes:
    """Embedding norm, similarities and share of active loss terms over the steps."""
    figure, (norm, cosine, active) = row_of_panels(3, theme)
    _plot(norm, history, {"embedding_norm": "norm"}, theme, "Embedding norm")
    names = {
        "positive_similarity": "positive pairs",
        "negative_similarity": "negative pairs",
        "mean_cosine": "all pairs",
    }
    _plot(cosine, history, names, theme, "Mean cosine in a batch")
    _plot(active, history, {"active_share": "share"}, theme, "Active loss terms")
    active.set_ylim(-0.04, 1.04)
    return as_png(figure)


def similarity(spaces: dict[str, tuple[np.ndarray, np.ndarray]], theme: Theme) -> bytes:
    """Histograms of the cosines of positive and negative pairs, a panel per space."""
    figure, panels = row_of_panels(len(spaces), theme)
    values = np.concatenate([side for pair in spaces.values() for side in pair])
    bins = np.linspace(values.min(initial=0.0), 1, 64)
    for panel, (name, pair) in zip(panels, spaces.items(), strict=True):
        for cosines, sign, colour in zip(
            pair, ("positive", "negative"), theme.series[:2], strict=True
        ):
            label = f"{sign} pairs" if len(cosines) else f"no {sign} pairs"
            share = np.histogram(np.minimum(cosines, 1), bins)[0] / max(len(cosines), 1)
            panel.stairs(share, bins, fill=True, alpha=0.3, color=colour)
            panel.stairs(share, bins, color=colour, linewidth=1.3, label=label)
        put_title(panel, name, theme)
        if len(pair[0]) and len(pair[1]):
            note = f"AUC {separation(*pair):.3f}"
            panel.set_title(note, loc="right", color=theme.muted, fontsize=9)
        panel.set_xlabel("cosine similarity", color=theme.muted, fontsize=9)
        panel.locator_params(axis="x", nbins=5)
        panel.set_yticks([])
        panel.margins(y=0.08)
    panels[0].set_ylabel("share of pairs", color=theme.muted, fontsize=9)
    panels[0].legend(frameon=False, labelcolor=theme.ink, fontsize=8.5)
    return as_png(figure)


def gallery(
    images: Any,
    labels: np.ndarray,
    neighbours: np.ndarray,
    groups: dict[str, np.ndarray],
    heading: str,
) -> bytes:
    """Queries and their neighbours in two columns, 900 px wide at twice the density.

    `groups` maps a caption to its queries, int [queries].
    """
    side, pitch, margin, column = 41, 54, 24, 436
    lines = {name: -(-len(queries) // 2) for name, queries in groups.items()}
    height = 76 + sum(38 + pitch * count for count in lines.values())
    figure, axes = _canvas(900, height)
    _text(axes, margin, 30, heading, 12.5, weight="bold")
    top = 48.0
    for name, queries in groups.items():
        _text(axes, margin, top + 20, name, 10, color=LIGHT.muted)
        top += 34
        for place, query in enumerate(queries):
            x, y = margin + place % 2 * column, top + place // 2 * pitch
            _thumbnail(axes, images[query], x, y, side)
            _frame(axes, x, y, side, LIGHT.ink, linewidth=1.3)
            bar = x + side + 9
            axes.plot([bar, bar], [y + 4, y + side - 4], color=LIGHT.grid)
            for rank, found in enumerate(neighbours[query]):
                left = x + side + 18 + rank * (side + 4.4)
                _thumbnail(axes, images[found], left, y, side)
                _verdict(axes, left, y, side, labels[found] == labels[query])
        top += 4 + pitch * lines[name]
    _legend(axes, margin, height - 18)
    return as_png(figure)


def class_map(images: Any, labels: np.ndarray, layout: Map) -> bytes:
    """Thumbnails at their cells, framed in the colour of their class."""
    side = 1000 / layout.columns
    figure, axes = _canvas(1000, round(side * layout.rows))
    classes = np.unique(labels[layout.indices])
    for index, (column, row) in zip(layout.indices, layout.cells, strict=True):
        colour = class_colour(int(np.searchsorted(classes, labels[index])))
        x, y = column * side + 1.5, row * side + 1.5
        _thumbnail(axes, images[index], x, y, side - 3)
        _frame(axes, x, y, side - 3, colour, linewidth=1.8)
    return as_png(figure)


def _plot(
    panel: Axes, history: History, names: dict[str, str], theme: Theme, title: str
) -> None:
    """Draw the series named; a value that is not finite leaves a gap."""
    put_title(panel, title, theme)
    for (key, name), colour in zip(names.items(), theme.series, strict=False):
        steps, values = series(history, key)
        values = np.where(np.isfinite(values), values, np.nan)
        if np.isnan(values).all():
            continue
        few = len(values) <= 40
        if not few:
            panel.plot(steps, values, color=colour, linewidth=0.8, alpha=0.35)
            values = _running_mean(values, len(values) // 50)
        line = "o-" if few else "-"
        panel.plot(steps, values, line, color=colour, lw=1.8, ms=3.5, label=name)
    panel.set_xlabel("step", color=theme.muted, fontsize=9)
    if not panel.lines:
        panel.set(xlabel="not logged", xticks=[], yticks=[])
    elif len(names) > 1:
        panel.legend(frameon=False, labelcolor=theme.ink, fontsize=8.5)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over up to 2 width + 1 values, of those that are finite."""
    window = np.ones(2 * width + 1)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0), window, "same")
    count = np.convolve(finite, window, "same")
    return np.where(finite, total / np.maximum(count, 1), np.nan)


def _canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """An empty white page measured in pixels from its top left corner."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=200)
    figure.set_facecolor(LIGHT.paper)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def _text(axes: Axes, x: float, y: float, text: str, size: float, **style) -> None:
    axes.text(x, y, text, fontsize=size, **{"color": LIGHT.ink, **style})


def _thumbnail(axes: Axes, image: np.ndarray, x: float, y: float, side: float) -> None:
    height, width = image.shape[:2]
    across, down = side / 2 / max(height, width) * np.array([width, height])
    x, y = x + side / 2, y + side / 2
    axes.imshow(
        np.broadcast_to(image, (height, width, 3)),
        extent=(x - across, x + across, y + down, y - down),
        aspect="auto",
        interpolation="antialiased",
    )


def _frame(axes: Axes, x: float, y: float, side: float, colour: str, **style) -> None:
    style |= {"fill": False, "edgecolor": colour}
    axes.add_patch(Rectangle((x, y), side, side, **style))


def _verdict(axes: Axes, x: float, y: float, side: float, right: bool) -> None:
    """A solid green frame, or a dashed red one with a cross on its corner."""
    if right:
        _frame(axes, x, y, side, HIT, linewidth=1.7)
        return
    _frame(axes, x, y, side, MISS, linewidth=1.7, linestyle=(0, (2.2, 1.3)))
    corner = x + side - 2, y + 2
    axes.plot(*corner, "o", color=MISS, markersize=7.5, markeredgecolor="white")
    axes.plot(*corner, "x", color="white", markersize=3, markeredgewidth=1.2)


def _legend(axes: Axes, x: float, y: float) -> None:
    for offset, right, text in ((0, True, "same class"), (118, False, "another class")):
        _verdict(axes, x + offset, y - 12, 14, right)
        _text(axes, x + offset + 23, y, text, 9, color=LIGHT.muted)
