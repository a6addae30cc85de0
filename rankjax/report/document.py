"""One HTML document that asks nothing of the network or of scripts, and its parts."""

import base64
import html
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rankjax.files import printable


class Section(NamedTuple):
    """A heading and what comes below it, in HTML."""

    heading: str
    content: str


def text(value: object) -> str:
    """Escaped for HTML; what is not `printable` is spelt as its code point."""
    return html.escape(printable(str(value))) or "(empty)"


def document(
    title: str,
    result: str,
    facts: Mapping[str, str],
    sections: Mapping[str, Section],
) -> str:
    """The whole page.

    Args:
      title: any text.
      result: one sentence, in HTML.
      facts: numbers by what they count, in HTML.
      sections: by the name that links use.
    """
    items = (f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts.items())
    links = "".join(f'<a href="#{k}">{s.heading}</a>' for k, s in sections.items())
    body = "".join(
        f'<section id="{key}"><h2>{heading}</h2>{content}</section>\n'
        for key, (heading, content) in sections.items()
    )
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(title)} | rankjax report</title>
<style>{css}</style>
</head>
<body>
<main>
<header>
<h1>{text(title)}</h1>
<p class="result">{result}</p>
<dl class="facts">{"".join(items)}</dl>
<nav aria-label="Sections">{links}</nav>
</header>
{body}</main>
</body>
</html>
"""


def wide_table(
    head: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    words: Container[int] = (),
) -> str:
    """Columns under `head`, and rows: a class name and cells, the first their name.

    All of it is HTML. The columns `words` are set as text and not as numbers.
    """

    def cell(column: int, kind: str, content: str) -> str:
        style = ' class="words"' if column in words else ""
        scope = ' scope="col"' if kind == "th" else ""
        return f"<{kind}{scope}{style}>{content}</{kind}>"

    columns = "".join(cell(i, "th", name) for i, name in enumerate(head) if i)
    body = "".join(
        (f'<tr class="{kind}">' if kind else "<tr>")
        + f'<th scope="row">{cells[0]}</th>'
        + "".join(cell(i, "td", content) for i, content in enumerate(cells) if i)
        + "</tr>"
        for kind, cells in rows
    )
    return (
        f'<div class="wide"><table><thead><tr><td>{head[0]}</td>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def listing(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values, of any text."""
    lines = (
        f'<tr><th scope="row">{text(key)}</th><td>{text(value)}</td></tr>'
        for key, value in rows
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def reproduce(
    settings: Iterable[tuple[str, object]], command: str, versions: Mapping[str, str]
) -> str:
    """What it takes to make the page again."""
    return (
        f"<details open><summary>Config</summary>{listing(settings)}</details>"
        "<details><summary>Command and versions</summary>"
        f"<pre><code>{text(command)}</code></pre>"
        f"{listing(versions.items())}</details>"
    )


def picture(chart: Sequence[bytes], alt: str) -> str:
    """A chart, from its light and its dark PNG."""
    light, dark = (data_uri("image/png", png) for png in chart)
    return (
        '<figure class="wide"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{alt}"></picture></figure>'
    )


def data_uri(kind: str, content: bytes) -> str:
    """A file inside of the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
