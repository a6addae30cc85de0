import base64
import io
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest, ttest_1samp

from rankjax.errors import RunError
from rankjax.metrics import (
    leave_one_out,
    nearest,
    query_gallery,
    retrieval,
    verification,
)
from rankjax.metrics.directions import cosines
from rankjax.report import (
    Card,
    EvaluationInputs,
    PairResult,
    SearchResult,
    Shown,
    Table,
    charts,
    write_evaluation,
)

BAD = "<i id='x'>&\ud800"


def points(n=40, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, 6))
    rows = centres[labels] + rng.normal(size=(n, 6))
    return rows.astype(np.float32), labels


def shown(labels, images=None):
    names = [f"{BAD} {k}" for k in range(labels.max() + 1)]
    return Shown(labels, names, None if images is None else images.__getitem__)


def ranked(search, rows=None):
    found = retrieval(search, recall_at=(1,))
    queries, gallery = rows or (np.arange(len(search.gallery)),) * 2
    return SearchResult(search, found, queries, gallery)


def page(path, outcome, embeddings, shown, **more):
    inputs = EvaluationInputs(
        title=BAD,
        result="a < b",
        facts={"rows": "40"},
        tables=[Table("Figures", BAD, ("", BAD), [("mAP", BAD)])],
        health=Table("Health", "", ("", "what"), [("norm", "of rows")], words=[1]),
        outcome=outcome,
        shown=shown,
        embeddings=embeddings,
        command="evaluate it",
        settings={"seed": 0},
        versions={"jax": "1"},
        **more,
    )
    write_evaluation(path, inputs)
    return path.read_text()


def sections(page):
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.S))


def rows_of(section):
    """The notes of every query's row: what was found at which rank, and frames."""
    figures = re.findall(r'<figure class="row">(.*?)</figure>', section, re.S)
    return [
        (
            int(re.search(r"rank ([\d,]+)<", figure)[1].replace(",", "")),
            re.findall(r'thumb named (hit|miss)"', figure),
        )
        for figure in figures
    ]


@pytest.fixture(scope="module")
def leave_one_out_page(tmp_path_factory):
    rows, labels = points()
    file = tmp_path_factory.mktemp("page") / "a.html"
    return page(file, ranked(leave_one_out(rows, labels)), rows, shown(labels))


def judged(rows, labels):
    """Ranks of first positives, MAP@R, and which rows are right, nearest first."""
    values = retrieval(leave_one_out(rows, labels), recall_at=(1,)).values
    hits = labels[nearest(rows, k=len(rows) - 1).rows] == labels[:, None]
    return np.rint(1 / values["mrr"]).astype(int), values["map_at_r"], hits


def test_sections_are_there_and_nothing_is_fetched_or_run(leave_one_out_page):
    names = list(sections(leave_one_out_page))
    assert names[:4] == ["metrics", "curves", "similarity", "gallery"]
    assert names[4:] == ["classes", "confusions", "map", "health", "reproduce"]
    assert re.findall(r'<a href="#(\w+)">', leave_one_out_page) == names
    assert not re.search(r"https?://|url\(|@import|<script src", leave_one_out_page)
    assert "a &lt; b" in leave_one_out_page


def test_failures_are_the_queries_whose_first_positive_ranks_last(leave_one_out_page):
    rows, labels = points()
    ranks, _, hits = judged(rows, labels)
    worst = sorted(ranks.tolist(), reverse=True)
    shown_rows = rows_of(sections(leave_one_out_page)["gallery"])
    random, failures = shown_rows[:12], shown_rows[12:]
    expected = [rank for rank in worst[:12] if rank > 1]
    assert [rank for rank, _ in failures] == expected
    assert len(expected) > 3
    known = {
        (rank, tuple("hit" if hit else "miss" for hit in some[:8]))
        for rank, some in zip(ranks.tolist(), hits, strict=True)
    }
    assert {(rank, tuple(frames)) for rank, frames in random + failures} <= known


