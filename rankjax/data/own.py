"""A person's own images: folders of classes, lists, and re-identification's folders."""

import contextlib
import csv
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankjax.data.images import is_image
from rankjax.data.splits import (
    SPLITS,
    Dataset,
    LoadOptions,
    Row,
    some,
    split_rows,
    tell_without_partners,
)
from rankjax.errors import RunError, UsageError
from rankjax.files import printable

SPLIT_OF = {split: split for split in SPLITS} | {
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "training": "train",
    "testing": "test",
    "query": "test",
}
"""The split that a folder or a value in a list means, by its name in small letters."""

_COLUMNS = ("path", "label", "split", "camera", "super", "exclude")
_PARTNERS = re.compile(r"positive|negative(_\d+)?")
_PERSON = re.compile(r"(-?\d+)_c(\d+)")
_MARKED = ("1", "1.0", "x", "yes", "true")
_VALUES = {"split": (*SPLIT_OF,), "exclude": (*_MARKED, "0", "0.0", "no", "false")}
_OF_RUNS = ("config.json", "metrics.jsonl")  # in folders with pictures of their own
_NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))


def load_folder(path: Path, *, name: str, options: LoadOptions) -> Dataset:
    """Images in `path`/CLASS/ or in `path`/SPLIT/CLASS/, as RGB.

    The splits are train, test or query, and maybe validation (val, valid, dev) and
    gallery, in capitals or not; see `split_rows`.

    Raises:
      UsageError: no such folder, no image in it, images deeper than in a class folder,
        two folders of one split, too few classes, or a class in two splits.
      RunError: see `split_rows`.
    """
    if (path / "bounding_box_train").is_dir():
        raise UsageError(f"{path} has the layout of Market-1501{write_kind(path)}")
    rows, left_out = find_images(_folder(path))
    loose = [os.path.relpath(str(row.image), path) for row in rows if not row.label]
    inner = [file for file in loose if len(Path(file).parts) > 2]
    left_out["images that lie in no class folder"] = sorted({*loose} - {*inner})
    left_out[f"images in folders that are no split ({', '.join(SPLIT_OF)})"] = inner
    tell_left_out(name, left_out)
    rows = [row for row in rows if row.label]
    flat = {SPLIT_OF.get(str(row.label).casefold()) for row in rows if not row.split}
    if not rows or {"train", "test"} <= flat:
        raise UsageError(
            f"{path} holds no image in a folder of a class, such as {path}/CLASS/1.jpg"
        )
    folders: dict[str, str] = {}
    for row in rows:
        folder = Path(str(row.image)).relative_to(path).parts[0]
        if row.split and folders.setdefault(row.split, folder) != folder:
            raise UsageError(
                f"{path / folders[row.split]} and {path / folder} are both the split "
                f"{row.split}: join them or rename one"
            )
    return _load_files(rows, name, options)


def find_images(root: Path) -> tuple[list[Row], dict[str, list[str]]]:
    """The images below a folder, with classes and splits by the folders.

    Images lie in `root`/CLASS/ or, if images lie that deep and `root` has a folder
    train or no folder but those of splits, in `root`/SPLIT/CLASS/. An image that lies
    higher has no label. Links are followed; names that begin with a dot are left out.

    Returns:
      The images, sorted; and other files and folders, by the reason.

    Raises:
      UsageError: an image lies deeper, so that its class is not known; or the names of
        two classes look alike.
      RunError: a folder that cannot be read.
    """
    left_out: dict[str, list[str]] = {}
    files = [
        Path(path).relative_to(root).parts for path in _walk(str(root), (), left_out)
    ]
    split_of = {p[0]: SPLIT_OF.get(p[0].casefold(), "") for p in files if len(p) > 1}
    # Trains may be a class, beside cars.
    may = "train" in split_of.values() or all(split_of.values())
    has_splits = may and any(len(p) > 2 and split_of[p[0]] for p in files)
    rows: list[Row] = []
    folders: dict[tuple[str, str], Path] = {}
    for parts in files:
        split = split_of.get(parts[0], "") if has_splits else ""
        inner = parts[1:] if split else parts
        labelled = split or not has_splits
        if labelled and len(inner) > 2:
            raise _ambiguous(root, parts, files, split)
        label = written(inner[0]) if labelled and len(inner) == 2 else ""
        image = root.joinpath(*parts)
        other = folders.setdefault((split, label), image.parent)
        if label and other != image.parent:
            raise UsageError(
                f"{other} and {image.parent} look alike and have different characters, "
                f"{other.name!a} and {image.parent.name!a}: join them or rename one"
            )
        rows.append(Row(image, label, split))
    return rows, left_out


