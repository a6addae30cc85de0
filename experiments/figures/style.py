"""How every figure looks: readable on a white page and on a dark one alike."""

import io
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

PAGES = ("#ffffff", "#121417")
"""Backgrounds that a transparent figure is meant to lie on."""

TEXT = "#757c85"
BLUE, ORANGE, GREEN, PURPLE = "#1769c0", "#e07414", "#14a47c", "#a8559a"
"""Okabe and Ito's blue, vermilion, bluish green and reddish purple, of a lightness that
stands out from both pages."""

SERIES = (BLUE, ORANGE, GREEN, PURPLE, TEXT)
LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
HATCHES = ("////", "....", "\\\\\\\\", "xxx", "")
WIDTH = 9.375  # inches, 900 pixels of a browser

SHADES = LinearSegmentedColormap.from_list(
    "shades", [(*to_rgb(BLUE), 0.0), (*to_rgb(BLUE), 0.9)]
)
"""From nothing to blue, for amounts that start at zero."""

_FONT = "DejaVu Sans"  # what text is laid out with; it is wider than what is shown
_SYSTEM_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"

SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": TEXT,
    "axes.labelsize": 10,
    "axes.prop_cycle": cycler(color=SERIES, linestyle=LINES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.05,
    "figure.facecolor": "none",
    "font.family": _FONT,
    "font.size": 10,
    "grid.alpha": 0.22,
    "grid.color": TEXT,
    "grid.linestyle": "-",
    "hatch.linewidth": 0.6,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 2.2,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "rankjax",
    "text.color": TEXT,
    "xtick.color": TEXT,
    "xtick.labelsize": 9.5,
    "ytick.color": TEXT,
    "ytick.labelsize": 9.5,
}


def applied() -> Any:
    """A context in which figures are made and written in this style."""
    return rc_context(SETTINGS)


def panels(
    columns: int, *, rows: int = 1, height: float = 3.4, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure as wide as a page, and its panels [rows * columns]."""
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(rows, columns, squeeze=False, **settings)
    return figure, axes.reshape(-1)


def plane(panel: Axes, title: str, x: Any, y: Any) -> None:
    """Makes a panel a piece of the plane, without numbers at its edges."""
    panel.set(title=title, xlim=x, ylim=y, aspect="equal", xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.grid(False)


def arrows(
    panel: Axes, at: Any, step: Any, colour: str = TEXT, **settings: Any
) -> None:
    """Arrows in the plane's own units, from points [n, 2] along steps [n, 2]."""
    at, step = np.atleast_2d(at), np.atleast_2d(step)
    settings = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 4} | settings
    settings = {"width": 0.008, "headwidth": 3.6, "headlength": 4.2} | settings
    panel.quiver(*at.T, *step.T, color=colour, **settings)


def point(
    panel: Axes, at: Any, name: str, number: int, offset: Any, colour: str | None = None
) -> None:
    """A named point, of the marker of a series and of its colour or another."""
    colour = SERIES[number] if colour is None else colour
    panel.plot(*at, MARKERS[number], color=colour, markersize=9, zorder=5)
    label(panel, at, name, offset, ha="center")


def label(panel: Axes, at: Any, text: str, offset: Any, **settings: Any) -> None:
    """Text at an offset, in points, from a place."""
    panel.annotate(
        text, at, xytext=offset, textcoords="offset points", va="center", zorder=6,
        **settings,
    )  # fmt: skip


def below(figure: Figure, *, columns: int = 5) -> Figure:
    """The figure with a legend of its first panel's series below it."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    by_name = dict(zip(names, handles, strict=True))
    place: Any = "outside lower center"
    figure.legend([*by_name.values()], [*by_name], loc=place, ncols=columns)
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as SVG, its text as text in the reader's own font."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=nothing)
    return buffer.getvalue().replace(f"'{_FONT}'", _SYSTEM_FONTS)


def as_png(figure: Figure) -> bytes:
    """The figure as PNG, 200 dots per inch."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()
