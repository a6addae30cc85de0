import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from slow_retrieval import slow_metrics

import rankjax
from rankjax import metrics, similarity
from rankjax.metrics import (
    Side,
    compress,
    expand_queries,
    k_reciprocal,
    leave_one_out,
    nearest,
    precision_recall,
    query_gallery,
    retrieval,
    retrieval_metrics,
    search_of,
    some_queries,
)
from rankjax.metrics.directions import cosines

SINGLETONS = np.array([4, 1, 1, 7, 2, 2, 2, 4, 2, 9, 4, 1])


def same_class(labels, others):
    return (np.asarray(labels)[:, None] == np.asarray(others)[None, :]).tolist()


def slow_leave_one_out(scores, labels, *k):
    itself = np.eye(len(labels), dtype=bool).tolist()
    return slow_metrics(scores, same_class(labels, labels), itself, *k)


def assert_equal(got, expected):
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


def grid(n, rng):
    """Small integers: inner products are exact, and many are equal."""
    return rng.integers(-2, 3, (n, 3)).astype(np.float32)


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_metrics_equal_slow_loops_for_any_classes_ties_and_duplicates(data):
    labels = data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=12))
    labels += data.draw(st.sampled_from([labels[:1], labels]))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    embeddings = grid(len(labels), rng)[rng.integers(0, len(labels), len(labels))]
    search = leave_one_out(embeddings, labels)
    got = retrieval(
        search,
        recall_at=(1, 2),
        precision_at=(1, 2),
        similarity=similarity.dot,
        block=data.draw(st.sampled_from([4, 7, 8])),
    )
    scores = (embeddings @ embeddings.T).tolist()
    assert_equal(got.means(), slow_leave_one_out(scores, labels, (1, 2), (1, 2)))
    alone = sum(labels.count(label) == 1 for label in labels)
    assert (got.excluded, len(got.queries)) == (alone, len(labels) - alone)


@pytest.mark.parametrize("block", [4, 64])
def test_classes_of_any_size_equal_slow_loops(block):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(range(6), [1, 2, 3, 9, 17, 40]))
    embeddings = grid(len(labels), rng)
    got = retrieval(
        leave_one_out(embeddings, labels),
        recall_at=(1, 5),
        precision_at=(3,),
        similarity=similarity.dot,
        block=block,
    )
    scores = (embeddings @ embeddings.T).tolist()
    assert_equal(got.means(), slow_leave_one_out(scores, labels, (1, 5), (3,)))


@pytest.mark.parametrize("cameras", [False, True])
@pytest.mark.parametrize("most", [2**24, 60])
def test_queries_of_a_gallery_equal_slow_loops(cameras, most, monkeypatch):
    # Fewer thresholds at once: queries are taken some at a time.
    monkeypatch.setattr("rankjax.metrics.ranking._MOST", most)
    rng = np.random.default_rng(1)
    queries, gallery = grid(23, rng), grid(41, rng)
    query_labels, labels = rng.integers(0, 7, 23), rng.integers(-1, 6, 41)
    query_cameras, gallery_cameras = rng.integers(0, 3, 23), rng.integers(0, 3, 41)
    junk = labels == -1
    both = {"query_cameras": query_cameras, "gallery_cameras": gallery_cameras}
    search = query_gallery(
        queries,
        query_labels,
        gallery,
        labels,
        junk=junk,
        **(both if cameras else {}),
    )
    got = retrieval(search, recall_at=(1, 3), similarity=similarity.dot, block=8)
    positive = np.array(same_class(query_labels, labels))
    same_camera = positive & np.array(same_class(query_cameras, gallery_cameras))
    skipped = (same_camera & cameras) | junk
    scores = queries @ gallery.T
    expected = slow_metrics(
        scores.tolist(),
        (positive & ~skipped).tolist(),
        skipped.tolist(),
        (1, 3),
        trapezoid=cameras,
    )
    assert_equal(got.means(), expected)
    given = retrieval(search, recall_at=(1, 3), scores=scores[:, ~junk])
    for name, values in given.values.items():
        np.testing.assert_allclose(values, got.values[name], rtol=1e-14)
    first = retrieval(
        search, recall_at=(1, 3), similarity=similarity.dot, block=8, first_only=True
    )
    for name, values in first.values.items():
        np.testing.assert_array_equal(values, got.values[name])


