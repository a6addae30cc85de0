"""The page of an evaluation or a run: what an embedding finds, and what it does not."""

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from sklearn.metrics import roc_curve

from rankjax.errors import RunError
from rankjax.files import printable, write_atomic
from rankjax.metrics import precision_recall, some_queries
from rankjax.metrics.directions import cosines
from rankjax.report import analysis, charts
from rankjax.report.atlas import MOST, atlas
from rankjax.report.classes import class_table, difference_table, first_ranks
from rankjax.report.inputs import Card, EvaluationInputs, PairResult, SearchResult
from rankjax.report.thumbnails import Found, Shown, gallery_figure

_JS = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
_CURVE_QUERIES = 4096
_SHOWN, _QUERIES, _PAIRS, _COMPARED = 8, 12, 12, 6

Parts = dict[str, Any]
"""What the template's sections are made of, by their names."""


def write_evaluation(
    path: Path, inputs: EvaluationInputs, *, figures: Path | None = None
) -> None:
    """Writes the page of an evaluation; the same inputs give the same bytes.

    It asks nothing of the network; pictures that are files it takes from where they
    lie. Its one script is allowed by its hash: nothing that a name holds can run.

    Args:
      path: of the page, which is written last.
      inputs: what it shows.
      figures: a folder, made if missing, for its charts and map as SVG and for
        gallery.png, in the colours of a light page. One is absent where the page says
        that there is nothing to draw.

    Raises:
      RunError: a file cannot be written; each is its old self or the new.
    """
    shown = inputs.shown
    parts: Parts = {"metrics": inputs.tables, "reproduce": True}
    if inputs.suspects:
        parts["suspects"] = inputs.suspects
    if inputs.history is not None:
        parts["training"] = {
            "chart": charts.training(inputs.history),
            "split": analysis.validated_on(inputs.history),
            "broken": sum(not _finite(row) for row in inputs.history),
        }
        parts["health"] = {"chart": charts.health(inputs.history)}
    elif inputs.health is not None:
        parts["health"] = {"chart": None}
    if isinstance(inputs.outcome, PairResult):
        parts |= _of_pairs(inputs.outcome, shown)
    else:
        parts |= _of_a_search(inputs.outcome, inputs)
    rng = np.random.default_rng((inputs.seed, 2))
    rows = analysis.one_of_each(shown.labels, rng)[:MOST]
    places = analysis.lay_out(inputs.embeddings[rows], seed=inputs.seed)
    parts["map"] = None if places is None else _map(rows, places, shown)

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["inline"] = charts.inline
    files: dict[Path, bytes | str] = {}
    if figures is not None:
        files = {
            figures / f"{name}.svg": part["chart"]
            for name, part in parts.items()
            if isinstance(part, dict) and part.get("chart")
        }
        if parts["map"]:
            macros: Any = environment.get_template("macros.html.j2").module
            svg = macros.map(shown, parts["map"]["size"], parts["map"]["classes"])
            files[figures / "map.svg"] = svg.replace("<svg", f"<svg {charts.XMLNS}", 1)
        if parts.get("gallery") and shown.read is not None:
            files[figures / "gallery.png"] = gallery_figure(shown, parts["gallery"])
    files[path] = environment.get_template("page.html.j2").render(
        css=Markup(charts.CSS),
        atlas=atlas(inputs, rows, places, path),
        js=Markup(_JS),
        js_hash=base64.b64encode(hashlib.sha256(_JS.encode()).digest()).decode(),
        inputs=inputs,
        shown=shown,
        parts=parts,
    )
    try:
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            write_atomic(file, content)
    except OSError as error:
        raise RunError(f"cannot write the report {path}: {error}") from error


