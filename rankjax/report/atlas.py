"""All rows as a page's script knows them: pictures, neighbours, places on a map."""

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np

from rankjax.files import printable
from rankjax.metrics import nearest
from rankjax.report.classes import first_ranks
from rankjax.report.inputs import EvaluationInputs, SearchResult
from rankjax.report.thumbnails import sheet, uri_of

MOST = 2**16 - 1
"""Rows, so that two bytes hold the number of each."""

_NEAREST = 6
_SIDE = 32
_PICTURES = {True: 1000, False: 8000}  # in the page, with files beside it and without


def atlas(
    inputs: EvaluationInputs, rows: np.ndarray, places: np.ndarray | None, page: Path
) -> dict[str, Any]:
    """What the page's script reads, as JSON has it; arrays are in base64.

    Args:
      inputs: of the page.
      rows: int [m], at most `MOST`; of the first there are pictures.
      places: float [m, 2] from 0 to 1, or None where there is no map.
      page: the file that it will stand in.
    """
    shown = inputs.shown
    present, labels = np.unique(shown.labels[rows], return_inverse=True)
    found: dict[str, Any] = {
        "rows": _packed(rows, "<u4"),
        "labels": _packed(labels),
        "names": [printable(shown.class_name(label)) for label in present],
        "found": _packed(_found(inputs)[rows], "u1"),
    }
    k = min(_NEAREST, len(rows) - 1)
    if k:
        near = nearest(inputs.embeddings[rows], k=k)
        cosines = np.rint((near.similarities.clip(-1, 1) + 1) * 1e4)
        found |= {"near": _packed(near.rows), "cosines": _packed(cosines)}
    if places is not None:
        found |= dict(zip("xy", map(_packed, np.rint(places * MOST).T), strict=True))
    if shown.paths is not None:
        paths = [printable(shown.paths[row]) for row in rows]
        common = os.path.commonprefix(paths)  # noqa: RUF071, letters and not folders
        found |= {"common": common, "paths": [path[len(common) :] for path in paths]}
        if shown.folder is not None:
            folder = Path(os.path.relpath(shown.folder, page.absolute().parent))
            found["folder"] = folder.as_posix()
    if shown.read is not None:
        pictured = rows[: _PICTURES[shown.folder is not None]]
        picture = sheet(shown.read, pictured, _SIDE)
        found |= {"sheet": uri_of(picture, "webp"), "pictures": len(pictured)}
    return found


def _found(inputs: EvaluationInputs) -> np.ndarray:
    """Of every row whether it found its class first, 1, or not, 2; else 0."""
    found = np.zeros(len(inputs.shown.labels), int)
    ranked = inputs.outcome
    if isinstance(ranked, SearchResult):
        right = first_ranks(ranked) == 1
        found[ranked.query_rows[ranked.retrieval.queries]] = np.where(right, 1, 2)
    return found


def _packed(numbers: np.ndarray, kind: str = "<u2") -> str:
    return base64.b64encode(numbers.astype(kind).tobytes()).decode("ascii")
