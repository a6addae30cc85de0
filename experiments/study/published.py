"""Figures that others have published, side by side."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study.drawing import HATCHES, SERIES, TEXT, panels
from experiments.study.registry import figure

SURVEY = {
    "Contrastive": (37.27, 19.05, 44.09),
    "Semi-hard triplet": (49.03, 71.22, 87.43),
    "Hard triplet": (46.55, 72.03, 88.38),
    "Lifted": (35.26, 68.26, 87.32),
    "N-pairs": (46.52, 72.60, 89.12),
    "Angular": (45.50, 60.30, 84.70),
}
DATA_SETS = ("CUB-200-2011", "SOP", "In-Shop")

AGAINST_TRIPLETS: dict[str, dict[str, tuple[float, float]]] = {
    "N-pairs paper, its triplet": {
        "CUB": (50.96, 43.30), "Cars": (71.12, 53.84), "SOP": (65.25, 53.32),
    },
    "angular paper (both losses), its triplet": {
        "CUB": (54.7, 42.2), "Cars": (71.0, 45.5), "SOP": (70.9, 56.5),
    },
    "DML-Baselines, N-pairs, mined triplet": {
        "CUB": (59.0, 61.2), "Cars": (69.5, 75.4),
        "SOP": (70.9, 74.3), "In-Shop": (80.9, 83.9),
    },
    **{
        f"survey's code, {name}, semi-hard triplet": {
            data.removesuffix("-200-2011"): (ours, theirs)
            for data, ours, theirs in zip(
                DATA_SETS, SURVEY[name], SURVEY["Semi-hard triplet"], strict=True
            )
        }
        for name in ("N-pairs", "Angular")
    },
}  # fmt: skip
"""Recall@1 of N-pairs or angular and of a triplet, by who published both."""


def bars(panel: Axes, values: dict[str, float], colour: str, form: str) -> None:
    """Horizontal bars in the order given, each with its value."""
    names = [*values]
    panel.barh(names, list(values.values()), color=colour, alpha=0.85, height=0.65)
    for i, value in enumerate(values.values()):
        panel.text(value, i, f" {value:{form}}", va="center", fontsize=9)
    panel.set_ylim(len(values) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


@figure()
def survey_benchmark() -> Figure:
    """The survey author's own benchmark.

    Recall@1 of six losses on three data sets, as the repository that goes with the
    survey reports it. Semi-hard triplets lead on CUB, N-pairs on the
    other two; the angular loss is below both triplets on all three. Contrastive is
    lowest on two and next to lowest on CUB. Batches and optimisers differ between data
    sets, and the repository says that results depend heavily on both.

    Source: README of ahmdtaha/tf_retrieval_baseline (commit 31b1588): Inception-v1 on
    CUB and SOP, DenseNet-169 on In-Shop. Nothing here was run by us.
    """
    drawn, axes = panels(3, height=3.0, sharey=True)
    for i, (panel, title) in enumerate(zip(axes, DATA_SETS, strict=True)):
        values = {name: row[i] for name, row in SURVEY.items()}
        bars(panel, values, SERIES[i], ".2f")
        panel.set(title=title, xlim=(0, 110), xlabel="Recall@1, %")
        best = max(values, key=lambda name: values[name])
        panel.patches[[*values].index(best)].set(hatch=HATCHES[0], edgecolor=TEXT)
    return drawn
