"""The script of a page, in a browser: tables, enlarged pictures and the map."""

import base64
import csv
import io
import time

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
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 6))[np.arange(30) % 5] + rng.normal(size=(30, 6))


def write(file, rows, shown):
    search, every = leave_one_out(rows, shown.labels), np.arange(len(rows))
    inputs = EvaluationInputs(
        title="Rows",
        result="",
        facts={},
        tables=[],
        health=None,
        outcome=SearchResult(search, retrieval(search), every, every),
        shown=shown,
        embeddings=rows,
        command="",
    )
    write_evaluation(file, inputs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory, images, rows):
    """A browser at the page of thirty rows, whose names are hostile."""
    folder = tmp_path_factory.mktemp("page")
    paths = [f"<img src=x onerror='document.title=1'> {i}.png" for i in range(30)]
    shown = Shown(np.arange(30) % 5, NAMES, images.__getitem__, paths)
    write(folder / "page.html", rows, shown)
    with chromium.Page(folder / "profile") as page:
        page.call("Page.navigate", url=(folder / "page.html").as_uri())
        page.wait(
            "document.readyState == 'complete' && !!document.querySelector('.tools')"
        )
        yield page
        assert page.logged == []
        assert page.evaluate("document.title") == "Rows | rankjax report"
        assert page.evaluate("document.scripts.length") == 2


def column(browser, number):
    script = f"[...{LONG}.tBodies[0].rows].filter(r => !r.hidden)"
    return browser.evaluate(f"{script}.map(r => r.cells[{number}].textContent)")


def key(browser, name):
    more = {"windowsVirtualKeyCode": 27} if name == "Escape" else {}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, **more)


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


def test_the_table_is_downloaded(browser, tmp_path):
    browser.call(
        "Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path)
    )
    browser.evaluate("document.querySelector('.tools button').click()")
    end = time.monotonic() + 10
    while not (tmp_path / "classes.csv").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    text = (tmp_path / "classes.csv").read_text(encoding="utf-8")
    saved = list(csv.reader(io.StringIO(text)))
    assert {line[0] for line in saved[1:]} == {"'=1+1", *NAMES[1:]}


SAID = "(document.querySelector('dialog[open] p')?.textContent ?? '')"


def row_of(note):
    return int(note.rpartition(" ")[2].removesuffix(".png"))


def pictured(uri, images):
    """The row that a picture is of."""
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    picture = np.asarray(picture.convert("RGB").resize((6, 6)), float)
    return np.abs(picture - images).mean((1, 2, 3)).argmin()


def test_from_an_enlarged_picture_one_goes_on_to_any_neighbour_and_back(
    browser, images, rows
):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(30)
    first = "document.querySelector('#gallery .row')"
    thumbs = f"{first}.querySelectorAll('.thumb')"
    notes = browser.evaluate(f"[...{first}.querySelectorAll('img')].map(i => i.title)")
    assert ", cosine " in notes[1]
    strip = "document.querySelectorAll('dialog .strip figure')"
    browser.evaluate(f"{thumbs}[1].focus()")
    key(browser, "Enter")
    row, visited = row_of(notes[1]), []
    for step in range(3):
        assert row_of(browser.evaluate(SAID)) == row
        uri = browser.evaluate("document.querySelector('.large img')?.src ?? ''")
        if uri:
            assert pictured(uri, images) == row
        near = np.argsort(-cosines[row])[:6]
        said = browser.evaluate(f"[...{strip}].map(f => f.innerText.trim())")
        expected = [cosines[row, other] for other in near]
        assert [float(one) for one in said] == pytest.approx(expected, abs=6e-4)
        kinds = browser.evaluate(f"[...{strip}].map(f => f.firstChild.className)")
        same = (near - row) % 5 == 0
        assert kinds == [f"thumb {'hit' if one else 'miss'}" for one in same]
        visited.append(row)
        row = near[step + 1]
        browser.evaluate(f"{strip}[{step + 1}].firstChild.click()")
    for row in reversed(visited):
        browser.evaluate("history.back()")
        browser.wait(f"{SAID}.endsWith(' {row}.png')", seconds=5)
    close = "[...document.querySelectorAll('dialog > button')].at(-1)"
    browser.evaluate(f"{close}.click(), {close}.click()")
    browser.wait(f"{SAID} === '' && location.hash === ''", seconds=5)
    # What was enlarged first has the focus again.
    browser.wait(f"document.activeElement === {thumbs}[1]", seconds=5)
    browser.evaluate(f"{thumbs}[2].click()")
    assert row_of(browser.evaluate(SAID)) == row_of(notes[2])
    key(browser, "Escape")
    browser.wait(f"{SAID} === '' && location.hash === ''", seconds=5)


