"""What the figures have in common. No pyplot: nothing here touches global state."""

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; the series differ in lightness as well as in hue."""

    paper: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, str, str]


BLUE_ORANGE_GREY = ("#0b6fb8", "#e07b1a", "#7a8592")
PALE_BLUE_ORANGE_GREY = ("#58b4f0", "#f0a04a", "#98a2b0")
LIGHT = Theme("#ffffff", "#1c2128", "#616b78", "#e6e9ee", BLUE_ORANGE_GREY)
DARK = Theme("#13161b", "#e6e9ee", "#98a2b0", "#2a3038", PALE_BLUE_ORANGE_GREY)
HIT, MISS = "#16834a", "#cf2f2f"


def class_colour(number: int) -> str:
    """One of many colours, those of consecutive numbers far apart in hue."""
    lightness = (0.42, 0.58)[number % 2]
    rgb = colorsys.hls_to_rgb(number * 0.618034 % 1, lightness, 0.72)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def row_of_panels(count: int, theme: Theme) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure of so many panels side by side."""
    engine = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(10, 3), dpi=160, layout=engine)
    figure.set_facecolor(theme.paper)
    panels = figure.subplots(1, count, squeeze=False)[0]
    for panel in panels:
        panel.set_facecolor(theme.paper)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(theme.muted)
        panel.tick_params(colors=theme.muted, labelsize=8.5, length=0, pad=5)
        panel.grid(axis="y", color=theme.grid, linewidth=0.8)
        panel.set_axisbelow(True)
    return figure, panels


def put_title(panel: Axes, text: str, theme: Theme) -> None:
    """Names a panel, at its top left."""
    panel.set_title(
        text, loc="left", color=theme.ink, fontsize=10.5, weight="bold", pad=9
    )


def as_png(figure: Figure) -> bytes:
    """The figure as a file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return buffer.getvalue()