def load_list(file: Path, *, name: str, options: LoadOptions) -> Dataset:
    """The images that a CSV or Parquet file names, as RGB.

    The columns are `path` (from the folder of the list, or absolute) and `label`, and
    maybe `split` (train, validation, test or query, gallery), `camera`, `super`, the
    super-class, and `exclude`, whose rows with 1, x, yes or true are left out; others
    are not used. Spaces around values do not count. A CSV file is UTF-8 and has a line
    of headings.

    For training, `positive` is the path of an image that belongs with that of the row,
    and `negative`, `negative_1`, ... are those of images that do not. They need no rows
    of their own. A row may have fewer negatives than there are columns, and an image
    several rows with other partners.

    Raises:
      UsageError: no such file, no rows, a column that is missing, or a value that is
        missing or not allowed, with the numbers of the rows.
      RunError: see `split_rows`.
    """
    if not file.is_file():
        raise UsageError(f"there is no list {file}{write_kind(file)}")
    headings, table = _parquet(file) if is_parquet(file) else _csv(file)
    names = [_text(each, f"a heading of {file}").lower() for each in headings]
    partners = sorted(filter(_PARTNERS.fullmatch, names), key=_by_number)
    used = [*(column for column in _COLUMNS if column in names), *partners]
    if not {"path", "label"} <= {*used}:
        other = len(names) == 1 and re.search("[;\t]", names[0])
        hint = "; commas must part the columns" if other else ""
        raise UsageError(
            f"{file} must have the columns path and label, and may have split, camera, "
            f"super, exclude, positive and negative, got "
            f"{', '.join(map(str, headings))}{hint}"
        )
    if partners and "positive" not in partners:
        raise UsageError(
            f"{file} must have the column positive beside {partners[0]}: negatives are "
            "compared with an image that belongs with the row's"
        )
    twice = [column for column in used if names.count(column) > 1]
    if twice:
        raise UsageError(f"{file} must have the column {twice[0]} once, got {headings}")
    if not table:
        raise UsageError(f"{file} has headings but no rows")
    # pandas writes its index without a name.
    if unused := [each for each in names if each and each not in used]:
        print(f"columns of {file} that are not used: {some(unused)}", file=sys.stderr)
    for number, values in enumerate(table, start=1):
        if len(values) > len(headings):
            raise UsageError(
                f"row {number} of {file} has {len(values)} values, the headings are "
                f"{len(headings)}; a value that has a comma must stand in quotes"
            )
    columns = {column: [""] * len(table) for column in (*_COLUMNS, *partners)}
    for column in used:
        place = names.index(column)
        values = [
            _text(line[place], f"{column} in row {number} of {file}")
            if place < len(line)
            else ""
            for number, line in enumerate(table, start=1)
        ]
        if column in partners:
            columns[column] = values
            continue
        if column != "path":
            values = [written(value) for value in values]
        missing = [i for i, value in enumerate(values, start=1) if not value]
        needed = column in ("path", "label")
        if missing and (needed or (column != "exclude" and len(missing) < len(values))):
            otherwise = "" if needed else " or to none"
            raise UsageError(
                f"{file} must give a {column} to all images{otherwise}; it is missing "
                f"in row {some(missing)}"
            )
        columns[column] = values
    for column, known in _VALUES.items():
        for number, value in enumerate(columns[column], start=1):
            if value and value.casefold() not in known:
                raise UsageError(
                    f"{column} in row {number} of {file} must be one of "
                    f"{', '.join(known)}, got {value}"
                )
    for column in ("path", *partners):
        for number, value in enumerate(columns[column], start=1):
            if "://" in value:
                raise UsageError(
                    f"{column} in row {number} of {file} must be a file, got {value}; "
                    "fetch what it is first"
                )
    rows, left_out = [], []
    for number, values in enumerate(zip(*columns.values(), strict=True), start=1):
        path, label, split, camera, super_class, mark, *others = values
        image, split = file.parent / path, SPLIT_OF.get(split.casefold(), "")
        row = Row(image, label, split, camera, super_class)
        if mark.casefold() in _MARKED:
            left_out.append(str(image))
            continue
        if others and split in ("", "train"):
            if not others[0]:
                raise UsageError(
                    f"{file} must give a positive to all images for training; it is "
                    f"missing in row {number}"
                )
            paths = tuple(file.parent / other if other else None for other in others)
            if image in paths:
                raise UsageError(
                    f"{file} names the image of row {number} as its own partner"
                )
            row = row._replace(others=paths)
        rows.append(row)
    tell_left_out(name, {"images marked in the column exclude": left_out})
    if not rows:
        raise UsageError(f"{file} leaves out all of its rows, by the column exclude")
    return _load_files(rows, name, options)


