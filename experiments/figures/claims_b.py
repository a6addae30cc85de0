"""Figures of the sweeps behind the claims C7 and C9 to C12.

C8 is `curves.embedding_scale`, and the geometry of C7 `angles.thales_balls`.
"""

import numpy as np
from matplotlib.figure import Figure

from experiments.claims import (
    c07_gradient_direction,
    c09_fixed_margin,
    c10_superiority,
    c11_sampling,
    c12_angle,
)
from experiments.claims.effects import BENCHES, of_draws, random_effects
from experiments.claims.effects import partial_eta_squared as parts_of
from experiments.claims.statistics import paired
from experiments.figures.effects import (
    LABELS,
    band,
    intervals,
    legend,
    of_claim,
    reach,
    rows,
)
from experiments.figures.published import AGAINST_TRIPLETS
from experiments.figures.style import HATCHES, LINES, MARKERS, SERIES, TEXT, panels
from experiments.sweep.records import load

BOTH = ("modes", "glyphs")


@of_claim(c07_gradient_direction.CLAIM)
def gradient_directions() -> Figure:
    """Where steps send the negatives of real batches.

    Left: the share of a batch's triplets whose negative a step brings nearer to the
    positive, as networks with embeddings in 2 and in 16 dimensions are trained by the
    triplet loss on drawn classes. Middle: its mean over training, by dimension, beside
    the closed form for Gaussian rows without classes (lines); shares below one in
    100,000 are not drawn. Training parts the classes, which lowers the share; that an
    embedding does not fill its dimensions raises it. Right: the mean cosine of the step
    with the way from the class's mean to the negative, 1 for straight out.

    Bands and bars are 95 % intervals over 24 seeds. Of all triplets of the batch, in
    a loss or not.
    """
    drawn, (shares, dims, out) = panels(3, height=3.8)
    steps = ("triplet", "angular")
    ends = [end for end in c07_gradient_direction.DIMS if end != "glyphs"]
    results = {end: load(f"directions-{end}") for end in ends}
    for place, end in enumerate(("modes-2", "modes-16")):
        record = results[end].arms["triplet_all"]
        for i, step in enumerate(steps):
            name = f"{step}, {c07_gradient_direction.DIMS[end]} dim."
            series = i + 2 * place
            for panel, what in ((shares, "toward"), (out, "out")):
                curve = record.curve(f"{step}_{what}")
                band(panel, results[end].steps, curve, name, series)
    across = np.array([c07_gradient_direction.DIMS[end] for end in ends])
    line = np.geomspace(2, 64, 40)
    gaussian = np.array([c07_gradient_direction.toward(d, 0.0) for d in line])
    for i, step in enumerate(steps):
        found = [
            paired(step, result.arms["triplet_all"].values(f"mean_{step}_toward"))
            for result in results.values()
        ]
        effect, error = reach(found)
        dims.errorbar(across, effect, error, fmt=MARKERS[i], ms=7, color=SERIES[i],
                      label=step)  # fmt: skip
        dims.plot(line, gaussian[:, i], color=SERIES[i], ls=LINES[i], lw=1.4)
    shares.set(title="Nearer to the positive", xlabel="step", ylabel="share",
               ylim=(0, None))  # fmt: skip
    dims.set(title="Mean over training", xlabel="dimension", ylim=(1e-5, 1))
    dims.loglog()
    dims.set_xticks(across, across, minor=False)
    dims.minorticks_off()
    out.set(title="Cosine with the way out", xlabel="step")
    legend(shares, "left", ncols=2)
    legend(dims, "right")
    return drawn


