"""Charts as SVG. No pyplot: nothing here touches global state.

They are drawn in the colours of a light page. `inline` gives those of the page that a
chart stands in, which `base.css` sets.
"""

import colorsys
import io
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from rankjax.report.analysis import series, validated_on

History = list[dict[str, float]]
Curve = tuple[np.ndarray, np.ndarray]

CSS = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("base.css", "page.css")
)
_COLOURS = dict(re.findall(r"--(\w+): (#\w{6})", CSS.partition("@media")[0]))
LIGHT = SimpleNamespace(**_COLOURS)
XMLNS = 'xmlns="http://www.w3.org/2000/svg"'  # of a picture, not of a page
_WIDTH, _HEIGHT = 720, 216  # points
SERIES = LIGHT.accent, LIGHT.orange, LIGHT.grey


def class_colour(number: int) -> str:
    """One of many colours, those of consecutive numbers far apart in hue."""
    lightness = (0.42, 0.58)[number % 2]
    rgb = colorsys.hls_to_rgb(number * 0.618034 % 1, lightness, 0.72)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def inline(svg: str) -> Markup:
    """A chart for the inside of a page, with its colours and font, and without ids.

    Each panel is a picture of its own, so that a narrow page can stack them.
    """
    svg = re.sub(r"(?s)<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg)
    svg = svg[svg.index("<svg x=") : svg.rindex("</svg>")]
    svg = re.sub(r' (x|width|height)="[^"]*"(?=.* viewBox)', "", svg)
    svg = re.sub(r"font-family: [^;]*; ", "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg)


def training(history: History) -> str:
    """Training loss and validation retrieval over the steps."""
    panels = loss, recall = _panels(2)
    split = validated_on(history)
    _steps(loss, history, "Training loss", {"loss": "loss"})
    names = {"Recall@1": f"{split}/recall_at_1", "MAP@R": f"{split}/map_at_r"}
    _steps(recall, history, f"{split.capitalize()} retrieval", names)
    return _as_svg(panels)


def health(history: History) -> str:
    """Embedding norm, similarities and share of active loss terms over the steps."""
    panels = norm, cosine, active = _panels(3)
    _steps(norm, history, "Embedding norm", {"norm": "embedding_norm"})
    names = {
        "positive pairs": "positive_similarity",
        "negative pairs": "negative_similarity",
        "all pairs": "mean_cosine",
    }
    _steps(cosine, history, "Mean cosine in a batch", names)
    _steps(active, history, "Active loss terms", {"share": "active_share"})
    active.set_ylim(-0.04, 1.04)
    return _as_svg(panels)


def similarity(spaces: dict[str, Sequence[np.ndarray]]) -> str:
    """Histograms of the cosines of positive and negative pairs, a panel per space."""
    panels = _panels(len(spaces))
    values = np.concatenate([side for pair in spaces.values() for side in pair])
    bins = np.linspace(values.min(initial=0.0), 1, 64)
    for panel, (name, pair) in zip(panels, spaces.items(), strict=True):
        for cosines, sign, colour in zip(
            pair, ("positive", "negative"), SERIES, strict=False
        ):
            label = f"{sign} pairs" if len(cosines) else f"no {sign} pairs"
            share = np.histogram(np.minimum(cosines, 1), bins)[0] / max(len(cosines), 1)
            panel.stairs(share, bins, fill=True, alpha=0.3, color=colour)
            panel.stairs(share, bins, color=colour, linewidth=1.3, label=label)
        _titles(panel, name, "cosine similarity")
        if len(pair[0]) and len(pair[1]):
            same = np.repeat([True, False], list(map(len, pair)))
            note = f"AUC {roc_auc_score(same, np.concatenate(pair)):.3f}"
            panel.set_title(note, loc="right", color=LIGHT.muted, fontsize=9)
        panel.locator_params(axis="x", nbins=5)
        panel.set_yticks([])
        panel.margins(y=0.08)
    panels[0].set_ylabel("share of pairs", color=LIGHT.muted, fontsize=9)
    _legend(panels[0])
    return _as_svg(panels)


def ranking(precision: Curve, roc: Curve) -> str:
    """Precision over recall, and the ROC curve (far, tar) of pairs."""
    panels = left, right = _panels(2)
    _titles(left, "Precision over recall", "recall", "interpolated precision")
    left.plot(*precision, color=LIGHT.accent, lw=1.8)
    left.set(xlim=(0, 1), ylim=(0, 1.03))
    _roc(right, *roc)
    return _as_svg(panels)


def decisions(far: np.ndarray, tar: np.ndarray, thresholds: np.ndarray) -> str:
    """The ROC curve of pairs, and both errors over the threshold."""
    panels = left, right = _panels(2)
    _roc(left, far, tar)
    x = "threshold on cosine similarity"
    _titles(right, "Errors over the threshold", x, "share of pairs")
    errors = {"false rejection": 1 - tar, "false acceptance": far}
    finite = np.isfinite(thresholds)
    for (name, error), colour in zip(errors.items(), SERIES, strict=False):
        right.plot(thresholds[finite], error[finite], color=colour, lw=1.8, label=name)
    _legend(right)
    right.set(ylim=(0, 1.03))
    return _as_svg(panels)


def _roc(panel: Axes, far: np.ndarray, tar: np.ndarray) -> None:
    x = "false acceptance rate, logarithmic"
    _titles(panel, "ROC of pairs", x, "true acceptance rate")
    left = max(float(far[far > 0].min(initial=1)), 1e-5) / 2
    panel.plot(np.maximum(far, left), tar, color=LIGHT.accent, lw=1.8)
    panel.set(xscale="log", xlim=(left, 1), ylim=(0, 1.03))
    panel.minorticks_off()


def _steps(panel: Axes, history: History, title: str, names: dict[str, str]) -> None:
    """Draw keys of the history by name; a value that is not finite leaves a gap.

    Where no key has more than one value, these are written instead.
    """
    _titles(panel, title, "step")
    lines = []
    for (name, key), colour in zip(names.items(), SERIES, strict=False):
        steps, values = series(history, key)
        values = np.where(np.isfinite(values), values, np.nan)
        if not np.isnan(values).all():
            lines.append((name, steps, values, colour))
    single = all((~np.isnan(values)).sum() == 1 for _, _, values, _ in lines)
    for at, (name, steps, values, colour) in enumerate(lines):
        few = len(values) <= 40
        if single:
            step = steps[~np.isnan(values)][0]
            words = f"{np.nanmax(values):.3f} {name}, at step {step:,.0f}"
            panel.text(0, 0.8 - 0.2 * at, words, color=LIGHT.ink, fontsize=12)
            continue
        if not few:
            panel.plot(steps, values, color=colour, linewidth=0.8, alpha=0.35)
            values = _running_mean(values, len(values) // 50)
        line = "o-" if few else "-"
        panel.plot(steps, values, line, color=colour, lw=1.8, ms=3.5, label=name)
    if single:
        panel.set(xlabel="" if lines else "not logged", xticks=[], yticks=[])
        panel.spines["bottom"].set_visible(not lines)
    elif len(names) > 1:
        _legend(panel)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over up to 2 width + 1 values, of those that are finite."""
    window = np.ones(2 * width + 1)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0), window, "same")
    count = np.convolve(finite, window, "same")
    return np.where(finite, total / np.maximum(count, 1), np.nan)


def _panels(count: int) -> list[Axes]:
    """So many empty panels, which stand side by side."""
    size = _width(count) / 72, _HEIGHT / 72
    panels = [
        Figure(size, layout="constrained", facecolor=LIGHT.paper).subplots()
        for _ in range(count)
    ]
    for panel in panels:
        panel.set_facecolor("none")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(LIGHT.muted)
        panel.tick_params(colors=LIGHT.muted, labelsize=8.5, length=0, pad=5)
        panel.grid(axis="y", color=LIGHT.grid, linewidth=0.8)
        panel.set_axisbelow(True)
    return panels


def _width(count: int) -> float:
    """Of each of so many panels, in points."""
    return min(_WIDTH / count, 360)


def _titles(panel: Axes, title: str, x: str, y: str = "") -> None:
    panel.set_title(
        title, loc="left", color=LIGHT.ink, fontsize=10.5, weight="bold", pad=9
    )
    panel.set_xlabel(x, color=LIGHT.muted, fontsize=9)
    panel.set_ylabel(y, color=LIGHT.muted, fontsize=9)


def _legend(panel: Axes) -> None:
    panel.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8.5)


def _as_svg(panels: Sequence[Axes]) -> str:
    """Panels side by side, each as an SVG inside of one."""
    width, parts = _width(len(panels)), []
    # Text stays text, and the same chart the same bytes.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "rankjax"}
    for at, panel in enumerate(panels):
        figure: Any = panel.figure
        for artist in figure.findobj():
            artist.set_clip_on(False)  # a clip would refer to an id
        buffer = io.StringIO()
        with matplotlib.rc_context(settings):
            figure.savefig(
                buffer, format="svg", metadata={"Date": None, "Creator": None}
            )
        svg = buffer.getvalue()
        body = svg[svg.index(">", svg.index("<svg")) + 1 :]
        size = f'width="{width:g}" height="{_HEIGHT}"'
        box = f'viewBox="0 0 {width:g} {_HEIGHT}"'
        parts.append(f'<svg x="{width * at:g}" {size} {box}>{body}')
    names = f'{XMLNS} xmlns:xlink="http://www.w3.org/1999/xlink"'
    whole = f'viewBox="0 0 {width * len(panels):g} {_HEIGHT}"'
    return f"<svg {names} {whole}>\n{''.join(parts)}</svg>\n"
