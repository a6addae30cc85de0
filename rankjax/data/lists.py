"""Lists of images in a CSV or Parquet file."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankjax.data.damage import some
from rankjax.data.own_files import SPLIT_OF, Row, load_rows
from rankjax.data.pool import Choice
from rankjax.data.splits import Dataset
from rankjax.errors import UsageError

_COLUMNS = ("path", "label", "split", "camera", "super")


def load_list(file: Path, *, name: str, choice: Choice) -> Dataset:
    """The images that a list names, as RGB.

    The columns are `path` (from the folder of the list, or absolute) and `label`, and
    maybe `split` (train, validation, test or query, gallery), `camera` and `super`, the
    super-class; others are not used. Spaces around values do not count. A CSV file is
    UTF-8 and has a line of headings.

    Raises:
      UsageError: no such file, no rows, a column that is missing, or a value that is
        missing or not allowed, with the numbers of the rows.
    """
    if not file.is_file():
        raise UsageError(f"there is no list {file}")
    headings, table = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    place = {_text(heading).lower(): i for i, heading in enumerate(headings)}
    used = [column for column in _COLUMNS if column in place]
    if not {"path", "label"} <= {*used}:
        raise UsageError(
            f"{file} must have the columns path and label, and may have split, camera "
            f"and super, got {', '.join(map(str, headings))}"
        )
    names = [_text(heading).lower() for heading in headings]
    twice = [column for column in used if names.count(column) > 1]
    if twice:
        raise UsageError(f"{file} must have the column {twice[0]} once, got {headings}")
    if not table:
        raise UsageError(f"{file} has headings but no rows")
    unused = [heading for heading in place if heading not in _COLUMNS]
    if unused:
        print(f"columns of {file} that are not used: {some(unused)}", file=sys.stderr)
    entries = []
    for number, values in enumerate(table, start=1):
        if len(values) > len(headings):
            raise UsageError(
                f"row {number} of {file} has {len(values)} values, the headings are "
                f"{len(headings)}; a value that has a comma must stand in quotes"
            )
        padded = [*values, *[None] * (len(headings) - len(values))]
        entries.append({column: _text(padded[place[column]]) for column in used})
    for column in used:
        missing = [i for i, each in enumerate(entries, start=1) if not each[column]]
        if missing and (column in ("path", "label") or len(missing) < len(entries)):
            otherwise = "" if column in ("path", "label") else " or to none"
            raise UsageError(
                f"{file} must give a {column} to all images{otherwise}; it is missing "
                f"in row {some(missing)}"
            )
    for number, each in enumerate(entries, start=1):
        if each.get("split", "").casefold() not in ("", *SPLIT_OF):
            raise UsageError(
                f"split in row {number} of {file} must be one of "
                f"{', '.join(SPLIT_OF)}, got {each['split']}"
            )
    rows = [
        Row(
            file.parent / each["path"],
            each["label"],
            SPLIT_OF.get(each.get("split", "").casefold(), ""),
            each.get("camera", ""),
            each.get("super", ""),
        )
        for each in entries
    ]
    return load_rows(rows, name=name, choice=choice)


def _text(value: Any) -> str:
    """A value without the spaces around it; empty if it is missing."""
    if value is None or value != value:
        return ""
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _csv(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not lines:
        raise UsageError(f"{file} is empty; it must begin with the headings path,label")
    return lines[0], lines[1:]


def _parquet(file: Path) -> tuple[list[str], Sequence[Sequence[Any]]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"reading {file} needs pyarrow: pip install pyarrow") from None
    try:
        names = pyarrow.parquet.read_schema(file).names
        # Columns that are not used may hold the images themselves.
        used = [name for name in names if name.strip().lower() in _COLUMNS]
        columns = pyarrow.parquet.read_table(file, columns=used).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a Parquet file: {error}") from error
    rows = zip(*(columns[name] for name in used), strict=True)
    others = [name for name in names if name not in used]
    return [*used, *others], list(rows)
