"""Figures that others have published, side by side."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study.drawing import HATCHES, SERIES, TEXT, panels
from experiments.study.registry import figure

PAPERS = {"Triplet": 36.1, "N-pairs": 51.0, "ProxyNCA": 49.2, "Margin": 63.8}
MATCHED = {"Triplet": 61.2, "N-pairs": 59.0, "ProxyNCA": 64.0, "Margin": 63.4}
MAP_AT_R = {
    "Contrastive": 26.53, "Triplet": 23.69, "NT-Xent": 25.09, "ProxyNCA": 24.21,
    "Margin": 23.09, "Margin/class": 23.71, "N. softmax": 25.25, "CosFace": 26.70,
    "ArcFace": 26.45, "FastAP": 23.53, "SNR": 25.75, "Multi-sim.": 24.70,
    "MS + miner": 26.52, "SoftTriple": 26.51,
}  # fmt: skip

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
        "CUB": (MATCHED["N-pairs"], MATCHED["Triplet"]), "Cars": (69.5, 75.4),
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

CLASSES = {"192 x 2": 88.58, "96 x 4": 87.53, "64 x 6": 83.96, "32 x 12": 79.61}


def bars(panel: Axes, values: dict[str, float], colour: str, form: str) -> None:
    """Horizontal bars in the order given, each with its value."""
    names = [*values]
    panel.barh(names, list(values.values()), color=colour, alpha=0.85, height=0.65)
    for i, value in enumerate(values.values()):
        panel.text(value, i, f" {value:{form}}", va="center", fontsize=9)
    panel.set_ylim(len(values) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


@figure()
def papers_and_matched() -> Figure:
    """What papers report, and what is left under equal conditions.

    CUB-200-2011. Left: Recall@1 as each method's own paper, or the papers after it,
    report it: other networks, lengths of embeddings and training for each, and 28
    points from the first to the last. Middle: Recall@1 of the same four where one
    group trained all of them, ResNet-50 and 128 dimensions: five points. (The triplet
    has soft-hard and the margin loss distance-weighted sampling there.) Right: MAP@R,
    another measure, of 14 losses with one network, searched settings and ten runs each.

    Left: tables of Rolinek et al., CVPR 2020, which quote the papers. Middle: README of
    Confusezius/Deep-Metric-Learning-Baselines. Right: Musgrave,
    Belongie, Lim, ECCV 2020, concatenated 512 dimensions, read off the authors' own bar
    chart to 0.08 points. Nothing here was run by us.
    """
    drawn, (papers, matched, check) = panels(3, height=4.0)
    for panel, values, colour, title in (
        (papers, PAPERS, SERIES[0], "As published"),
        (matched, MATCHED, SERIES[1], "One group, one network"),
        (check, MAP_AT_R, SERIES[2], "MAP@R, Reality Check"),
    ):
        bars(panel, values, colour, ".1f")
        panel.set(title=title)
    for panel in (papers, matched):
        panel.set(ylim=(4.9, -0.9), xlim=(0, 80), xlabel="Recall@1, %")
    check.set(xlim=(0, 34), xlabel="MAP@R, %")
    return drawn


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


@figure()
def classes_and_examples() -> Figure:
    """Many classes or many examples of each.

    Rank-1 identification on LFW of the N-pair loss with batches of 384 images, split
    into classes x images of each. More classes are better than more images of each.

    Source: Sohn, NIPS 2016, read from an image of the paper's table. Nothing here was
    run by us.
    """
    drawn, (panel,) = panels(1, height=2.3)
    bars(panel, CLASSES, SERIES[0], ".1f")
    panel.set(xlim=(0, 100), xlabel="rank-1 identification rate, %",
              ylabel="classes x images", title="Batches of 384")  # fmt: skip
    return drawn
