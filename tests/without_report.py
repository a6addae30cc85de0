"""The training command without its report, which is half of a short run's time."""

from collections.abc import Sequence

import pytest

import experiments.train


def main(words: Sequence[str]) -> int:
    """The exit status of the command, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.train, "write_report", lambda *ignored: None)
        return experiments.train.main(words)
