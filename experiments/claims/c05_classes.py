"""N-pairs batches of more pairs than there are classes."""

import numpy as np
from scipy import stats

from experiments.claims.claim import Claim, Finding, Results, Verdict, Word
from experiments.claims.effects import BENCHES
from experiments.claims.statistics import paired
from experiments.sweep.records import Result

CLASSES = {"modes": (10, 20, 50), "glyphs": (20, 50)}
MOST = 64


def repeated(classes: int, batch: int) -> float:
    """Share of a batch's draws that repeat a class, 1 - E[distinct] / N."""
    return 1 - classes * (1 - (1 - 1 / classes) ** batch) / batch


def false_negatives(classes: int, batch: int) -> float:
    """Share of anchors that have a row of their own class among their negatives.

    Of all negatives 1 / classes are false, whatever the batch.
    """
    return 1 - (1 - 1 / classes) ** (batch - 1)


def floor(classes: int, batch: int) -> float:
    """By how much the least loss rises, E log(1 + draws of the anchor's class).

    Rows of one class that cannot be told apart share the probability.
    """
    others = np.arange(batch)
    chance = stats.binom.pmf(others, batch - 1, 1 / classes)
    return float(chance @ np.log1p(others))


def largest(result: Result) -> str:
    """The arm of the largest batch in which no class comes twice."""
    names = [name for name in result.arms if name.startswith("never-")]
    return max(names, key=lambda name: int(name.split("-")[1]))


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    blind, aware = [], []
    for key in CLASSES:
        studies = [results[f"classes-{key}-{classes}"] for classes in CLASSES[key]]
        gaps = {
            name: np.mean(
                [_recall(s, one(s)) - _recall(s, other(s)) for s in studies], 0
            )
            for name, one, other in (
                ("blind", lambda s: f"blind-{MOST}", lambda s: f"aware-{MOST}"),
                ("aware", lambda s: f"aware-{MOST}", largest),
            )
        }
        past = f"{MOST} draws of few classes, {BENCHES[key]}"
        blind.append(paired(f"Recall@1, blind - aware, {past}", gaps["blind"]))
        aware.append(paired(f"Recall@1, aware - largest never, {past}", gaps["aware"]))
    findings = [*blind, *aware]
    for key in CLASSES:
        for classes in (*CLASSES[key], *((100,) if key == "modes" else ())):
            findings += _at(results[f"classes-{key}-{classes}"], BENCHES[key], classes)
    for key in CLASSES:
        shapes = results[f"shapes-{key}"]
        for other in ("32x4", "16x8"):
            what = f"Recall@1, 64x2 - {other}, {BENCHES[key]}"
            gap = _recall(shapes, "64x2") - _recall(shapes, other)
            findings.append(paired(what, gap))
    harmed = [f.high < 0 for f in blind]
    word: Word = "cannot tell"
    if all(harmed):
        word = "holds" if all(f.high < 0 for f in aware) else "holds in part"
    elif not any(harmed):
        word = "does not hold"
    says = (
        f"Past the number of classes, not knowing of repetition changes Recall@1 by "
        f"{blind[0].effect:+.3f} (drawn classes) and {blind[1].effect:+.3f} (glyphs); "
        f"a loss that knows of it differs from the largest batch without repetition by "
        f"{aware[0].effect:+.3f} and {aware[1].effect:+.3f}."
    )
    return Verdict(word, findings, says)


def differences(study: Result, here: str) -> dict[str, Finding]:
    """Recall@1 of one number of classes, by what is compared.

    The last two tell what repetition alone does, at one number of pairs.
    """
    never = largest(study)
    size = never.split("-")[1]
    pairs = {
        f"blind - aware, {MOST} pairs": (f"blind-{MOST}", f"aware-{MOST}"),
        f"aware, {MOST} pairs - largest never": (f"aware-{MOST}", never),
        # Not announced: added once results were seen, part of no rule.
        "aware - never, as many pairs": (f"aware-{size}", never),
        "blind - never, as many pairs": (f"blind-{size}", never),
    }
    return {
        name: paired(f"Recall@1, {name}, {here}", *(_recall(study, x) for x in both))
        for name, both in pairs.items()
    }


def _at(study: Result, bench: str, classes: int) -> list[Finding]:
    """Of one number of classes: Recall@1 past it, closed forms, and the loss."""
    here = f"{classes} classes, {bench}"
    found = [*differences(study, here).values()]
    for what, value in (
        ("share of draws that repeat a class", repeated(classes, MOST)),
        ("share of anchors with a false negative", false_negatives(classes, MOST)),
    ):
        what = f"{what}, {MOST} draws, {here} (closed form)"
        found.append(Finding(what, value, value, value, 0))
    batch = largest(study).split("-")[1]
    rise = [
        study.arms[f"{repeats}-{batch}"].values("last_loss")
        for repeats in ("blind", "never")
    ]
    least = floor(classes, int(batch))
    what = f"loss, blind - never, {batch} draws, {here} (floor rises by {least:.3f})"
    return [*found, paired(what, *rise)]


def _recall(study: Result, arm: str) -> np.ndarray:
    return study.arms[arm].values("recall_at_1")


CLAIM = Claim(
    name="C5",
    claim=(
        "An N-pairs batch holds every class once, so its size is bounded by the "
        "number of classes."
    ),
    prediction=(
        "Past the number of classes, batches that take repeated classes for negatives"
        " (blind) lose Recall@1, the more the fewer classes there are. A loss that "
        "knows of the repetition (aware) loses nothing against the largest batch "
        "without repetition. At one batch size, more classes of fewer rows are "
        "better."
    ),
    statistic=(
        "Recall@1 of batches of 64 classes drawn with replacement. First finding: "
        "blind minus aware, mean over 10, 20 and 50 classes to train on, drawn "
        "classes; on glyphs 20 and 50. Second: aware minus the largest batch "
        "without repetition (never). Harm means that an interval is below 0. Holds: "
        "blind is harmed on both benches, and aware too. Holds in part: blind is "
        "harmed on both benches, aware not on both. Does not hold: blind is harmed on"
        " neither bench. Cannot tell: blind is harmed on one bench alone. Beside it: "
        "the closed-form share of false negatives and rise of the loss's floor, the "
        "measured rise of the loss, and 64 x 2 against 32 x 4 and 16 x 8 rows a "
        "batch."
    ),
    studies=(
        "classes-modes-10",
        "classes-modes-20",
        "classes-modes-50",
        "classes-modes-100",
        "classes-glyphs-20",
        "classes-glyphs-50",
        "shapes-modes",
        "shapes-glyphs",
    ),
    judge=judge,
)