@pytest.fixture
def on_the_map(browser):
    """Where rows are on the screen, at the map's first view."""
    canvas = "document.querySelector('.map canvas')"
    browser.evaluate("document.querySelector('[aria-label=\"Show all\"]').click()")
    browser.evaluate(f"{canvas}.scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(f"{canvas}.getBoundingClientRect().toJSON()")
    places = np.array(browser.evaluate("['x', 'y'].map(name => [...unpack(name)])")).T
    rows = browser.evaluate("[...rows]")
    place = ((places / 65535 - 0.5) * 0.94 + 0.5) * [box["width"], box["height"]]
    return dict(zip(rows, place + np.array([box["x"], box["y"]]), strict=True))


def mouse(browser, kind, x, y, **more):
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


MARKED = "(document.querySelector('.map .shown span')?.textContent ?? '')"


def alone(places):
    """The row that is the farthest from all others."""
    rows, found = list(places), np.array([*places.values()])
    apart = np.linalg.norm(found[:, None] - found, axis=2) + 1e9 * np.eye(len(rows))
    return rows[apart.min(axis=1).argmax()]


def test_the_map_names_the_row_under_the_pointer_and_a_click_enlarges_it(
    browser, on_the_map
):
    row = alone(on_the_map)
    mouse(browser, "mouseMoved", *on_the_map[row])
    browser.wait(f"{MARKED}.endsWith(' {row}.png')", seconds=5)
    assert browser.evaluate("!!document.querySelector('.map .shown > :is(img,canvas)')")
    for kind in ("mousePressed", "mouseReleased"):
        mouse(browser, kind, *on_the_map[row], button="left", clickCount=1)
    browser.wait(f"{SAID}.endsWith(' {row}.png')", seconds=5)
    key(browser, "Escape")
    browser.wait(f"{SAID} === '' && location.hash === ''", seconds=5)


def test_the_map_zooms_where_the_wheel_turns_and_is_dragged(browser, on_the_map):
    row = alone(on_the_map)
    x, y = on_the_map[row]
    mouse(browser, "mouseMoved", x, y)
    mouse(browser, "mouseWheel", x, y, deltaX=0, deltaY=-800)
    # What was under the pointer stays there; all else has moved away.
    mouse(browser, "mouseMoved", x + 1, y)
    browser.wait(f"{MARKED}.endsWith(' {row}.png')", seconds=5)
    mouse(browser, "mousePressed", x, y, button="left", clickCount=1)
    for step in range(1, 9):
        mouse(browser, "mouseMoved", x + 10 * step, y, button="left", buttons=1)
    mouse(browser, "mouseReleased", x + 80, y, button="left", clickCount=1)
    assert browser.evaluate(SAID) == ""  # a drag is no click
    mouse(browser, "mouseMoved", x + 80, y + 1)
    browser.wait(f"{MARKED}.endsWith(' {row}.png')", seconds=5)


def test_the_map_is_driven_by_keys_and_shows_a_class(browser, on_the_map):
    canvas = "document.querySelector('.map canvas')"
    look = f"{canvas}.toDataURL()"
    settled = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
    browser.evaluate(settled)
    looks = [browser.evaluate(look)]
    browser.evaluate(f"{canvas}.focus()")
    for name in ("+", "ArrowLeft"):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=name, text="")
        browser.evaluate(settled)
        looks.append(browser.evaluate(look))
    marked = browser.evaluate(MARKED)
    assert marked
    key(browser, "Enter")
    assert browser.evaluate(SAID) == marked
    key(browser, "Escape")
    browser.wait(f"{SAID} === '' && document.activeElement === {canvas}", seconds=5)
    choose = "i = document.querySelector('.map input'); i.value = %r; i.oninput()"
    colour = "i = document.querySelector('.map select'); i.selectedIndex = %d; "
    colour += "i.onchange()"
    for script in (choose % "10", colour % 1, choose % "", colour % 0):
        browser.evaluate("{let " + script + "}")
        browser.evaluate(settled)
        looks.append(browser.evaluate(look))
    assert len({*looks}) == len(looks) - 1  # the last view is that before them
    assert looks[-1] == looks[-5]


def test_an_enlarged_picture_is_the_file_as_long_as_it_is_there(tmp_path, images, rows):
    files = tmp_path / "ü #1"
    files.mkdir()
    paths = [f"{i} ?.png" for i in range(30)]
    for path in paths[1:]:
        Image.new("RGB", (50, 40)).save(files / path)
    (tmp_path / "out").mkdir()
    shown = Shown(np.arange(30) % 5, NAMES, images.__getitem__, paths, files)
    write(tmp_path / "out" / "page.html", rows, shown)
    address = (tmp_path / "out" / "page.html").as_uri()
    width = "document.querySelector('.large').firstChild"
    width = f"({width}.naturalWidth || {width}.width)"
    with chromium.Page(tmp_path / "profile") as page:
        page.call("Page.navigate", url=f"{address}#row-7")
        page.wait("!!document.querySelector('dialog[open]')")
        page.wait(f"{width} === 50", seconds=5)
        page.evaluate("location.hash = '#row-0'")
        # What the page itself has: a thumbnail, or a square of the sheet.
        page.wait(f"{SAID}.endsWith('0 ?.png') && [6, 32].includes({width})", seconds=5)
