import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from rankjax.metrics import leave_one_out, precision_recall, query_gallery, some_queries

LEVELS = [0, 0.25, 0.5, 0.75, 1]


def interpolated(precision, recall):
    return [
        max(p for p, r in zip(precision, recall, strict=True) if r >= x - 1e-12)
        for x in LEVELS
    ]


def test_precision_is_the_mean_over_queries_of_scikit_learns_interpolated_curve():
    rng = np.random.default_rng(0)
    labels = np.append(np.arange(29) % 4, 9)  # one row has no positive
    rows = rng.normal(size=(30, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    curves = []
    for i in range(29):
        others = np.arange(30) != i
        scores, hits = (unit @ unit[i])[others], (labels == labels[i])[others]
        precision, recall, _ = precision_recall_curve(hits, scores)
        # Its last point, precision 1 without any result, is made up.
        curves.append(interpolated(precision[:-1], recall[:-1]))
    search = leave_one_out(rows, labels)
    recall, precision = precision_recall(search, levels=5)
    assert recall.tolist() == LEVELS
    assert precision == pytest.approx(np.mean(curves, 0), abs=1e-12)

    chosen = np.array([7, 3])
    _, precision = precision_recall(some_queries(search, chosen), levels=5)
    assert precision == pytest.approx(np.mean([curves[7], curves[3]], 0), abs=1e-12)


def test_some_queries_keep_their_cameras():
    rng = np.random.default_rng(1)
    search = query_gallery(
        *(rng.normal(size=(3, 2)), np.array([0, 1, 0])),
        *(rng.normal(size=(4, 2)), np.array([0, 0, 1, 1])),
        query_cameras=np.array([5, 6, 7]),
        gallery_cameras=np.array([5, 7, 5, 7]),
    )
    # Alone in its class after the gallery's row of its own camera is left out.
    _, precision = precision_recall(some_queries(search, np.array([2])), levels=2)
    others = search.gallery @ search.queries[2] / np.linalg.norm(search.gallery, axis=1)
    rank = 1 + (others[2:] >= others[0]).sum()
    assert precision == pytest.approx([1 / rank, 1 / rank])


def test_without_a_positive_there_is_no_curve():
    search = leave_one_out(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="a query that has a positive"):
        precision_recall(search)
    with pytest.raises(
        ValueError, match=r"levels must be a whole .* at least 2, got 1"
    ):
        precision_recall(search, levels=1)
