"""Figures of what sweeps recorded while networks trained."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.study.drawing import MARKERS, SERIES, TEXT, band, legend, panels
from experiments.study.records import ARM_NAMES, BENCHES, BOTH, Record, load
from experiments.study.registry import figure

LOSSES = ("losses-modes", "losses-glyphs")
RULES = {"random": "random", "all": "all", "semi_hard": "semi-hard", "hard": "hard"}


def at_best_rate(record: Record, **cells: float) -> np.ndarray:
    """Test Recall@1 [seed] at the learning rate that validates best.

    Args:
      record: of an arm that was trained at a grid of learning rates.
      cells: other settings that single out a network per rate and seed.
    """
    _, validated = record.over("learning_rate", "last_recall", **cells)
    best = np.nan_to_num(validated).mean(0).argmax()
    return record.over("learning_rate", "recall_at_1", **cells)[1][:, best]


@figure(sweeps=LOSSES[:1])
def learning_curves() -> Figure:
    """Loss and accuracy while triplets and N-pairs train.

    Drawn classes, 64 rows a batch, mean of 24 seeds and its 95 % interval, settings
    searched alike for each loss. Left: the training loss over its first mean. Such
    curves of different losses cannot be compared: they are in different units. Middle:
    how often, on validation classes, an anchor is nearer to its positive than to one
    random row of another class; right: than to a row of every other class, of 40. A
    random row is a weak opponent: one against one is at 0.9 when one against all is at
    0.4. The triplet's loss is the mean of those triplets that are not yet solved, and
    hardly falls while the embedding becomes better.

    After a figure of Sohn, NIPS 2016.
    """
    result = load("losses-modes")
    _, axes = panels(3)
    arms = ("triplet_random", "triplet_semi_hard", "n_pairs_ovo", "n_pairs")
    for i, arm in enumerate(arms):
        for panel, key in zip(axes, ("loss", "one_way", "n_way"), strict=True):
            seeds = result.arms[arm].curve(key)
            if key == "loss":
                seeds = seeds / seeds[:, :1]
            band(panel, result.steps, seeds, ARM_NAMES[arm], i)
    titles = "Loss over its first", "One against one", "One against all"
    for panel, title in zip(axes, titles, strict=True):
        panel.set(title=title, xlabel="step", ylim=(0, None), xlim=(0, None))
    axes[1].set(ylim=(0.6, None))
    return legend(axes[0])


@figure(sweeps=LOSSES)
def seed_spread() -> Figure:
    """What another seed changes.

    Test Recall@1 of 24 networks per loss that differ in their seed alone: data, first
    weights and batches. A violin is their distribution, the bar its middle half, the
    dot the median; losses are in the order of medians. Where two violins overlap, one
    run of each says little about which loss is better.
    """
    drawn, axes = panels(2, height=4.6)
    for i, (panel, bench) in enumerate(zip(axes, BOTH, strict=True)):
        arms = load(f"losses-{bench}").arms.items()
        recall = {ARM_NAMES[arm]: record.values("recall_at_1") for arm, record in arms}
        found = dict(sorted(recall.items(), key=lambda item: np.median(item[1])))
        values, places = [*found.values()], np.arange(len(found))
        style: Any = {"orientation": "horizontal", "widths": 0.85}
        bodies = panel.violinplot(values, places, showextrema=False, **style)["bodies"]
        for body in bodies:
            body.set(facecolor=SERIES[i], alpha=0.55)
        low, middle, high = np.percentile(values, (25, 50, 75), axis=1)
        panel.hlines(places, low, high, color=TEXT, lw=4, ls="-")
        panel.plot(middle, places, "o", color=TEXT, ms=6)
        panel.set(title=BENCHES[bench].capitalize(), xlabel="Recall@1, test classes")
        panel.set_yticks(places, list(found))
    return drawn


@figure(sweeps=LOSSES)
def search_landscape() -> Figure:
    """What searching a learning rate changes.

    Validation Recall@1 of the twelve trials of each loss's search, against the learning
    rate, each the mean of four seeds, on drawn classes (circles) and on glyphs
    (squares). Trials also differ in the loss's own number, such as its
    margin: that is the scatter about a line. Filled: the trial that was chosen.
    Differences within one panel are as large as those between panels, which is why
    every loss has the same search.

    After Musgrave, Belongie, Lim, ECCV 2020.
    """
    _, axes = panels(4, rows=3, height=6.0, sharex=True, sharey=True)
    for i, bench in enumerate(BOTH):
        arms = load(f"losses-{bench}").arms
        style = {"marker": MARKERS[i], "color": SERIES[i], "ls": "", "ms": 5.5}
        for panel, (arm, name) in zip(axes, ARM_NAMES.items(), strict=True):
            trials = arms[arm].trials
            rates, recall = np.array(
                [(trial["learning_rate"], trial["recall"]) for trial in trials]
            ).T
            panel.plot(rates, recall, mfc="none", **style)
            best = recall.argmax()
            panel.plot(rates[best], recall[best], label=BENCHES[bench], **style)
            panel.set_title(name, fontsize=10)
    axes[0].set(xscale="log", ylim=(0, 1))
    for panel in axes[8:]:
        panel.set(xlabel="learning rate")
    for panel in axes[::4]:
        panel.set(ylabel="Recall@1")
    return legend(axes[0])


@figure(sweeps=("noise-modes", "noise-glyphs"))
def label_noise() -> Figure:
    """Wrong labels, and which mining minds them.

    Test Recall@1 of triplets against the share of training rows whose label is that of
    another class, by the rule that picks negatives; hard also picks the farthest
    positive. 16 classes of 4 rows a batch, unit length, margin 0.2. Mean of 24 seeds
    and its 95 % interval, at the learning rate that validates best for each rule and
    share.
    """
    _, axes = panels(2)
    for panel, bench in zip(axes, BOTH, strict=True):
        arms = load(f"noise-{bench}").arms
        for i, (rule, name) in enumerate(RULES.items()):
            record = arms[f"{rule}-64-unit"]
            shares = np.unique(record.cells["noise"])
            found = [at_best_rate(record, noise=share) for share in shares]
            band(panel, shares, np.transpose(found), name, i)
        panel.set(title=BENCHES[bench].capitalize(), xlabel="share of wrong labels")
        panel.set_xticks(shares)
    axes[0].set(ylabel="Recall@1, test classes")
    return legend(axes[0])


@figure(sweeps=("stability-modes",))
def batch_size() -> Figure:
    """Recall@1 against the rows in a batch.

    Test Recall@1 of triplets on drawn classes by the rule that picks negatives, for
    batches of classes of 4, margin 0.2, 400 steps whatever the batch: larger ones also
    see more rows. Left: embeddings of length 1; right: of any length. Mean of 24 seeds
    and its 95 % interval, at the learning rate that validates best for each rule and
    size.
    """
    _, axes = panels(2, sharey=True)
    arms = load("stability-modes").arms
    sizes = np.array(sorted({int(arm.split("-")[1]) for arm in arms}))
    titles = {"unit": "Length 1", "free": "Any length"}
    for panel, (length, title) in zip(axes, titles.items(), strict=True):
        for i, (rule, name) in enumerate(RULES.items()):
            found = [at_best_rate(arms[f"{rule}-{size}-{length}"]) for size in sizes]
            band(panel, sizes, np.transpose(found), name, i)
        panel.set(title=title, xlabel="rows in a batch", xscale="log")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
    axes[0].set(ylabel="Recall@1, test classes")
    return legend(axes[0])
