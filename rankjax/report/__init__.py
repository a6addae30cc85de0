"""Self-contained pages: of a training run, with its figures, and of an evaluation."""

from pathlib import Path

import numpy as np

from rankjax.errors import RunError
from rankjax.files import write_atomic
from rankjax.metrics import leave_one_out
from rankjax.metrics.directions import cosines
from rankjax.report import analysis, drawing, figures, page
from rankjax.report.evaluation import write_evaluation
from rankjax.report.inputs import (
    EvaluationInputs,
    PairResult,
    ReportInputs,
    SearchResult,
    Table,
)
from rankjax.report.page import ROWS
from rankjax.report.pictures import Shown

__all__ = [
    "ROWS",
    "EvaluationInputs",
    "PairResult",
    "ReportInputs",
    "SearchResult",
    "Shown",
    "Table",
    "write_evaluation",
    "write_report",
]


def write_report(run_dir: Path, inputs: ReportInputs) -> Path:
    """Write `figures/*.png` and `report.html`; the same inputs give the same bytes.

    map.png is absent, and the page says so, where there is nothing to lay out.

    Returns:
      The path of report.html, which is written last.

    Raises:
      RunError: the folder cannot be written; each file is its old self or the new.
    """
    labels = inputs.labels
    neighbours = analysis.nearest(inputs.embeddings)
    groups = _queries(labels, neighbours, inputs.seed)
    layout = analysis.lay_out(inputs.embeddings, labels, seed=inputs.seed)

    search = leave_one_out(inputs.embeddings, labels)
    pairs = analysis.sample_pairs(search, np.random.default_rng((inputs.seed, 0)))
    rows = {**inputs.baselines, "test": inputs.embeddings}
    spaces = {
        name: (
            cosines(rows[key], pairs.positive),
            cosines(rows[key], pairs.negative),
        )
        for key, name in figures.SPACES.items()
        if key in rows
    }
    themes = drawing.LIGHT, drawing.DARK
    charts = {
        "curves": [figures.curves(inputs.history, theme) for theme in themes],
        "health": [figures.health(inputs.history, theme) for theme in themes],
        "similarity": [figures.similarity(spaces, theme) for theme in themes],
    }
    files = {name: light for name, (light, _) in charts.items()}
    heading = (
        f"Nearest neighbours among {len(labels):,} images"
        f" of {len(np.unique(labels)):,} classes unseen in training"
    )
    files["gallery"] = figures.gallery(
        inputs.images, labels, neighbours, groups, heading
    )
    if layout is not None:
        files["map"] = figures.class_map(inputs.images, labels, layout)
    document = page.render(
        inputs,
        neighbours=neighbours,
        groups=groups,
        confusions=analysis.confusions(labels, neighbours),
        layout=layout,
        charts=charts,
    )
    folder, target = run_dir / "figures", run_dir / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(folder / f"{name}.png", content)
        write_atomic(target, document)
    except OSError as error:
        raise RunError(f"cannot write the report to {run_dir}: {error}") from error
    return target


def _queries(
    labels: np.ndarray, neighbours: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Caption of the gallery's parts to their queries; a part without any is absent."""
    rng = np.random.default_rng((seed, 1))
    usable = np.flatnonzero(analysis.answerable(labels))
    failed = analysis.failures(labels, neighbours)
    chosen = rng.permutation(usable)[:12]
    examples = rng.permutation(failed)[:6]
    some = f"{len(examples)} of the {len(failed):,}, drawn at random"
    groups = {
        f"{len(chosen)} queries drawn at random": chosen,
        "Queries whose nearest neighbour is of another class: "
        + (some if len(examples) < len(failed) else f"all {len(failed)}"): examples,
    }
    return {name: queries for name, queries in groups.items() if len(queries)}
