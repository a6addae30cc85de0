"""Self-contained pages: of a training run, with its figures, and of an evaluation."""

from rankjax.report.inputs import (
    Card,
    EvaluationInputs,
    PairResult,
    SearchResult,
    Table,
)
from rankjax.report.page import write_evaluation
from rankjax.report.run import ROWS, result_sentence, write_report
from rankjax.report.thumbnails import Shown, sheet

__all__ = [
    "ROWS",
    "Card",
    "EvaluationInputs",
    "PairResult",
    "SearchResult",
    "Shown",
    "Table",
    "result_sentence",
    "sheet",
    "write_evaluation",
    "write_report",
]