def test_queries_of_the_gallery_leave_themselves_out_and_map_at_k_is_a_loop():
    rng = np.random.default_rng(2)
    gallery, labels = grid(30, rng), rng.integers(0, 5, 30)
    own = np.array([3, 17, 29, -1, -1])
    queries = np.where(own[:, None] >= 0, gallery[own], grid(5, rng))
    query_labels = np.where(own >= 0, labels[own], rng.integers(0, 5, 5))
    junk = np.arange(30) % 7 == 1  # the query 29 is junk
    search = query_gallery(
        queries, query_labels, gallery, labels, itself=own, junk=junk
    )
    options = {"recall_at": (1,), "map_at": (1, 2, 20)}
    got = retrieval(search, similarity=similarity.dot, block=8, **options)
    skipped = (own[:, None] == np.arange(30)) | junk
    positive = np.array(same_class(query_labels, labels)) & ~skipped
    scores = queries @ gallery.T
    expected = slow_metrics(
        scores.tolist(), positive.tolist(), skipped.tolist(), (1,), ()
    )
    for k in options["map_at"]:
        found = []
        for score, hits, out in zip(scores, positive, skipped, strict=True):
            seen = np.flatnonzero(~out)
            ranked = hits[seen[np.lexsort((hits[seen], -score[seen]))]]
            precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
            found.append((precision * ranked)[:k].sum() / min(k, ranked.sum()))
        expected[f"map_at_{k}"] = np.mean(found)
    assert_equal(got.means(), expected)


def jaccard(one, other):
    one, other = set(np.flatnonzero(one)), set(np.flatnonzero(other))
    return len(one & other) / max(len(one | other), 1)


@pytest.mark.parametrize("cameras", [False, True])
def test_rows_of_several_labels_are_found_by_any_and_graded_by_how_many(cameras):
    """Against loops, and scikit-learn's nDCG, as there are no ties.

    Some rows have no label, and a block is smaller than the queries.
    """
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(9, 4)), rng.normal(size=(20, 4))
    query_labels, labels = rng.random((9, 6)) < 0.25, rng.random((20, 6)) < 0.25
    query_labels[3] = labels[5] = False
    given, skipped = {}, np.zeros((9, 20), bool)
    relevance = np.array([[jaccard(a, b) for b in labels] for a in query_labels])
    if cameras:
        taken = rng.integers(0, 2, 9), rng.integers(0, 2, 20)
        given = dict(zip(("query_cameras", "gallery_cameras"), taken, strict=True))
        skipped = (relevance > 0) & (taken[0][:, None] == taken[1])
    search = query_gallery(queries, query_labels, gallery, labels, **given)
    recalls = {"recall_at": (1, 5), "precision_at": (3,)}
    got = retrieval(search, **recalls, similarity=similarity.dot, block=4)
    scores = np.asarray(similarity.dot(queries, gallery))
    expected = slow_metrics(
        scores, relevance > 0, skipped, (1, 5), (3,), trapezoid=cameras
    )
    graded = []
    for query in got.queries:
        kept = ~skipped[query]
        graded.append(
            ndcg_score(relevance[query][kept][None], scores[query][kept][None])
        )
    assert_equal(got.means(), expected | {"graded_ndcg": np.mean(graded)})
    assert 0 < got.excluded < 9
    again = retrieval(search, **recalls, scores=scores)
    assert_equal(got.means(), again.means())
    classes, means = got.class_means()
    for label, mean in zip(classes, means["map"], strict=True):
        of_class = got.values["map"][query_labels[got.queries, label]]
        assert mean == pytest.approx(of_class.mean())


def test_sets_of_one_label_have_the_figures_of_labels():
    rng = np.random.default_rng(1)
    embeddings, labels = rng.normal(size=(40, 5)), rng.integers(0, 9, 40)
    sets = np.eye(9, dtype=bool)[labels]
    found = retrieval_metrics(embeddings, sets)
    assert found.pop("graded_ndcg") == pytest.approx(found["ndcg"])
    assert_equal(found, retrieval_metrics(embeddings, labels))


@pytest.mark.parametrize("name", sorted(similarity.SIMILARITIES))
def test_any_similarity_ranks(name):
    rng = np.random.default_rng(0)
    embeddings, labels = np.float32(rng.normal(size=(30, 4))), rng.integers(0, 6, 30)
    function = similarity.SIMILARITIES[name]
    expected = slow_leave_one_out(
        np.asarray(function(embeddings, embeddings)).tolist(), labels, (1, 2, 4, 8)
    )
    assert_equal(retrieval_metrics(embeddings, labels, similarity=function), expected)


