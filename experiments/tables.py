"""Writes the tables of README that are read off the package and off results.

python -m experiments.tables
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bench.cases import CASES
from experiments.bench.output import Row
from experiments.bench.timing import Shape
from experiments.study.claims import CLAIMS
from experiments.study.claims.__main__ import judged
from rankjax import losses, mining, regularizers
from rankjax.files import write_atomic
from rankjax.registry import LossInfo, hyper_parameters, info_of

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results"


def losses_table(functions: Mapping[str, Callable[..., Any]] = losses.LOSSES) -> str:
    """One row per loss: its file, how it looks at a batch, its settings, its source."""
    rows = [
        "| loss | looks at | similarity | batch | defaults | tuned | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, function in sorted(functions.items(), key=_by_file):
        info = info_of(function)
        assert info is not None
        cells = [
            _link(name, function),
            info.kind.value,
            "" if info.kind.value == "features" else _words(info),
            info.batch,
            _defaults(function),
            info.tuned,
            info.paper,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def rules_table() -> str:
    """One row per miner, selection and regulariser, with the first line of its text."""
    rows = ["| name | what | it |", "|---|---|---|"]
    for what, functions in (
        ("miner", mining.MINERS),
        ("selection", mining.SELECTIONS),
        ("regulariser", regularizers.REGULARIZERS),
    ):
        for name, function in functions.items():
            line = (inspect.getdoc(function) or "").splitlines()[0]
            line = line.replace("|", r"\|")
            rows.append(f"| {_link(name, function)} | {what} | {line} |")
    return "\n".join(rows)


def speed_table(results: Path = RESULTS / "bench-losses.json") -> str:
    """One row per loss that was timed: its time over the bare work's and the peer's."""
    rows = json.loads(results.read_text())
    found = {(r["loss"], r["variant"], r["B"]): r for r in rows if _is_usual(r)}
    names = dict.fromkeys(row["loss"] for row in rows)
    lines = [
        "| loss | B = 1,024, times the limit | B = 4,096 | MB | peer takes |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        small, large = (found.get((name, "rankjax", b), {}) for b in (1024, 4096))
        peer = found.get((name, "peer", 1024))
        cells = [
            f"`{name}`",
            *(_over_limit(row) for row in (small, large)),
            _number(large.get("peak_mb"), ".0f"),
            _over_peer(small, peer),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def claims_table() -> str:
    """One row per claim of the survey: what it says, the verdict, and why."""
    rows = ["| | the survey says | verdict | what was seen |", "|---|---|---|---|"]
    for name, (claim, verdict, _) in judged(list(CLAIMS.values())).items():
        cells = (name, claim.claim, f"**{verdict.word}**", verdict.says)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _is_usual(row: Row) -> bool:
    """Whether a row is of the length and the class size that the table is about."""
    per_class = CASES[row["loss"]].per_class or Shape(1).K
    return (row["D"], row["K"]) == (Shape(1).D, per_class)


def _over_limit(row: Row) -> str:
    wall, cpu = (row.get(key) for key in ("over_limit_wall", "over_limit"))
    return "" if wall is None else f"{wall:.2f} / {cpu:.2f}"


def _over_peer(row: Row, peer: Row | None) -> str:
    if peer is None:
        return ""
    if row.get("over_peer") is None:
        return str(peer["note"])
    return f"{row['over_peer']:.1f} times"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


TABLES: dict[str, Callable[[], str]] = {
    "losses": losses_table,
    "rules": rules_table,
    "speed": speed_table,
    "claims": claims_table,
}


def filled(text: str) -> str:
    """The text with every table between `<!-- NAME -->` and `<!-- end -->` renewed."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        parts = re.split(pattern, text, flags=re.S)
        if len(parts) != 4:
            raise ValueError(f"README must have one <!-- {name} --> ... <!-- end -->")
        text = "".join([parts[0], parts[1], table(), parts[2], parts[3]])
    return text


def _by_file(item: tuple[str, Callable[..., Any]]) -> tuple[str, int]:
    function = inspect.unwrap(item[1])
    return function.__module__, function.__code__.co_firstlineno


def _link(name: str, function: Callable[..., Any]) -> str:
    path = inspect.unwrap(function).__module__.replace(".", "/") + ".py"
    return f"[`{name}`]({path})"


def _words(info: LossInfo) -> str:
    return info.similarity.__name__.replace("_", " ")


def _defaults(function: Callable[..., Any]) -> str:
    return ", ".join(
        f"{name} {_value(parameter.default)}"
        for name, parameter in hyper_parameters(function).items()
    )


def _value(default: Any) -> str:
    if callable(default):
        return str(default.__name__).replace("_", " ")
    return f"{default:g}" if isinstance(default, float) else str(default)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    write_atomic(README, filled(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
