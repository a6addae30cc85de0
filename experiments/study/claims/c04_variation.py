"""C4, one mode or several in a class: hard triplets against N-pairs."""

import numpy as np
from matplotlib.figure import Figure

from experiments.study.claims.claim import Results, Verdict, claim, verdict_word
from experiments.study.drawing import TEXT, legend, panels, points
from experiments.study.records import ARM_NAMES, Result, load
from experiments.study.statistics import Finding, paired, slopes

MODES, SPREADS = (1, 2, 4, 8), (0.2, 0.5)
HARD, N_PAIRS = "triplet_hard", "n_pairs"


def gap(
    result: Result, one: str, other: str, figure: str = "recall_at_1"
) -> np.ndarray:
    """[spread, seed, modes], one arm minus another."""
    found = [
        [result.gap(one, other, figure, modes=m, spread=spread) for m in MODES]
        for spread in SPREADS
    ]
    return np.array(found).swapaxes(1, 2)


@claim("C4", "variation-modes", "losses-glyphs", "losses-cases")
def variation(results: Results) -> Verdict:
    """Hard triplets are better where a class has one mode, as faces do; N-pairs and
    angular losses where a class varies much.

    Expected: Recall@1 of hard triplets minus N-pairs falls with the number of modes,
    because the farthest positives are pulled together across modes; the easy-positive
    triplet does not fall so. Modes are told apart less well by hard triplets than by
    N-pairs.

    Decides: Slope of Recall@1, batch-hard triplet (16 classes of 4) minus N-pairs, on
    log2 of the number of modes 1, 2, 4, 8: one slope per seed, mean of the spreads 0.2
    and 0.5. First finding: its mean, drawn classes. On glyphs: the difference with both
    cases of a letter as one class minus that with each a class of its own. Holds: the
    slope's interval is below 0, the difference is above 0 at one mode and below 0 at
    eight (intervals, mean of the spreads), and the glyphs' interval is below 0. Holds
    in part: the slope's interval is below 0, but not all of the above. Does not hold:
    the slope's interval is above 0, or holds 0 and lies within 0.01 to either side.
    Cannot tell: otherwise. Beside it: angular for N-pairs, pairs and easy positives for
    the hard triplet's batch and positives, and Recall@1 of modes.
    """
    drawn, versus = results["variation-modes"], f"{HARD} - {N_PAIRS}"
    hard = gap(drawn, HARD, N_PAIRS)

    def trend(one: str, other: str) -> Finding:
        each = slopes(np.log2(MODES), gap(drawn, one, other))
        what = f"Recall@1, {one} - {other}, per doubling of modes, drawn classes"
        return paired(what, each.mean(0))

    def joined(one: str, other: str) -> Finding:
        """How joining upper and lower case changes one arm minus another, glyphs."""
        gaps = (results[f"losses-{n}"].gap(one, other) for n in ("cases", "glyphs"))
        what = f"Recall@1, {one} - {other}, cases joined - apart, glyphs"
        return paired(what, *gaps)

    main, cases = trend(HARD, N_PAIRS), joined(HARD, N_PAIRS)
    ends = [
        paired(
            f"Recall@1, {versus}, modes {MODES[i]}, drawn classes", hard.mean(0)[:, i]
        )
        for i in (0, -1)
    ]
    same_batch = trend("triplet_hard_pairs", N_PAIRS)
    easy = trend("triplet_easy_positive", N_PAIRS)
    findings = [main, *ends, cases]
    for spread, slope in zip(SPREADS, slopes(np.log2(MODES), hard), strict=True):
        findings.append(paired(f"the same per doubling, spread {spread}", slope))
    findings += [trend(HARD, "angular"), joined(HARD, "angular"), same_batch, easy]
    findings.append(joined("triplet_easy_positive", N_PAIRS))
    for other in (N_PAIRS, "triplet_easy_positive"):
        what = f"Recall@1 of {MODES[-1]} modes, {HARD} - {other}, drawn classes"
        of_modes = gap(drawn, HARD, other, "mode_recall").mean(0)[:, -1]
        findings.append(paired(what, of_modes))
    crossed = ends[0].low > 0 and ends[1].high < 0 and cases.high < 0
    word = verdict_word(
        holds=main.high < 0 and crossed,
        in_part=main.high < 0,
        fails=main.low > 0 or (main.low > -0.01 and main.high < 0.01),
    )
    says = (
        f"Hard triplets minus N-pairs: {ends[0].effect:+.3f} Recall@1 with one mode a "
        f"class, {ends[1].effect:+.3f} with eight. Joining the cases of letters moves "
        f"it by {cases.effect:+.3f}. Per doubling of modes: {main.effect:+.3f}, in "
        f"N-pairs' own batches {same_batch.effect:+.3f}, and with the easiest positive "
        f"instead of the hardest {easy.effect:+.3f}."
    )
    return Verdict(word, findings, says)


@variation.figure
def claim_variation() -> Figure:
    """Hard triplets for one mode, N-pairs for many?

    Left and middle: Recall@1 on unseen drawn classes, another loss minus N-pairs, by
    the number of modes of a class, for two spreads of a mode. Right: the same on
    glyphs, where both cases of a letter are apart, or joined to one class
    that has two modes. Below 0, N-pairs is better. Bars are 95 % intervals over 24
    seeds. The easy-positive triplet draws an anchor to its nearest positive, where the
    hard triplet draws it to the farthest. Settings are searched for at each point.
    """
    _, axes = panels(3, height=4.2)
    glyphs = load("losses-glyphs"), load("losses-cases")
    for i, arm in enumerate((HARD, "triplet_easy_positive", "angular")):
        of_cases = np.transpose([result.gap(arm, N_PAIRS) for result in glyphs])
        gaps = *gap(load("variation-modes"), arm, N_PAIRS), of_cases
        for panel, values in zip(axes, gaps, strict=True):
            found = [paired("", each) for each in values.T]
            at = 0.06 * (i - 1) + np.arange(len(found))
            points(panel, at, found, ARM_NAMES[arm], i)
    for panel, spread in zip(axes, SPREADS, strict=False):
        panel.set_xticks(range(4), [str(modes) for modes in MODES])
        panel.set(title=f"Drawn, spread {spread}", xlabel="modes of a class")
    axes[2].set_xticks(range(2), ["apart", "joined"])
    axes[2].set(title="Glyphs", xlabel="cases of a letter", xlim=(-0.4, 1.4))
    for panel in axes:
        panel.axhline(0, color=TEXT, lw=1)
    axes[0].set(ylabel="Recall@1, minus N-pairs")
    return legend(axes[0])