def load_reid(path: Path, *, name: str, options: LoadOptions) -> Dataset:
    """Images in `path`/{bounding_box_train,query,bounding_box_test}/, like Market-1501.

    The folders may be called train, query, and test or gallery, too. Names begin with
    person and camera, `0002_c1`; person -1 is junk.

    Raises:
      UsageError: there is no such folder or no image in it, or queries have no gallery.
      RunError: see `split_rows`.
    """
    left_out: dict[str, list[str]] = {}
    rows: list[Row] = []
    others: list[str] = []
    elsewhere: list[str] = []
    for file in _walk(str(_folder(path)), (), left_out):
        if found := person_of(file):
            split, person, camera = found
            rows.append(Row(Path(file), person, split, camera))
        else:
            named = _PERSON.match(os.path.basename(file))
            (elsewhere if named else others).append(os.path.relpath(file, path))
    if not rows:
        raise UsageError(
            f"{path} must have images such as "
            "bounding_box_train/0002_c1s1_000451_03.jpg, query/0001_c1... and "
            f"bounding_box_test/0001_c2..., got {some(others + elsewhere) or 'none'}"
        )
    left_out["images with no person and camera"] = others
    left_out["images in other folders"] = elsewhere
    tell_left_out(name, left_out)
    splits = {row.split for row in rows}
    if ("test" in splits) != ("gallery" in splits):
        raise UsageError(
            f"{path} must have query/ and bounding_box_test/ (or test/, gallery/), "
            f"got {'queries' if 'test' in splits else 'a gallery'} alone"
        )
    return _load_files(rows, name, options)


def person_of(file: str) -> tuple[str, str, int] | None:
    """Split, person and camera by a file's name and folder; None if it has others."""
    splits = {
        "train": "train",
        "query": "test",
        "test": "gallery",
        "gallery": "gallery",
    }
    folder, image = file.split("/")[-2:]
    split = splits.get(folder.lower().removeprefix("bounding_box_"))
    match = _PERSON.match(image)
    return (split, match[1], int(match[2])) if split and match else None


def tell_left_out(name: str, left_out: Mapping[str, Sequence[str]]) -> None:
    """Counts and names on stderr what a data set does not take, by the reason."""
    for reason, paths in left_out.items():
        if paths:
            line = f"left out of {name}: {len(paths):,} {reason}: {some(paths)}"
            print(printable(line), file=sys.stderr)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        what = f"{path} is a file" if path.exists() else f"there is no folder {path}"
        raise UsageError(f"{what}{write_kind(path)}")
    return path


