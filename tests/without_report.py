"""The training command without its report, which is half of a short run's time."""

from collections.abc import Sequence
from typing import Any

import pytest

import experiments.train
import rankjax.report


def ignore(*arguments: Any) -> None:
    """What is called instead of the report."""


def main(words: Sequence[str]) -> int:
    """The exit status of the command, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rankjax.report,
            "write_report",
            lambda folder, **given: ignore(folder, given),
        )
        return experiments.train.main(words)
