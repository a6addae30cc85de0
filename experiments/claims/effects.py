"""From effects to a verdict: what counts as an effect, and effects of several benches."""

from collections.abc import Sequence

from experiments.claims.claim import Finding, Word

LEAST = 0.01
"""The smallest difference that matters: one in a hundred."""

RULE = (
    f"An effect is there if its interval is above 0 and reaches {LEAST:g}, and absent "
    f"if its interval ends below {LEAST:g}. All there: holds. Some there: holds in "
    "part. All absent: does not hold. Otherwise: cannot tell."
)


def word(findings: Sequence[Finding], least: float = LEAST) -> Word:
    """The verdict of the effects that decide, by `RULE`."""
    there = [f.low > 0 and f.high >= least for f in findings]
    if all(there):
        return "holds"
    if any(there):
        return "holds in part"
    absent = all(f.high < least for f in findings)
    return "does not hold" if absent else "cannot tell"