def write_kind(path: Path) -> str:
    """What errors say of how a data set at a path is named; empty where none is."""
    if path.is_dir():
        kind = "reid" if (path / "bounding_box_train").is_dir() else "folder"
    elif path.is_file():
        kinds = {".csv": "list", ".parquet": "list", ".pq": "list", ".npz": "features"}
        kind = kinds.get(path.suffix.lower(), "")
        if not kind:
            return "; a data set is a folder, or a file named .csv, .parquet or .npz"
    else:
        return ""
    return f": write {kind}:{path}"


def _walk(
    folder: str, above: tuple[str, ...], left_out: dict[str, list[str]]
) -> Iterator[str]:
    """The images below a folder, sorted; the rest goes into `left_out`."""
    above = (*above, os.path.realpath(folder))
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise RunError(f"cannot read the folder {folder}: {error}") from error
    for path in (os.path.join(folder, name) for name in names):
        found: list[str] = []
        if os.path.basename(path)[0] == ".":
            reason = "hidden files and folders"
        elif os.path.isdir(path):
            if os.path.realpath(path) in above:
                reason = "links to a folder that they lie in"
            elif all(os.path.isfile(os.path.join(path, name)) for name in _OF_RUNS):
                reason = "folders of runs"
            else:
                found = list(_walk(path, above, left_out))
                reason = "folders without images"
        elif is_image(path):
            found = [path]
        else:
            is_link = not os.path.exists(path)
            reason = "links to nothing" if is_link else "files that are not images"
            if path.lower().endswith((".heic", ".heif")) and not is_link:
                reason = "images of a kind that is not read (convert HEIC to JPEG)"
        if not found:
            left_out.setdefault(reason, []).append(path)
        yield from found


def _ambiguous(
    root: Path, deep: tuple[str, ...], files: list[tuple[str, ...]], split: str
) -> UsageError:
    """The error for an image whose class may be any of several folders' names."""
    inside = {*deep[:-1]}
    # Another folder that may be of the same class comes first.
    other = max(files, key=lambda p: (p[:-1] != deep[:-1], bool(inside & {*p[:-1]})))
    first, second = (root.joinpath(*parts) for parts in (deep, other))
    label = "/".join(deep[bool(split) : -1])
    headings, line = "path,label", f"{'/'.join(deep)},{label}"
    if split:
        headings, line = f"{headings},split", f"{line},{split}"
    return UsageError(
        f"{first} and {second} may be of one class or of two: images must lie in "
        f"{os.path.join(root, deep[0] if split else '', 'CLASS', '')}. Or name each in "
        f"a list in {root}, --dataset list:FILE, below the line {headings} with lines "
        f"such as {line}"
    )


def _text(value: Any, what: str) -> str:
    """A value without the spaces around it; empty if it is missing."""
    if value is None or value != value:
        return ""
    with contextlib.suppress(UnicodeDecodeError):
        value = value.decode() if isinstance(value, bytes) else value
    if isinstance(value, bytes | list | dict):
        raise UsageError(f"{what} must be a number or text in UTF-8, got {value!r}")
    return str(value).strip()


def written(name: str) -> str:
    """A name as one reads it: with one kind of accents, without what has no width."""
    return unicodedata.normalize("NFC", name.translate(_NO_WIDTH)).strip()


def _by_number(partner: str) -> tuple[bool, int]:
    """The positive first, then negatives by their numbers."""
    number = partner.rpartition("_")[2]
    return partner != "positive", int(number) if number.isdigit() else 0


def _csv(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream, strict=True) if line]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} is not a CSV file in UTF-8 whose columns commas part: {error}"
        ) from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not lines:
        raise UsageError(f"{file} is empty; it must begin with the headings path,label")
    return lines[0], lines[1:]


