"""What notebooks are like; building the documentation executes them."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
README = (NOTEBOOKS.parent / "README.md").read_text()
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


@pytest.fixture(params=sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text()) | {"name": request.param.name}


def test_it_is_kept_without_traces_of_a_run(notebook):
    assert notebook["metadata"] == METADATA
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_it_begins_with_a_title_and_its_running_time(notebook):
    first = notebook["cells"][0]
    text = "".join(first["source"])
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", text)
    assert re.search(r"^Running time: .*\bminute", text, re.M)


def test_readme_lists_it(notebook):
    assert f"](notebooks/{notebook['name']})" in README
