"""Embeddings of any framework, from an .npz or a Parquet file."""

import dataclasses
import difflib
import functools
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.evaluation.subjects import Pairs, Subject
from rankjax.data import Protocol
from rankjax.data.images import DamagedImage, decode
from rankjax.data.own import SPLIT_OF, is_parquet, written
from rankjax.data.splits import JUNK, some
from rankjax.errors import RunError, UsageError
from rankjax.files import Npz, printable, read_regular
from rankjax.files import read_npz as read_arrays
from rankjax.metrics import template_embeddings
from rankjax.metrics.checks import (
    as_embeddings,
    as_label_sets,
    as_labels,
    as_mask,
    as_rows,
    within,
)

KEYS = (
    *("embeddings", "labels", "class_names", "cameras", "query", "gallery", "junk"),
    *("pairs", "same", "folds", "images", "paths", "split", "templates", "media"),
    *("super", "lists"),
)
_PER_ROW = {
    *("labels", "cameras", "super", "split", "folds", "templates", "media", "pairs")
}


def read_npz(path: Path, *, pictures: bool, every_split: bool = False) -> Subject:
    """Reads and checks a file.

    Args:
      path: of the file, .npz or .parquet; what is not among `KEYS` is named on stderr.
      pictures: whether images are read too.
      every_split: whether rows that have splits are all read, or those of test alone.

    Raises:
      UsageError: a key that is missing, or of a wrong shape or type.
      RunError: the file cannot be read.
    """
    arrays, others, _ = read_columns(path, KEYS if pictures else set(KEYS) - {"images"})
    tell_unused(path, [key for key in others if key not in KEYS])
    try:
        check_complete(arrays)
        splits = _splits(arrays)
        if splits is not None and not every_split:
            arrays = _of_test(path, arrays, splits)
        if "templates" in arrays:
            arrays = _of_templates(arrays)
        found = _subject(path, arrays, pictures=pictures)
        if (pictures or every_split) and found.label_sets:
            raise ValueError("labels must be one for each row here, got masks")
        return dataclasses.replace(found, splits=splits if every_split else None)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def read_columns(path: Path, wanted: Container[str]) -> Npz:
    """As `rankjax.files.read_npz`; of Parquet, the columns that `experiments.embed`
    writes, by the names of its .npz.

    Raises:
      UsageError: pyarrow is not installed, a value is missing, or rows differ in
        length.
      RunError: it cannot be read, or is no Parquet file of embeddings.
    """
    if path.suffix in (".npy", ".csv", ".tsv", ".json", ".pkl"):
        raise UsageError(
            f"{path} must be .npz, as np.savez(FILE, embeddings=..., labels=...) makes "
            "it, or .parquet with the columns embedding and label"
        )
    if not is_parquet(path):
        return read_arrays(path, wanted)
    try:
        import pyarrow as pa
        import pyarrow.compute
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"reading {path} needs pyarrow: pip install pyarrow") from None
    names = {"embedding": "embeddings", "label": "labels", "path": "paths"}
    arrays: dict[str, np.ndarray] = {}
    others = []
    try:
        table = parquet.read_table(path)
        comment = (table.schema.metadata or {}).get(b"rankjax", b"")
        if not {"embedding", "embeddings"} & {*table.column_names}:
            raise UsageError(
                f"{path} must have the column embedding, a list of numbers in each "
                f"row, got the columns {some(table.column_names)}"
            )
        for column in table.column_names:
            name = names.get(column, column)
            if name in arrays:
                raise UsageError(f"{path} must have one column of {name}, got two")
            if name not in wanted:
                others.append(column)
                continue
            values = table[column].combine_chunks()
            if values.null_count:
                rows = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
                raise UsageError(f"{path}: {_missing(column, rows)}")
            if pa.types.is_fixed_size_list(values.type):
                flat = values.flatten().to_numpy(zero_copy_only=False)
                array = flat.reshape(len(values), -1)
            else:
                if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                    lengths = pa.compute.list_value_length(values).to_numpy()
                    others_long = np.flatnonzero(lengths != lengths[:1])
                    if len(others_long):
                        row = others_long[0]
                        raise UsageError(
                            f"{path}: {column} must have as many numbers in every row, "
                            f"row 0 has {lengths[0]} and row {row} has {lengths[row]}"
                        )
                array = np.array(values.to_pylist())
            arrays[name] = array
    except UsageError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(f"{path} is no Parquet file of features: {error}") from error
    return Npz(arrays, tuple(others), comment)