@of_claim(c09_fixed_margin.CLAIM)
def wide_and_narrow_classes() -> Figure:
    """Classes that spread more: their gradient, and how they are retrieved.

    Left and middle: wide classes' part of the gradient over their part of the rows, as
    training goes on; 1 is an even share. On drawn classes every second one is wide,
    with four times the spread; on glyphs it is the half of the classes whose features
    spread more. Right: how far Recall@1 of wide classes is below that of narrow ones
    on unseen classes, triplets minus the angular loss. To the right of 0 the triplet
    loss is harder on wide classes.

    Bands and bars are 95 % intervals over 24 paired seeds; settings are searched alike
    for all losses.
    """
    drawn, (left, middle, gaps) = panels(3, height=3.9)
    names = (*c09_fixed_margin.TRIPLETS, "angular", "n_pairs")
    for i, (bench, panel) in enumerate(zip(BOTH, (left, middle), strict=True)):
        result = load(f"spreads-{bench}")
        for series, name in enumerate(names):
            curve = result.arms[name].curve("wide_gradient")
            band(panel, result.steps, curve, LABELS[name], series)
        panel.axhline(1, color=TEXT, lw=1, ls="-")
        panel.set(title=f"Gradient, {BENCHES[bench]}", xlabel="step")
        of = {name: c09_fixed_margin.gap(result.arms[name]) for name in names}
        found = [paired(n, of[n], of["angular"]) for n in c09_fixed_margin.TRIPLETS]
        height = np.arange(len(found)) + (i - 0.5) / 4
        intervals(gaps, found, height, BENCHES[bench], i)
    left.set_ylabel("part of gradient / part of rows")
    legend(left, "left", ncols=3)
    rows(gaps, [LABELS[n] for n in c09_fixed_margin.TRIPLETS])
    gaps.set(title="Gap of Recall@1", xlabel="triplets - angular")
    legend(gaps, "right")
    return drawn


@of_claim(c10_superiority.CLAIM)
def superiority() -> Figure:
    """N-pairs and angular minus triplets, bench by bench and as published.

    Recall@1 on unseen classes. Left and middle: ours, four benches with 24 paired
    seeds each and the same search for every loss, and the random-effects mean of the
    benches (DerSimonian and Laird) with the interval of Hartung and Knapp. Right:
    differences of published figures, in the same unit; their networks and batches
    differ, and they have no intervals.

    Published: Sohn, NIPS 2016, and Wang et al., ICCV 2017 (N-pairs with angular), each
    against the triplet of its own paper, the latter as quoted by Rolinek et al., CVPR
    2020, and others; READMEs of Confusezius/Deep-Metric-Learning-Baselines and
    of ahmdtaha/tf_retrieval_baseline, the survey's own code.
    """
    drawn, (left, middle, papers) = panels(3, height=4.8)
    results = {f"losses-{bench}": load(f"losses-{bench}") for bench in BENCHES}
    for loss, panel in zip(c10_superiority.LOSSES, (left, middle), strict=True):
        for series, triplet in enumerate(c10_superiority.TRIPLETS):
            of = c10_superiority.differences(results, loss, triplet)
            found = [paired(bench, values) for bench, values in of.items()]
            found.append(random_effects(triplet, [*of.values()])[0])
            height = np.arange(len(found)) + (series - 1) / 5
            intervals(panel, found, height, LABELS[triplet], series)
        rows(panel, [*BENCHES.values(), "mean of benches"])
        panel.axhline(len(BENCHES) - 0.5, color=TEXT, lw=0.8, ls=":")
        panel.set(
            title=f"{LABELS[loss].replace('ang', 'Ang')} - triplets", xlabel="Recall@1"
        )
    middle.set_yticklabels([])
    legend(left, "left", title="minus", ncols=3)
    sets = ("CUB", "Cars", "SOP", "In-Shop")
    for series, (name, pairs) in enumerate(AGAINST_TRIPLETS.items()):
        for data, (ours, theirs) in pairs.items():
            height = np.array(sets.index(data) + (series - 2) / 7)
            papers.plot((ours - theirs) / 100, height, MARKERS[series], ms=7,
                        color=SERIES[series], label=name * (data == "CUB"))  # fmt: skip
    rows(papers, sets)
    papers.set(title="Published", xlabel="Recall@1")
    legend(papers, "right")
    return drawn


