"""The script of a page, in a browser: it sorts, filters, saves and enlarges."""

import base64
import csv
import io

import chromium
import numpy as np
import pytest
from PIL import Image

from rankjax.metrics import leave_one_out, retrieval
from rankjax.report import EvaluationInputs, SearchResult, Shown, write_evaluation

NAMES = ("=1+1", '</script><script>document.title="x"</script>', 'a,"b"', "ü", "10")
LONG = "document.querySelector('table.long')"

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason="no Chromium on this machine"
)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (30, 6, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def browser(tmp_path_factory, images):
    """A browser at the page of thirty rows, whose names are hostile."""
    rng, labels = np.random.default_rng(0), np.arange(30) % 5
    rows = rng.normal(size=(5, 6))[labels] + rng.normal(size=(30, 6))
    search = leave_one_out(rows, labels)
    every = np.arange(30)
    folder = tmp_path_factory.mktemp("page")
    paths = [f"<img src=x onerror='document.title=1'> {i}.png" for i in range(30)]
    inputs = EvaluationInputs(
        title="Rows",
        result="",
        facts={},
        tables=[],
        health=None,
        outcome=SearchResult(search, retrieval(search), every, every),
        shown=Shown(labels, NAMES, images.__getitem__, paths),
        embeddings=rows,
        command="",
    )
    write_evaluation(folder / "page.html", inputs)
    with chromium.Page(folder / "profile") as page:
        page.call("Page.navigate", url=(folder / "page.html").as_uri())
        page.wait(
            "document.readyState == 'complete' && !!document.querySelector('.tools')"
        )
        yield page
        assert page.logged == []
        assert page.evaluate("document.title") == "Rows | rankjax report"
        assert page.evaluate("document.scripts.length") == 1


def column(browser, number):
    script = f"[...{LONG}.tBodies[0].rows].filter(r => !r.hidden)"
    return browser.evaluate(f"{script}.map(r => r.cells[{number}].textContent)")


def key(browser, name):
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)


def test_a_heading_sorts_by_numbers_or_by_words_and_turns(browser):
    press = f"{LONG}.tHead.rows[0].cells[%d].firstChild.click()"
    browser.evaluate(press % 4)
    rising = column(browser, 4)
    assert rising == sorted(rising, key=float)
    assert len({*rising}) > 1
    browser.evaluate(press % 4)
    assert column(browser, 4) == rising[::-1]
    order = "[...document.querySelectorAll('[aria-sort]')].map(h => h.ariaSort)"
    assert browser.evaluate(order) == ["descending"]
    browser.evaluate(press % 0)
    assert {*column(browser, 0)} == {*NAMES}
    words = "['10', '=1+1', 'ü'].sort((a, b) => a.localeCompare(b))"
    names = [name for name in column(browser, 0) if name in ("10", "=1+1", "ü")]
    assert names == browser.evaluate(words)


def test_the_filter_shows_and_saves_the_rows_with_its_words(browser):
    typed = (
        "const i = document.querySelector('.tools input'); i.value = '%s'; i.oninput()"
    )
    browser.evaluate("{" + typed % "Ü" + "}")
    shown = column(browser, 0)
    assert "ü" in shown
    assert len(shown) < 5
    count = browser.evaluate("document.querySelector('.tools output').value")
    assert count == f"{len(shown)} of 5"
    saved = list(csv.reader(io.StringIO(browser.evaluate(f"csv({LONG})"))))
    assert saved[0][:3] == ["class", "queries", "Recall@1"]
    assert [line[0] for line in saved[1:]] == shown
    browser.evaluate("{" + typed % "" + "}")
    saved = list(csv.reader(io.StringIO(browser.evaluate(f"csv({LONG})"))))
    # What a spreadsheet would compute begins with an apostrophe.
    assert {line[0] for line in saved[1:]} == {"'=1+1", *NAMES[1:]}


def test_a_picture_is_enlarged_by_a_click_and_by_keys(browser, images):
    first = "document.querySelector('#gallery .row')"
    notes = browser.evaluate(f"[...{first}.querySelectorAll('img')].map(i => i.title)")
    assert notes[1].startswith("1: ")
    assert ", cosine " in notes[1]
    said = "document.querySelector('dialog[open] p')?.textContent ?? ''"
    browser.evaluate(f"{first}.querySelectorAll('.thumb')[1].click()")
    assert browser.evaluate(said) == notes[1]
    uri = browser.evaluate("document.querySelector('dialog > img').src")
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    row = int(notes[1].rpartition(" ")[2].removesuffix(".png"))
    near = np.abs(np.asarray(picture, float) - images).mean((1, 2, 3))
    assert near.argmin() == row
    key(browser, "ArrowRight")
    assert browser.evaluate(said) == notes[2]
    key(browser, "ArrowLeft")
    key(browser, "ArrowLeft")
    key(browser, "ArrowLeft")  # before the first there is none
    assert browser.evaluate(said) == notes[0]
    strip = "document.querySelectorAll('dialog .strip .thumb')"
    assert browser.evaluate(f"{strip}.length") == len(notes)
    browser.evaluate(f"{strip}[3].click()")
    assert browser.evaluate(said) == notes[3]
    # What was enlarged last has the focus again.
    focused = f"document.activeElement == {first}.querySelectorAll('.thumb')[%d]"
    browser.evaluate("document.querySelector('dialog').close()")
    assert browser.evaluate(said) == ""
    browser.wait(focused % 3, seconds=5)
    browser.evaluate(f"{first}.querySelectorAll('.thumb')[2].focus()")
    key(browser, "Enter")
    assert browser.evaluate(said) == notes[2]
    browser.evaluate("document.querySelector('dialog').close()")
    browser.wait(focused % 2, seconds=5)
