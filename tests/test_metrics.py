import numpy as np
import pytest

from rankjax import similarity
from rankjax.metrics import nearest, retrieval_metrics


def ranking(scores, i):
    """The other rows, most similar first; of equals the lower number first."""
    others = [j for j in range(len(scores)) if j != i]
    return sorted(others, key=lambda j: (-scores[i][j], j))


def slow_metrics(scores, labels, recall_at):
    """Recall@K, MAP@R and R-precision as loops over queries and ranks."""
    recalls = {k: [] for k in recall_at}
    average_precisions, r_precisions = [], []
    for i in range(len(labels)):
        r = sum(label == labels[i] for label in labels) - 1
        if r == 0:
            continue
        hits = [labels[j] == labels[i] for j in ranking(scores, i)]
        for k in recall_at:
            recalls[k].append(any(hits[:k]))
        precisions = [sum(hits[: p + 1]) / (p + 1) for p in range(r) if hits[p]]
        average_precisions.append(sum(precisions) / r)
        r_precisions.append(sum(hits[:r]) / r)
    return {
        **{f"recall_at_{k}": np.mean(recalls[k]) for k in recall_at},
        "map_at_r": np.mean(average_precisions),
        "r_precision": np.mean(r_precisions),
    }


def assert_equal(got, expected):
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


def grid(n, rng):
    """Small integers: inner products are exact, and many are equal."""
    return rng.integers(-2, 3, (n, 3)).astype(np.float32)


SINGLETONS = np.array([4, 1, 1, 7, 2, 2, 2, 4, 2, 9, 4, 1])


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_slow_loops_with_ties_and_classes_of_one(seed):
    embeddings = grid(12, np.random.default_rng(seed))
    scores = (embeddings @ embeddings.T).tolist()
    recall_at = (1, 3, 11)
    got = retrieval_metrics(
        embeddings, SINGLETONS, recall_at=recall_at, similarity=similarity.dot
    )
    assert_equal(got, slow_metrics(scores, SINGLETONS.tolist(), recall_at))


def test_metrics_rank_by_cosine_by_default():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(60, 4)), rng.integers(0, 9, 60)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = slow_metrics((unit @ unit.T).tolist(), labels.tolist(), (1, 2, 4, 8))
    assert_equal(retrieval_metrics(np.float32(embeddings), labels), expected)


@pytest.mark.parametrize("first", [2**24, 2**31, 2**62])
def test_labels_that_float32_or_int32_cannot_tell_apart_are_told_apart(first):
    embeddings = grid(12, np.random.default_rng(0))
    got = retrieval_metrics(embeddings, first + SINGLETONS, recall_at=(1, 2))
    assert got == retrieval_metrics(embeddings, SINGLETONS, recall_at=(1, 2))


def test_six_points_on_a_line_by_hand():
    # The classes that each point sees, nearest first:
    #   0 A: BABAB   1 B: AABAB   3 A: BABAB   7 B: AABAB   12 A: BBABA   20 B: ABABA
    points, labels = np.float32([0, 1, 3, 7, 12, 20]), [0, 1, 0, 1, 0, 1]
    got = retrieval_metrics(
        points[:, None],
        labels,
        recall_at=(1, 2, 3),
        similarity=similarity.negative_euclidean,
    )
    # R is 2, and the three hits at rank 2 have a precision of 1/2.
    expected = {
        "recall_at_1": 0,
        "recall_at_2": 3 / 6,
        "recall_at_3": 1,
        "map_at_r": 3 * (1 / 2 / 2) / 6,
        "r_precision": 3 * (1 / 2) / 6,
    }
    assert_equal(got, expected)


def test_map_at_r_values_an_early_hit_more_and_r_precision_does_not():
    angles, labels = np.deg2rad([0, 10, 21, 30, 40]), [0, 1, 0, 0, 2]
    embeddings = np.float32(np.stack([np.cos(angles), np.sin(angles)], 1))
    # R is 2: 0 degrees sees 10 (miss) and 21 (hit), 21 sees 30 (hit) and 10 (miss), 30
    # sees 21 (hit) and 40 (miss).
    expected = {
        "recall_at_1": 2 / 3,
        "map_at_r": (1 / 4 + 1 / 2 + 1 / 2) / 3,
        "r_precision": 1 / 2,
    }
    assert_equal(retrieval_metrics(embeddings, labels, recall_at=(1,)), expected)


@pytest.mark.parametrize("block", [1, 5, 12, 100])
def test_neighbours_do_not_depend_on_the_block(block):
    embeddings = grid(12, np.random.default_rng(0))
    scores = (embeddings @ embeddings.T).tolist()
    got = nearest(embeddings, k=11, similarity=similarity.dot, block=block)
    assert got.tolist() == [ranking(scores, i) for i in range(12)]


def test_without_two_rows_of_a_class_there_is_nothing_to_retrieve():
    with pytest.raises(ValueError, match="labels must hold a class with two rows"):
        retrieval_metrics(np.eye(3, dtype=np.float32), [1, 2, 3])


@pytest.mark.parametrize("k", [0, 12])
def test_k_out_of_range_is_named(k):
    embeddings = grid(12, np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"k must be from 1 to 11 .*, got {k}"):
        nearest(embeddings, k=k)
