"""Docstrings as reST: they name code in single backticks and indent equations."""

import operator
import re
import textwrap
from collections.abc import Callable

Find = Callable[[str], tuple[str, str] | None]
"""The role and the target of what a text in backticks names, if that has an entry."""

SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:")


def rest(lines: list[str], find: Find) -> list[str]:
    """A docstring as reST with the sections that napoleon knows."""
    out: list[str] = []
    section, rows = "", [line.rstrip() for line in lines]
    while rows:
        row = rows.pop(0)
        inside = row.startswith(" ")
        if row and not inside:
            section = row if row in SECTIONS else ""
        if row == "Attributes:":
            out += _attributes(_until(rows, _outside), find)
        elif row in SECTIONS:
            # Napoleon would take what stands before a colon for a type.
            out.append(":returns:" if row == "Returns:" else row)
        elif row.startswith(">>>"):
            out += [row, *_until(rows, lambda r: not r)]
        elif inside and not section:
            out += _literal([row, *_until(rows, _outside)])
        elif row:
            ends = (lambda r: not r) if inside else (lambda r: r[:2] in ("", "  "))
            if re.match("[-*] ", row):
                ends = operator.not_
            text = "\n".join([row, *_until(rows, ends)])
            out += _inline(text, find).split("\n")
        else:
            out.append("")
    return out


def _outside(row: str) -> bool:
    return row[:1] not in ("", " ")


def _until(rows: list[str], end: Callable[[str], bool]) -> list[str]:
    taken = []
    while rows and not end(rows[0]):
        taken.append(rows.pop(0))
    return taken


def _attributes(rows: list[str], find: Find) -> list[str]:
    """A list like that of parameters."""
    out = [":Attributes:"]
    for entry in re.split(r"\n(?=\S)", textwrap.dedent("\n".join(rows)).rstrip()):
        names, _, text = entry.partition(": ")
        text = re.sub(r"\n *", "\n     ", _inline(text, find))
        out += f"   * **{names}** -- {text}".split("\n")
    return [*out, ""]


def _literal(block: list[str]) -> list[str]:
    text = "\n".join(block)
    language = "python" if re.search(r"rankjax\.[\w.]+\(| = \w+\(", text) else "text"
    language = "pycon" if ">>> " in text else language
    body = textwrap.dedent(text).rstrip().split("\n")
    return ["", f".. code-block:: {language}", "", *(f"   {x}" for x in body), ""]


def _inline(text: str, find: Find) -> str:
    parts = re.split(r"`([^`]+)`", text)
    for i in range(1, len(parts), 2):
        found = find(parts[i])
        code = f"``{parts[i]}``"
        if found is not None:
            code = f":{found[0]}:`{parts[i]} <{found[1]}>`"
        before = r"\ " if parts[i - 1][-1:].isalnum() else ""
        after = r"\ " if parts[i + 1][:1].isalnum() else ""
        parts[i] = f"{before}{code}{after}"
    for i in range(0, len(parts), 2):
        # Of stars only those around a word mean something.
        escaped = re.sub(r"[*|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", parts[i])
        parts[i] = re.sub(r"(?<!\w)\\\*([\w-]+)\\\*(?!\w)", r"*\1*", escaped)
        parts[i] = re.sub(r"^Source:", "**Source:**", parts[i])
    return "".join(parts)
