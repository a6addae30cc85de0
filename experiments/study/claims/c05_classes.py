"""C5: N-pairs batches of more pairs than there are classes."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy import stats

from experiments.study.claims.claim import Results, Verdict, claim, verdict_word
from experiments.study.drawing import SERIES, intervals, legend, panels, rows
from experiments.study.records import BENCHES, BOTH, Result, load
from experiments.study.statistics import Finding, paired

CLASSES = {"modes": (10, 20, 50), "glyphs": (20, 50)}
ALL_CLASSES = CLASSES | {"modes": (*CLASSES["modes"], 100)}
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
        name: paired(f"Recall@1, {name}, {here}", study.gap(*both))
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
    rise = study.gap(f"blind-{batch}", f"never-{batch}", "last_loss")
    least = floor(classes, int(batch))
    what = f"loss, blind - never, {batch} draws, {here} (floor rises by {least:.3f})"
    return [*found, paired(what, rise)]


@claim(
    "C5",
    *(f"classes-{key}-{count}" for key in BOTH for count in ALL_CLASSES[key]),
    *(f"shapes-{key}" for key in BOTH),
)
def class_count(results: Results) -> Verdict:
    """An N-pairs batch holds every class once, so its size is bounded by the number of
    classes.

    Expected: Past the number of classes, batches that take repeated classes for
    negatives (blind) lose Recall@1, the more the fewer classes there are. A loss that
    knows of the repetition (aware) loses nothing against the largest batch without
    repetition. At one batch size, more classes of fewer rows are better.

    Decides: Recall@1 of batches of 64 classes drawn with replacement. First finding:
    blind minus aware, mean over 10, 20 and 50 classes to train on, drawn classes; on
    glyphs 20 and 50. Second: aware minus the largest batch without repetition (never).
    Harm means that an interval is below 0. Holds: blind is harmed on both benches, and
    aware too. Holds in part: blind is harmed on both benches, aware not on both. Does
    not hold: blind is harmed on neither bench. Cannot tell: blind is harmed on one
    bench alone. Beside it: the closed-form share of false negatives and rise of the
    loss's floor, the measured rise of the loss, and 64 x 2 against 32 x 4 and 16 x 8
    rows a batch.
    """
    blind, aware = [], []
    most = f"blind-{MOST}", f"aware-{MOST}"
    for key in BOTH:
        studies = [results[f"classes-{key}-{classes}"] for classes in CLASSES[key]]
        past = f"{MOST} draws of few classes, {BENCHES[key]}"
        gap = np.mean([s.gap(*most) for s in studies], 0)
        blind.append(paired(f"Recall@1, blind - aware, {past}", gap))
        gap = np.mean([s.gap(most[1], largest(s)) for s in studies], 0)
        aware.append(paired(f"Recall@1, aware - largest never, {past}", gap))
    findings = [*blind, *aware]
    for key in BOTH:
        for classes in ALL_CLASSES[key]:
            findings += _at(results[f"classes-{key}-{classes}"], BENCHES[key], classes)
    for key in BOTH:
        for other in ("32x4", "16x8"):
            gap = results[f"shapes-{key}"].gap("64x2", other)
            findings.append(paired(f"Recall@1, 64x2 - {other}, {BENCHES[key]}", gap))
    harmed = [f.high < 0 for f in blind]
    word = verdict_word(
        holds=all(f.high < 0 for f in (*blind, *aware)),
        in_part=all(harmed),
        fails=not any(harmed),
    )
    says = (
        f"Past the number of classes, not knowing of repetition changes Recall@1 by "
        f"{blind[0].effect:+.3f} (drawn classes) and {blind[1].effect:+.3f} (glyphs); "
        f"a loss that knows of it differs from the largest batch without repetition by "
        f"{aware[0].effect:+.3f} and {aware[1].effect:+.3f}."
    )
    return Verdict(word, findings, says)


@class_count.figure
def claim_classes() -> Figure:
    """Is the N-pairs batch bounded by the number of classes?

    Top: differences in Recall@1 on unseen classes, by the number of classes to train
    on. Never: no class comes twice in a batch, which cannot have more pairs than there
    are classes. Aware: classes are drawn with replacement, and the loss is told. Blind:
    it is not told, and takes rows of an anchor's own class for negatives. The largest
    never is the largest of the batches of 8, 16, 32 and 64 pairs (on glyphs of 16) that
    has no class twice. Bottom left: the share of anchors
    with such a false negative, and by how much the least loss rises, both in closed
    form. Bottom right: batches of 128 rows of more or of fewer classes, Recall@1
    of 64 classes of 2 rows minus another shape. Bars are 95 % intervals over 24 seeds.
    """
    drawn, axes = panels(2, rows=2, height=7.2)
    for panel, key in zip(axes, BOTH, strict=False):
        counts = ALL_CLASSES[key]
        gaps = [differences(load(f"classes-{key}-{count}"), "") for count in counts]
        for i, name in enumerate(gaps[0]):
            height = np.arange(len(gaps)) + 0.18 * (i - 1.5)
            intervals(panel, [each[name] for each in gaps], height, name, i)
        rows(panel, [f"{count} classes" for count in counts])
        panel.set(title=BENCHES[key].capitalize(), xlabel="Recall@1")
    legend(axes[0], ncols=2)
    pairs = range(2, 65)
    closed, shapes = axes[2:]
    rise = closed.twinx()
    for count, colour in zip(ALL_CLASSES["modes"], SERIES, strict=False):
        false = [false_negatives(count, n) for n in pairs]
        closed.plot(pairs, false, color=colour, ls="-", label=f"{count} classes")
        rise.plot(pairs, [floor(count, n) for n in pairs], color=colour, ls=":")
    closed.set(title="Anchors with a false negative", ylabel="share (solid)")
    closed.set(xlabel="pairs in the batch", xscale="log", ylim=(0, 1.02))
    closed.set_xticks([2, 4, 8, 16, 32, 64], ["2", "4", "8", "16", "32", "64"])
    closed.xaxis.set_minor_formatter(NullFormatter())
    rise.set(ylabel="rise of the least loss (dotted)", ylim=(0, None))
    rise.grid(False)
    rise.spines["right"].set_visible(True)
    for i, key in enumerate(BOTH):
        study, height = load(f"shapes-{key}"), np.arange(2) + 0.2 * i - 0.1
        found = [paired("", study.gap("64x2", other)) for other in ("32x4", "16x8")]
        intervals(shapes, found, height, BENCHES[key], i)
    rows(shapes, ["minus 32 x 4", "minus 16 x 8"])
    shapes.set(title="64 x 2 rows", xlabel="Recall@1")
    for panel in (closed, shapes):
        panel.legend(loc="best")
    return drawn
