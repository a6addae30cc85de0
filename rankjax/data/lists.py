"""Lists of images in a CSV or Parquet file."""

import csv
from pathlib import Path
from typing import Any

from rankjax.data.own_files import SPLITS, Row, load_rows
from rankjax.data.pool import Choice
from rankjax.data.splits import Dataset
from rankjax.errors import UsageError

_COLUMNS = ("path", "label", "split", "camera", "super")


def load_list(file: Path, *, name: str, choice: Choice) -> Dataset:
    """The images that a list names, as RGB.

    The columns are `path` (from the folder of the list, or absolute) and `label`, and
    maybe `split` (train, validation, test or query, gallery), `camera` and `super`, the
    super-class. A CSV file is UTF-8 and has a line of headings.

    Raises:
      UsageError: no such file, or columns and splits other than these.
    """
    if not file.is_file():
        raise UsageError(f"there is no list {file}")
    table = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    rows = []
    for number, entry in enumerate(table, start=1):
        unknown = set(entry) - {*_COLUMNS}
        if unknown or not {"path", "label"} <= set(entry):
            raise UsageError(
                f"{file} must have the columns path and label, and may have split, "
                f"camera and super, got {', '.join(map(str, entry))}"
            )
        values = {k: "" if v is None else str(v) for k, v in entry.items()}
        split = {"query": "test"}.get(values.get("split", ""), values.get("split", ""))
        if not values["path"] or not values["label"] or split not in ("", *SPLITS):
            raise UsageError(
                f"row {number} of {file} must have a path, a label, and as split "
                f"{', '.join(SPLITS)} or query, got {entry}"
            )
        path = file.parent / values["path"]
        camera, group = values.get("camera", ""), values.get("super", "")
        rows.append(Row(path, values["label"], split, camera, group))
    if not all(row.split for row in rows) and any(row.split for row in rows):
        raise UsageError(f"{file} must give a split to all images or to none")
    return load_rows(rows, name=name, choice=choice)


def _csv(file: Path) -> list[dict[Any, Any]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            return list(csv.DictReader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not a CSV file in UTF-8: {error}") from error


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"reading {file} needs pyarrow: pip install pyarrow") from None
    try:
        return pyarrow.parquet.read_table(file).to_pylist()
    except pyarrow.ArrowException as error:
        raise UsageError(f"{file} is not a Parquet file: {error}") from error
