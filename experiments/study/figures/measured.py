"""Figures of results that a command has written."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.study.drawing import MARKERS, SERIES, panels
from experiments.study.registry import figure, results

COMMAND = (
    "python -m experiments.compare --quick "
    "--json experiments/results/compare-quick.json"
)


@figure()
def unseen_characters() -> Figure:
    """Losses on characters that training never saw.

    Recall@1, MAP@R and NMI on the 582 test characters of `glyphs` after 500 steps of
    128 images: mean over three seeds, and two standard deviations to either side.
    `raw_pixels` and `untrained` are what there is without learning. Settings were not
    searched per loss.

    Read from experiments/results/compare-quick.json, which `python -m
    experiments.compare --quick` writes.
    """
    rows = results("compare-quick.json", COMMAND)
    drawn, (panel,) = panels(1, height=3.4)
    rows = sorted(rows, key=lambda row: row["recall_at_1"])
    y = np.arange(len(rows))
    named = {"recall_at_1": "Recall@1", "map_at_r": "MAP@R", "nmi": "NMI"}
    for i, (key, name) in enumerate(named.items()):
        mean, sd = ([row[key + end] for row in rows] for end in ("", "_sd"))
        style: Any = {"fmt": MARKERS[i], "color": SERIES[i], "ms": 7, "elinewidth": 2}
        panel.errorbar(mean, y, xerr=2 * np.array(sd), label=name, **style)
    panel.set(yticks=y, yticklabels=[row["name"] for row in rows], xlim=(0, 1))
    panel.set(xlabel="score on unseen classes")
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return drawn