def _printable(value: Any) -> Any:
    """Text without what is not `printable`, which is spelt as its code point."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if plain else value


def _finite(row: dict[str, float]) -> bool:
    return all(math.isfinite(x) for x in row.values() if isinstance(x, float))


def _map(rows: np.ndarray, places: np.ndarray, shown: Shown) -> Parts:
    """The map as a picture: in each of its cells the first row that lies there."""
    size = np.array([24, 16])
    cells = np.minimum(places[: analysis.LAID_OUT] * size, size - 1).astype(int)
    cells, first = np.unique(cells, axis=0, return_index=True)
    labels, marks = shown.labels[rows[first]], np.column_stack([rows[first], cells])
    codes = np.unique(shown.labels[rows])
    classes = [
        (shown.class_name(code), charts.class_colour(i), marks[labels == code])
        for i, code in enumerate(codes)
        if (labels == code).any()
    ]
    return {"rows": len(rows), "all": len(codes), "size": size, "classes": classes}


def _similarity(spaces: dict[str, Sequence[np.ndarray]]) -> Parts:
    positive, negative = next(iter(spaces.values()))
    pairs = f"{len(positive):,} positive and {len(negative):,} negative"
    return {"chart": charts.similarity(spaces), "pairs": pairs}


def _of_a_search(ranked: SearchResult | None, inputs: EvaluationInputs) -> Parts:
    """Curves, similarities, what queries found, classes and confusions."""
    if ranked is None:
        return {"gallery": None}
    search, queries = ranked.search, ranked.retrieval.queries
    pairs = analysis.sample_pairs(search, np.random.default_rng((inputs.seed, 0)))
    scores = [cosines(search.queries, some, search.gallery) for some in pairs]
    of_rows = [
        np.stack([ranked.query_rows[some[:, 0]], ranked.gallery_rows[some[:, 1]]], 1)
        for some in pairs
    ]
    spaces: dict[str, Sequence[np.ndarray]] = {
        name: [cosines(rows, some) for some in of_rows]
        for name, rows in inputs.baselines.items()
    }
    spaces["Trained" if spaces else ""] = scores
    rng = np.random.default_rng((inputs.seed, 1))
    first = first_ranks(ranked)
    failed = queries[first > 1]
    found = analysis.top_matches(search, failed, most=1)[:, 0]
    parts: Parts = {
        "curves": _curves(ranked, scores, rng),
        "similarity": _similarity(spaces),
        "gallery": _gallery(ranked, first, rng),
        "classes": class_table(ranked, failed, found, inputs.shown),
        "confusions": _confusions(ranked, failed, found, inputs.shown),
    }
    if inputs.other is not None:
        parts["comparison"] = _compared(ranked, inputs.other, inputs.shown)
    return parts


def _curves(
    ranked: SearchResult, scores: Sequence[np.ndarray], rng: np.random.Generator
) -> Parts:
    queries, search = ranked.retrieval.queries, ranked.search
    said = f"all {len(queries):,} scored queries"
    if len(queries) > _CURVE_QUERIES:
        said = f"{_CURVE_QUERIES:,} of {len(queries):,} scored queries, at random"
        search = some_queries(search, rng.choice(queries, _CURVE_QUERIES, False))
    parts: Parts = {"chart": None, "queries": said, "pairs": False}
    if len(scores[0]) and len(scores[1]):
        same = np.repeat([True, False], list(map(len, scores)))
        far, tar, _ = roc_curve(same, np.concatenate(scores))
        parts["chart"] = charts.ranking(precision_recall(search), (far, tar))
    return parts


def _gallery(
    ranked: SearchResult, first: np.ndarray, rng: np.random.Generator
) -> dict[str, list[Found]]:
    """Queries and what they found by caption, of the ranks of first right matches."""
    drawn = np.sort(rng.permutation(len(first))[:_QUERIES])
    last = np.argsort(-first, kind="stable")[:_QUERIES]
    failed = int((first > 1).sum())
    groups = {
        f"{len(drawn)} queries drawn at random": drawn,
        "Worst failures: queries whose first right match ranks last, of "
        f"{failed:,} that find another class first": last[first[last] > 1],
    }
    return {
        caption: _found(ranked, at, first) for caption, at in groups.items() if len(at)
    }


def _found(
    ranked: SearchResult, at: np.ndarray, first: np.ndarray, where: str = ""
) -> list[Found]:
    """What some scored queries found, of the ranks of all first right matches."""
    queries, search = ranked.retrieval.queries[at], ranked.search
    top = analysis.top_matches(search, queries, most=_SHOWN)
    found = []
    for query, rows, rank in zip(queries, top, first[at], strict=True):
        rows = rows[rows >= 0]
        pairs = np.stack([np.full_like(rows, query), rows], 1)
        found.append(
            Found(
                int(ranked.query_rows[query]),
                ranked.gallery_rows[rows],
                f"{where}first right match at rank {rank:,}",
                cosines(search.queries, pairs, search.gallery),
            )
        )
    return found


def _compared(ours: SearchResult, theirs: SearchResult, shown: Shown) -> Parts:
    """Queries that find their class first in one search alone, and classes."""
    here, there = first_ranks(ours), first_ranks(theirs)
    galleries = {}
    for what, better, worse in (("Won", here, there), ("Lost", there, here)):
        at = np.flatnonzero((better == 1) & (worse > 1))
        chosen = at[np.argsort(-worse[at], kind="stable")[:_COMPARED]]
        if len(at):
            pairs = zip(
                _found(ours, chosen, here, "here: "),
                _found(theirs, chosen, there, "there: "),
                strict=True,
            )
            caption = f"{what}: {len(at):,} queries, here and there, the clearest first"
            galleries[caption] = [each for pair in pairs for each in pair]
    return {
        "galleries": galleries,
        "table": difference_table(ours, theirs, shown),
    }


def _confusions(
    ranked: SearchResult, failed: np.ndarray, found: np.ndarray, shown: Shown
) -> list[Card]:
    sizes = np.bincount(ranked.search.query_labels, minlength=len(shown.class_names))
    cards = []
    for count, query, nearest in analysis.confusions(ranked.search, failed, found):
        rows = int(ranked.query_rows[query]), int(ranked.gallery_rows[nearest])
        queries = sum(sizes[shown.labels[row]] for row in rows)
        cards.append(Card(rows, ("query", "miss"), f"{count} of {queries} queries"))
    return cards


def _of_pairs(outcome: PairResult, shown: Shown) -> Parts:
    """Curves, similarities, and the pairs that are the hardest to decide."""
    found, scores, same = outcome.verification, outcome.scores, outcome.same
    hardest = {
        "Different, and most alike": np.argsort(np.where(same, np.inf, -scores)),
        "The same, and least alike": np.argsort(np.where(same, scores, np.inf)),
    }
    limits = (~same).sum(), same.sum()
    cards = {}
    for (heading, order), limit in zip(hardest.items(), limits, strict=True):
        cards[heading] = [
            Card(
                outcome.pairs[at].tolist(),
                ["hit" if same[at] else "miss"] * 2,
                f"similarity {scores[at]:.3f}",
            )
            for at in order[: min(limit, _PAIRS)]
        ]
    return {
        "curves": {
            "chart": charts.decisions(found.far, found.tar, found.thresholds),
            "pairs": True,
        },
        "similarity": _similarity({"": (scores[same], scores[~same])}),
        "pairs": cards,
    }
