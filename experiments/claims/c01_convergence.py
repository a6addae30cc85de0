"""N-pairs against triplets: who needs fewer steps."""

import numpy as np

from experiments.claims.claim import Claim, Finding, Results, Verdict, Word
from experiments.claims.effects import BENCHES
from experiments.claims.statistics import first_reached, paired, ratio
from experiments.sweep.records import Record, Result

TRIPLETS = ("triplet_random", "triplet_all", "triplet_semi_hard", "triplet_hard")
OTHERS = (*TRIPLETS, "contrastive", "n_pairs_ovo")
UNITS = ("steps", "pairs", "seconds")


def steps_needed(result: Result) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps to 90 % of the seed's best, [seeds] by arm, and whether they were enough.

    Where they were not, it is the last step.
    """
    curves = {k: np.nan_to_num(r.curve("recall")) for k, r in result.arms.items()}
    target = 0.9 * np.max([c.max(-1) for c in curves.values()], axis=0)
    return {k: first_reached(result.steps, c, target) for k, c in curves.items()}


def pairs_looked_at(record: Record) -> int:
    """Pairs of rows whose similarity a step needs.

    Mining looks at all pairs of the batch, whichever it then chooses. One random
    negative per anchor and positive needs these two pairs alone. N-pairs needs every
    pair of an anchor and a row that acts as a positive.
    """
    arm = record.settings
    rows, others = arm["classes"] * arm["per_class"], arm["per_class"] - 1
    if arm["selection"] == "random_negatives":
        return rows * others // 2 + rows * others
    if arm["loss"].startswith("n_pairs"):
        return (rows // 2) ** 2
    return rows * (rows - 1) // 2


def compared(key: str, result: Result) -> dict[str, dict[str, Finding]]:
    """What each other arm needs over what N-pairs needs, by arm and `UNITS`.

    Pairs and seconds of a step are constants, which scale the ratio of the steps.
    """
    steps, bench, found = steps_needed(result), BENCHES[key], {}
    ours = result.arms["n_pairs"]
    for name in (name for name in OTHERS if name in steps):
        arm, versus = result.arms[name], f"{name} / n_pairs, {bench}"
        (theirs, some), (mine, enough) = steps[name], steps["n_pairs"]
        what = f"steps, {versus} (reached by {some.sum()} / {enough.sum()} seeds)"
        first = ratio(what, theirs, mine)
        pairs = pairs_looked_at(arm) / pairs_looked_at(ours)
        found[name] = {
            "steps": first,
            "pairs": _scaled(f"pairs looked at, {versus}", first, pairs),
            "seconds": _scaled(f"seconds, {versus}", first, arm.seconds / ours.seconds),
        }
    return found


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    findings: list[Finding] = []
    faster, slower = [], []
    for key in ("modes", "glyphs", "digits"):
        bench, result = BENCHES[key], results[f"losses-{key}"]
        found = compared(key, result)
        findings += [each["steps"] for each in found.values()]
        if key == "digits":
            continue
        ours = result.arms["n_pairs"].values("mean_recall")
        for name, each in found.items():
            what = f"mean Recall@1 over training, n_pairs - {name}, {bench}"
            theirs = result.arms[name].values("mean_recall")
            findings += [paired(what, ours, theirs), each["pairs"], each["seconds"]]
            if name in TRIPLETS:
                faster += [name] * (each["steps"].low > 1)
                slower += [f"{name}, {bench}"] * (each["steps"].high < 1)
    word: Word = "cannot tell"
    if len(faster) == 2 * len(TRIPLETS):
        word = "holds"
    elif faster:
        word = "holds in part"
    elif slower:
        word = "does not hold"
    says = (
        f"N-pairs needs fewer steps in {len(faster)} of {2 * len(TRIPLETS)} "
        f"comparisons with triplets, and more in {len(slower)}"
    )
    says += f" ({'; '.join(slower)})." if slower else "."
    return Verdict(word, findings, says)


def _scaled(what: str, steps: Finding, factor: float) -> Finding:
    low, high = factor * steps.low, factor * steps.high
    return Finding(what, factor * steps.effect, low, high, steps.seeds)


CLAIM = Claim(
    name="C1",
    claim=(
        "The N-pairs loss, which compares a positive with many negatives at once, "
        "converges faster than the triplet loss with its one."
    ),
    prediction=(
        "Against one random negative per pair N-pairs needs at most half the steps. "
        "Against all, semi-hard or hard negatives of the same batch the difference is"
        " small (a ratio between 0.8 and 1.25) or none; per pair looked at, one "
        "random negative is ahead."
    ),
    statistic=(
        "Steps until validation Recall@1 is first at 90 % of the best that any arm of"
        " the study reaches with the same seed, 600 where it never is (restricted "
        "mean over seeds). First finding: ratio of these means, one random negative "
        "over N-pairs, on drawn classes; the p is of the paired steps. N-pairs is "
        "faster than an arm where the ratio's interval is above 1, slower where it is"
        " below. Holds: faster than all four triplet arms (random, all, semi-hard, "
        "hard) on drawn classes and on glyphs. Holds in part: faster in some of "
        "these eight comparisons. Does not hold: faster in none and slower in some. "
        "Cannot tell: otherwise. Beside it: the mean of validation Recall@1 over "
        "training, and the ratios per pair looked at and per second."
    ),
    studies=(
        "losses-modes",
        "losses-glyphs",
        "losses-digits",
    ),
    judge=judge,
)
