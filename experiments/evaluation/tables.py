"""Figures as tables, for the terminal and for the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from rankjax.files import printable
from rankjax.report import Table

_AT = {
    "recall_at_": "Recall@",
    "precision_at_": "Precision@",
    "modified_precision_at_": "mMP@",
    "map_at_": "mAP@",
}
_NAMES = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "map": "mAP",
    "map_trapezoid": "mAP, trapezoids",
    "mrr": "MRR",
    "ndcg": "nDCG",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "f1": "F1 of pairs",
    "auc": "AUC",
    "eer": "EER",
}
_MOST_SUPERS = 32
_CLUSTERING = ("nmi", "ami", "ari", "f1")
_HEALTH = {
    "mean_cosine": "of all pairs of rows; near 1 is collapse",
    "effective_rank": "directions in use, at most the dimensions",
    "spectral_decay": "0 where all directions are used alike",
    "uniformity": "at most 0; lower is more evenly spread",
    "alignment": "mean squared distance within classes; lower is closer",
    "intra_distance": "mean cosine distance within classes",
    "inter_distance": "mean cosine distance of classes' mean directions",
    "intra_inter_ratio": "of the two",
    "norm_mean": "mean length of embeddings",
    "norm_std": "its spread",
    "collapsed": "1 if all rows are nearly one",
}


def tables(figures: dict[str, Any]) -> list[Table]:
    """All there is to print, the metrics first."""
    if figures["protocol"] == "verification":
        return [_verification(figures)]
    if figures["protocol"] == "revisited":
        return [_revisited(figures["settings"])]
    found = [_ranking(figures)]
    supers = figures.get("super_means")
    if supers and len(supers["name"]) <= _MOST_SUPERS:
        found.append(_supers(supers))
    if "nmi" in figures:
        found.append(_clustering(figures))
    if "open_set" in figures:
        found.append(_open_set(figures["open_set"]))
    if figures["variants"]:
        found.append(_variants(figures["variants"]))
    if "comparison" in figures:
        found.append(_comparison(figures["comparison"]))
    return found


def health_table(figures: dict[str, Any]) -> Table | None:
    """How the embedding uses its space."""
    if "health" not in figures:
        return None
    rows = [
        (name.replace("_", " "), _number(value), _HEALTH[name])
        for name, value in figures["health"].items()
    ]
    return Table("Health", "", ("", "value", "what it is"), rows, words=[2])


def counts(figures: dict[str, Any]) -> dict[str, str]:
    """What the figures are of."""
    found = {"protocol": figures["protocol"], "rows": f"{figures['rows']:,}"}
    found |= {
        name: f"{number:,}"
        for name, number in {
            "classes": figures.get("classes"),
            "dimensions": figures["dimensions"],
        }.items()
        if number is not None
    }
    if figures.get("classes") == 1:
        found["classes"] += " (all that is found is of it, hence right)"
    for name, number in figures.get("pairs", {}).items():
        found[f"{name} pairs"] = f"{number:,}"
    for name, number in figures.get("queries", {}).items():
        kind = {"scored": "scored queries", "excluded": "queries without a match"}
        if number or name in kind:
            found[kind.get(name, name)] = f"{number:,}"
    return found


def result(figures: dict[str, Any]) -> str:
    """The first figure, in a sentence."""
    if figures["protocol"] == "verification":
        error = figures["accuracy_standard_error"]
        pairs = sum(figures["pairs"].values())
        return f"Accuracy {figures['accuracy']:.4f} ± {error:.4f} on {pairs:,} pairs"
    name = next(iter(figures["means_over_classes"]))
    queries = f"{figures['queries']['scored']:,} queries"
    classes = f"{len(figures['class_means']['label']):,} classes"
    found = f"{_name(name)} {figures[name]:.3f} over {queries} of {classes}"
    bounds = figures.get("intervals", {}).get(name, {}).get("by_class")
    if bounds is None:
        return found
    return f"{found}; 95% interval by class {bounds[0]:.3f} to {bounds[1]:.3f}"


def show(table: Table) -> None:
    """Prints a table; into a file as wide as it has to be."""
    printed = RichTable(
        title=Text(table.heading),
        title_justify="left",
        title_style="bold",
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for number, name in enumerate(table.head):
        left = number == 0 or number in table.words
        printed.add_column(Text(name), justify="left" if left else "right")
    for row in table.rows:
        printed.add_row(*map(Text, row))
    console = Console()
    Console(width=None if console.is_terminal else 160).print(printed)


def _ranking(figures: dict[str, Any]) -> Table:
    intervals = figures.get("intervals", {})
    shown = [by for by in ("by_query", "by_class") if _any(intervals, by)]
    rows = [
        (
            _name(name),
            _number(figures[name]),
            *(_range(intervals[name].get(by)) for by in shown),
            _number(mean),
        )
        for name, mean in figures["means_over_classes"].items()
    ]
    head = ("", "mean", *(f"95% {by.replace('_', ' ')}" for by in shown), "class mean")
    note = (
        "Means over queries, and over classes that count alike. The interval by query "
        "is for other queries of these classes, that by class for other classes."
    )
    return Table("Retrieval", note, head, rows)


def _supers(columns: dict[str, list[Any]]) -> Table:
    shown = [name for name in ("recall_at_1", "map_at_r") if name in columns]
    rows = [
        (
            printable(columns["name"][i]) or "(empty)",
            *(f"{columns[name][i]:,}" for name in ("images", "queries")),
            *(_number(columns[name][i]) for name in shown),
        )
        for i in np.argsort(columns["map_at_r"], kind="stable")
    ]
    head = ("", "images", "queries", *map(_name, shown))
    note = "Means over queries, which search all super-classes; the lowest MAP@R first."
    return Table("Super-classes", note, head, rows)


def _any(intervals: dict[str, Any], by: str) -> bool:
    return any(by in bounds for bounds in intervals.values())


def _clustering(figures: dict[str, Any]) -> Table:
    note = "k-means with as many clusters as classes, against the classes."
    rows = [(_name(name), _number(figures[name])) for name in _CLUSTERING]
    return Table("Clustering", note, ("", "value"), rows)


def _open_set(found: dict[str, Any]) -> Table:
    note = (
        f"{found['with_mate']:,} queries with a match in the gallery and "
        f"{found['without_mate']:,} without: how many of the former are identified, "
        "where so many of the latter are taken for somebody. GAP, the average "
        "precision of all queries' nearest images in one ranking, is "
        f"{_number(found['gap'])}."
    )
    rows = [(fir, _number(rate)) for fir, rate in found["dir_at_fir"].items()]
    return Table("Open set", note, ("false identification rate", "identified"), rows)


def _variants(variants: Sequence[dict[str, Any]]) -> Table:
    shown = [name for name in variants[0] if name not in ("name", "bytes_per_row")]
    first = variants[0]

    def cell(row: dict[str, Any], name: str) -> str:
        change = "" if row is first else f" ({row[name] - first[name]:+.4f})"
        return f"{row[name]:.4f}{change}"

    rows = [(_name(name), *(cell(row, name) for row in variants)) for name in shown]
    if any("bytes_per_row" in row for row in variants):
        sizes = (row.get("bytes_per_row") for row in variants)
        rows.append(("bytes per row", *(f"{n:,}" if n else "" for n in sizes)))
    note = "In brackets the change from the first column."
    return Table("Variants", note, ("", *(row["name"] for row in variants)), rows)


def _comparison(found: dict[str, Any]) -> Table:
    rows = [
        (
            _name(name),
            f"{one['difference']:+.4f}",
            "{:+.4f} to {:+.4f}".format(*one["by_class"]),
            f"{one['p_value']:.2g}",
            one["verdict"],
        )
        for name, one in found["metrics"].items()
    ]
    (test,) = {one["test"] for one in found["metrics"].values()}
    heading = f"Against {found['other']}"
    first = found["first_row_right"]
    note = (
        f"Of {sum(first.values()):,} queries {first['only_here']:,} find a row of "
        f"their class first here alone, {first['only_there']:,} there alone, "
        f"{first['both']:,} in both and {first['neither']:,} in neither. p, of no "
        f"difference, is by a {test}."
    )
    head = ("", "difference", "95% by class", "p", "verdict")
    return Table(heading, note, head, rows, words=[4])


def _verification(figures: dict[str, Any]) -> Table:
    error = figures["accuracy_standard_error"]
    rows = [("accuracy over folds", f"{figures['accuracy']:.4f} ± {error:.4f}")]
    rows += [
        (f"TAR at FAR {far}", _number(rate))
        for far, rate in figures["tar_at_far"].items()
    ]
    rows += [(_name(name), _number(figures[name])) for name in ("eer", "auc")]
    note = "± is the standard error over folds. A dash: too few pairs to tell."
    return Table("Verification", note, ("", "value"), rows)


def _revisited(settings: dict[str, dict[str, Any]]) -> Table:
    metrics = [name for name in settings["easy"] if name not in ("scored", "intervals")]
    rows = []
    for setting, found in settings.items():
        bounds = found["intervals"].get("map_trapezoid", {}).get("by_query")
        values = (_number(found[name]) for name in metrics)
        rows.append((setting, f"{found['scored']:,}", *values, _range(bounds)))
    head = ("", "queries", *map(_name, metrics), "95% of mAP")
    note = (
        "Each query leaves out its own junk, and in easy and hard what is of the "
        "other. Precision is of the first K, or as far as the last right row. The "
        "interval is for other queries."
    )
    return Table("Revisited", note, head, rows)


def _name(metric: str) -> str:
    for start, name in _AT.items():
        if metric.startswith(start) and metric not in _NAMES:
            return name + metric.removeprefix(start)
    return _NAMES.get(metric, metric)


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.4f}"  # noqa: RUF001


def _range(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"
