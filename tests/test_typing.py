"""What type checkers and editors see of the public functions, in a user's own file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import rankjax
from experiments import stub

ROOT = Path(rankjax.__file__).parent.parent
RIGHT = """\
import functools

import jax
import numpy as np

import rankjax
from rankjax import losses, mining

x, y = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
one: jax.Array = rankjax.triplet_loss(x, y, margin=0.3, mining=mining.hardest)
two: jax.Array = rankjax.sup_con_loss(x, y, mean="inside", reduction=rankjax.total)
bound = functools.partial(losses.triplet_loss, margin=0.1)
three: jax.Array = rankjax.objective(bound)(x, y)
four, aux = rankjax.objective(losses.sup_con_loss, has_aux=True)(x, y)
five: dict[str, jax.Array] = aux
six: jax.Array = rankjax.n_pairs_loss(x, y, references=rankjax.References(x, y))
"""
WRONG = """\
rankjax.triplet_loss(x, y, margn=0.3)
rankjax.triplet_los(x, y)
rankjax.sup_con_loss(x, y, mean="middle")
number: int = rankjax.objective(losses.sup_con_loss)(x, y)
"""


def mypy(folder):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
         "--no-error-summary", "--cache-dir", str(folder / "cache"), "user.py"],
        cwd=folder, capture_output=True, text=True, env={"MYPYPATH": str(ROOT)},
    )  # fmt: skip
    lines = [x for x in done.stdout.splitlines() if x.startswith("user.py")]
    return [int(x.split(":")[1]) for x in lines if ": error:" in x]


def pyright(folder):
    settings = {"extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--level", "error",
         "--pythonpath", sys.executable],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [x["range"]["start"]["line"] + 1 for x in found]


@pytest.mark.parametrize(
    "checker", [pytest.param(mypy, marks=pytest.mark.slow), pyright]
)
def test_a_users_file_passes_and_its_mistakes_are_found(checker, tmp_path):
    (tmp_path / "user.py").write_text(RIGHT + WRONG)
    first = RIGHT.count("\n") + 1
    assert sorted(checker(tmp_path)) == [*range(first, first + WRONG.count("\n"))]


def test_the_declarations_are_those_that_the_losses_give():
    assert stub.main(["--check"]) == 0
