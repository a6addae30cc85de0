"""How every figure looks: readable on a white page and on a dark one alike."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from experiments.study.statistics import Finding

PAGES = ("#ffffff", "#121417")
"""Backgrounds that a transparent figure is meant to lie on."""

TEXT = "#757c85"
BLUE, ORANGE, GREEN, PURPLE = "#1769c0", "#e07414", "#14a47c", "#a8559a"
"""Okabe and Ito's blue, vermilion, bluish green and reddish purple, of a lightness that
stands out from both pages."""

SERIES = (BLUE, ORANGE, GREEN, PURPLE, TEXT)
LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
LOOKS: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "ls": line, "marker": marker}
    for colour, line, marker in zip(SERIES, LINES, MARKERS, strict=True)
)
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
    panel: Axes,
    at: Any,
    step: Any,
    colour: str = TEXT,
    *,
    longest: float | None = None,
    **settings: Any,
) -> None:
    """Arrows in the plane's own units, from points [n, 2] along steps [n, 2].

    Args:
      panel: to draw on.
      at: points.
      step: from each.
      colour: of all.
      longest: that the longest step is scaled to; by default none is scaled.
      settings: of Matplotlib's quiver.
    """
    at, step = np.atleast_2d(at), np.atleast_2d(step)
    if longest is not None:
        step = longest * step / np.linalg.norm(step, axis=1).max()
    settings = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 4} | settings
    settings = {"width": 0.008, "headwidth": 3.6, "headlength": 4.2} | settings
    panel.quiver(*at.T, *step.T, color=colour, **settings)


def path(panel: Axes, points: Any, colour: str = TEXT, **settings: Any) -> None:
    """A solid line through points [n, 2]."""
    style: Any = {"color": colour, "ls": "-", "lw": 1.2} | settings
    panel.plot(*np.transpose(points), **style)


def point(
    panel: Axes, at: Any, name: str, number: int, offset: Any, colour: str | None = None
) -> None:
    """A named point, of the marker of a series and of its colour or another."""
    colour = SERIES[number] if colour is None else colour
    panel.plot(*at, MARKERS[number], color=colour, markersize=9, zorder=5)
    label(panel, at, name, offset, ha="center")


def two_classes(panel: Axes, rows: np.ndarray, labels: np.ndarray, size: float) -> None:
    """Points [n, 2] of class 0 as blue circles, of class 1 as purple squares."""
    for number, colour in enumerate((BLUE, PURPLE)):
        ours = rows[labels == number].T
        panel.plot(*ours, MARKERS[number], color=colour, ms=size)


def label(panel: Axes, at: Any, text: str, offset: Any, **settings: Any) -> None:
    """Text at an offset, in points, from a place."""
    style: Any = {"textcoords": "offset points", "va": "center", "zorder": 6}
    panel.annotate(text, at, xytext=offset, **style, **settings)


def band(panel: Axes, x: Any, values: np.ndarray, name: str, series: int) -> None:
    """Mean of [seeds, x] as a line, and its 95 % interval as a band."""
    mean, error = values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
    low, high = mean - 1.96 * error, mean + 1.96 * error
    panel.plot(x, mean, label=name, color=SERIES[series], ls=LINES[series])
    panel.fill_between(x, low, high, color=SERIES[series], alpha=0.18, lw=0)


def reach(findings: Sequence[Finding]) -> tuple[np.ndarray, np.ndarray]:
    """Effects [n], and how far their intervals reach to both sides, [2, n]."""
    effect = np.array([f.effect for f in findings])
    ends = np.array([[f.low for f in findings], [f.high for f in findings]])
    return effect, np.abs(ends - effect)


def intervals(
    panel: Axes, findings: Sequence[Finding], y: Any, name: str, series: int
) -> None:
    """Effects with their intervals, at heights y."""
    effect, error = reach(findings)
    style: Any = {"fmt": MARKERS[series], "color": SERIES[series], "elinewidth": 2}
    panel.errorbar(effect, y, xerr=error, label=name, ms=6, **style)


def points(
    panel: Axes, x: Any, findings: Sequence[Finding], name: str, series: int
) -> None:
    """Effects at places x with their intervals, joined by a line."""
    effect, error = reach(findings)
    style: Any = {"marker": MARKERS[series], "ls": LINES[series], "elinewidth": 1.6}
    panel.errorbar(
        x, effect, error, label=name, ms=6, lw=1.8, color=SERIES[series], **style
    )


def rows(panel: Axes, names: Sequence[str], *, effects: bool = True) -> None:
    """Names from top to bottom at heights 0, 1, ..., and of effects a line at none."""
    low, high = len(names) - 0.5, -0.5
    panel.set(yticks=range(len(names)), yticklabels=names, ylim=(low, high))
    if effects:
        panel.axvline(0, color=TEXT, lw=1, ls="-")
    panel.grid(axis="y", visible=False)


def legend(panel: Axes, side: str = "center", **settings: Any) -> Figure:
    """The panel's series below all panels, at the left, center or right.

    Returns:
      The figure.
    """
    figure = panel.get_figure()
    assert isinstance(figure, Figure)
    handles, names = panel.get_legend_handles_labels()
    by_name = dict(zip(names, handles, strict=True))
    place: Any = f"outside lower {side}"
    figure.legend([*by_name.values()], [*by_name], loc=place, **{"ncols": 5} | settings)
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
