"""What the first numbers of an embedding are worth."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.study import lengths

RESULTS = Path(lengths.__file__).parent.parent / "results" / "lengths.json"
CONCEPTS = Path(lengths.__file__).parent.parent.parent / "notebooks" / "concepts.md"


def test_the_page_has_what_the_results_say():
    means = json.loads(RESULTS.read_text())["means"]
    for length in lengths.LENGTHS:
        recalls = (
            means[way][str(length)]["recall_at_1"] for way in ("all", "whole", "own")
        )
        row = " | ".join([str(length), *(f"{recall:.3f}" for recall in recalls)])
        assert f"| {row} |" in CONCEPTS.read_text()


@pytest.mark.slow
def test_a_network_trained_for_all_lengths_is_better_when_cut(monkeypatch):
    monkeypatch.setattr(lengths, "STEPS", 100)
    found = lengths.measure(2)
    cut = [found["means"][way]["8"]["map_at_r"] for way in ("all", "whole")]
    assert cut[0] > cut[1]
    zero = found["differences"]["recall_at_1 of whole less own, first 32"]
    np.testing.assert_array_equal(zero, [0.0, 0.0, 0.0])
    assert lengths.table(found).count("\n") == 1 + 2 * len(lengths.LENGTHS)
