"""One mode or several in a class: hard triplets against N-pairs."""

import numpy as np

from experiments.claims.claim import Claim, Finding, Results, Verdict, Word
from experiments.claims.statistics import paired, slopes
from experiments.sweep.records import Result

MODES, SPREADS = (1, 2, 4, 8), (0.2, 0.5)
HARD, N_PAIRS = "triplet_hard", "n_pairs"


def gap(
    result: Result, one: str, other: str, figure: str = "recall_at_1"
) -> np.ndarray:
    """[spread, seed, modes], one arm minus another."""
    return np.array(
        [
            [
                result.arms[one].values(figure, modes=modes, spread=spread)
                - result.arms[other].values(figure, modes=modes, spread=spread)
                for modes in MODES
            ]
            for spread in SPREADS
        ]
    ).swapaxes(1, 2)


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    drawn = results["variation-modes"]

    def trend(one: str, other: str) -> Finding:
        each = slopes(np.log2(MODES), gap(drawn, one, other))
        what = f"Recall@1, {one} - {other}, per doubling of modes, drawn classes"
        return paired(what, each.mean(0))

    main = trend(HARD, N_PAIRS)
    ends = [
        paired(
            f"Recall@1, {HARD} - {N_PAIRS}, modes {MODES[i]}, drawn classes",
            gap(drawn, HARD, N_PAIRS).mean(0)[:, i],
        )
        for i in (0, -1)
    ]
    cases = interaction(results, HARD, N_PAIRS)
    each = slopes(np.log2(MODES), gap(drawn, HARD, N_PAIRS))
    same_batch = trend("triplet_hard_pairs", N_PAIRS)
    easy = trend("triplet_easy_positive", N_PAIRS)
    findings = [
        main,
        *ends,
        cases,
        *(
            paired(f"the same per doubling, spread {spread}", each[i])
            for i, spread in enumerate(SPREADS)
        ),
        trend(HARD, "angular"),
        interaction(results, HARD, "angular"),
        same_batch,
        easy,
        interaction(results, "triplet_easy_positive", N_PAIRS),
        *(
            paired(
                f"Recall@1 of {MODES[-1]} modes, {HARD} - {other}, drawn classes",
                gap(drawn, HARD, other, "mode_recall").mean(0)[:, -1],
            )
            for other in (N_PAIRS, "triplet_easy_positive")
        ),
    ]
    word: Word = "cannot tell"
    if main.high < 0:
        crossed = ends[0].low > 0 and ends[1].high < 0 and cases.high < 0
        word = "holds" if crossed else "holds in part"
    elif main.low > 0 or (main.low > -0.01 and main.high < 0.01):
        word = "does not hold"
    says = (
        f"Hard triplets minus N-pairs: {ends[0].effect:+.3f} Recall@1 with one mode a "
        f"class, {ends[1].effect:+.3f} with eight. Joining the cases of letters moves "
        f"it by {cases.effect:+.3f}. Per doubling of modes: {main.effect:+.3f}, in "
        f"N-pairs' own batches {same_batch.effect:+.3f}, and with the easiest positive "
        f"instead of the hardest {easy.effect:+.3f}."
    )
    return Verdict(word, findings, says)


def interaction(results: Results, one: str, other: str) -> Finding:
    """How joining upper and lower case changes one arm minus another, glyphs."""
    gaps = [
        results[name].arms[one].values("recall_at_1")
        - results[name].arms[other].values("recall_at_1")
        for name in ("losses-cases", "losses-glyphs")
    ]
    what = f"Recall@1, {one} - {other}, cases joined - apart, glyphs"
    return paired(what, *gaps)


CLAIM = Claim(
    name="C4",
    claim=(
        "Hard triplets are better where a class has one mode, as faces do; N-pairs "
        "and angular losses where a class varies much."
    ),
    prediction=(
        "Recall@1 of hard triplets minus N-pairs falls with the number of modes, "
        "because the farthest positives are pulled together across modes; the easy-"
        "positive triplet does not fall so. Modes are told apart less well by hard "
        "triplets than by N-pairs."
    ),
    statistic=(
        "Slope of Recall@1, batch-hard triplet (16 classes of 4) minus N-pairs, on "
        "log2 of the number of modes 1, 2, 4, 8: one slope per seed, mean of the "
        "spreads 0.2 and 0.5. First finding: its mean, drawn classes. On glyphs: "
        "the difference with both cases of a letter as one class minus that with each"
        " a class of its own. Holds: the slope's interval is below 0, the difference "
        "is above 0 at one mode and below 0 at eight (intervals, mean of the "
        "spreads), and the glyphs' interval is below 0. Holds in part: the "
        "slope's interval is below 0, but not all of the above. Does not hold: the "
        "slope's interval is above 0, or holds 0 and lies within 0.01 to either side."
        " Cannot tell: otherwise. Beside it: angular for N-pairs, pairs and easy "
        "positives for the hard triplet's batch and positives, and Recall@1 of modes."
    ),
    studies=(
        "variation-modes",
        "losses-glyphs",
        "losses-cases",
    ),
    judge=judge,
)