@pytest.mark.parametrize("first", [2**24, 2**31, 2**62, 2**63])
def test_labels_that_float32_or_int32_cannot_tell_apart_are_told_apart(first):
    embeddings = grid(12, np.random.default_rng(0))
    labels = np.uint64(first) + SINGLETONS.astype(np.uint64)
    got = retrieval_metrics(embeddings, labels, recall_at=(1, 2))
    assert got == retrieval_metrics(embeddings, SINGLETONS, recall_at=(1, 2))
    search = query_gallery(embeddings, labels, embeddings, SINGLETONS)
    with pytest.raises(ValueError, match="gallery_labels must hold a query's label"):
        retrieval(search, recall_at=(1,))


@pytest.mark.parametrize("protocol", ["leave-one-out", "query-gallery"])
def test_figures_are_the_same_bit_for_bit_on_any_number_of_devices(protocol):
    rng = np.random.default_rng(0)
    embeddings, labels = (
        np.float32(rng.normal(size=(300, 16))),
        rng.integers(0, 40, 300),
    )
    search = (
        leave_one_out(embeddings, labels)
        if protocol == "leave-one-out"
        else query_gallery(embeddings[:100], labels[:100], embeddings, labels)
    )
    one, three, eight = (
        retrieval(search, block=32, devices=jax.devices()[:n]) for n in (1, 3, 8)
    )
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, three.values[name])
        np.testing.assert_array_equal(values, eight.values[name])


def test_a_copy_of_a_positive_among_negatives_always_counts_against_the_query():
    """Rounding may not decide between copies, wherever in a tile they are."""
    rng = np.random.default_rng(0)
    unique = np.float32(rng.normal(size=(97, 33)))
    embeddings = np.concatenate([unique, unique, unique])[rng.permutation(3 * 97)]
    _, which = np.unique(embeddings[:, 0], return_inverse=True)
    copy = np.zeros(97, int)
    labels = np.empty(3 * 97, int)
    for i, w in enumerate(which):  # two copies of one class, the third of another
        labels[i] = w if copy[w] < 2 else 1000 + w
        copy[w] += 1
    got = retrieval_metrics(embeddings, labels, recall_at=(1, 2))
    # At rank 1 the copy of the other class, at rank 2 its own, at the latest 3.
    assert (got["recall_at_1"], got["recall_at_2"], got["mrr"]) == (0, 1, 0.5)


KINDS = {
    "signs": lambda rng: rng.choice([-1.0, 1.0], (150, 48)),
    "signs of length 1": lambda rng: rng.choice([-1.0, 1.0], (150, 48)) * 48**-0.5,
    "bits": lambda rng: rng.integers(0, 2, (150, 48)),
    "bits of length 1": lambda rng: unit(rng.integers(0, 2, (150, 48))),
    "whole numbers": lambda rng: rng.integers(-4, 5, (150, 12)),
    "far from zero": lambda rng: 1000 + rng.integers(0, 5, (150, 12)),
}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cosine", kind) for kind in KINDS if "far" not in kind]
    + [("negative_euclidean", kind) for kind in KINDS if "length" not in kind],
)
def test_rounding_parts_no_negative_from_an_equal_positive(kind, name):
    rng = np.random.default_rng(0)
    rows, labels = np.float32(KINDS[kind](rng)), rng.integers(0, 15, 150)
    # In float64, and rounded to what equal similarities have in common.
    if name == "cosine":
        scores = unit(rows.astype(float)) @ unit(rows.astype(float)).T
    else:
        apart = rows.astype(float)[:, None] - rows.astype(float)
        scores = -np.square(apart).sum(-1)
    expected = slow_leave_one_out(np.round(scores, 6).tolist(), labels, (1, 2))
    function = similarity.SIMILARITIES[name]
    got = retrieval_metrics(rows, labels, recall_at=(1, 2), similarity=function)
    assert_equal(got, expected)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-8, 1e8, 1e30, 5e37, 1e-300, 1e300])
