"""What README says is what the code does."""

import re
from pathlib import Path

import numpy as np
import pytest

import rankjax

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_losses_is_the_list_of_losses():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", README, re.M)
    listed = [
        (
            name,
            entry.kind.value,
            entry.similarity.__name__.replace("_", " ").replace("euc", "Euc"),
            entry.paper,
        )
        for name, entry in rankjax.losses.LOSSES.items()
    ]
    assert rows == listed


def test_the_code_blocks_run():
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


def test_the_test_command_is_what_ci_runs():
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.S)
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_notebooks_run(path):
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, cwd=str(ROOT)).execute()
