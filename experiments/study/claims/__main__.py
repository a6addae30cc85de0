"""The survey's claims: verdicts with effects, intervals and seeds.

python -m experiments.study.claims [C4 ...] [--run C4 ...]

Reads the committed result files. --run first trains what the named claims rest on (the
files name the CPU minutes); delete a file to have it trained again from nothing.
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from experiments.study.claims import CLAIMS
from experiments.study.claims.claim import Claim, Verdict
from experiments.study.records import RESULTS, Result, load
from experiments.study.statistics import holm
from experiments.study.studies import STUDIES
from experiments.study.sweep import run
from rankjax.errors import RunError, UsageError, unknown_name

Judged = Mapping[str, tuple[Claim, Verdict, float | None]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="C1 to C12; all if none"
    )
    parser.add_argument("--run", nargs="+", default=[], metavar="NAME")
    options = parser.parse_intermixed_args(arguments)
    try:
        for name in options.run:
            for study in _named(name).studies:
                print(f"{study}: about {STUDIES[study].budget:g} CPU minutes")
                run(STUDIES[study], RESULTS, functools.partial(print, flush=True))
        names = options.names or options.run or list(CLAIMS)
        verdicts = judged([_named(name) for name in names])
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_table(verdicts)
    return 0


def judged(claims: Sequence[Claim]) -> Judged:
    """Verdicts by name, each with the first finding's p as Holm adjusts it.

    The correction is for all the first findings that were tested among `claims`.
    """
    verdicts = {
        claim.name: claim.judge({study: _complete(study) for study in claim.studies})
        for claim in claims
    }
    raw = {name: verdict.findings[0].p for name, verdict in verdicts.items()}
    tested = {name: p for name, p in raw.items() if p is not None}
    adjusted = dict(zip(tested, holm([*tested.values()]), strict=True))
    return {c.name: (c, verdicts[c.name], adjusted.get(c.name)) for c in claims}


def print_table(verdicts: Judged) -> None:
    """On the screen, every finding a row."""
    for name, (claim, verdict, adjusted) in verdicts.items():
        table = Table(
            title=f"{name}: {verdict.word.upper()}. {claim.claim}",
            title_justify="left",
            caption=verdict.says,
            caption_justify="left",
        )
        for column in ("finding", "effect", "95 % interval", "seeds", "p"):
            table.add_column(column, overflow="fold")
        for i, f in enumerate(verdict.findings):
            p = "" if f.p is None else f"{f.p:.2g}"
            if i == 0 and adjusted is not None:
                p += f" (Holm {adjusted:.2g})"
            ends = f"{f.low:.3g} to {f.high:.3g}"
            table.add_row(f.what, f"{f.effect:.3g}", ends, str(f.seeds), p)
        console = Console()
        Console(width=None if console.is_terminal else 160).print(table)


def _complete(study: str) -> Result:
    result = load(study)
    missing = [arm for arm in STUDIES[study].arms if arm not in result.arms]
    if missing:
        raise RunError(
            f"{study} has no {', '.join(missing)} yet; "
            f"python -m experiments.study.sweep {study} goes on with it"
        )
    return result


def _named(name: str) -> Claim:
    if name not in CLAIMS:
        raise unknown_name("claim", name, [*CLAIMS])
    return CLAIMS[name]


if __name__ == "__main__":
    sys.exit(main())
