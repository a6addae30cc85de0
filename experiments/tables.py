"""Writes the tables of README and of pages, read off the package and off results.

python -m experiments.tables
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiments.bench.cases import CASES
from experiments.bench.output import Row
from experiments.bench.timing import Shape
from experiments.study.claims import CLAIMS
from experiments.study.claims.__main__ import judged
from rankjax import losses, mining, regularizers
from rankjax.files import write_atomic
from rankjax.registry import LossInfo, hyper_parameters, info_of

ROOT = Path(__file__).parent.parent
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


def measured_table(
    losses: Path = RESULTS / "bench-losses.json",
    retrieval: Path = RESULTS / "bench-retrieval.json",
) -> str:
    """README's few rows of time and memory, with another library beside each."""
    timed = {
        (r["loss"], r["variant"]): r
        for r in json.loads(losses.read_text())
        if _is_usual(r) and r["B"] == 1024
    }
    ranked = {
        r["what"]: r for r in json.loads(retrieval.read_text()) if r["N"] == 60502
    }
    lines = ["| | rankjax | beside it | command |", "|---|---|---|---|"]
    for name, what in {
        "sup_con": "SupCon",
        "multi_similarity": "multi-similarity",
        "batch_hard_triplet": "batch-hard triplets",
        "semi_hard": "semi-hard triplets",
        "angular": "angular",
    }.items():
        ours, peer = (_cost(timed[name, who]) for who in ("rankjax", "peer"))
        cells = [what, ours, f"{peer} (pytorch-metric-learning)"]
        lines.append(f"| {' | '.join(cells)} | `experiments.bench.losses` |")
    every, more, faiss = (_cost(ranked[w]) for w in ("recall", "metrics", "faiss"))
    for cells in (
        [
            "Recall@K for every K, 60,502 rows",
            every,
            f"{faiss} (faiss, ten neighbours)",
        ],
        ["also MAP@R, R-precision, mAP, nDCG", more, ""],
    ):
        lines.append(f"| {' | '.join(cells)} | `experiments.bench.retrieval` |")
    return "\n".join(lines)


def frozen_table(results: Path = RESULTS / "frozen.json") -> str:
    """One row per data set and way of using weights: quality, and what it took."""
    rows = json.loads(results.read_text())
    names = {
        "zero-shot": "EfficientNet-Lite0 as it is",
        "head": "a linear head on its frozen features",
        "fine-tuned": "all of it fine-tuned",
        "random": "a small network from random weights",
    }
    lines = [
        "| images | what | Recall@1 | MAP@R | CPU minutes | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        for arm, name in names.items():
            found = [r for r in rows if (r["data"], r["arm"]) == (data, arm)]
            cells = [
                _mean([row[key] for row in found], digits)
                for key, digits in (
                    ("recall_at_1", 3),
                    ("map_at_r", 3),
                    ("cpu_minutes", 1),
                )
            ]
            lines.append(f"| {data} | {name} | {' | '.join(cells)} | {len(found)} |")
    return "\n".join(lines)


def suspects_table(results: Path = RESULTS / "suspects.json") -> str:
    """Planted faults that are found, as precision / recall, means over seeds."""
    rows = json.loads(results.read_text())

    def cell(**key: Any) -> str:
        found = [row for row in rows if key.items() <= row.items()]
        figures = [
            [row[name] for row in found if row[name] is not None]
            for name in ("precision", "recall")
        ]
        return " / ".join(f"{mean(each):.2f}" for each in figures if each)

    labels = [row for row in rows if row["fault"] == "label"]
    methods = list(dict.fromkeys(row["method"] for row in labels))
    lines = [
        f"| changed labels | {' | '.join(methods)} |",
        f"|---|{'---|' * len(methods)}",
    ]
    planted = {(r["data"], r["share"]): (r["planted"], r["rows"]) for r in labels}
    for (data, share), (changed, of) in planted.items():
        cells = [
            cell(data=data, share=share, fault="label", method=method)
            for method in methods
        ]
        cells.insert(0, f"{data}, {changed:,} of {of:,}")
        lines.append(f"| {' | '.join(cells)} |")
    copies = [row for row in rows if row["fault"] != "label"]
    kinds = list(dict.fromkeys(row["fault"] for row in copies))
    lines += [
        "",
        f"| doubled images | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
    ]
    for data in dict.fromkeys(row["data"] for row in copies):
        cells = [data, *(cell(data=data, fault=kind) for kind in kinds)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def peer_training_table(results: Path = RESULTS / "peer-training.json") -> str:
    """One row per data set and loss: quality and costs, and PyTorch's beside them."""
    rows = json.loads(results.read_text())
    lines = [
        "| images | loss | Recall@1 | CPU ms per step | CPU s to the first step | "
        "CPU s in all | MB | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row["data"], row["loss"]) for row in rows):
        ours, peer = (
            [r for r in rows if (r["data"], r["loss"], r["library"]) == (*key, library)]
            for library in ("rankjax", "pytorch")
        )
        cells = [
            f"{_mean([r[name] for r in ours], digits)} / "
            f"{_mean([r[name] for r in peer], digits)}"
            for name, digits in (
                ("recall_at_1", 3),
                ("step_cpu_ms", 0),
                ("first_step_cpu_s", 1),
                ("total_cpu_s", 0),
                ("peak_mb", 0),
            )
        ]
        again = _mean([r["first_step_again_cpu_s"] for r in ours], 1)
        cells[2] = cells[2].replace(" / ", f", {again} again / ")
        names = f"{key[0]} | {key[1].replace('_', ' ')}"
        lines.append(f"| {names} | {' | '.join(cells)} | {len(ours)} |")
    return "\n".join(lines)


def _mean(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _cost(row: Row) -> str:
    seconds = row["cpu_min_s"]
    time = f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    return f"{time}, {row['peak_mb']:,.0f} MB"


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


# The pages that have tables between `<!-- NAME -->` and `<!-- end -->`.
TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "measured": measured_table,
        "frozen": frozen_table,
        "peer-training": peer_training_table,
    },
    "notebooks/losses.md": {"losses": losses_table, "rules": rules_table},
    "notebooks/about/results.md": {
        "speed": speed_table,
        "suspects": suspects_table,
        "claims": claims_table,
    },
}


def filled(page: str) -> str:
    """The text of a page of `TABLES` with its tables renewed."""
    text = (ROOT / page).read_text()
    for name, table in TABLES[page].items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        parts = re.split(pattern, text, flags=re.S)
        if len(parts) != 4:
            raise ValueError(f"{page} must have one <!-- {name} --> ... <!-- end -->")
        text = "".join([parts[0], parts[1], table(), "\n", parts[2], parts[3]])
    return text


def _by_file(item: tuple[str, Callable[..., Any]]) -> tuple[str, int]:
    function = inspect.unwrap(item[1])
    return function.__module__, function.__code__.co_firstlineno


def _link(name: str, function: Callable[..., Any]) -> str:
    path = inspect.unwrap(function).__module__.replace(".", "/") + ".py"
    return f"[`{name}`](../{path})"


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
    for page in TABLES:
        write_atomic(ROOT / page, filled(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
