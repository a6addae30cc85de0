"""The command that evaluates, against slow loops and scikit-learn."""

import dataclasses
import json
import os
import re
import unicodedata

import jax.numpy as jnp
import numpy as np
import pytest
import without_report
from PIL import Image
from sklearn.metrics import roc_auc_score
from slow_retrieval import slow_metrics

import experiments.train
from experiments.evaluate import main
from experiments.evaluation import runs
from experiments.evaluation.runs import embed_run
from rankjax.data import load
from rankjax.data.images import ImageRows
from rankjax.errors import UsageError
from rankjax.metrics import (
    compare_models,
    expand_queries,
    open_set,
    verification,
)
from rankjax.train import Checkpoints

QUICK = ["--samples", "200", "--restarts", "1"]


def clusters(n=60, classes=6, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    centres = np.random.default_rng(9).normal(size=(classes, dim))
    return (centres[labels] + rng.normal(size=(n, dim))).astype(np.float32), labels


@pytest.fixture
def evaluate(tmp_path, capsys):
    """Evaluates arrays by the command; gives the JSON and what was printed."""

    def evaluate(*settings, name="rows", **arrays):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        file = tmp_path / f"{name}.json"
        words = [str(tmp_path / f"{name}.npz"), *QUICK, "--json", str(file)]
        assert main([*words, *map(str, settings)]) == 0
        return json.loads(file.read_text()), capsys.readouterr().out

    return evaluate


@pytest.fixture
def refused(tmp_path, capsys):
    """The one line that the command says of arrays that it refuses."""

    def refused(*settings, status=2, **arrays):
        file = tmp_path / "rows.npz"
        np.savez(file, **arrays)
        assert main([str(file), *QUICK, *map(str, settings)]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return refused


def cosines(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a.astype(np.float64) @ b.T.astype(np.float64)


def slow_figures(scores, hits, met, recall_at):
    """By loops over what each query meets."""
    return slow_metrics(scores, hits, ~met, recall_at, (3,), trapezoid=True)


def assert_figures(got, expected):
    for name, value in expected.items():
        if name in got:
            assert got[name] == pytest.approx(value, abs=1e-9), name


def test_each_row_is_searched_among_all_others(evaluate):
    rows, labels = clusters(61)
    labels[7] = 2**40  # alone in its class
    at = ["--recall-at", 1, 3, 60, "--map-at", 3, "--precision-at", 3]
    got, printed = evaluate(*at, embeddings=rows, labels=labels)
    hits = labels[:, None] == labels
    met = ~np.eye(61, dtype=bool)
    expected = slow_figures(cosines(rows, rows), hits, met, (1, 3, 60))
    assert {*expected, "nmi", "ami", "ari", "f1"} - {"map_trapezoid"} <= set(got)
    assert_figures(got, expected)
    assert got["protocol"] == "leave-one-out"
    assert got["queries"] == {"scored": 60, "excluded": 1, "gallery": 61, "junk": 0}
    assert got["health"]["collapsed"] == 0
    assert "map_trapezoid" not in got
    assert f"{expected['map_at_r']:.4f}" in printed
    assert "mMP@3" in printed
    for name in ("recall_at_3", "map_at_r"):
        for low, high in got["intervals"][name].values():
            assert low <= got[name] <= high
        assert got["intervals"][name].keys() == {"by_query", "by_class"}


def test_labels_and_cameras_may_be_strings_and_other_keys_are_named(tmp_path, capsys):
    arrays = reid()
    words = np.array(["ü b", "c", "a", "d", "x", "y"])
    order = np.argsort(np.argsort(words))
    # The same to the eye.
    spelled = np.array([unicodedata.normalize("NFD", word) + " " for word in words])
    labels, even = arrays["labels"], np.arange(len(arrays["labels"])) % 2 == 0
    strings = arrays | {
        "labels": np.where(even, words[labels], spelled[labels]),
        "cameras": arrays["cameras"].astype("S"),
        "camera": np.arange(3),
        "notes": np.array([{}]),
    }
    found = []
    for given in (arrays | {"labels": order[arrays["labels"]]}, strings):
        np.savez(tmp_path / "rows.npz", **given)
        command = [str(tmp_path / "rows.npz"), *QUICK, "--json"]
        assert main([*command, str(tmp_path / "rows.json")]) == 0
        found.append(json.loads((tmp_path / "rows.json").read_text()))
    said = capsys.readouterr().err
    assert said == (
        f"{tmp_path / 'rows.npz'}: not used: camera (is cameras meant?), notes\n"
    )
    names = found[1]["class_means"]
    assert names["label"] == names["name"] == sorted(words.tolist())
    for one in found:
        del one["class_means"]
    assert found[0] == found[1]


def test_class_means_are_columns_with_the_labels_as_given(evaluate):
    rows, labels = clusters()
    labels = labels * 10 - 20
    got, _ = evaluate("--no-clustering", embeddings=rows, labels=labels)
    table = got["class_means"]
    assert table["label"] == [-20, -10, 0, 10, 20, 30]
    assert table["name"][0] == "class -20"
    assert table["queries"] == [10] * 6
    assert np.mean(table["map"]) == pytest.approx(got["means_over_classes"]["map"])
    assert np.mean(table["map"]) == pytest.approx(got["map"])
    assert "nmi" not in got


def test_queries_are_searched_in_a_gallery_and_some_have_no_mate(evaluate):
    rows, labels = clusters(80)
    query, gallery = np.arange(0, 80, 3), np.arange(1, 80, 3)
    labels[gallery] = np.where(labels[gallery] == 5, 4, labels[gallery])
    assert (labels[query] == 5).any()
    got, printed = evaluate(
        *("--recall-at", 1, 2, "--firs", 0.5),
        embeddings=rows,
        labels=labels,
        query=query,
        gallery=gallery,
    )
    scores = cosines(rows[query], rows[gallery])
    hits = labels[query][:, None] == labels[gallery]
    assert_figures(got, slow_figures(scores, hits, np.ones_like(hits), (1, 2)))
    assert got["protocol"] == "query-gallery"
    mated = hits.any(1)
    assert got["queries"]["excluded"] == (~mated).sum() > 1

    best = scores.max(1)
    right = hits[np.arange(len(hits)), scores.argmax(1)]
    rates = open_set(best, right, mated, firs=0.5)
    assert got["open_set"]["dir_at_fir"] == {"0.5": pytest.approx(rates[0.5])}
    assert "Open set" in printed


def reid(seed=0):
    rows, labels = clusters(90, seed=seed)
    cameras = np.random.default_rng(1).integers(0, 3, 90)
    query, junk = np.arange(90) < 30, np.arange(90) >= 84
    return {
        "embeddings": rows,
        "labels": labels,
        "cameras": cameras,
        "query": query,
        "junk": junk,
    }


def test_images_that_are_query_and_gallery_leave_themselves_out(evaluate):
    rows, labels = clusters(61)
    labels[7] = 2**40  # alone in its class
    every = {"query": np.ones(61, bool), "gallery": np.ones(61, bool)}
    got, _ = evaluate("--map-at", 1, 3, embeddings=rows, labels=labels, **every)
    alone, _ = evaluate("--map-at", 1, 3, embeddings=rows, labels=labels)
    assert got["protocol"] == "query-gallery"
    assert {"map_at_1", "map_at_3"} <= set(got)
    for name in ("map", "map_at_r", "map_at_3", "mrr"):
        assert got[name] == alone[name]


def test_the_first_numbers_of_embeddings_are_evaluated_as_if_they_were_all(evaluate):
    rows = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
    labels = np.repeat(np.arange(8), 3)
    got, printed = evaluate("--dims", 2, 4, embeddings=rows, labels=labels)
    for dim, found in zip((2, 4), got["variants"][1:], strict=True):
        alone, _ = evaluate(embeddings=rows[:, :dim], labels=labels)
        assert found["map_at_r"] == alone["map_at_r"]
        assert found["bytes_per_row"] == 4 * dim
    assert "first 4 numbers" in printed


def test_persons_are_not_searched_in_their_own_camera_nor_in_junk(evaluate):
    arrays = reid()
    rows, labels, cameras, query, junk = arrays.values()
    gallery = ~query & ~junk
    got, printed = evaluate(
        *("--expand", 3, "--rerank", "k-reciprocal"),
        *("--compress", "binary", "float16"),
        **arrays,
    )
    hits = labels[query][:, None] == labels[gallery]
    met = ~(hits & (cameras[query][:, None] == cameras[gallery]))
    scores = cosines(rows[query], rows[gallery])
    expected = slow_figures(scores, hits, met, (1, 5, 10))
    assert_figures(got, expected)
    assert got["map_trapezoid"] == pytest.approx(expected["map_trapezoid"])
    assert got["protocol"] == "reid"
    assert got["queries"]["junk"] == 6

    plain, signs, halves, expanded, reranked = got["variants"]
    assert plain["map"] == got["map"]
    assert (plain["bytes_per_row"], signs["bytes_per_row"]) == (20, 1)
    assert halves["map"] == pytest.approx(got["map"], abs=0.01)
    # Of a ranking by signs the figure is the least that any order of ties has.
    products = np.sign(rows[query]) @ np.sign(rows[gallery]).T + 0.1 * ~hits
    tied = slow_figures(products, hits, met, (1,))
    assert signs["recall_at_1"] == pytest.approx(tied["recall_at_1"])
    grown = expand_queries(rows[query], rows[gallery], k=3)
    by_hand = slow_figures(cosines(grown, rows[gallery]), hits, met, (1, 5, 10))
    assert_figures(expanded, by_hand)
    assert reranked["name"] == "expanded and re-ranked"
    assert reranked["map"] != expanded["map"]
    assert f"({expanded['map'] - got['map']:+.4f})" in printed


def test_pairs_are_verified_over_their_folds(evaluate):
    rows, labels = clusters(60)
    rng = np.random.default_rng(3)
    pairs = rng.integers(0, 60, (300, 2))
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    folds = np.arange(300) % 4
    scores = cosines(rows, rows)[tuple(pairs.T)]
    arrays = {"embeddings": rows, "pairs": pairs, "folds": folds}
    got, printed = evaluate("--fars", 0.1, 1e-6, labels=labels, **arrays)
    found = verification(scores, same, fold=folds)
    assert got["protocol"] == "verification"
    assert got["accuracy"] == pytest.approx(found.accuracy)
    assert got["accuracy_standard_error"] == pytest.approx(found.standard_error)
    assert got["auc"] == pytest.approx(roc_auc_score(same, scores))
    assert got["tar_at_far"]["1e-06"] is None
    threshold = np.sort(scores[~same])[::-1][int(0.1 * (~same).sum())]
    accepted = (scores[same] > threshold).mean()
    assert got["tar_at_far"]["0.1"] == pytest.approx(accepted)
    assert got["pairs"] == {"same": same.sum(), "different": (~same).sum()}
    assert f"{found.accuracy:.4f} ± {found.standard_error:.4f}" in printed

    without_labels, _ = evaluate("--fars", 0.1, 1e-6, same=same, **arrays)
    assert without_labels["accuracy"] == got["accuracy"]
    assert "health" not in without_labels


def test_pairs_of_templates_are_verified_by_their_means(evaluate, tmp_path, capsys):
    rows, _ = clusters(60)
    templates = 7 * (np.arange(60) % 20)
    media = np.arange(60) // 40
    pairs = 7 * np.random.default_rng(3).integers(0, 20, (200, 2))
    same = pairs[:, 0] // 28 == pairs[:, 1] // 28
    # Rows i and i + 20 are of one picture.
    means = (rows[:20] + rows[20:40]) / 4 + rows[40:] / 2
    scores = cosines(means, means)[tuple(pairs.T // 7)]
    arrays = {"embeddings": rows, "templates": templates, "media": media}
    got, _ = evaluate(pairs=pairs, same=same, **arrays)
    assert got["rows"] == 20
    assert got["auc"] == pytest.approx(roc_auc_score(same, scores))

    capsys.readouterr()
    for given, said in [
        ({"pairs": pairs + 1}, "pairs must name templates, got 1"),
        ({"pairs": pairs, "cameras": media}, "embeddings and pairs of them; without"),
        ({"pairs": pairs, "labels": np.arange(60)}, "row 20 differs in template 0"),
    ]:
        np.savez(tmp_path / "wrong.npz", same=same, **arrays, **given)
        assert main([str(tmp_path / "wrong.npz")]) == 2
        assert said in capsys.readouterr().err


def test_two_embeddings_of_the_same_rows_are_compared(evaluate, tmp_path, capsys):
    rows, labels = clusters()
    noisy = rows + 2 * clusters(seed=5)[0]
    evaluate(name="noisy", embeddings=noisy, labels=labels)
    got, printed = evaluate(
        "--compare", tmp_path / "noisy.npz", embeddings=rows, labels=labels
    )
    hit = [
        hits_at_1(scores, labels) for scores in (cosines(x, x) for x in (rows, noisy))
    ]
    expected = compare_models(
        *({"hit": values} for values in hit),
        labels=labels,
        samples=200,
        names=("rows", "noisy"),
    )["hit"]
    found = got["comparison"]["metrics"]["recall_at_1"]
    assert found["difference"] == pytest.approx(hit[0].mean() - hit[1].mean())
    assert found["sentence"] == expected.sentence
    assert found["verdict"] in printed
    one, two = (values.astype(bool) for values in hit)
    counted = {
        "only_here": (one & ~two).sum(),
        "only_there": (~one & two).sum(),
        "both": (one & two).sum(),
        "neither": (~one & ~two).sum(),
    }
    assert got["comparison"]["first_row_right"] == counted
    assert f"{counted['only_here']} find a row of their class first here" in printed

    np.savez(tmp_path / "other.npz", embeddings=rows[::-1], labels=labels[::-1])
    words = [str(tmp_path / f"{name}.npz") for name in ("rows", "other")]
    assert main([words[0], *QUICK, "--no-clustering", "--compare", words[1]]) == 2
    assert "compare must have the same rows" in capsys.readouterr().err


def test_rows_that_paths_show_in_another_order_are_not_compared(tmp_path, capsys):
    x, labels = clusters()[0], np.arange(60) % 6
    paths = np.array([f"{row}.png" for row in range(60)])
    other = np.arange(60).reshape(10, 6)[::-1].ravel()  # each class within itself
    assert (labels[other] == labels).all()
    for name, order in (("here", np.arange(60)), ("there", other)):
        np.savez(
            tmp_path / f"{name}.npz",
            embeddings=x[order],
            labels=labels,
            paths=paths[order],
        )
    here, there = str(tmp_path / "here.npz"), str(tmp_path / "there.npz")
    assert main([here, "--compare", there]) == 2
    said = "row 0 here has another path than row 0 there, 0.png and 54.png; a file"
    assert said in capsys.readouterr().err


def test_pairs_are_not_compared(tmp_path, capsys):
    file = str(tmp_path / "rows.npz")
    pairs = np.arange(60).reshape(30, 2)
    np.savez(file, embeddings=clusters()[0], pairs=pairs, same=np.arange(30) % 2 > 0)
    assert main([file, *QUICK, "--compare", file]) == 2
    assert "compare needs another protocol than verif" in capsys.readouterr().err


def a_class(labels):
    return np.array([f"k{label}" for label in labels])


# What is changed of the other file, and how its rows differ then, if they do.
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (lambda a: a, ""),
        (lambda a: {"class_names": None, "labels": a_class(a["labels"])}, ""),
        (lambda a: {"class_names": None, "labels": 9 - a["labels"]}, ""),
        (
            lambda a: {
                "class_names": a["class_names"][::-1],
                "labels": 5 - a["labels"],
            },
            "",
        ),
        (lambda a: {"paths": np.char.add("/mnt/", a["paths"])}, ""),
        (lambda a: {"paths": np.array([f"../b/./{p[2:]}" for p in a["paths"]])}, ""),
        (lambda a: {"paths": None}, ""),
        (lambda a: {"labels": 5 - a["labels"]}, "class than row 0 there, k0 and k5"),
        (
            lambda a: {"class_names": None, "labels": np.arange(60) // 10},
            "row 1 here has another class than row 1 there$",
        ),
        (
            lambda a: {"paths": np.char.replace(np.roll(a["paths"], 6), "a/", "/x/")},
            "row 0 here has another path than row 0 there, 0/0.png and 0/54.png",
        ),
    ],
)
def test_rows_are_the_same_by_names_of_classes_and_what_paths_end_with(
    tmp_path, capsys, changes, said
):
    x, labels = clusters()[0], np.arange(60) % 6
    arrays = {
        "embeddings": x,
        "labels": labels,
        "class_names": a_class(range(6)),
        "paths": np.array([f"a/{row % 6}/{row}.png" for row in range(60)]),
    }
    other = arrays | changes(arrays)
    files = [str(tmp_path / f"{name}.npz") for name in ("here", "there")]
    for file, each in zip(files, (arrays, other), strict=True):
        np.savez(file, **{k: v for k, v in each.items() if v is not None})
    words = [*QUICK, "--no-clustering", "--compare"]
    for here, there in (files, files[::-1]):
        assert main([here, *words, there]) == (2 if said else 0)
        told = capsys.readouterr()
        if not said:
            count = int(hits_at_1(cosines(x, x), labels).sum())
            assert f"{count} in both" in " ".join(told.out.split())
        elif here == files[0]:
            assert re.search(said, told.err.strip())


def hits_at_1(scores, labels):
    scores = scores - 9 * np.eye(len(scores))
    return (labels[scores.argmax(1)] == labels).astype(float)


def test_the_same_input_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, labels = clusters()
    np.savez("rows.npz", embeddings=rows, labels=labels)
    written = []
    for _ in range(2):
        command = ["rows.npz", *QUICK, "--json", "a.json", "--report", "a.html"]
        assert main(command) == 0
        written.append(
            [(tmp_path / f"a.{end}").read_bytes() for end in ("json", "html")]
        )
    assert written[0] == written[1]
    figures = json.loads(written[0][0])
    assert figures["command"].endswith(" ".join(command))
    assert figures["versions"].keys() == {"python", "rankjax", "jax", "numpy", "scipy"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.html", "a.json", "rows.npz")
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embeddings": None}, "embeddings must be there"),
        ({"labels": None}, "labels must be there, or lists, or both pairs"),
        ({"labels": np.arange(89)}, r"labels must have shape \(90,\)"),
        ({"embeddings": np.ones((90, 2), complex)}, "must be floating point, got comp"),
        ({"embeddings": np.array([{}] * 90)}, "embeddings must be numbers or strings"),
        ({"cameras": np.arange(9)}, r"cameras must have shape \(90,\)"),
        ({"labels": np.array([{}] * 90)}, r"strings by labels.astype"),
        (
            {"embeddings": np.zeros((90, 2), jnp.bfloat16)},
            r"floating point, got \|V2, as bfloat16 is saved; save embeddings.astype",
        ),
        (
            {"labels": np.array(["a", ""] * 45)},
            "labels must be given to all rows, .* 45, .* 1$",
        ),
        ({"query": None}, "query must be there where junk is"),
        ({"query": np.array([90])}, "query must be rows from 0 to 89, got 90"),
        ({"query": (np.arange(90) < 30) * 1}, r"of 0 and 1 take query.astype\(bool\)"),
        ({"gallery": np.array([40, 41, 40])}, "that differ, got row 40 2 times"),
        ({"query": np.zeros(90, bool)}, "query must have a row"),
        ({"query": np.ones(90, bool)}, "query must have no row of junk, got 6"),
        ({"gallery": np.arange(84, 90)}, "gallery must have a row that is no junk"),
        ({"class_names": np.array(["a"])}, "a name for each label, 0 to 5, got 1"),
        ({"class_names": np.arange(6)}, r"class_names must be strings \[classes\]"),
        ({"same": np.ones(3, bool)}, "pairs must be there where same is"),
        ({"pairs": np.zeros((2, 3), int)}, r"pairs must have shape \[p, 2\]"),
        ({"pairs": np.array([[0, -1]])}, "pairs must be rows from 0 to 89, got -1"),
        ({"labels": np.arange(90)}, "gallery_labels must hold a query's label"),
    ],
)
def test_a_wrong_key_is_named(refused, changes, said):
    arrays = {k: v for k, v in {**reid(), **changes}.items() if v is not None}
    line = refused(**arrays)
    assert "rows.npz: " in line
    assert re.search(said, line), line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--recall-at", "55"], "recall_at must be whole numbers from 1 to 54"),
        (["--protocol", "verification"], "protocol verification needs pairs"),
        (
            ["--expand", "99"],
            "expand must be at most 54, the rows of the gallery, got 99",
        ),
        (["--samples", "-1"], "samples must be at least 0, got -1"),
        (["--samples", "1"], "samples must be at least 100 for intervals, or 0"),
        (["--report", "out.png"], "report must be named .html, got out.png"),
        (["--json", "/nowhere/a.json"], "json must be in a folder that exists"),
        (["--json", "/"], "json must be a file, got the folder /"),
        (["--compare", "nothing.npz"], "no run folder and no file nothing.npz"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(refused, settings, said):
    assert said in refused("--no-clustering", *settings, **reid())


def test_a_protocol_without_what_it_needs_is_refused(refused):
    rows, labels = clusters()
    arrays = {"embeddings": rows, "labels": labels}
    assert "needs queries" in refused("--protocol", "query-gallery", **arrays)
    arrays["query"] = np.arange(9)
    assert "needs cameras" in refused("--protocol", "reid", **arrays)
    plain = ["--protocol", "leave-one-out", "--no-clustering"]
    assert "with a gallery" in refused(*plain, "--expand", 2, **arrays)


@pytest.mark.parametrize("gap", ["", " \u200b", b"", np.nan])
@pytest.mark.parametrize("key", ["labels", "cameras", "super", "split", "folds"])
def test_a_value_that_is_missing_is_refused_with_its_row(refused, key, gap):
    column = np.array(np.arange(90) % 9, np.asarray(gap).dtype.kind).astype(object)
    column[[7, 50]] = gap
    line = refused(**{**reid(), key: np.array([*column])})
    said = f"{key} must be given to all rows, it is missing in 2, the first of which is"
    assert f"rows.npz: {said} row 7" in line


def test_a_file_of_another_kind_is_told_what_is_read(tmp_path, capsys):
    for name in ("rows.npy", "rows.csv"):
        (tmp_path / name).write_bytes(b"")
        assert main([str(tmp_path / name)]) == 2
        said = f"{name} must be .npz, as np.savez(FILE, embeddings=..., labels=...)"
        assert said in capsys.readouterr().err


def test_a_file_that_is_no_archive_is_one_line(tmp_path, capsys):
    (tmp_path / "one.npz").write_bytes(b"words")
    assert main([str(tmp_path / "one.npz")]) == 1
    assert "it is damaged or no .npz file" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe.npz")
    assert main([str(tmp_path / "pipe.npz")]) == 1
    assert "pipe.npz: not a regular file" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 1
    assert "holds no run: it has no config.json" in capsys.readouterr().err
    (tmp_path / "model.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
    assert "it is an exported network, which experiments." in capsys.readouterr().err


@pytest.mark.parametrize("stored", ["images", "paths", "nothing"])
def test_the_report_shows_what_the_file_has_of_rows(tmp_path, stored, capsys):
    rows, labels = clusters(30, 3)
    images = np.random.default_rng(0).integers(0, 256, (30, 9, 7, 3), dtype=np.uint8)
    arrays = {"embeddings": rows, "labels": labels}
    if stored == "images":
        arrays["images"] = images
    if stored == "paths":
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{i}.png")
        arrays["paths"] = np.array([f"{i}.png" for i in range(30)])
    np.savez(tmp_path / "rows.npz", **arrays)
    file = tmp_path / "report.html"
    words = [str(tmp_path / "rows.npz"), *QUICK, "--report", str(file)]
    assert main(words) == 0
    page = file.read_text()
    assert page.count("<section") == 10
    suspects = page.partition('<section id="suspects">')[2]
    assert "robust standard deviations below" in suspects.partition("</section>")[0]
    assert (', 3.png"' in page) == (stored == "paths")
    assert (page.count("<image") == 30) == (stored != "nothing")
    assert (page.count("<circle") == 30) == (stored == "nothing")
    if stored == "paths":
        (tmp_path / "3.png").unlink()
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "paths has 1 of 30 that are not there, such as 3.png" in said
        os.mkfifo(tmp_path / "3.png")
        assert main(words) == 0
        said = capsys.readouterr().err
        assert said.count("no picture of row 3, 3.png: ") == 1
        assert "not a regular file" in said
        assert file.read_text() != page


@pytest.mark.slow
def test_a_run_is_evaluated_as_its_own_summary_says(
    data_dir, tmp_path, capsys, monkeypatch
):
    run_dir, places = tmp_path / "run", ["--data-dir", str(data_dir)]
    short = ["--classes", "4", "--per-class", "4", "--steps", "4", "--eval-every", "2"]
    short += ["--devices", "1", "--wrapper", "jit", "--run-dir", str(run_dir)]
    assert without_report.main(["digits", *short, *places]) == 0
    summary = json.loads((run_dir / "summary.json").read_text())["test"]
    file = tmp_path / "a.json"
    words = [str(run_dir), *QUICK, *places, "--json", str(file), "--compare"]
    assert main([*words, str(run_dir), "--restarts", "1"]) == 0
    got = json.loads(file.read_text())
    for name in ("recall_at_1", "map_at_r", "map", "nmi"):
        assert got[name] == pytest.approx(summary[name], abs=1e-6), name
    assert got["comparison"]["metrics"]["map"]["difference"] == 0

    test = load("digits", data_dir=data_dir).test
    where = {"checkpoint": "latest", "data_dir": data_dir, "manual_dir": None}
    subject = embed_run(run_dir, **where)
    assert subject.labels.tolist() == test.labels.tolist()
    picture = subject.read(np.array([5, 3]))[1]
    assert picture.tolist() == test.images.read(np.array([3]))[0].tolist()
    monkeypatch.setattr(Checkpoints, "best_step", lambda self: 2)
    best = embed_run(run_dir, checkpoint="best", data_dir=data_dir, manual_dir=None)
    assert (best.embeddings != subject.embeddings).any()

    with pytest.raises(UsageError, match="held no classes out for validation"):
        embed_run(run_dir, **where, validation=True)

    data, rows = load("digits", data_dir=data_dir), np.arange(50, 70)
    images = ImageRows(test.images, rows=rows)
    held = dataclasses.replace(test, images=images, labels=test.labels[rows])
    data = dataclasses.replace(data, validation=held)
    monkeypatch.setattr(runs, "load_data", lambda _, seed: data)
    validated = embed_run(run_dir, **where, validation=True)
    codes = np.unique(held.labels, return_inverse=True)[1]
    assert validated.labels.tolist() == codes.tolist()
    assert (validated.protocol, validated.gallery) == ("leave-one-out", None)
    np.testing.assert_allclose(
        validated.embeddings, subject.embeddings[rows], atol=1e-5
    )
    monkeypatch.undo()
    capsys.readouterr()

    settings = json.loads((run_dir / "config.json").read_text())
    changed = json.dumps(settings | {"stranger": 1})
    (run_dir / "config.json").write_text(changed)
    assert main([str(run_dir), *places]) == 1
    assert "this version does not know: stranger" in capsys.readouterr().err
    assert (run_dir / "config.json").read_text() == changed


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["query-gallery", "reid"])
def test_a_run_with_a_gallery_is_judged_by_the_data_sets_protocol(protocol, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["path,label,super,split" + ",camera" * (protocol == "reid")]
    splits = ["train"] * 24 + ["query"] * 6 + ["gallery"] * 12
    for number, split in enumerate(splits):
        label = number % 4 if split == "train" else 10 + number % 3
        colour = np.random.default_rng(label).integers(0, 256, 3)
        noise = rng.integers(-40, 40, (32, 32, 3))
        image = np.clip(colour + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        row = [f"{number}.png", f"c{label}", f"s{label // 11}", split]
        if protocol == "reid":
            row.append(str(number // 3 % 2))
        lines.append(",".join(row))
    listed = tmp_path / "images.csv"
    listed.write_text("\n".join(lines) + "\n")

    run_dir, file = tmp_path / "run", tmp_path / "figures.json"
    words = ["--dataset", f"list:{listed}", "--augmentation", "none", "--classes", "2"]
    words += ["--per-class", "4", "--steps", "2", "--eval-every", "2", "--devices", "1"]
    words += ["--wrapper", "jit", "--run-dir", str(run_dir)]
    assert experiments.train.main(["digits", *words]) == 0
    summary = json.loads((run_dir / "summary.json").read_text())["test"]
    assert ("map_trapezoid" in summary) == (protocol == "reid")
    own = tmp_path / "own.html"
    words = [str(run_dir), *QUICK, "--json", str(file), "--report", str(own)]
    assert main(words) == 0
    assert f"<h1>list:{listed}, n_pairs</h1>" in own.read_text()
    figures = json.loads(file.read_text())
    assert figures["protocol"] == protocol
    assert figures["super_means"]["name"] == ["s0", "s1"]
    assert figures["super_means"]["images"] == [6, 12]
    for name, value in summary.items():
        assert figures[name] == pytest.approx(value, abs=1e-6), name
    page = (run_dir / "report.html").read_text()
    assert f"{summary['recall_at_1']:.3f}" in page


def test_each_super_class_has_the_figures_that_are_counted_by_hand(evaluate):
    # a b2 finds its own at 28 degrees, a c1 another's at 29 and its own at 31 and 36.
    classes = {"a": (0, 10), "b": (22, 50), "c": (79, 110, 115), "alone": (200,)}
    labels = [name for name, angles in classes.items() for _ in angles]
    angles = np.deg2rad([each for angles in classes.values() for each in angles])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    groups = ["chair" if label == "c" else "bird" for label in labels]
    got, out = evaluate(embeddings=rows, labels=labels, super=groups)
    columns = got["super_means"]
    assert columns["name"] == ["bird", "chair"]
    assert columns["images"] == [5, 3]
    assert columns["queries"] == [4, 3]
    assert columns["recall_at_1"] == pytest.approx([3 / 4, 2 / 3])
    assert columns["map_at_r"] == pytest.approx([3 / 4, (1 / 4 + 1 + 1) / 3])
    lines = [line.split() for line in out.splitlines()]
    assert ["bird", "5", "4", "0.7500", "0.7500"] in lines
    assert ["chair", "3", "3", "0.6667", "0.7500"] in lines


def test_super_classes_of_another_number_of_rows_are_refused(refused):
    said = refused(embeddings=np.eye(3), labels=[0, 0, 1], super=["x", "y"])
    assert "super must be strings or integers [3], got <U1 (2,)" in said


def test_rows_of_several_labels_are_found_by_any_that_they_share(evaluate):
    rng = np.random.default_rng(3)
    masks = rng.random((40, 5)) < 0.3
    x = rng.normal(size=(40, 6))
    names = np.array(["sky", "sea", "sand", "dog", "cat"])
    figures, _ = evaluate(embeddings=x, labels=masks, class_names=names)
    scores = cosines(x, x)
    np.fill_diagonal(scores, -np.inf)
    nearest, shared = scores.argmax(1), masks.astype(int) @ masks.T > 0
    met = (shared & ~np.eye(40, dtype=bool)).any(1)
    hits = shared[np.arange(40), nearest]
    assert figures["queries"]["scored"] == met.sum()
    assert figures["recall_at_1"] == pytest.approx(hits[met].mean())
    assert 0 < figures["graded_ndcg"] < 1
    means = figures["class_means"]
    assert means["name"] == names.tolist()
    assert means["queries"] == masks[met].sum(0).tolist()
    sea = hits[met & masks[:, 1]].mean()
    assert means["recall_at_1"][1] == pytest.approx(sea)
    assert not {"nmi", "health"} & figures.keys()
    assert {*figures["intervals"]["map"]} == {"by_query"}


def test_one_class_is_said_to_be_found_always(evaluate):
    rows = np.random.default_rng(0).normal(size=(6, 3))
    _, printed = evaluate(embeddings=rows, labels=np.zeros(6, int))
    assert "classes: 1 (all that is found is of it, hence right)" in printed


def test_a_length_that_is_asked_for_twice_is_refused(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(6, 3))
    np.savez(tmp_path / "x.npz", embeddings=rows, labels=[0, 0, 0, 1, 1, 1])
    assert main([str(tmp_path / "x.npz"), "--dims", "2", "2"]) == 2
    assert "dims must differ, got 2 2" in capsys.readouterr().err


def test_lists_belong_to_queries_in_the_order_of_their_numbers(evaluate):
    rng = np.random.default_rng(0)
    x, lists = rng.normal(size=(14, 5)), rng.integers(0, 4, (14, 3))
    rows = np.array([9, 2, 5])
    by_number, _ = evaluate(embeddings=x, lists=lists, query=rows)
    sorted_lists = lists[:, np.argsort(rows)]
    by_mask, _ = evaluate(
        embeddings=x, lists=sorted_lists, query=np.isin(np.arange(14), rows)
    )
    assert by_number["settings"] == by_mask["settings"]
    other, _ = evaluate(embeddings=x, lists=lists, query=np.isin(np.arange(14), rows))
    assert by_number["settings"] != other["settings"]


@pytest.mark.parametrize("kind", ["mask", "row numbers", "mask with cameras"])
def test_junk_beside_splits_is_of_all_rows(kind, evaluate):
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(24, 4)), np.arange(24) % 3
    split = np.array(["Train"] * 8 + ["query"] * 4 + ["GALLERY"] * 12)
    junk = np.isin(np.arange(24), [12, 14])
    more = {}
    if kind == "mask with cameras":  # which exclude nothing, as all differ
        more = {"cameras": np.arange(24), "class_names": np.array(["a", "b", "c"])}
    given = np.flatnonzero(junk) if kind == "row numbers" else junk
    figures, _ = evaluate(embeddings=x, labels=labels, split=split, junk=given, **more)
    scores = cosines(x[8:12], x[12:][~junk[12:]])
    hits = labels[12:][~junk[12:]][scores.argmax(1)] == labels[8:12]
    assert figures["recall_at_1"] == hits.mean()
    assert figures["queries"]["junk"] == 2
    assert figures["queries"]["gallery"] == 10


def test_rows_of_a_split_are_called_by_their_number_in_the_file(tmp_path, capsys):
    arrays = {
        "embeddings": np.random.default_rng(0).normal(size=(24, 4)),
        "labels": np.arange(24) // 6,
        "split": np.array(["train", "test"] * 12),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    assert main([f"{tmp_path / 'x.npz'}", "--report", f"{tmp_path / 'x.html'}"]) == 0
    page = (tmp_path / "x.html").read_text()
    for row in range(24):
        assert (f"row {row} of the file" in page) == (row % 2 == 1)
    arrays["embeddings"][5] = np.nan
    np.savez(tmp_path / "x.npz", **arrays)
    assert main([f"{tmp_path / 'x.npz'}"]) == 2
    assert "embeddings of the split test must be finite" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["names", "strings", "integers"])
def test_rows_of_the_gallery_labelled_minus_one_are_junk_of_reid(spelling, evaluate):
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(24, 4)), np.arange(24) % 3
    split = np.array(["train"] * 8 + ["query"] * 4 + ["gallery"] * 12)
    labels[[12, 14]] = -1
    given = {"labels": labels.astype(str) if spelling == "strings" else labels}
    if spelling == "names":
        names = np.array(["-1", "0", "1", "2"])
        given = {"labels": labels + 1, "class_names": names}
    figures, _ = evaluate(embeddings=x, split=split, cameras=np.arange(24), **given)
    kept = labels[12:] != -1
    hits = labels[12:][kept][cosines(x[8:12], x[12:][kept]).argmax(1)] == labels[8:12]
    assert figures["recall_at_1"] == hits.mean()
    assert (figures["queries"]["junk"], figures["queries"]["gallery"]) == (2, 10)


def test_a_split_that_is_none_is_named_with_its_row(refused):
    split = np.array(["test"] * 5 + ["tset"])
    said = refused(embeddings=np.eye(6), labels=np.arange(6) // 2, split=split)
    assert "split must be train, " in said
    assert "got tset in row 5" in said


def test_classes_of_one_name_are_told_apart_by_their_labels(evaluate):
    names = np.array(["a", "b", "a"])
    figures, _ = evaluate(
        embeddings=np.random.default_rng(0).normal(size=(9, 3)),
        labels=np.arange(9) // 3,
        class_names=names,
    )
    assert figures["class_means"]["name"] == ["a (0)", "b", "a (2)"]


def test_few_pairs_have_as_many_folds_as_there_are(evaluate):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(32, 4)), np.arange(32) // 2
    pairs = [[i, i + 1] for i in range(0, 16, 2)] + [[i, i + 2] for i in range(8)]
    own, _ = evaluate(embeddings=x, labels=labels, pairs=pairs)
    eight, _ = evaluate("--folds", 8, embeddings=x, labels=labels, pairs=pairs)
    assert own["pairs"] == {"same": 8, "different": 8}
    assert own["accuracy"] == eight["accuracy"]


def test_what_is_read_is_not_written_over(tmp_path, capsys):
    file = tmp_path / "x.npz"
    np.savez(file, embeddings=np.eye(4), labels=[0, 0, 1, 1])
    before = file.read_bytes()
    assert main([str(file), "--json", str(tmp_path / "." / "x.npz")]) == 2
    assert "must be another file than is read" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_masks_of_labels_in_parquet_are_those_of_an_npz(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    x, masks = rng.normal(size=(12, 3)), rng.random((12, 4)) < 0.5
    np.savez(tmp_path / "x.npz", embeddings=x, labels=masks)
    fixed = pa.FixedSizeListArray.from_arrays(masks.ravel(), 4)
    for name, labels in (("fixed", fixed), ("list", masks.tolist())):
        table = pa.table({"embedding": x.tolist(), "label": labels})
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    said = []
    for name in ("x.npz", "fixed.parquet", "list.parquet"):
        assert main([str(tmp_path / name), "--samples", "0"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]


def test_a_value_that_is_missing_in_parquet_is_refused_with_its_row(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"label": ["x", "x", "y", None], "embedding": np.eye(4).tolist()}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert main([str(tmp_path / "x.parquet")]) == 2
    said = capsys.readouterr().err
    assert "label must be given to all rows, it is missing in 1, the first" in said
    assert said.rstrip().endswith("row 3")


def test_parquet_rows_of_other_lengths_are_refused_with_their_numbers(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [*np.eye(4).tolist()[:3], [1.0, 2.0]]
    columns = {"label": list("xxyy"), "embedding": rows}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert main([str(tmp_path / "x.parquet")]) == 2
    said = capsys.readouterr().err
    assert said.rstrip().endswith("row 0 has 4 and row 3 has 2")


@pytest.mark.parametrize("name", ["embedding", "label", "path"])
def test_two_columns_of_parquet_of_one_meaning_are_refused(tmp_path, capsys, name):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"label": list("xxyy"), "embedding": np.eye(4).tolist()}
    columns["path"] = list("abcd")
    columns[f"{name}s"] = columns[name]
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert main([str(tmp_path / "x.parquet")]) == 2
    assert f"must have one column of {name}s, got two" in capsys.readouterr().err


def test_parquet_without_embeddings_is_told_which_column_holds_them(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {name: [0.0, 1.0] for name in ("label", "f0", "f1")}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert main([str(tmp_path / "x.parquet")]) == 2
    said = (
        "x.parquet must have the column embedding, a list of numbers in each row, got"
    )
    assert f"{said} the columns label, f0, f1" in capsys.readouterr().err
