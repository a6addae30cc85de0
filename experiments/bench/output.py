"""Rows of figures: on the screen as a table, and in a JSON file that is whole."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankjax.errors import UsageError
from rankjax.files import check_place, write_atomic

Row = dict[str, Any]


def show(title: str, rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Prints rows; `columns` maps a key to how its values are written."""
    # Rows can be saved where rich is not installed.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in columns:
        text = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    for row in rows:
        # As Text, [tf] is no markup, and :cat: no picture.
        cells = (_text(row.get(k), form) for k, form in columns.items())
        table.add_row(*map(Text, cells))
    console = Console()
    # Cells cut short are of no use in a log; a terminal keeps its own width.
    console = Console(width=None if console.is_terminal else 200)
    # Above the table, as a title of its own would be folded to its width.
    console.print(Text(title, "bold"), soft_wrap=True, highlight=False)
    console.print(table)


def to_write(word: str) -> Path:
    """The type of an option for a file; argparse says what is wrong with it."""
    path = Path(word)
    try:
        check_place("the file", path)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def save(path: Path | None, rows: Sequence[Row]) -> None:
    """Writes the rows, a line each, if there is a path."""
    if path is not None:
        lines = ",\n".join(json.dumps(row) for row in rows)
        write_atomic(path, f"[\n{lines}\n]\n")


def _text(value: Any, form: str) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else format(value, form)
