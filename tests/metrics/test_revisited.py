"""Lists of positives for each query, and grades of relevance."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from rankjax.metrics import graded_ndcg, revisited


def test_figures_equal_those_of_the_authors_code():
    stored = json.loads((Path(__file__).parent / "peer_revisited.json").read_text())
    lists = {
        name: [each[name] for each in stored["lists"]]
        for name in ("easy", "hard", "junk")
    }
    got = revisited(stored["scores"], **lists)
    assert list(got) == list(stored["found"]) == ["easy", "medium", "hard"]
    for setting, found in stored["found"].items():
        means = got[setting].means()
        assert means.pop("map_trapezoid") == pytest.approx(found["map"], abs=1e-12)
        assert list(means) == [f"precision_at_{k}" for k in (1, 5, 10)]
        assert list(means.values()) == pytest.approx(found["precision"], abs=1e-12)
    excluded = {setting: found.excluded for setting, found in got.items()}
    assert excluded == {"easy": 1, "medium": 0, "hard": 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scores": np.zeros(3)}, r"scores must have shape \[q, n\], got \(3,\)"),
        ({"scores": np.full((2, 3), np.nan)}, "scores must be finite"),
        ({"easy": [[0]]}, "easy must have a list for each of 2 queries, got 1"),
        ({"hard": [[3], []]}, "hard must be rows from 0 to 2, got 3"),
        ({"junk": [[], [1]]}, "row 1 twice for query 1"),
        ({"hard": [[], []]}, "hard must have a row for some query, got none"),
    ],
)
def test_bad_lists_are_named(changes, said):
    good = {
        "scores": np.arange(6.0).reshape(2, 3),
        "easy": [[0], [1]],
        "hard": [[1], [2]],
        "junk": [[2], []],
    }
    revisited(**good)
    with pytest.raises(ValueError, match=said):
        revisited(**(good | changes))


@pytest.mark.parametrize("k", [None, 1, 5])
def test_graded_ndcg_equals_scikit_learn(k):
    rng = np.random.default_rng(0)
    scores, relevance = rng.normal(size=(20, 12)), rng.integers(0, 4, (20, 12))
    relevance[:, 0] = 2  # of no query is nothing relevant
    got = graded_ndcg(scores, relevance, k=k)
    assert got.mean() == pytest.approx(ndcg_score(relevance, scores, k=k), abs=1e-12)


def test_graded_ndcg_counts_ties_against_the_query_and_knows_nothing_of_none():
    got = graded_ndcg(np.zeros((2, 3)), [[3, 0, 1], [0, 0, 0]])
    worst = 1 / np.log2(3) + 3 / np.log2(4)
    best = 3 + 1 / np.log2(3)
    assert got[0] == pytest.approx(worst / best)
    assert np.isnan(got[1])


@pytest.mark.parametrize(
    ("scores", "relevance", "k", "said"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), None, "relevance must have shape"),
        (np.zeros((2, 3)), -np.ones((2, 3)), None, "at least 0, got -1"),
        (
            np.zeros((2, 3)),
            np.ones((2, 3)),
            4,
            "k must be a whole number, from 1 to 3, got 4",
        ),
    ],
)
def test_bad_relevance_is_named(scores, relevance, k, said):
    with pytest.raises(ValueError, match=said):
        graded_ndcg(scores, relevance, k=k)