def test_the_table_has_all_classes_the_worst_first(leave_one_out_page):
    rows, labels = points()
    _, precision, _ = judged(rows, labels)
    first = labels[nearest(rows, k=1).rows[:, 0]]
    confused = [Counter(first[labels == k].tolist()) for k in range(5)]
    table = sections(leave_one_out_page)["classes"]
    found = re.findall(r"<tr><th scope=.row.>.*? (\d)</th>(.*?)</tr>", table)
    means = [precision[labels == k].mean() for k in range(5)]
    assert [int(name) for name, _ in found] == np.argsort(means).tolist()
    for name, line in found:
        k = int(name)
        queries, recall, interval, value, other = re.findall("<td.*?>(.*?)</td>", line)
        right = confused[k].pop(k, 0)
        assert (queries, recall) == ("8", f"{right / 8:.3f}")
        bounds = binomtest(right, 8).proportion_ci(method="wilson")
        assert interval == f"{bounds.low:.3f} to {bounds.high:.3f}"
        assert value == f"{means[k]:.3f}"
        often = max(confused[k].values(), default=0)
        most = [f" {label} ({often})" for label, n in confused[k].items() if n == often]
        assert any(map(other.endswith, most)) if often else other == ""


def test_suspects_are_cards_with_their_evidence(tmp_path):
    rows, labels = points()
    given = Shown(labels, [BAD] * 5, None, [f"{BAD}/{i}.png" for i in range(40)])
    outcome = ranked(leave_one_out(rows, labels))
    suspects = {f"3 {BAD}": [Card([4], ["query"], f"twice {BAD}")]}
    made = page(tmp_path / "a.html", outcome, rows, given, suspects=suspects)
    assert "<i id" not in made
    found = sections(made)["suspects"]
    escaped = "&lt;i id=&#39;x&#39;&gt;&amp;U+D800"
    assert f"<h3>3 {escaped}</h3>" in found
    assert f"<small>twice {escaped}</small>" in found
    # Every neighbour tells its similarity and its path.
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    notes = re.findall(r'title="\d+: (.*?)"', sections(made)["gallery"])
    assert len(notes) >= 8 * 12
    for note in notes:
        (cosine, row) = re.findall(r"cosine (-?[\d.]+), .*/(\d+)\.png$", note)[0]
        nearest = np.abs(unit @ unit[int(row)] - float(cosine)).min()
        assert nearest < 1e-3


def test_a_comparison_has_won_and_lost_queries_and_all_classes(tmp_path):
    rows, labels = points()
    others = points(seed=3)[0]
    outcomes = [ranked(leave_one_out(each, labels)) for each in (rows, others)]
    made = page(
        tmp_path / "a.html",
        outcomes[0],
        rows,
        shown(labels),
        other=outcomes[1],
        other_name=BAD,
    )
    assert "<i id" not in made
    found = sections(made)["comparison"]
    first, precision, _ = zip(
        *(judged(each, labels) for each in (rows, others)), strict=True
    )
    first = np.array(first)
    right = first == 1
    won, lost = right[0] & ~right[1], right[1] & ~right[0]
    for caption, mask, side in (("Won", won, 1), ("Lost", lost, 0)):
        assert mask.sum() > 3
        part = found.partition(f"<h3>{caption}: {mask.sum()} queries")[2]
        assert part
        figures = rows_of(part.partition("<h3>")[0])
        # Here and there in turns, the rank of the one that fails falling.
        ranks = [rank for rank, _ in figures]
        failing = np.sort(first[side][mask])[::-1][:6].tolist()
        assert ranks[side::2] == failing
        assert ranks[1 - side :: 2] == [1] * len(failing)
    gain = precision[0] - precision[1]
    lines = re.findall(r"<tr><th scope=.row.>.*? (\d)</th>(.*?)</tr>", found)
    means = [gain[labels == k].mean() for k in range(5)]
    assert [int(name) for name, _ in lines] == np.argsort(means).tolist()
    for name, line in lines:
        own = gain[labels == int(name)]
        better, worse = (
            (sign * (first[1] - first[0])[labels == int(name)] > 0).sum()
            for sign in (1, -1)
        )
        interval = ttest_1samp(own, 0).confidence_interval(0.95)
        assert re.findall("<td.*?>(.*?)</td>", line) == [
            *("8", str(better), str(worse), f"{own.mean():+.3f}"),
            f"{interval.low:+.3f} to {interval.high:+.3f}",
        ]