def test_rows_of_any_length_have_the_same_figures(scale):
    rng = np.random.default_rng(0)
    rows, labels = np.float32(rng.normal(size=(60, 8)) + 1), rng.integers(0, 9, 60)
    kind = np.float64 if abs(math.log10(scale)) > 40 else np.float32
    scaled = rows.astype(kind) * kind(scale)
    for name in ("cosine", "negative_normalized_euclidean"):
        function = similarity.SIMILARITIES[name]
        got, expected = (
            retrieval_metrics(x, labels, similarity=function) for x in (scaled, rows)
        )
        assert got == expected
    search, other = (
        query_gallery(x[:30], labels[:30], x[30:], labels[30:]) for x in (rows, scaled)
    )
    assert retrieval(other).means() == retrieval(search).means()
    neighbours = nearest(scaled, k=3), nearest(rows, k=3)
    np.testing.assert_array_equal(neighbours[0].rows, neighbours[1].rows)
    for kind in ("float16", "binary"):
        stored = (compress(x, kind).rows for x in (scaled, rows))
        np.testing.assert_allclose(*stored, atol=1e-3)
    for search_again in (k_reciprocal, lambda a, b: expand_queries(a, b, k=3)):
        found = (search_again(x[:30], x[30:]) for x in (scaled, rows))
        np.testing.assert_allclose(*found, atol=1e-5)
    pairs = rng.integers(0, 60, (40, 2))
    np.testing.assert_allclose(cosines(scaled, pairs), cosines(rows, pairs), atol=1e-6)


def test_the_zero_vector_has_no_direction():
    rows = np.float32([[0, 0], [0, 0], [1, 0], [0, 1]])
    got = retrieval(leave_one_out(rows, [0, 0, 1, 1]), recall_at=(1, 2, 3))
    # Of equal cosines the negatives come first, so do both of cosine 0.
    assert got.values["mrr"].tolist() == [1 / 3] * 4


def test_means_over_classes_count_each_class_once():
    rng = np.random.default_rng(0)
    labels = np.repeat([7, 3, 5], [10, 2, 4])
    got = retrieval(leave_one_out(np.float32(rng.normal(size=(16, 3))), labels))
    classes, means = got.class_means()
    assert classes.tolist() == [3, 5, 7]
    slow = [got.values["map"][got.labels == c].mean() for c in classes]
    np.testing.assert_allclose(means["map"], slow)
    assert got.means_over_classes()["map"] == pytest.approx(np.mean(slow))


EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retrieval_metrics(EYE, [1, 2, 3], recall_at=(1,)), "two rows"),
        (
            lambda: retrieval_metrics(EYE, [1, 1, 3], recall_at=4),
            r"recall_at .* from 1 to 2.* got 4",
        ),
        (lambda: retrieval_metrics(EYE, [1, 1]), r"labels must have shape \(3,\)"),
        (lambda: leave_one_out(EYE * np.nan, [1, 1, 2]), "finite, got 3 rows"),
        (lambda: leave_one_out(EYE[:0], []), "neither 0"),
        (lambda: query_gallery(EYE, [1, 2, 3], EYE[:0], []), "gallery must have shape"),
        (lambda: query_gallery(EYE, [1, 2, 3], EYE[:, :2], [1, 2, 3]), "dimensions"),
        (
            lambda: query_gallery(EYE, [1] * 3, EYE, [1] * 3, query_cameras=[1] * 3),
            "together",
        ),
        (
            lambda: query_gallery(EYE, [1] * 3, EYE, [1] * 3, junk=np.ones(3, bool)),
            "junk leaves nothing",
        ),
        (
            lambda: retrieval(
                leave_one_out(EYE, [1, 1, 2]), recall_at=(1,), scores=EYE[:2]
            ),
            r"scores of .*gallery must have shape \(3, 3\)",
        ),
        (
            lambda: retrieval(leave_one_out(EYE, [1, 1, 2]), recall_at=(0,)),
            r"recall_at must be whole numbers from 1 to 2.* got 0",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="labels must be integers or strings, got"):
        leave_one_out(EYE, [1.0, 1.0, 2.0])
    for gap in (None, np.nan):
        with pytest.raises(
            TypeError, match=rf"^labels must be .*, got {gap} in row 2$"
        ):
            leave_one_out(EYE, np.array(["a", "a", gap], object))
    with pytest.raises(ValueError, match=r"^labels must not be empty words, row 1 is"):
        leave_one_out(EYE, ["a", "", "a"])
    with pytest.raises(
        ValueError, match=r"^itself must be row numbers .* only 0 and 1"
    ):
        query_gallery(EYE, [1] * 3, EYE, [1] * 3, itself=[0, 1, 1])
    with pytest.raises(ValueError, match=r"^values must have shape \(n,\), got \(3, 3"):
        metrics.outliers(EYE, [1, 1, 2])
    with pytest.raises(TypeError, match=r"labels .* bool mask \[n, classes\], got int"):
        leave_one_out(np.eye(3), np.eye(3, dtype=int))
    with pytest.raises(
        ValueError, match=r"must be of equally many classes, got \(2, 3"
    ):
        query_gallery(np.eye(2), np.ones((2, 3), bool), np.eye(2), [0, 1])
    with pytest.raises(TypeError, match="embeddings must be floating point, got int64"):
        leave_one_out(np.eye(3, dtype=np.int64), [1, 1, 2])
    with pytest.raises(TypeError, match="junk must be a bool mask, got int64"):
        query_gallery(EYE, [1] * 3, EYE, [1] * 3, junk=np.ones(3, np.int64))


