"""The page of an evaluation: what an embedding finds, and what it does not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from rankjax.errors import RunError
from rankjax.files import write_atomic
from rankjax.metrics import Retrieval, precision_recall, some_queries
from rankjax.metrics.directions import cosines
from rankjax.report import analysis, curves, figures
from rankjax.report.document import (
    Section,
    document,
    picture,
    reproduce,
    text,
    wide_table,
)
from rankjax.report.drawing import DARK, LIGHT
from rankjax.report.inputs import EvaluationInputs, PairResult, SearchResult, Table
from rankjax.report.pictures import Found, Shown, class_map, gallery, similarities

_THEMES = LIGHT, DARK
_CURVE_QUERIES = 4096
_SHOWN, _WORST, _CLASSES, _PAIRS = 8, 10, 10, 12


def write_evaluation(path: Path, inputs: EvaluationInputs) -> None:
    """Writes the page; the same inputs give the same bytes.

    Raises:
      RunError: the file cannot be written, and is what it was.
    """
    sections = {"metrics": Section("Metrics", "".join(map(_table, inputs.tables)))}
    if isinstance(inputs.outcome, SearchResult):
        sections |= _of_a_search(inputs.outcome, inputs.shown, inputs.seed)
    else:
        sections |= _of_pairs(inputs.outcome, inputs.shown)
    layout = analysis.lay_out(inputs.embeddings, inputs.shown.labels, seed=inputs.seed)
    sections["map"] = Section("Map", class_map(inputs.shown, layout, "random classes"))
    if inputs.health is not None:
        sections["health"] = Section("Health", _table(inputs.health, heading=False))
    again = reproduce(inputs.settings.items(), inputs.command, inputs.versions)
    sections["reproduce"] = Section("Reproduce", again)
    page = document(inputs.title, text(inputs.result), inputs.facts, sections)
    try:
        write_atomic(path, page)
    except OSError as error:
        raise RunError(f"cannot write the report {path}: {error}") from error


def _table(table: Table, *, heading: bool = True) -> str:
    rows = [("", [text(cell) if cell else "" for cell in row]) for row in table.rows]
    above = f"<h3>{text(table.heading)}</h3>" if heading else ""
    note = f"<p>{text(table.note)}</p>" if table.note else ""
    head = [text(cell) if cell else "" for cell in table.head]
    return above + note + wide_table(head, rows, table.words)


def _of_a_search(ranked: SearchResult, shown: Shown, seed: int) -> dict[str, Section]:
    pairs = analysis.sample_pairs(ranked.search, np.random.default_rng((seed, 0)))
    scores = [
        cosines(ranked.search.queries, some, ranked.search.gallery) for some in pairs
    ]
    rng = np.random.default_rng((seed, 1))
    return {
        "curves": Section("Curves", _curves(ranked, scores, rng)),
        "similarity": Section("Similarities", _similarities(scores)),
        "gallery": Section("Retrieval", _retrieved(ranked, shown, rng)),
        "classes": Section("Classes", _classes(ranked.retrieval, shown)),
    }


def _curves(
    ranked: SearchResult, scores: Sequence[np.ndarray], rng: np.random.Generator
) -> str:
    queries, search = ranked.retrieval.queries, ranked.search
    said = f"all {len(queries):,} scored queries"
    if len(queries) > _CURVE_QUERIES:
        said = f"{_CURVE_QUERIES:,} of {len(queries):,} scored queries, at random"
        search = some_queries(search, rng.choice(queries, _CURVE_QUERIES, False))
    precision = precision_recall(search)
    if not len(scores[1]):
        return "<p>No curves: there are no pairs of two classes.</p>"
    same = np.repeat([True, False], list(map(len, scores)))
    far, tar, _ = roc_curve(same, np.concatenate(scores))
    chart = [curves.ranking(precision, (far, tar), theme) for theme in _THEMES]
    return (
        f"<p>Left: the best precision of any cut-off that reaches a recall, the mean"
        f" over {said}. Right: how many pairs of one class, and how many of two, a"
        " threshold on their similarity accepts, over the pairs drawn below.</p>"
        + picture(chart, "Precision over recall, and true over false acceptance rate")
    )


def _similarities(scores: Sequence[np.ndarray]) -> str:
    positive, negative = scores
    name = f"{len(positive):,} positive and {len(negative):,} negative pairs"
    space = {name: (positive, negative)}
    return similarities([figures.similarity(space, theme) for theme in _THEMES])


def _retrieved(ranked: SearchResult, shown: Shown, rng: np.random.Generator) -> str:
    retrieval = ranked.retrieval
    first = np.rint(1 / retrieval.values["mrr"]).astype(np.int64)
    drawn = np.sort(rng.permutation(len(first))[:_WORST])
    last = np.argsort(-first, kind="stable")[:_WORST]
    last = last[first[last] > 1]
    groups = {f"{len(drawn)} queries drawn at random": drawn}
    if len(last):
        title = "Worst failures: queries whose first right match ranks last"
        groups[title] = last
    return (
        f"<p>A query and the {_SHOWN} rows of the gallery that come first, without"
        " those that its protocol leaves out.</p>"
        + gallery(
            shown,
            {name: _found(ranked, at, first[at]) for name, at in groups.items()},
        )
    )


def _found(ranked: SearchResult, at: np.ndarray, first: np.ndarray) -> list[Found]:
    queries = ranked.retrieval.queries[at]
    top = analysis.top_matches(ranked.search, queries, most=_SHOWN)
    return [
        Found(
            int(ranked.query_rows[query]),
            ranked.gallery_rows[rows[rows >= 0]],
            f"first right match at rank {rank:,}",
        )
        for query, rows, rank in zip(queries, top, first, strict=True)
    ]


def _classes(retrieval: Retrieval, shown: Shown) -> str:
    classes, means = retrieval.class_means()
    counts = np.unique(retrieval.labels, return_counts=True)[1]
    values = means["map_at_r"]
    # Of classes that are equally good those say most that have most queries.
    rising, falling = (np.lexsort((-counts, x)) for x in (values, -values))
    worst = rising[: min(_CLASSES, -(-len(classes) // 2))]
    best = falling[~np.isin(falling, worst)][: len(worst)]

    def bars(heading: str, chosen: np.ndarray) -> str:
        items = "".join(
            f"<li><bdi>{text(shown.class_names[classes[i]])}</bdi>"
            f'<span style="--share: {values[i]:.4f}"></span><b>{values[i]:.3f}</b>'
            f"<small>{counts[i]:,}</small></li>"
            for i in chosen.tolist()
        )
        return f"<div><h3>{heading}</h3><ol>{items}</ol></div>" if len(chosen) else ""

    return (
        f"<p>Mean MAP@R of a class's queries, and how many these are, of the"
        f" {len(worst)} worst and the {len(best)} best of {len(classes):,} classes.</p>"
        f'<div class="bars">{bars("Worst", worst)}{bars("Best", best)}</div>'
    )


def _of_pairs(judged: PairResult, shown: Shown) -> dict[str, Section]:
    found = judged.verification
    chart = [
        curves.decisions(found.far, found.tar, found.thresholds, theme)
        for theme in _THEMES
    ]
    note = "<p>Over all pairs. The errors cross at the equal error rate.</p>"
    alt = "True over false acceptance rate, and both errors over the threshold"
    scores = judged.scores[judged.same], judged.scores[~judged.same]
    return {
        "curves": Section("Curves", note + picture(chart, alt)),
        "similarity": Section("Similarities", _similarities(scores)),
        "gallery": Section("Pairs", _hard_pairs(judged, shown)),
    }


def _hard_pairs(judged: PairResult, shown: Shown) -> str:
    same, different = np.flatnonzero(judged.same), np.flatnonzero(~judged.same)
    alike = different[np.argsort(-judged.scores[different], kind="stable")]
    apart = same[np.argsort(judged.scores[same], kind="stable")]
    parts = (
        ("Different, and most alike", alike[:_PAIRS], "miss"),
        ("The same, and least alike", apart[:_PAIRS], "hit"),
    )
    return "".join(
        f'<h3>{heading}</h3><ul class="cards">'
        + "".join(_card(judged, shown, int(i), kind) for i in chosen)
        + "</ul>"
        for heading, chosen, kind in parts
    )


def _card(judged: PairResult, shown: Shown, at: int, kind: str) -> str:
    rows = judged.pairs[at].tolist()
    names = [shown.name(row) for row in rows]
    pictures = ""
    if shown.read is not None:
        pictures = "".join(
            shown.thumbnail(row, name, kind)
            for row, name in zip(rows, names, strict=True)
        )
    lines = "".join(f"<bdi>{name}</bdi>" for name in names)
    score = f"<small>similarity {judged.scores[at]:.3f}</small>"
    return f"<li>{pictures}<div>{lines}{score}</div></li>"