def test_pictures_are_those_of_the_rows_and_junk_cameras_are_left_out(tmp_path):
    rows, labels = points()
    images = np.random.default_rng(1).integers(0, 256, (40, 5, 5, 1), dtype=np.uint8)
    queries, gallery = np.arange(10), np.arange(12, 40)
    cameras = np.arange(40) % 2
    search = query_gallery(
        *(rows[queries], labels[queries], rows[gallery], labels[gallery]),
        query_cameras=cameras[queries],
        gallery_cameras=cameras[gallery],
    )
    outcome = ranked(search, (queries, gallery))
    found = sections(page(tmp_path / "a.html", outcome, rows, shown(labels, images)))
    figures = re.findall(r'<figure class="row">(.*?)</figure>', found["gallery"], re.S)
    assert len(figures) >= 10
    for figure in figures:
        uris = re.findall(r'src="data:image/png;base64,([^"]+)"', figure)
        decoded = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris
        ]
        query, *others = (
            int(np.flatnonzero((images[..., 0] == picture).all((1, 2)))[0])
            for picture in decoded
        )
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        met = [
            i
            for i in gallery
            if labels[i] != labels[query] or cameras[i] != cameras[query]
        ]
        assert others == sorted(met, key=lambda i: -(unit[query] @ unit[i]))[:8]


def test_pairs_have_the_most_alike_and_the_least_alike(tmp_path):
    rows, labels = points()
    pairs = np.random.default_rng(0).integers(0, 40, (200, 2))
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    scores = cosines(rows, pairs)
    outcome = PairResult(pairs, scores, same, verification(scores, same))
    found = sections(page(tmp_path / "a.html", outcome, rows, shown(labels)))
    assert list(found) == [
        *("metrics", "curves", "similarity", "pairs", "map", "health", "reproduce")
    ]
    printed = re.findall(r"similarity (-?[\d.]+)<", found["pairs"])
    expected = [*np.sort(scores[~same])[::-1][:12], *np.sort(scores[same])[:12]]
    assert printed == [f"{score:.3f}" for score in expected]


def test_charts_show_their_curves():
    x = np.linspace(0, 1, 9)
    curves = (x, x), (1 - x, x), (x, np.sqrt(x))
    assert len({charts.ranking((x, a), (x, b)) for a, b in curves}) == 3
    assert len({charts.decisions(x, y, 1 - x) for y in (x, np.sqrt(x))}) == 2


def test_histograms_say_how_often_a_positive_is_more_similar_and_ties_count_half():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 9, 30) / 9, rng.integers(-3, 6, 20) / 9
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    chart = charts.similarity({"rows": (positive, negative)})
    assert f"AUC {np.mean(wins):.3f}" in chart


def test_a_folder_that_is_not_there_is_named(tmp_path):
    rows, labels = points(4)
    outcome = ranked(leave_one_out(rows, labels % 1))
    with pytest.raises(RunError, match="cannot write the report"):
        page(tmp_path / "no" / "a.html", outcome, rows, shown(labels % 1))


def test_a_thumbnail_is_of_the_file_as_long_as_it_is_there(tmp_path):
    inputs = np.full((4, 4, 4, 3), 9, np.uint8)
    paths = ["photo.png", "drawing.png", "gone.png", "\0\ud800"]
    Image.new("RGB", (60, 40), (200, 0, 0)).save(tmp_path / paths[0])
    Image.new("L", (60, 40), 200).save(tmp_path / paths[1])
    given = Shown(np.zeros(4, int), ["a"], inputs.__getitem__, paths, tmp_path)
    found = [given.thumbnail(row) for row in range(4)]
    assert [(each.mode, each.size) for each in found] == [
        *(("RGB", (60, 40)), ("L", (60, 40)), ("RGB", (4, 4)), ("RGB", (4, 4)))
    ]
    assert found[0].getpixel((0, 0)) == (200, 0, 0)
