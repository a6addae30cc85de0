import base64
import functools
import hashlib
import io
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageColor

from rankjax import report
from rankjax.errors import RunError
from rankjax.metrics import bootstrap, leave_one_out, retrieval
from rankjax.report import (
    ROWS,
    Shown,
    charts,
    result_sentence,
    write_report,
)
from rankjax.report.thumbnails import Found, gallery_figure

METRICS = [f"recall_at_{k}" for k in (1, 2, 4, 8)] + ["map_at_r", "r_precision", "nmi"]
FIGURES = {"curves", "gallery", "health", "map", "similarity", "training"}
VOID = {"meta", "img", "image", "rect", "path", "use", "circle"}


class Page(HTMLParser):
    """Elements in order as (tag, attributes, ancestors' ids and classes, text)."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_bytes().decode("utf-8")
        self.elements, self.open = [], []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), list(self.open), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[3] += data

    def find(self, tag, inside=None):
        return [
            element
            for element in self.elements
            if element[0] == tag
            and (inside is None or any(inside is parent for parent in element[2]))
        ]

    def section(self, name):
        return next(e for e in self.find("section") if e[1]["id"] == name)


def make(classes=6, per=5, size=8, channels=1, dim=7, noise=1.1, **changes):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(classes), per))
    n = len(labels)
    images = rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    centres = rng.normal(size=(classes, dim))
    points = centres[labels] + noise * rng.normal(size=(n, dim))
    flat = images.reshape(n, -1).astype(np.float32)
    history = [
        {"step": step, "loss": 1 / step, "embedding_norm": 2.0, "mean_cosine": 0.1}
        | {"active_share": 0.5, "images_per_second": 100.0 * step, "stranger": 1.0}
        for step in range(1, 60)
    ]
    history += [{"step": s, "validation/recall_at_1": 0.1 * s} for s in (1, 5)]
    scores = {
        name: {metric: float(rng.uniform()) for metric in METRICS}
        for name in ("raw_pixels", "test", "untrained")
    }
    inputs = SimpleNamespace(
        title="glyphs",
        command="python -m train --seed 0",
        config={"loss": "triplet", "margin": 0.2, "mining": None, "shift": [1, 2]},
        versions={"python": "3.11.7", "jax": "0.10.2"},
        summary=scores,
        history=history,
        images=images,
        labels=labels,
        class_names=tuple(f"class {k}" for k in range(classes)),
        embeddings=points.astype(np.float32),
        baselines={"raw_pixels": flat, "untrained": flat[:, :dim]},
    )
    return replace(inputs, **changes)


def replace(inputs, **changes):
    return SimpleNamespace(**vars(inputs) | changes)


def write(folder, inputs):
    given = dict(vars(inputs))
    read = given.pop("images").__getitem__
    names = ("labels", "class_names", "read", "paths", "files_in")
    given = {"read": read, "paths": None, "files_in": None} | given
    shown = Shown(*map(given.pop, names))
    return write_report(folder, shown=shown, **given)


@pytest.fixture(scope="module")
def inputs():
    return make()


@pytest.fixture(scope="module")
def run_dir(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert write(folder, inputs) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(run_dir):
    return Page(run_dir / "report.html")


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def index_of(image, images):
    (match,) = np.flatnonzero((images[..., 0] == image).all(axis=(1, 2)))
    return match


def test_sections_come_in_order_and_the_links_reach_them(page):
    names = [section[1]["id"] for section in page.find("section")]
    assert names[:5] == ["metrics", "training", "curves", "similarity", "gallery"]
    assert names[5:] == ["classes", "confusions", "map", "health", "reproduce"]
    assert [link[1]["href"] for link in page.find("a")] == [f"#{n}" for n in names]
    assert page.open == []


def test_the_result_is_one_sentence_with_the_share_of_errors_removed(page, inputs):
    test, raw = (inputs.summary[k]["recall_at_1"] for k in ("test", "raw_pixels"))
    assert test > raw
    result = next(e for e in page.find("p") if e[1].get("class") == "result")
    assert result[3] == (
        f"Recall@1 {test:.2f} on 6 unseen classes; raw pixels {raw:.2f};"
        f" removes {(test - raw) / (1 - raw):.0%} of raw pixels' errors"
    )


@pytest.mark.parametrize(
    ("figure", "raw", "said"),
    [
        ("recall_at_1", 1.0, "Recall@1 0.80 on 1 unseen class; raw pixels 1.00"),
        ("accuracy", math.nan, "Accuracy 0.80 on 1 unseen class"),
        (
            "accuracy",
            0.6,
            "Accuracy 0.80 on 1 unseen class; raw pixels 0.60; removes 50% of raw "
            "pixels' errors",
        ),
    ],
)
def test_a_result_tells_no_share_of_errors_where_none_is_removed(figure, raw, said):
    summary = {"test": {figure: 0.8}, "raw_pixels": {figure: raw}}
    assert result_sentence(summary, 1) == said


def test_classes_that_an_earlier_run_was_trained_on_are_not_called_unseen():
    summary = {"test": {"recall_at_1": 0.8, "seen_classes": 2}}
    assert result_sentence(summary, 3) == (
        "Recall@1 0.80 on 3 classes, 2 of which an earlier run has trained the network "
        "on"
    )


def test_the_table_holds_the_summary_with_the_best_in_bold(page, inputs):
    section = page.section("metrics")
    rows = page.find("tr", page.find("tbody", section)[0])
    shown = [name for name in ROWS if name != "features"]
    for name, row in zip(shown, rows, strict=True):
        assert page.find("th", row)[0][3] == ROWS[name]
        scores = inputs.summary[name]
        cells = page.find("td", row)
        assert [cell[3] for cell in cells] == [
            f"{value:.3f}" for value in scores.values()
        ]
        for cell, metric in zip(cells, scores, strict=True):
            best = max(other[metric] for other in inputs.summary.values())
            assert bool(page.find("b", cell)) == (scores[metric] == best)


def test_figures_of_the_same_queries_have_their_interval_over_classes(tmp_path):
    inputs = make()
    found = retrieval(leave_one_out(inputs.embeddings, inputs.labels), recall_at=[4])
    means = {name: float(values.mean()) for name, values in found.values.items()}
    test = {"recall_at_4": means["recall_at_4"], "map_at_r": 0.9, "map": means["map"]}
    page = Page(write(tmp_path, replace(inputs, summary={"test": test}, baselines={})))
    row = page.find("tr", page.find("tbody", page.section("metrics"))[0])[1]
    bounds = bootstrap(found.values, labels=found.labels, by="class")
    expected = [
        f"{bounds[key].low:.3f} to {bounds[key].high:.3f}"
        for key in ("recall_at_4", "map")
    ]
    # MAP@R is that of another protocol, and none of these queries.
    cells = [cell[3] for cell in page.find("td", row)]
    assert cells == [expected[0], "", expected[1]]
    assert expected[0] != expected[1]


def test_a_missing_or_undefined_metric_is_a_dash(tmp_path):
    summary = {
        "test": {"recall_at_1": 0.5, "nmi": math.nan},
        "untrained": {"map_at_r": 0.25},
    }
    page = Page(write(tmp_path, make(summary=summary, baselines={})))
    cells = page.find("td", page.find("tbody")[0])
    dash = "–"  # noqa: RUF001
    assert [cell[3] for cell in cells] == ["0.500", dash, dash, dash, "0.250", dash]


def test_the_map_titles_every_class_shown(page, inputs):
    section = page.section("map")
    names = [title[3] for title in page.find("title", section)]
    assert sorted(names) == sorted(inputs.class_names)
    for group in page.find("g", section):
        (title,) = page.find("title", group)
        for image in page.find("image", group):
            index = index_of(decode(image[1]["href"]), inputs.images)
            assert inputs.class_names[inputs.labels[index]] == title[3]
    assert len(page.find("image", section)) == len(inputs.images)


def test_config_versions_and_command_are_there(page, inputs):
    section = page.section("reproduce")
    rows = {
        page.find("th", row)[0][3]: page.find("td", row)[0][3]
        for row in page.find("tr", section)
    }
    config = {"loss": "triplet", "margin": "0.2", "mining": "null", "shift": "[1, 2]"}
    assert rows == {**config, **inputs.versions}
    assert page.find("code", section)[0][3] == inputs.command
    assert len(page.find("details", section)) == 2


def test_settings_that_differ_from_the_defaults_come_first(tmp_path):
    page = Page(write(tmp_path, make(classes=3, changed={"margin", "shift"})))
    first, others, _ = page.find("details", page.section("reproduce"))
    names = [[e[3] for e in page.find("th", part)] for part in (first, others)]
    assert names == [["margin", "shift"], ["loss", "mining"]]
    assert page.find("summary", first)[0][3] == "Settings that differ from the defaults"


def test_one_measurement_is_a_number_and_no_curve():
    rows = [{"step": step, "validation/recall_at_1": step / 1000} for step in (90, 917)]
    assert "0.917 Recall@1, at step 917" in charts.training(rows[1:])
    assert ", at step" not in charts.training(rows)


def test_nothing_is_fetched_or_run(page):
    assert not {"link", "iframe", "object"} & {e[0] for e in page.elements}
    # The one script that may run is known by its hash; the other is data.
    data, script = page.find("script")
    assert data[1] == {"type": "application/json", "id": "rows"}
    assert script[3] == Path(report.__file__).with_name("page.js").read_text()
    assert script[1] == {}
    digest = base64.b64encode(hashlib.sha256(script[3].encode()).digest()).decode()
    (policy,) = (e[1]["content"] for e in page.find("meta") if "http-equiv" in e[1])
    assert (
        "default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'" in policy
    )
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    for _, attributes, _, _ in page.elements:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "#").startswith(("data:image/", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|url\(|@import|fetch\(", page.source)


def test_every_image_has_an_alternative_text(page):
    assert all(image[1]["alt"].strip() for image in page.find("img"))


def test_figures_are_files_and_the_charts_take_the_pages_colours(run_dir, page):
    files = {path.stem: path.read_bytes() for path in (run_dir / "figures").iterdir()}
    assert set(files) == FIGURES
    assert Image.open(io.BytesIO(files["gallery"])).width == 1800
    for name in ("training", "similarity", "health"):
        assert charts.LIGHT.accent in files[name].decode()
        panels = page.find("svg", page.section(name))
        styles = []
        for svg in panels:
            assert svg[1].keys() == {"viewbox"}
            assert "step" in svg[3] or "cosine" in svg[3]
            styles += [e[1].get("style", "") for e in page.find("path", svg)]
        assert len(panels) == (2 if name == "training" else 3)
        assert any("stroke: var(--accent)" in style for style in styles)
        assert not any("#" in style for style in styles)


@pytest.mark.parametrize(
    ("chart", "key"),
    [
        (charts.training, "loss"),
        (charts.training, "validation/recall_at_1"),
        (charts.training, "validation/map_at_r"),
        (charts.training, "training/recall_at_1"),
        (charts.training, "training/map_at_r"),
        (charts.health, "embedding_norm"),
        (charts.health, "mean_cosine"),
        (charts.health, "positive_similarity"),
        (charts.health, "active_share"),
    ],
)
def test_a_chart_shows_its_series(chart, key):
    rising = [{"step": step, key: 0.1 * step} for step in range(9)]
    falling = [{"step": step, key: 0.8 - 0.1 * step} for step in range(9)]
    assert len({chart(rising), chart(falling), chart([])}) == 3


def test_the_gallery_figure_shows_the_verdicts(inputs):
    found = Found(0, np.arange(1, 9))
    colours = []
    for labels in (np.zeros(30, int), np.arange(30)):
        names = [""] * 30
        shown = Shown(labels, names, lambda rows: inputs.images[rows])
        png = gallery_figure(shown, {"queries": [found]})
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        rgb = [ImageColor.getrgb(c) for c in (charts.LIGHT.hit, charts.LIGHT.miss)]
        colours.append([(pixels == colour).all(axis=-1).sum() for colour in rgb])
    # The legend shows one of each; eight frames more are all green or all red.
    (green, few_red), (few_green, red) = colours
    assert green > 4 * few_green > 0
    assert red > 4 * few_red > 0


NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x>',
    "a & b'",
    "",
    "\ud800",
    "\0\ue000\u202e",
)


def test_text_is_escaped_wherever_it_comes_from(tmp_path):
    bad = '<b id="x">&amp;\''
    paths = [f"{bad}/{row}.png" for row in range(30)]
    nasty = make(class_names=NASTY, title=bad, command=bad, paths=paths)
    nasty = replace(nasty, config={bad: bad}, versions={bad: bad})
    page = Page(write(tmp_path, nasty))
    assert page.open == []
    assert not any(e[1].get("id") == "x" for e in page.elements)
    assert len(page.find("script")) == 2
    assert page.find("h1")[0][3] == page.find("code")[0][3] == bad
    names = {title[3] for title in page.find("title", page.section("map"))}
    assert names == {*NASTY[:3], "(empty)", "U+D800", "U+0000U+E000U+202E"}
    for image in page.find("img", page.section("gallery")):
        assert any(name in image[1]["alt"] for name in names)
        row = index_of(decode(image[1]["src"]), nasty.images)
        assert image[1]["title"].endswith(f", {bad}/{row}.png")


def sampled(**changes):
    return make(classes=3, per=5, **changes)


EDGES = {
    "few images": make(classes=2, per=3),
    "one image": make(classes=1, per=1),
    "two images": make(classes=1, per=2),
    "one class": make(classes=1, per=12),
    "all alone": make(classes=12, per=1),
    "no history": sampled(history=[]),
    "no failures": sampled(noise=0.0),
    "collapsed": sampled(embeddings=np.zeros((15, 7), np.float32)),
    "one dimension": sampled(dim=1),
    "wide RGB": sampled(images=np.full((15, 100, 224, 3), 7, np.uint8)),
    "no classes held out": sampled(
        history=[{"step": s, "training/recall_at_1": 0.1 * s} for s in range(9)]
    ),
    "broken history": sampled(
        history=[{"step": s, "loss": math.nan if s % 3 else math.inf} for s in range(9)]
    ),
}


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory):
    """The folder of a named run, written once."""

    @functools.cache
    def folder_of(name):
        folder = tmp_path_factory.mktemp("odd")
        write(folder, EDGES[name])
        return folder

    return folder_of


@pytest.mark.parametrize("name", EDGES)
def test_odd_runs_have_all_sections_and_small_thumbnails(odd_run, name):
    page = Page(odd_run(name) / "report.html")
    names = [section[1]["id"] for section in page.find("section")]
    alone = name in ("one image", "all alone")
    assert len(names) == (6 if alone else 10)
    absent = {"curves", "gallery", "similarity"} if alone else set()
    absent |= {"curves"} if name in ("two images", "one class") else set()
    pictures = [image[1]["src"] for image in page.find("img", page.section("gallery"))]
    assert all(max(decode(uri).shape) <= 192 for uri in pictures)
    small = [image[1]["href"] for image in page.find("image")]
    assert all(max(decode(uri).shape) <= 48 for uri in small)
    written = {path.stem for path in (odd_run(name) / "figures").iterdir()}
    if not page.find("svg", page.section("map")):
        absent.add("map")
    assert written == FIGURES - absent


@pytest.mark.parametrize(
    ("name", "section", "said"),
    [
        ("all alone", "gallery", "No row has another of its class"),
        ("one image", "map", "No map"),
        ("collapsed", "map", "No map"),
        ("no failures", "confusions", "No query finds a row of another class first"),
        ("no classes held out", "training", "is measured on the training images, as"),
        ("broken history", "training", "9 of 9 logged rows hold values that are not"),
    ],
)
def test_what_is_absent_is_said(odd_run, name, section, said):
    page = Page(odd_run(name) / "report.html")
    assert said in page.section(section)[3]


def test_a_write_that_fails_leaves_the_old_report_whole(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")
    move = os.replace

    def full_disk(source, target):
        if str(target).endswith(".html"):
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(RunError, match=r"cannot write the report .*No space left"):
        write(tmp_path, sampled())
    assert (tmp_path / "report.html").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "figures"}
    Image.open(tmp_path / "figures" / "gallery.png").verify()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(29, int)}, r"labels must have shape \(30,\)"),
        ({"embeddings": np.full((30, 4), np.nan)}, "embeddings must be finite"),
        ({"baselines": {"raw_pixels": np.zeros((29, 4))}}, "'raw_pixels'.*30, dim"),
        ({"summary": {"raw_pixels": {}}}, "must have 'test'"),
    ],
)
def test_wrong_inputs_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, make(**changes))


@pytest.mark.slow
def test_a_full_test_split_of_noise_stays_below_ten_megabytes(tmp_path):
    path = write(tmp_path, make(classes=608, per=12, size=32, dim=64))
    assert path.stat().st_size < 10e6
