"""The same search with other embeddings or similarities."""

import dataclasses
from typing import Any

import numpy as np

from experiments.evaluation.options import Options
from rankjax import metrics
from rankjax.errors import UsageError
from rankjax.report import Ranked
from rankjax.similarity import cosine, dot

Figures = dict[str, Any]


def variants(ranked: Ranked, options: Options) -> list[Figures]:
    """Means of the same search with other embeddings or similarities."""
    search = ranked.search
    rows = [_variant("float32", ranked, bytes_per_row=4 * search.gallery.shape[1])]
    for kind in options.compress:
        gallery = metrics.compress(search.gallery, kind)
        # One set of rows stays one: it is ranked in half the time.
        one = search.queries is search.gallery
        own = gallery if one else metrics.compress(search.queries, kind)
        changed = dataclasses.replace(search, queries=own.rows, gallery=gallery.rows)
        rows.append(
            _variant(
                kind,
                ranked,
                search=changed,
                similarity=dot,
                bytes_per_row=gallery.bytes_per_row,
            )
        )
    if (options.rerank or options.expand) and search.itself is not None:
        raise UsageError("rerank and expand need a protocol with a gallery")
    gallery_rows = len(search.gallery)
    if options.expand > gallery_rows:
        raise UsageError(
            f"expand must be at most {gallery_rows}, the rows of the gallery, got "
            f"{options.expand}"
        )
    if options.expand:
        queries = metrics.expand_queries(
            search.queries, search.gallery, k=options.expand
        )
        search = dataclasses.replace(search, queries=queries)
        rows.append(_variant(f"expanded by {options.expand}", ranked, search=search))
    if options.rerank:
        # The paper's 20 and 6 neighbours, or as many as there are.
        k1 = min(20, len(search.queries) + gallery_rows - 1)
        scores = metrics.k_reciprocal(
            search.queries, search.gallery, k1=k1, k2=min(6, k1 + 1)
        )
        name = "expanded and re-ranked" if options.expand else "re-ranked"
        rows.append(_variant(name, ranked, search=search, scores=scores))
    return rows if len(rows) > 1 else []


def _variant(
    name: str,
    ranked: Ranked,
    *,
    search: metrics.Search | None = None,
    similarity: Any = cosine,
    scores: np.ndarray | None = None,
    bytes_per_row: int | None = None,
) -> Figures:
    found = ranked.retrieval
    if search is not None:
        levels = [
            int(key.removeprefix("recall_at_"))
            for key in found.values
            if key.startswith("recall_at_")
        ]
        found = metrics.retrieval(
            search, recall_at=levels, similarity=similarity, scores=scores
        )
    size = {} if bytes_per_row is None else {"bytes_per_row": bytes_per_row}
    return {"name": name, **size, **found.means()}
