import numpy as np
import pytest

from rankjax.metrics import expand_gallery, expand_queries, k_reciprocal


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def identities(seed, queries=9, gallery=31, dim=5):
    """Noisy views of ten identities: queries, gallery and whose they are."""
    rng = np.random.default_rng(seed)
    who = np.arange(queries + gallery) % 10
    x = rng.normal(size=(10, dim))[who] + 0.4 * rng.normal(size=(len(who), dim))
    return np.float32(x[:queries]), np.float32(x[queries:]), who


def slow_k_reciprocal(queries, gallery, k1, k2, weight):
    """The paper's sets, and its vectors as dense ones; rows at a time."""
    x = unit(np.concatenate([queries, gallery]).astype(np.float64))
    n = len(x)
    d = np.square(x[:, None] - x[None]).sum(-1)
    order = [sorted(range(n), key=lambda j, i=i: (j != i, d[i, j])) for i in range(n)]
    d = d / d.max(1, keepdims=True)

    def reciprocal(p, k):
        return {g for g in order[p][: k + 1] if p in order[g][: k + 1]}

    v = np.zeros((n, n))
    for p in range(n):
        own = reciprocal(p, k1)
        expanded = set(own)
        for q in own:
            candidates = reciprocal(q, round(k1 / 2))
            if len(own & candidates) > 2 / 3 * len(candidates):
                expanded |= candidates
        for g in expanded:
            v[p, g] = np.exp(-d[p, g])
        v[p] /= v[p].sum()
    v = np.array([np.mean([v[j] for j in order[p][:k2]], 0) for p in range(n)])
    result = np.zeros((len(queries), len(gallery)))
    for i in range(len(queries)):
        for j in range(len(gallery)):
            g = len(queries) + j
            jaccard = 1 - np.minimum(v[i], v[g]).sum() / np.maximum(v[i], v[g]).sum()
            result[i, j] = 1 - (1 - weight) * jaccard - weight * d[i, g]
    return result


@pytest.mark.parametrize(
    ("seed", "k1", "k2", "weight"),
    [(0, 20, 6, 0.3), (1, 7, 3, 0.3), (2, 5, 1, 0.0), (3, 39, 40, 0.9), (4, 1, 2, 0.3)],
)
def test_k_reciprocal_equals_the_papers_sets(seed, k1, k2, weight):
    queries, gallery, _ = identities(seed)
    got = k_reciprocal(queries, gallery, k1=k1, k2=k2, weight=weight)
    assert got.dtype == np.float32
    expected = slow_k_reciprocal(queries, gallery, k1, k2, weight)
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_k_reciprocal_does_not_depend_on_blocks(monkeypatch):
    queries, gallery, _ = identities(0)
    expected = k_reciprocal(queries, gallery, k1=7)
    monkeypatch.setattr("rankjax.metrics.reranking._ROWS", 4)
    monkeypatch.setattr("rankjax.metrics.reranking._PAIRS", 10)
    np.testing.assert_allclose(k_reciprocal(queries, gallery, k1=7), expected)


def mean_average_precision(similarity, relevant):
    order = (-similarity).argsort(1)
    hits = np.take_along_axis(relevant, order, 1)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return np.mean((precision * hits).sum(1) / hits.sum(1))


def test_second_looks_find_more_matches_on_noisy_identities():
    queries, gallery, who = identities(0, queries=50, gallery=200, dim=8)
    queries = queries + 0.6 * np.random.default_rng(1).normal(size=queries.shape)
    queries = queries.astype(np.float32)
    relevant = who[:50, None] == who[None, 50:]
    first = mean_average_precision(unit(queries) @ unit(gallery).T, relevant)
    expanded = expand_queries(queries, gallery, k=10) @ unit(gallery).T
    augmented = unit(queries) @ expand_gallery(gallery, k=10).T
    for similarity in (k_reciprocal(queries, gallery), expanded, augmented):
        assert mean_average_precision(similarity, relevant) > first + 0.02


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.0), (5, 0.0), (5, 3.0), (31, 2.0)])
def test_expanded_queries_equal_loops(k, alpha):
    queries, gallery, _ = identities(0)
    expected = []
    for q in unit(np.float64(queries)):
        near = sorted(unit(np.float64(gallery)), key=lambda g: -q @ g)[:k]
        total = sum((max(q @ g, 0) ** alpha * g for g in near), start=q)
        expected.append(unit(total))
    got = expand_queries(queries, gallery, k=k, alpha=alpha)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_expanded_gallery_is_each_row_among_the_others():
    _, gallery, _ = identities(0)
    got = expand_gallery(gallery, k=4, alpha=1.5)
    for i in range(len(gallery)):
        others = np.delete(gallery, i, 0)
        expected = expand_queries(gallery[i : i + 1], others, k=4, alpha=1.5)
        np.testing.assert_allclose(got[i], expected[0], atol=1e-6)


BAD = np.full((3, 2), np.nan, np.float32)
EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("function", "rows", "options", "message"),
    [
        (k_reciprocal, (EYE, EYE), {"k1": 6}, "k1 must be a whole number, from 1 to 5"),
        (
            k_reciprocal,
            (EYE, EYE),
            {"k1": 2, "k2": 4},
            "k2 must be a whole .* from 1 to 3",
        ),
        (k_reciprocal, (EYE, EYE), {"k1": 2, "k2": 1, "weight": 2}, "weight must be"),
        (k_reciprocal, (EYE, EYE[:, :2]), {}, "gallery must have the queries' dim 3"),
        (k_reciprocal, (BAD, BAD), {}, "3 rows that are not"),
        (expand_queries, (EYE, EYE), {"k": 4}, "k must be a whole number, from 1 to 3"),
        (expand_queries, (EYE, EYE), {"k": 1, "alpha": -1.0}, "alpha must be at least"),
        (expand_gallery, (EYE,), {"k": 3}, "k must be a whole number, from 1 to 2"),
    ],
)
def test_bad_input_is_named(function, rows, options, message):
    with pytest.raises(ValueError, match=message):
        function(*rows, **options)