def is_parquet(file: Path) -> bool:
    """Whether a file is to be read as Parquet, by its suffix."""
    return file.suffix.lower() in (".parquet", ".pq")


def _parquet(file: Path) -> tuple[list[str], Sequence[Sequence[Any]]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"reading {file} needs pyarrow: pip install pyarrow") from None
    try:
        names = pyarrow.parquet.read_schema(file).names
        # Columns that are not used may hold the images themselves.
        known = "|".join((*_COLUMNS, _PARTNERS.pattern))
        used = [name for name in names if re.fullmatch(known, name.strip().lower())]
        columns = pyarrow.parquet.read_table(file, columns=used).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a Parquet file: {error}") from error
    rows = zip(*(columns[name] for name in used), strict=True)
    others = [name for name in names if name not in used]
    return [*used, *others], list(rows)


def _load_files(rows: Sequence[Row], name: str, options: LoadOptions) -> Dataset:
    """A data set of files, each of which is there once, in one class and split.

    Raises:
      UsageError: a file with two classes, or a class in two splits (but for test and
        gallery) or super-classes.
      RunError: a file that is missing or listed twice, unless damage is to be skipped.
    """
    kept: dict[tuple[str, Any], Row] = {}
    known: dict[str, Row] = {}
    twice, missing = [], {}
    for row in rows:
        path = os.path.normpath(str(row.image))
        first = known.setdefault(path, row)
        if first[1:-1] != row[1:-1]:
            one, two = (" ".join(map(str, each[1:-1])).strip() for each in (first, row))
            raise UsageError(
                f"{name} lists {row.image} twice, as {one!r} and as {two!r}"
            )
        if kept.setdefault((path, row.others), row) is not row:
            twice.append(f"{row.image} is listed twice")
    partners = [path for row in rows for path in row.others if path]
    for image in dict.fromkeys([*(row.image for row in known.values()), *partners]):
        if not os.path.exists(str(image)):
            link = os.path.islink(str(image))
            missing[image] = f"{image} is {'a link to nothing' if link else 'missing'}"
    faults = [*missing.values(), *twice]
    if faults and options.on_damage == "stop":
        more = f", and {len(faults) - 1:,} more are in {name}" * (len(faults) > 1)
        raise RunError(
            f"{faults[0]}{more}; experiments.train --on-damage skip leaves such images "
            "out"
        )
    if faults:
        lines = map(printable, faults)
        print(f"left out of {name}:", *lines, sep="\n", file=sys.stderr)
    if options.on_damage == "skip":
        kept = {key: row for key, row in kept.items() if row.image not in missing}
        alone = [k for k, row in kept.items() if missing.keys() & {*row.others}]
        tell_without_partners([kept.pop(key) for key in alone])
    first_of: dict[str | int, Row] = {}
    for row in kept.values():
        other = first_of.setdefault(row.label, row)
        if other.super_class != row.super_class:
            raise UsageError(
                f"class {row.label} of {name} is in two super-classes, "
                f"{other.super_class} with {other.image} and {row.super_class} with "
                f"{row.image}; classes of different ones need different labels, such "
                f"as {row.super_class}-{row.label}"
            )
        if other.split != row.split and {other.split, row.split} != {"test", "gallery"}:
            instead = (
                "Put all images of a class into one split, or leave out the column "
                "split: half of the classes are for testing then"
                if name.startswith("list:")
                else "Put all images of a class into one folder and leave out the "
                "folders of splits, or name them in a list, --dataset list:FILE, below "
                f"the line path,label with lines such as "
                f"{os.path.abspath(str(row.image))},{row.label}"
            )
            raise UsageError(
                f"class {row.label} of {name} is in two splits, {other.split} with "
                f"{other.image} and {row.split} with {row.image}; a network is tested "
                f"on classes that it was not trained on. {instead}"
            )
    return split_rows(name, list(kept.values()), options)