def check_complete(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a UsageError where some rows lack a value: an empty word, or NaN."""
    for name in _PER_ROW & arrays.keys():
        words, numbers = _numbered(arrays[name])
        if words is not None:
            missing = (words == "")[numbers]
        elif numbers.dtype.kind == "f":
            missing = np.isnan(numbers)
        else:
            continue
        rows = np.atleast_1d(missing).nonzero()[0]
        if len(rows):
            raise UsageError(_missing(name, rows))


def _missing(name: str, rows: np.ndarray) -> str:
    return (
        f"{name} must be given to all rows, it is missing in {len(rows):,}, the first "
        f"of which is row {rows[0]}"
    )


def _splits(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    split, n = arrays.pop("split", None), len(arrays.get("embeddings", ()))
    if split is not None and (split.shape != (n,) or split.dtype.kind != "U"):
        raise ValueError(
            f"split must be strings [{n}], got {split.dtype} {split.shape}"
        )
    if split is None:
        return None
    words = [word.strip().casefold() for word in split.tolist()]
    unknown = [i for i, word in enumerate(words) if word not in SPLIT_OF]
    if unknown:
        raise ValueError(
            f"split must be {', '.join(SPLIT_OF)}, got {split[unknown[0]]} in row "
            f"{unknown[0]}"
        )
    return np.array([SPLIT_OF[word] for word in words])


def _of_test(
    path: Path, arrays: dict[str, np.ndarray], split: np.ndarray
) -> dict[str, np.ndarray]:
    """Of rows that have splits those to be evaluated, queries against a gallery."""
    n = len(split)
    kept = np.isin(split, ("test", "gallery"))
    for key in {"gallery", "junk"} & arrays.keys():  # row numbers are of all rows
        arrays[key] = _mask(key, arrays[key], n)
    if not kept.any() or "pairs" in arrays or "query" in arrays:
        raise ValueError(
            "split must have test and stand without query and pairs, got "
            f"{', '.join(np.unique(split))}"
        )
    print(
        f"{path}: {kept.sum():,} of {n:,} rows are of the split test", file=sys.stderr
    )
    arrays = {
        k: v[kept] if len(v) == n and k != "class_names" else v
        for k, v in arrays.items()
    } | {"row": np.flatnonzero(kept)}
    if "gallery" in split:
        gallery = split[kept] == "gallery"
        arrays |= {"query": ~gallery}
        names = arrays.get("labels", np.empty((0, 0)))
        if "cameras" in arrays and names.ndim == 1:
            if "class_names" in arrays and names.dtype.kind in "iu":
                # Labels without a name are refused below.
                names = np.take(arrays["class_names"], names, mode="clip")
            junk = (names.astype(str) == JUNK) & gallery
            arrays |= {"junk": junk | arrays.get("junk", False)}
    return arrays


def _of_templates(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A row for each template, whose numbers pairs then name, as IJB has it."""
    wrong = arrays.keys() & {"query", "gallery", "junk", "cameras", "images", "paths"}
    if "embeddings" not in arrays or "pairs" not in arrays or wrong:
        beside = f"; without {', '.join(sorted(wrong))}" if wrong else ""
        raise UsageError(f"templates are for embeddings and pairs of them{beside}")
    media = arrays.pop("media", None)
    arrays.pop("row", None)
    names, rows = template_embeddings(
        arrays["embeddings"], templates := arrays.pop("templates"), media
    )
    arrays |= {"embeddings": rows.astype(np.float32)}
    row_of = np.searchsorted(names, templates)
    if "labels" in arrays:
        labels, first = arrays["labels"], np.unique(row_of, return_index=True)[1]
        if labels.shape == row_of.shape:
            mixed = np.flatnonzero(labels != labels[first][row_of])
            if len(mixed):
                raise UsageError(
                    f"labels must be the same in a template, row {mixed[0]} differs in "
                    f"template {templates[mixed[0]]}"
                )
            arrays["labels"] = labels[first]
    unknown = np.setdiff1d(arrays["pairs"], names)
    if len(unknown):
        raise UsageError(f"pairs must name templates, got {unknown[0]}")
    return arrays | {"pairs": np.searchsorted(names, arrays["pairs"])}


def tell_unused(path: Path, keys: Sequence[str]) -> None:
    """Names on stderr what of a file is not used."""
    words = []
    for key in keys:
        near = difflib.get_close_matches(key, set(KEYS) - {key}, 1, cutoff=0.7)
        words.append(printable(key) + (f" (is {near[0]} meant?)" if near else ""))
    if words:
        print(f"{printable(str(path))}: not used: {', '.join(words)}", file=sys.stderr)


def numeric_embeddings(path: Path, found: np.ndarray) -> np.ndarray:
    """As `as_embeddings`, but also of integers.

    Raises:
      UsageError: they are no numbers, of a wrong shape or not finite.
    """
    if found.dtype.kind in "iu":
        found = found.astype(np.float32)
    try:
        return as_embeddings("embeddings", found)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def _subject(path: Path, arrays: dict[str, np.ndarray], *, pictures: bool) -> Subject:
    if "embeddings" not in arrays:
        raise UsageError(
            "embeddings must be there, as np.savez(FILE, embeddings=..., labels=...) "
            f"writes them, found {', '.join(arrays) or 'no name that is read'}"
        )
    rows = arrays.get("row")
    of_test = "" if rows is None else " of the split test"
    embeddings = as_embeddings(f"embeddings{of_test}", arrays["embeddings"])
    n = len(embeddings)
    labels, values, names = _label_sets(arrays, n) or classes(arrays, n)
    queries, gallery, junk = _sides(arrays, n)
    cameras = arrays.get("cameras")
    if cameras is not None:
        cameras = as_labels("cameras", _numbered(cameras)[1], n)
    pairs = _pairs(arrays, n, labels)
    protocol: Protocol = "leave-one-out"
    if pairs is not None:
        protocol = "verification"
    elif queries is not None:
        protocol = "query-gallery" if cameras is None else "reid"
    supers = arrays.get("super")
    if supers is not None:
        if supers.shape != (n,) or supers.dtype.kind not in "USiu":
            raise UsageError(
                f"super must be strings or integers [{n}], got {supers.dtype} "
                f"{supers.shape}"
            )
        words, numbers = _numbered(supers)
        supers = numbers.astype(str) if words is None else words[numbers]
    lists = arrays.get("lists")
    if lists is not None:
        protocol = "revisited"
        shape = (n, 0 if queries is None else len(queries))
        if lists.shape != shape or not np.isin(lists, range(4)).all():
            raise UsageError(
                f"lists must be 0 to 3 of shape {shape}, rows and queries, got "
                f"{lists.dtype} {lists.shape}"
            )
        if not np.isin(lists, (1, 2)).any():
            raise UsageError(
                "lists must name an image that is easy (1) or hard (2) for a query, "
                "got none"
            )
        if arrays["query"].dtype != bool:  # row numbers in an order of their own
            lists = lists[:, np.argsort(arrays["query"])]
    return Subject(
        path.stem,
        embeddings,
        labels,
        values,
        names,
        protocol,
        queries=queries,
        gallery=gallery,
        junk=junk,
        cameras=cameras,
        pairs=pairs,
        read=_pictures(path, arrays, n) if pictures else None,
        paths=_paths(arrays, n),
        folder=path.parent if pictures and "images" not in arrays else None,
        supers=supers,
        lists=lists,
        rows=rows,
    )


def _label_sets(
    arrays: dict[str, np.ndarray], n: int
) -> tuple[np.ndarray, np.ndarray, Sequence[str]] | None:
    """The same of masks [n, classes], where rows have several labels; else None."""
    labels, names = arrays.get("labels", np.empty(0)), arrays.get("class_names")
    if labels.ndim != 2:
        return None
    sets = as_label_sets("labels", labels, n)
    count = sets.shape[1]
    if names is None:
        names = np.array([f"class {number}" for number in range(count)])
    if names.shape != (count,) or names.dtype.kind != "U":
        raise UsageError(
            f"class_names must be strings [{count}], got {names.dtype} {names.shape}"
        )
    return sets, np.arange(count), names.tolist()


def classes(
    arrays: dict[str, np.ndarray], n: int
) -> tuple[np.ndarray | None, np.ndarray, Sequence[str]]:
    """Labels as numbers of classes, the classes' labels, and their names."""
    names = arrays.get("class_names")
    if "labels" not in arrays:
        if "lists" not in arrays and not {"pairs", "same"} <= arrays.keys():
            raise UsageError("labels must be there, or lists, or both pairs and same")
        return None, np.empty(0, np.int64), ()
    words, numbers = _numbered(arrays["labels"])
    labels = as_labels("labels", numbers, n)
    if words is not None:
        if names is not None:
            raise UsageError("class_names must not be there where labels are strings")
        return labels, words, words.tolist()
    values, codes = np.unique(labels, return_inverse=True)
    if names is None:
        return codes, values, [f"class {value}" for value in values]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UsageError(
            f"class_names must be strings [classes], got {names.dtype} {names.shape}"
        )
    if values[0] < 0 or values[-1] >= len(names):
        raise UsageError(
            f"class_names must have a name for each label, 0 to {values[-1]}, got "
            f"{len(names)} names and the least label {values[0]}"
        )
    words, counts = np.unique(names[values], return_counts=True)
    twice = {*words[counts > 1].tolist()}
    return (
        codes,
        values,
        [
            f"{name} ({value})" if name in twice else str(name)
            for name, value in zip(names[values].tolist(), values, strict=True)
        ],
    )


def _numbered(column: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The words of a column and their numbers; of no words the column as it is."""
    if column.dtype.kind not in "US":
        return None, column
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8")
    words, numbers = np.unique(column, return_inverse=True)
    # As readers of lists do: what looks alike is one class.
    clean = [written(word) for word in words]
    words, codes = np.unique(clean, return_inverse=True)
    return words, codes[numbers].reshape(column.shape)


def _sides(
    arrays: dict[str, np.ndarray], n: int
) -> tuple[np.ndarray | None, np.ndarray | None, int]:
    """Rows of queries and of the gallery without junk, and how many are junk."""
    if "query" not in arrays:
        for key in ("gallery", "junk"):
            if key in arrays:
                raise UsageError(f"query must be there where {key} is")
        return None, None, 0
    query = _mask("query", arrays["query"], n)
    gallery = ~query
    if "gallery" in arrays:
        gallery = _mask("gallery", arrays["gallery"], n)
    junk = np.zeros(n, bool)
    if "junk" in arrays:
        junk = _mask("junk", arrays["junk"], n)
    both = np.flatnonzero(query & junk)
    if len(both):
        raise UsageError(
            f"query must have no row of junk, got {len(both)}, the first {both[0]}"
        )
    rows = np.flatnonzero(query), np.flatnonzero(gallery & ~junk)
    for key, side in zip(("query", "gallery"), rows, strict=True):
        if not len(side):
            raise UsageError(f"{key} must have a row that is no junk, got none")
    return *rows, int((junk & gallery).sum())


def _mask(name: str, given: np.ndarray, n: int) -> np.ndarray:
    """A mask [n], from one or from row numbers."""
    mask = np.zeros(n, bool)
    mask[as_rows(name, given, n)] = True
    return mask


def _pairs(
    arrays: dict[str, np.ndarray], n: int, labels: np.ndarray | None
) -> Pairs | None:
    if "pairs" not in arrays:
        for key in ("same", "folds"):
            if key in arrays:
                raise UsageError(f"pairs must be there where {key} is")
        return None
    pairs = arrays["pairs"]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise UsageError(f"pairs must have shape [p, 2], got {pairs.shape}")
    pairs = within("pairs", pairs, n)
    if "same" in arrays:
        same = as_mask("same", arrays["same"], len(pairs))
    else:
        if labels is None or labels.ndim == 2:
            raise UsageError("same must be there where rows have several labels")
        same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    folds = arrays.get("folds")
    if folds is not None:
        folds = as_labels("folds", folds, len(pairs))
    return Pairs(pairs, same, folds)


def _paths(arrays: dict[str, np.ndarray], n: int) -> np.ndarray | None:
    paths = arrays.get("paths")
    if paths is not None and (paths.shape != (n,) or paths.dtype.kind != "U"):
        raise UsageError(
            f"paths must be strings [{n}], got {paths.dtype} {paths.shape}"
        )
    return paths


def _pictures(
    path: Path, arrays: dict[str, np.ndarray], n: int
) -> Callable[[np.ndarray], Sequence[np.ndarray]] | None:
    if "images" in arrays:
        images = arrays["images"]
        images = images[..., None] if images.ndim == 3 else images
        good = images.ndim == 4 and images.shape[3] in (1, 3) and 0 not in images.shape
        if not good or images.dtype != np.uint8 or len(images) != n:
            raise UsageError(
                f"images must be uint8 [{n}, h, w] or [{n}, h, w, 1 or 3], got "
                f"{images.dtype} {images.shape}"
            )
        return lambda rows: images[rows]
    paths = _paths(arrays, n)
    if paths is not None:
        gone = [each for each in paths if not (path.parent / each).exists()]
        if gone:
            raise UsageError(
                f"paths has {len(gone):,} of {n:,} that are not there, such as "
                f"{gone[0]}; they are read below {path.parent}"
            )

        @functools.cache
        def tell(row: int, damage: str) -> None:
            name, place = printable(paths[row]), arrays.get("row", range(n))[row]
            print(f"no picture of row {place}, {name}: {damage}", file=sys.stderr)

        def picture(row: int) -> np.ndarray:
            try:
                return decode(read_regular(path.parent / paths[row]), channels=3)
            except (OSError, DamagedImage) as error:
                tell(row, str(error))
                return np.full((64, 64, 3), 255, np.uint8)

        return lambda rows: [*map(picture, rows.tolist())]
    return None
