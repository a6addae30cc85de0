"""Time and memory of a few losses against the batch size, in one picture."""

import io
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments.bench.output import Row
from experiments.bench.timing import Shape
from rankjax.report.charts import LIGHT, class_colour

DRAWN = ("sup_con", "triplet", "multi_similarity", "fast_ap")
STYLES: dict[str, tuple[Literal["-", "--", "-.", ":"], str]] = {
    "rankjax": ("-", "o"),
    "peer": ("--", "s"),
    "peer-best": ("-.", "^"),
    "limit": (":", ""),
}
LEAST_MB = 0.1  # below it the kernel's pages blur the figure


def draw(rows: Sequence[Row]) -> bytes:
    """The picture as PNG, of the rows with the default D and K."""
    usual = [row for row in rows if (row["D"], row["K"]) == (Shape(1).D, Shape(1).K)]
    names = [name for name in DRAWN if any(row["loss"] == name for row in usual)]
    names = names or list(dict.fromkeys(row["loss"] for row in usual))[: len(DRAWN)]
    colours = {name: class_colour(3 * i) for i, name in enumerate(names)}
    figure = Figure(figsize=(10, 4.2), dpi=160, layout="constrained")
    figure.set_facecolor(LIGHT.paper)
    panels = figure.subplots(1, 2)
    for panel, key, title in zip(
        panels,
        ("cpu_s", "peak_mb"),
        ("CPU seconds, value and gradient", "Memory of one call, MB"),
        strict=True,
    ):
        _axes(panel, title)
        for variant in STYLES:
            if variant == "limit":
                _line(
                    panel,
                    usual,
                    names[:1],
                    variant,
                    key,
                    dict.fromkeys(names, LIGHT.muted),
                )
            else:
                _line(panel, usual, names, variant, key, colours)
        batches = sorted({row["B"] for row in usual})
        panel.set_xticks(batches, [f"{b:,}" for b in batches])
        panel.xaxis.set_minor_locator(NullLocator())
    _legend(figure, colours, {row["variant"] for row in usual})
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", facecolor=LIGHT.paper)
    return buffer.getvalue()


def _axes(panel: Axes, title: str) -> None:
    panel.set(xscale="log", yscale="log", facecolor=LIGHT.paper)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(LIGHT.muted)
    panel.tick_params(which="both", colors=LIGHT.muted, labelsize=8.5, length=0)
    panel.grid(axis="y", color=LIGHT.grid, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.set_title(title, loc="left", color=LIGHT.ink, fontsize=10.5, weight="bold")
    panel.set_xlabel("rows in the batch", color=LIGHT.muted, fontsize=9)


def _line(
    panel: Axes,
    rows: Sequence[Row],
    names: Sequence[str],
    variant: str,
    key: str,
    colours: dict[str, str],
) -> None:
    style, marker = STYLES[variant]
    for name in names:
        points = sorted(
            (row["B"], max(row[key], LEAST_MB) if key == "peak_mb" else row[key])
            for row in rows
            if (row["loss"], row["variant"]) == (name, variant) and row[key] is not None
        )
        if points:
            panel.plot(
                *zip(*points, strict=True),
                style,
                marker=marker,
                color=colours[name],
                markersize=4,
                linewidth=1.7,
            )


def _legend(figure: Figure, colours: dict[str, str], variants: set[str]) -> None:
    handles = [
        Line2D([], [], color=colour, linewidth=1.7, label=name)
        for name, colour in colours.items()
    ] + [
        Line2D([], [], color=LIGHT.muted, linestyle=style, marker=marker, label=name)
        for name, (style, marker) in STYLES.items()
        if name in variants
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        labelcolor=LIGHT.ink,
        fontsize=8.5,
    )
