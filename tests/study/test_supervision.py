"""Wrong labels, and a larger network to learn from."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.study import supervision
from experiments.study.lengths import drawn

EXPERIMENTS = Path(supervision.__file__).parent.parent
RESULTS = EXPERIMENTS / "results" / "supervision.json"
PAGE = EXPERIMENTS.parent / "notebooks" / "which_loss.md"


def test_the_page_has_what_the_results_say():
    rows = json.loads(RESULTS.read_text())
    for kind in dict.fromkeys(row["kind"] for row in rows):
        cells = [f"{r['recall_at_1']:.3f}" for r in rows if r["kind"] == kind]
        assert f"| {kind} | {' | '.join(cells)} |" in PAGE.read_text()


@pytest.mark.slow
def test_a_share_of_training_labels_is_wrong_and_no_test_label_is():
    _, clean, rows, labels = drawn(2)
    _, noisy, same_rows, wrong = drawn(2, 0.3)
    np.testing.assert_array_equal(rows, same_rows)
    assert abs(np.mean(labels != wrong) - 0.3) < 0.02
    jax.tree.map(np.testing.assert_array_equal, clean.test, noisy.test)
