"""The documentation: its pages, its links, its API from docstrings."""

import fnmatch
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import rankjax

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
sys.path.append(str(NOTEBOOKS / "_sphinx"))

import api  # noqa: E402
import links  # noqa: E402

PAGES = sorted(
    path.relative_to(NOTEBOOKS).with_suffix("").as_posix()
    for kind in ("*.md", "*.ipynb")
    for path in NOTEBOOKS.rglob(kind)
    if ".ipynb_checkpoints" not in path.parts
)
TOCTREE = re.compile(r"```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)```", re.S)


def test_every_page_and_notebook_is_in_the_contents():
    entries = [
        (Path(page).parent / entry).as_posix()
        for page in ("index", "api/index")
        for tree in TOCTREE.findall((NOTEBOOKS / f"{page}.md").read_text())
        for entry in tree.split()
    ]
    for page in set(PAGES) - {"index"}:
        depth = page.count("/")
        same_folder = [entry for entry in entries if entry.count("/") == depth]
        assert any(fnmatch.fnmatch(page, entry) for entry in same_folder), page


def test_every_public_name_has_an_entry():
    names = api.documented()
    packages = {
        info.name for info in pkgutil.iter_modules(rankjax.__path__) if info.ispkg
    }
    modules = {n for n in rankjax.__all__ if inspect.ismodule(getattr(rankjax, n))}
    expected = packages | modules | {"exported", "memory"}
    assert names.keys() >= {f"rankjax.{name}" for name in expected}
    assert set(names["rankjax"]) >= set(rankjax.simple.NAMES)
    for path, documented in names.items():
        module = importlib.import_module(path)
        exported = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if name[0] != "_"
            and callable(value)
            and f"{getattr(value, '__module__', '')}.".startswith(f"{path}.")
        ]
        modules = {n for n in exported if inspect.ismodule(getattr(module, n))}
        assert set(documented) >= set(exported) - modules
        assert len(documented) == len(set(documented))


@pytest.mark.parametrize("page", ["../README", *PAGES])
def test_links_lead_to_files_that_there_are(page):
    folder = (NOTEBOOKS / page).parent
    (path,) = (
        p for end in (".md", ".ipynb") if (p := NOTEBOOKS / f"{page}{end}").exists()
    )
    text = path.read_text()
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", text)
    for target in [*targets, *re.findall(r'<img src="(.*?)"', text)]:
        assert (folder / target).exists(), target


def test_links_to_source_files_lead_to_entries_on_the_site():
    text = links.linked((NOTEBOOKS / "losses.md").read_text())
    assert "{py:obj}`triplet <rankjax.losses.triplet_loss>`" in text
    assert ".py)" not in text
    text = links.linked((NOTEBOOKS / "training.md").read_text())
    assert "{download}`recipes <../experiments/recipes.py>`" in text