BY_LABELS = {
    "retrieval": lambda x, y: retrieval(leave_one_out(x, y)).means_over_classes(),
    "cameras": lambda x, y: retrieval(
        query_gallery(
            x[4:6], y[4:6], x, y, query_cameras=y[[0, 0]], gallery_cameras=y[::-1]
        )
    ).means(),
    "clusters": lambda x, y: metrics.clustering_scores(y, y[::-1]),
    "health": metrics.health,
    "nearer class": lambda x, y: metrics.nearer_class(x, y, nearest(x, k=5)).own,
    "outliers": lambda x, y: metrics.outliers(x[:, 0], y),
    "templates": lambda x, y: metrics.template_embeddings(x, y)[1],
    "interval": lambda x, y: metrics.bootstrap({"a": x[:, 0]}, labels=y, samples=100),
}


@pytest.mark.parametrize("measure", BY_LABELS)
@pytest.mark.parametrize("kind", [str, bytes, object])
def test_labels_may_be_strings_wherever_they_may_be_integers(measure, kind):
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    y = np.repeat([3, 0, 2, 1], 3)
    names = y.astype(str).astype(kind)
    found, expected = (BY_LABELS[measure](x, labels) for labels in (names, y))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_queries_find_their_persons_by_name_among_more_persons():
    """Numbers of the names of one side alone would be other persons' on the other."""
    persons = np.array(["-1", "0000", "0001", "0002", "0003", "0001", "0003"])
    gallery = np.eye(7)[np.unique(persons, return_inverse=True)[1]]
    search = query_gallery(gallery[[2, 4]], persons[[2, 4]], gallery, persons)
    assert retrieval(search).means()["map"] == 1
    with pytest.raises(TypeError, match=r"^query_labels .* integers or both strings"):
        query_gallery(gallery, persons, gallery, range(7))
    cameras = {"query_cameras": persons, "gallery_cameras": range(7)}
    with pytest.raises(TypeError, match=r"^query_cameras .* integers or both strings"):
        query_gallery(gallery, persons, gallery, persons, **cameras)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.array([0, 1, 1]), "got row 1 2 times; of 0 and 1 take rows.astype(bool)"),
        (np.zeros(3, np.uint8), "got row 0 3 times; of 0 and 1 take"),
        (np.array([2, 0, 2, 2]), "row numbers that differ, got row 2 3 times"),
        (np.array([0, -1]), "rows must be rows from 0 to 2, got -1"),
        (np.array([3]), "rows must be rows from 0 to 2, got 3"),
        (np.ones(2, bool), "rows must have shape (3,), got (2,)"),
        (np.array([1.0]), "rows must be a bool mask or row numbers, got float64"),
    ],
)
def test_a_mask_of_0_and_1_or_a_repeated_row_is_never_taken_for_rows(rows, said):
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        some_queries(leave_one_out(EYE, [1, 1, 2]), rows)


def test_queries_are_the_same_by_mask_and_by_row_numbers():
    search = leave_one_out(EYE, [1, 1, 2])
    by_mask = some_queries(search, np.array([True, False, True]))
    by_number = some_queries(search, [2, 0])
    assert by_mask.itself.tolist() == [0, 2]
    assert by_number.itself.tolist() == [2, 0]


