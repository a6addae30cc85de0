"""What README and the pages say is what the code does."""

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import rankjax
import rankjax.models
from experiments import tables
from rankjax import mining
from rankjax.registry import hyper_parameters

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

LISTED = rankjax.losses.LOSSES | rankjax.regularizers.REGULARIZERS


@pytest.mark.parametrize("page", tables.TABLES)
def test_the_tables_are_those_of_the_package(page):
    """python -m experiments.tables writes them."""
    assert tables.filled(page) == (ROOT / page).read_text()


@pytest.mark.parametrize("page", ["which_loss", "from_pytorch_metric_learning"])
def test_pages_name_only_what_exists(page):
    known = {**LISTED, **vars(rankjax), **vars(rankjax.losses), **vars(rankjax.models)}
    known |= {name.removesuffix("_loss"): None for name in known}
    for module in ("mining", "regularizers", "similarity", "losses", "metrics"):
        known |= {f"{module}.{name}": None for name in vars(getattr(rankjax, module))}
    known |= {f"rankjax.{name}": None for name in known}
    text = (ROOT / "notebooks" / f"{page}.md").read_text()
    for table in re.findall(r"^\|.*\|$", text, re.M):
        ours = table.split("|")[2] if page.startswith("from") else table
        for name in re.findall(r"`([a-z_.]+)`", ours):
            assert name in known, name


MODULES = [
    importlib.import_module(info.name)
    for package in (rankjax, rankjax.losses)
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    # The one-call forms have the docstrings of their losses.
    if info.name
    not in {
        "rankjax.losses",
        "rankjax.train",
        "rankjax.data",
        "rankjax.simple",
    }
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_give_what_they_say(module):
    failed, _ = doctest.testmod(module)
    assert not failed


@pytest.mark.parametrize("name", LISTED)
def test_every_loss_and_regulariser_says_its_equation_and_source_by_example(name):
    text = inspect.getdoc(LISTED[name])
    assert "Source:" in text
    assert ">>> " in text
    for setting in hyper_parameters(LISTED[name]):
        assert f"  {setting}: " in text, setting


def test_the_code_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = {
        "apply": lambda params, images: images @ params,
        "params": rng.normal(size=(6, 4)).astype(np.float32),
        "images": rng.normal(size=(8, 6)).astype(np.float32),
        "embeddings": rng.normal(size=(8, 4)).astype(np.float32),
        "labels": np.repeat(np.arange(4), 2),
        "valid": np.ones(8, bool),
    }
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    for block in blocks:
        exec(block, names)
    assert np.isfinite(names["grads"]).all()
    assert names["loss"] > 0
    assert 0 <= names["figures"]["recall_at_1"] <= 1


@pytest.mark.slow
def test_the_cells_of_concepts_run_and_agree():
    text = (ROOT / "notebooks" / "concepts.md").read_text()
    names = {}
    for cell in re.findall(r"```\{code-cell\} ipython3\n(.*?)```", text, re.S):
        exec(re.sub(r"^:tags:.*\n", "", cell), names)
    np.testing.assert_allclose(names["blocks"], names["whole"], rtol=1e-3, atol=1e-6)
    compute = rankjax.objective(
        functools.partial(rankjax.losses.triplet_loss, margin=0.3),
        mining=mining.easy_positive,
        similarity=rankjax.similarity.cosine,
    )
    expected = jax.value_and_grad(compute)(names["embeddings"], names["labels"])
    found = names["by_hand"](names["embeddings"])
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)


def test_the_commands_are_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.S)
    assert commands[1] in ci
    (build,) = (command for command in commands if "sphinx" in command)
    assert build in ci
