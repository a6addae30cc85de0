"""Parts of README as parts of pages: its links lead to pages and to the API."""

import re
from pathlib import Path

from api import find
from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent.parent


def linked(text: str) -> str:
    """README's text with links as a page of the documentation wants them."""
    text = re.sub(r"\[`(\w+)`\]\((rankjax/\S+?)\.py\)", _to_api, text)
    text = re.sub(r"\]\(notebooks/", "](/", text)
    text = re.sub(r'<img src="', '<img src="/../', text)
    text = re.sub(r"^### ", "## ", text, flags=re.M)  # below the page's own title
    return re.sub(r"\[([^\]`]+)\]\((?![/#]|\w+:)([^)]+)\)", _to_file, text)


def _to_api(match: re.Match[str]) -> str:
    name, path = match[1], match[2].replace("/", ".")
    for written in (name, f"{name}_loss"):
        target = find(f"{path}.{written}")
        if target is not None:
            return f"{{{target[0]}}}`{name} <{target[1]}>`"
    raise ValueError(f"README links to {name} in {path}, which has no documentation")


def _to_file(match: re.Match[str]) -> str:
    return f"{{download}}`{match[1]} </../{match[2]}>`"


def _included(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    if path.name == "README.md":
        content[0] = linked(content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the function."""
    app.connect("include-read", _included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