def test_figures_equal_those_of_a_peer():
    stored = Path(__file__).with_name("peer_metrics.json")
    for name, case in json.loads(stored.read_text()).items():
        got = retrieval_metrics(
            np.float32(case["embeddings"]),
            np.array(case["labels"]),
            recall_at=(1,),
        )
        for peers, ours in (
            ("precision_at_1", "recall_at_1"),
            ("mean_average_precision_at_r", "map_at_r"),
            ("r_precision", "r_precision"),
            ("mean_average_precision", "map"),
            ("mean_reciprocal_rank", "mrr"),
        ):
            assert got[ours] == pytest.approx(case["metrics"][peers], abs=1e-6), name


def test_a_protocol_is_a_search_by_its_name_and_says_what_it_needs():
    rng = np.random.default_rng(0)
    queries, gallery = (
        Side(rng.normal(size=(n, 3)), np.arange(n) % 3, np.arange(n) % 2)
        for n in (6, 9)
    )
    junk = np.arange(9) > 7
    alone = search_of("leave-one-out", queries)
    assert alone.itself is not None
    assert (alone.most, alone.query_cameras) == (5, None)
    plain = search_of("query-gallery", queries, gallery, junk=junk)
    persons = search_of("reid", queries, gallery, junk=junk)
    assert plain.most == persons.most == 8
    assert plain.query_cameras is None
    np.testing.assert_array_equal(persons.gallery_cameras, gallery.cameras[~junk])
    with pytest.raises(ValueError, match="reid needs queries and a gallery"):
        search_of("reid", queries)
    with pytest.raises(ValueError, match="protocol reid needs cameras"):
        search_of("reid", queries, gallery._replace(cameras=None))
    with pytest.raises(ValueError, match=r"protocol must be leave-one-out, .*got best"):
        search_of("best", queries, gallery)


def test_recall_at_takes_one_whole_number_and_no_fraction():
    x, labels = np.eye(4), np.array([0, 0, 1, 1])
    one = retrieval_metrics(x, labels, recall_at=3)
    assert one == retrieval_metrics(x, labels, recall_at=(3,))
    with pytest.raises(ValueError, match=r"^recall_at must .* from 1 to 3, .* got 1.5"):
        retrieval_metrics(x, labels, recall_at=(1.5,))


@pytest.mark.parametrize("wrong", ["cosine", np.eye(4), rankjax.mean])
def test_a_similarity_that_is_none_is_refused_by_all_searches(wrong):
    x, labels = np.eye(4), np.array([0, 0, 1, 1])
    search = leave_one_out(x, labels)
    for call in (
        lambda: retrieval_metrics(x, labels, similarity=wrong),
        lambda: retrieval(search, similarity=wrong, recall_at=1),
        lambda: precision_recall(search, similarity=wrong),
        lambda: nearest(x, k=1, similarity=wrong),
    ):
        with pytest.raises(TypeError, match=r"^similarity must be a function"):
            call()


