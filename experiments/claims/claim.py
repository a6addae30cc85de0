"""What a claim is: said before its sweeps were run, and judged from their files."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from experiments.sweep.records import Result

Word = Literal["holds", "holds in part", "does not hold", "cannot tell"]
Results = Mapping[str, Result]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measured effect.

    Attributes:
      what: in words, with its unit, such as 'Recall@1, N-pairs minus semi-hard, modes'.
      effect: mean over seeds, or what else `what` says.
      low, high: ends of its 95 % interval.
      seeds: that it rests on.
      p: two-sided, of a test against no effect; None where nothing is tested.
    """

    what: str
    effect: float
    low: float
    high: float
    seeds: int
    p: float | None = None


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
