"""What figures of claims share: their captions, bands over seeds, and intervals."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims.claim import Claim, Finding
from experiments.figures.registry import figure
from experiments.figures.style import LINES, MARKERS, SERIES, TEXT

LABELS = {
    "contrastive": "contrastive",
    "triplet_random": "random triplets",
    "triplet_all": "all triplets",
    "triplet_semi_hard": "semi-hard triplets",
    "triplet_hard": "hardest triplets",
    "triplet_easy_positive": "easy-positive triplets",
    "n_pairs_ovo": "N-pairs, one vs one",
    "n_pairs": "N-pairs",
    "angular": "angular",
}
"""How the arms of `experiments.sweep.studies.ARMS` are called in figures."""


def of_claim(claim: Claim) -> Callable[[Callable[[], Figure]], Callable[[], Figure]]:
    """Lists the figure of a claim, with its words in the caption."""

    def listed(draw: Callable[[], Figure]) -> Callable[[], Figure]:
        draw.__doc__ = (
            f"{inspect.getdoc(draw)}\n\nClaim {claim.name}: {claim.claim} Expected "
            f"before anything was run: {claim.prediction}"
        )
        return figure(draw)

    return listed


def band(panel: Axes, x: Any, values: np.ndarray, name: str, series: int) -> None:
    """Mean of [seeds, x] as a line, and its 95 % interval as a band."""
    mean, error = values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
    style: dict[str, Any] = {"color": SERIES[series], "ls": LINES[series]}
    panel.plot(x, mean, label=name, **style)
    panel.fill_between(x, mean - 1.96 * error, mean + 1.96 * error,
                       color=SERIES[series], alpha=0.15, lw=0)  # fmt: skip


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
    panel.errorbar(effect, y, xerr=error, label=name, ms=6, elinewidth=2,
                   fmt=MARKERS[series], color=SERIES[series])  # fmt: skip


def points(
    panel: Axes, x: Any, findings: Sequence[Finding], name: str, series: int
) -> None:
    """Effects at places x with their intervals, joined by a line."""
    effect, error = reach(findings)
    panel.errorbar(x, effect, error, label=name, ms=6, lw=1.8, elinewidth=1.6,
                   marker=MARKERS[series], color=SERIES[series],
                   ls=LINES[series])  # fmt: skip


def rows(panel: Axes, names: Sequence[str], *, effects: bool = True) -> None:
    """Names from top to bottom at heights 0, 1, ..., and of effects a line at none."""
    panel.set(yticks=range(len(names)), yticklabels=names,
              ylim=(len(names) - 0.5, -0.5))  # fmt: skip
    if effects:
        panel.axvline(0, color=TEXT, lw=1, ls="-")
    panel.grid(axis="y", visible=False)


def legend(panel: Axes, side: str, **settings: Any) -> None:
    """The panel's legend below all panels, at the left, center or right."""
    drawn = panel.get_figure()
    assert isinstance(drawn, Figure)
    place: Any = f"outside lower {side}"
    drawn.legend(*panel.get_legend_handles_labels(), loc=place, **settings)