@pytest.mark.parametrize("where", [slice(None), slice(3, 5), slice(1)])
def test_a_similarity_that_is_no_number_is_refused_wherever_it_is(where):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(12, 3)), np.arange(12) % 4
    x[where] = 0
    masks = labels[:, None] == np.arange(4)

    def cosine(a, b):
        a, b = (v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        return a @ b.T

    for call in (
        lambda: retrieval_metrics(x, labels, recall_at=1, similarity=cosine),
        lambda: retrieval_metrics(x, masks, recall_at=1, similarity=cosine),
        lambda: precision_recall(leave_one_out(x, labels), similarity=cosine),
        lambda: nearest(x, k=2, similarity=cosine),
    ):
        with pytest.raises(ValueError, match=r"^similarity must .*NaN"):
            call()


def test_a_similarity_of_another_shape_is_refused():
    x, labels = np.eye(4), np.array([0, 0, 1, 1])
    for call in (
        lambda: retrieval_metrics(x, labels, similarity=lambda a, b: a[:, 0]),
        lambda: nearest(x, k=1, similarity=lambda a, b: a[:, 0]),
    ):
        with pytest.raises(ValueError, match=r"^similarity must return \[anchor, ref"):
            call()


def test_a_similarity_may_be_a_whole_number():
    x = np.random.default_rng(0).integers(0, 2, (12, 6)).astype(np.float32)
    labels = np.repeat(np.arange(4), 3)

    def alike(a, b):
        return (a[:, None] == b[None, :]).sum(-1)

    def measures(similarity):
        loss = rankjax.contrastive_loss(jnp.asarray(x), labels, similarity=similarity)
        found = nearest(x, k=3, similarity=similarity).similarities
        return retrieval_metrics(x, labels, similarity=similarity), found, loss

    counted = measures(alike)
    as_floats = measures(lambda a, b: alike(a, b).astype(jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, counted, as_floats)
    equal = (x[:, None] == x[None]).sum(-1) - 9 * np.eye(12)
    np.testing.assert_array_equal(counted[1], -np.sort(-equal, 1)[:, :3])


@pytest.mark.parametrize("dtype", ["u1", "i1", "u8", "i8", "bool"])
@pytest.mark.parametrize("several", [False, True], ids=["labels", "label sets"])
def test_scores_may_be_whole_numbers_of_any_type(dtype, several):
    """The least of the type too, whose negative is no number of it."""
    y = np.arange(12) // 3
    least = np.iinfo(dtype).min if dtype != "bool" else 0
    scores = np.random.default_rng(3).integers(0, 2 if dtype == "bool" else 6, (12, 12))
    scores = np.where(scores, scores, least).astype(dtype)
    labels = y[:, None] == np.arange(4) if several else y
    search = leave_one_out(np.eye(12), labels)
    found = retrieval(search, scores=scores).means()
    assert found == retrieval(search, scores=scores.astype(float)).means()
    positive = (y[:, None] == y) & ~np.eye(12, dtype=bool)
    ahead = scores[:, None, :].astype(float) >= scores[:, :, None]
    ahead &= ~positive[:, None, :] & ~np.eye(12, dtype=bool)[:, None, :]
    firsts = [ahead.sum(-1)[i][positive[i]].min() + 1 for i in range(12)]
    assert found["mrr"] == pytest.approx(np.mean(1 / np.array(firsts)))
    place = 1 + (scores[:, None, :] >= scores[:, :, None])[:, 0].sum(-1)
    one = metrics.graded_ndcg(scores, np.eye(12)[[0] * 12])
    np.testing.assert_allclose(one, 1 / np.log2(place))


def test_one_cut_off_is_taken_for_a_list_of_one():
    x, labels = np.eye(4), np.array([0, 0, 1, 1])
    search = leave_one_out(x, labels)
    one = retrieval(search, precision_at=2, map_at=3).means()
    assert one == retrieval(search, precision_at=(2,), map_at=(3,)).means()


def test_values_of_k_that_nobody_asked_for_fit_the_rows():
    few = retrieval_metrics(np.eye(4, dtype=np.float32), [0, 0, 1, 1])
    assert {k for k in few if k.startswith("recall")} == {"recall_at_1", "recall_at_2"}


WHOLE = {
    "k of nearest": lambda x, y: nearest(x, k=2.0),
    "k as a list": lambda x, y: nearest(x, k=[1, 2]),
    "block of nearest": lambda x, y: nearest(x, k=1, block=0),
    "k of expansion": lambda x, y: expand_queries(x, x, k=3.0),
    "k1": lambda x, y: k_reciprocal(x, x, k1=2.0, k2=2),
    "k of clusters": lambda x, y: metrics.kmeans(x, k=2.0, seed=0),
    "restarts": lambda x, y: metrics.kmeans(x, k=2, seed=0, restarts=2.5),
    "levels": lambda x, y: precision_recall(leave_one_out(x, y), levels=11.0),
    "samples": lambda x, y: metrics.bootstrap({"a": x[:, 0]}, samples=1e3),
    "seed": lambda x, y: metrics.bootstrap({"a": x[:, 0]}, seed=-1),
    "block": lambda x, y: retrieval(leave_one_out(x, y), block=7.0),
    "k of nDCG": lambda x, y: metrics.graded_ndcg(x, x, k=2.5),
    "sample": lambda x, y: metrics.health(x, y, seed=0, sample=10.0),
    "folds": lambda x, y: metrics.verification(x[:, 0], y == 0, folds=2.5),
}


@pytest.mark.parametrize("name", WHOLE)
def test_numbers_that_are_not_whole_are_refused_by_name(name):
    x, y = np.eye(6), np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match=rf"^{name.split()[0]} must be a whole number"):
        WHOLE[name](x, y)
