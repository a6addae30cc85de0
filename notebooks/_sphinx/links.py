"""Links to files of the repository, which the site turns into links of its own.

On a code host a page's link to `../rankjax/losses/circle.py` opens the file. On the
site the same link leads to the entry of the function that it names, and a link to any
other file downloads it.
"""

import re

from api import find
from sphinx.application import Sphinx


def linked(text: str) -> str:
    """A page's text with links to source files as the site wants them."""
    text = re.sub(r"\[`(\w+)`\]\((?:\.\./)+(rankjax/\S+?)\.py\)", _to_entry, text)
    return re.sub(
        r"\[([^\]`]+)\]\(((?:\.\./)+(?:rankjax|experiments|tests)/[^)]+)\)",
        r"{download}`\1 <\2>`",
        text,
    )


def _to_entry(match: re.Match[str]) -> str:
    name, path = match[1], match[2].replace("/", ".")
    for written in (name, f"{name}_loss"):
        target = find(f"{path}.{written}")
        if target is not None:
            return f"{{{target[0]}}}`{name} <{target[1]}>`"
    raise ValueError(f"a page links to {name} in {path}, which has no documentation")


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    content[0] = linked(content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the function."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