@of_claim(c11_sampling.CLAIM)
def loss_or_sampling() -> Figure:
    """Losses and minings, each with each.

    Left and middle: Recall@1 on unseen classes of every loss with every mining, at the
    learning rate of best validation Recall@1 of the combination. Differences from row
    to row are the loss's, differences within a row the mining's. Right: partial eta
    squared, the part of the variance of Recall@1 that goes with a factor, beside what
    seeds do; at the best rates, and hatched over all rates.

    Bars are 95 % intervals over 24 seeds; on the right from 10,000 resamplings of
    them.
    """
    drawn, (left, middle, parts) = panels(3, height=3.9)
    factors = {(1,): "mining", (0,): "loss", (0, 1): "both (interaction)"}
    for i, (bench, panel) in enumerate(zip(BOTH, (left, middle), strict=True)):
        result = load(f"sampling-{bench}")
        (losses, minings, _), every = c11_sampling.design(result, "recall_at_1")
        best = c11_sampling.at_best_rate(result)
        for series, mining in enumerate(minings):
            found = [paired(str(x), best[:, k, series]) for k, x in enumerate(losses)]
            height = np.arange(len(losses)) + (series - 1.5) / 6
            name = str(mining).replace("_", "-")
            intervals(panel, found, height, name, series)
        rows(panel, [str(x).replace("_", " ") for x in losses], effects=False)
        panel.set(title=BENCHES[bench].capitalize(), xlabel="Recall@1")
        for j, (rates, values) in enumerate((("best", best), ("all", every))):
            eta = parts_of(values)
            found = [of_draws(name, eta[k], len(values)) for k, name in factors.items()]
            effect, error = reach(found)
            height = np.arange(len(found)) + (2 * i + j - 1.5) / 5
            parts.barh(height, effect, 0.18, xerr=error, color=SERIES[i], lw=0,
                       alpha=0.85 - 0.4 * j, hatch=HATCHES[4 - 4 * j], ecolor=TEXT,
                       edgecolor=TEXT,
                       label=f"{BENCHES[bench]}, {rates} rates")  # fmt: skip
    middle.set_yticklabels([])
    rows(parts, [*factors.values()])
    parts.set(title="Partial eta squared", xlim=(0, 1))
    legend(left, "left", title="mining", ncols=4)
    legend(parts, "right", ncols=2)
    return drawn


@of_claim(c12_angle.CLAIM)
def angle_and_weight() -> Figure:
    """The angle of the angular loss, and its weight beside N-pairs.

    Recall@1 on unseen classes. Left and middle: by the angle. Shaded are 36 to 55
    degrees, which the paper finds to work; the dotted line at 30 is where the angular
    loss of unit vectors that all lie together is that of N-pairs, below which it is
    less: there collapse pays. Thin lines are the parabolas whose highest point is the
    claim's statistic. Right: by the weight of the angular loss beside N-pairs.

    Bands are 95 % intervals over 24 seeds. Learning rates were searched at 45 degrees
    and weight 2.
    """
    drawn, (left, middle, weights) = panels(3, height=3.8)
    names = {"angular": "angular", "n_pairs_angular": "N-pairs + 2 angular"}
    for i, (bench, panel) in enumerate(zip(BOTH, (left, middle), strict=True)):
        arms = load(f"angles-{bench}").arms
        panel.axvspan(*c12_angle.GOOD, color=TEXT, alpha=0.12, lw=0)
        panel.axvline(c12_angle.CRITICAL, color=TEXT, lw=1.2, ls=":")
        for series, (arm, name) in enumerate(names.items()):
            angles, recall = c12_angle.by_angle(arms[arm], "recall_at_1")
            band(panel, angles, recall, name, series)
            line = np.linspace(angles[0], angles[-1], 60)
            fit = np.polyfit(angles, recall.mean(0), 2)
            panel.plot(line, np.polyval(fit, line), color=SERIES[series], lw=0.9,
                       ls="-")  # fmt: skip
        panel.set(title=BENCHES[bench].capitalize(), xlabel="angle, degrees")
        mixed = load(f"weights-{bench}").arms["n_pairs_angular"]
        tried = np.unique(mixed.cells["angular_weight"])
        recall = np.stack(
            [mixed.values("recall_at_1", angular_weight=w) for w in tried], 1
        )
        places = np.arange(len(tried))
        band(weights, places, recall, BENCHES[bench], i + 2)
        weights.set(xticks=places, xticklabels=[f"{w:g}" for w in tried])
    left.set_ylabel("Recall@1")
    legend(left, "left", ncols=2)
    weights.set(title="Weight beside N-pairs", xlabel="weight of the angular loss")
    legend(weights, "right", ncols=2)
    return drawn
