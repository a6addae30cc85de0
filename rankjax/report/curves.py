"""The figures of an evaluation, as PNG bytes."""

import numpy as np
from matplotlib.axes import Axes

from rankjax.report.drawing import Theme, as_png, put_title, row_of_panels

Curve = tuple[np.ndarray, np.ndarray]


def ranking(precision: Curve, roc: Curve, theme: Theme) -> bytes:
    """Precision over recall, and the ROC curve (far, tar) of pairs."""
    figure, (left, right) = row_of_panels(2, theme)
    put_title(left, "Precision over recall", theme)
    left.plot(*precision, color=theme.series[0], linewidth=1.8)
    _label(left, "recall", "interpolated precision", theme)
    left.set(xlim=(0, 1), ylim=(0, 1.03))
    _roc(right, roc, theme)
    return as_png(figure)


def decisions(
    far: np.ndarray, tar: np.ndarray, thresholds: np.ndarray, theme: Theme
) -> bytes:
    """The ROC curve of pairs, and both errors over the threshold."""
    figure, (left, right) = row_of_panels(2, theme)
    _roc(left, (far, tar), theme)
    put_title(right, "Errors over the threshold", theme)
    finite = np.isfinite(thresholds)
    for error, name, colour in (
        (far, "false acceptance", theme.series[1]),
        (1 - tar, "false rejection", theme.series[0]),
    ):
        right.plot(thresholds[finite], error[finite], color=colour, lw=1.8, label=name)
    right.legend(frameon=False, labelcolor=theme.ink, fontsize=8.5)
    _label(right, "threshold on cosine similarity", "share of pairs", theme)
    right.set(ylim=(0, 1.03))
    return as_png(figure)


def _roc(panel: Axes, roc: Curve, theme: Theme) -> None:
    far, tar = roc
    put_title(panel, "ROC of pairs", theme)
    left = max(float(far[far > 0].min(initial=1)), 1e-5) / 2
    panel.plot(np.maximum(far, left), tar, color=theme.series[0], linewidth=1.8)
    panel.set(xscale="log", xlim=(left, 1), ylim=(0, 1.03))
    panel.minorticks_off()
    _label(panel, "false acceptance rate, logarithmic", "true acceptance rate", theme)


def _label(panel: Axes, x: str, y: str, theme: Theme) -> None:
    panel.set_xlabel(x, color=theme.muted, fontsize=9)
    panel.set_ylabel(y, color=theme.muted, fontsize=9)
