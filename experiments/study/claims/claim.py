"""What a claim is: said before its sweeps were run, and judged from their files."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure

from experiments.study.records import Result
from experiments.study.registry import figure
from experiments.study.statistics import Finding

Word = Literal["holds", "holds in part", "does not hold", "cannot tell"]
Results = Mapping[str, Result]

LEAST = 0.01
"""The smallest difference that matters: one in a hundred."""

RULE = (
    f"An effect is there if its interval is above 0 and reaches {LEAST:g}, and absent "
    f"if its interval ends below {LEAST:g}. All there: holds. Some there: holds in "
    "part. All absent: does not hold. Otherwise: cannot tell."
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
      word: the verdict.
      findings: the first is the one that was announced as the claim's statistic.
      says: one to three sentences: why this word, and what else was seen.
    """

    word: Word
    findings: Sequence[Finding]
    says: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the survey.

    Attributes:
      name: C1 to C12.
      claim: what the survey says, in our words.
      prediction: what we expected before anything was run.
      statistic: what decides, with the rule for the verdict, written likewise.
      studies: names of the sweeps that it rests on.
      judge: from the sweeps' results by name; `adjusted` p values are Holm's over all
        claims' first findings and are added afterwards.
    """

    name: str
    claim: str
    prediction: str
    statistic: str
    studies: tuple[str, ...]
    judge: Callable[[Results], Verdict]

    def figure(self, draw: Callable[[], Figure]) -> Callable[[], Figure]:
        """Lists the figure of the claim, with its words in the caption."""
        draw.__doc__ = (
            f"{inspect.getdoc(draw)}\n\nClaim {self.name}: {self.claim} Expected "
            f"before anything was run: {self.prediction}"
        )
        return figure(sweeps=self.studies)(draw)


CLAIMS: dict[str, Claim] = {}


def claim(name: str, *studies: str) -> Callable[[Callable[[Results], Verdict]], Claim]:
    """Makes a claim of its judge.

    The docstring has three paragraphs: the claim, 'Expected: ' and what was predicted,
    'Decides: ' and the statistic, in which {RULE} stands for the common rule.
    """

    def listed(judge: Callable[[Results], Verdict]) -> Claim:
        text = (inspect.getdoc(judge) or "").replace("{RULE}", RULE)
        says, prediction, statistic = (" ".join(p.split()) for p in text.split("\n\n"))
        CLAIMS[name] = Claim(
            name,
            says,
            prediction.removeprefix("Expected: "),
            statistic.removeprefix("Decides: "),
            studies,
            judge,
        )
        return CLAIMS[name]

    return listed


def word(findings: Sequence[Finding], least: float = LEAST) -> Word:
    """The verdict of the effects that decide, by `RULE`."""
    there = [f.low > 0 and f.high >= least for f in findings]
    if all(there):
        return "holds"
    if any(there):
        return "holds in part"
    absent = all(f.high < least for f in findings)
    return "does not hold" if absent else "cannot tell"


def verdict_word(*, holds: bool, in_part: bool, fails: bool) -> Word:
    """The first word whose rule is met, 'cannot tell' if none is."""
    if holds:
        return "holds"
    if in_part:
        return "holds in part"
    return "does not hold" if fails else "cannot tell"
