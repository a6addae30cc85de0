"""Approximate indexes of other libraries, in their own formats.

All are hierarchical navigable small worlds (Malkov and Yashunin, TPAMI 2020) with 32
links per row, over inner products of rows of length 1.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from experiments.search.index import Find, Index
from rankjax.errors import RunError, UsageError
from rankjax.metrics import Neighbours

_LINKS, _EFFORT = 32, 128
_MOST_QUERIES = 1000


def _faiss(index: Index, file: Path, module: Any) -> Find:
    def build(name: str) -> None:
        _, dim = index.embeddings.shape
        made = module.IndexHNSWFlat(dim, _LINKS, module.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction = _EFFORT
        made.add(index.embeddings)
        module.write_index(made, name)

    _build(index, file, build)
    found = module.read_index(str(file))

    def find(queries: np.ndarray, k: int) -> Neighbours:
        found.hnsw.efSearch = max(_EFFORT, 2 * k)
        similarities, rows = found.search(queries, k)
        return Neighbours(rows, similarities)

    return find


def _hnswlib(index: Index, file: Path, module: Any) -> Find:
    rows, dim = index.embeddings.shape

    def build(name: str) -> None:
        made = module.Index("ip", dim)
        made.init_index(rows, M=_LINKS, ef_construction=_EFFORT)
        made.add_items(index.embeddings)
        made.save_index(name)

    _build(index, file, build)
    found = module.Index("ip", dim)
    found.load_index(str(file))

    def find(queries: np.ndarray, k: int) -> Neighbours:
        found.set_ef(max(_EFFORT, 2 * k))
        try:
            numbers, distances = found.knn_query(queries, k)
        except RuntimeError as error:
            raise RunError(f"{file} does not find {k} rows: {error}") from error
        return Neighbours(numbers.astype(np.int64), 1 - distances)

    return find


def _usearch(index: Index, file: Path, module: Any) -> Find:
    rows, dim = index.embeddings.shape

    def build(name: str) -> None:
        made = module.Index(
            ndim=dim,
            metric="ip",
            dtype="f32",
            connectivity=_LINKS,
            expansion_add=_EFFORT,
        )
        made.add(np.arange(rows, dtype=np.uint64), index.embeddings)
        made.save(name)

    _build(index, file, build)
    found = module.Index.restore(str(file))

    def find(queries: np.ndarray, k: int) -> Neighbours:
        found.expansion_search = max(_EFFORT, 2 * k)
        matches = found.search(queries, k)
        # One query has a shorter row, several have distances that are not numbers,
        # where fewer are found.
        keys, distances = (
            np.asarray(x).reshape(len(queries), -1)
            for x in (matches.keys, matches.distances)
        )
        there = np.isfinite(distances)
        rows = np.full((len(queries), k), -1)
        similarities = np.full(rows.shape, -np.inf, np.float32)
        rows[:, : keys.shape[1]] = np.where(there, keys.astype(np.int64), -1)
        similarities[:, : keys.shape[1]] = 1 - np.where(there, distances, np.inf)
        return Neighbours(rows, similarities)

    return find


_LIBRARIES: dict[str, tuple[str, Callable[[Index, Path, Any], Find]]] = {
    "faiss": ("faiss", _faiss),
    "hnswlib": ("hnswlib", _hnswlib),
    "usearch": ("usearch.index", _usearch),
}
BACKENDS = ("exact", *_LIBRARIES)


def open_backend(name: str, index: Index) -> Find:
    """What finds the nearest rows of an index.

    Approximate ones are in a file beside the index, INDEX.npz.faiss, which is built
    when it is missing or older than the index; INDEX.npz.64.faiss of one shortened to
    64 numbers.

    Args:
      name: one of `BACKENDS`.
      index: what is searched.

    Raises:
      UsageError: the library is not installed.
      RunError: the file cannot be written or read.
    """
    if name == "exact":
        return index.exact
    module, opened = _LIBRARIES[name]
    dim = f".{index.embeddings.shape[1]}" if index.whole else ""
    file = index.file.with_name(f"{index.file.name}{dim}.{name}")
    if file.exists() and not file.is_file():
        raise RunError(f"{file}: not a regular file")
    try:
        return opened(index, file, import_module(module))
    except ImportError as error:
        package = {"faiss": "faiss-cpu"}.get(name, name)
        raise UsageError(f"no {name}: {error}; pip install {package}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(f"{file}: {error}; delete it to have it built again") from error


def _build(index: Index, file: Path, build: Callable[[str], None]) -> None:
    if file.exists() and file.stat().st_mtime >= index.file.stat().st_mtime:
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        build(str(temporary))
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def recall(find: Find, index: Index, k: int) -> tuple[float, int]:
    """The share of the true k nearest that is found, and the number of queries.

    These are rows of the index, at most a thousand of them, spread evenly.
    """
    n = len(index.embeddings)
    rows = np.unique(np.linspace(0, n - 1, min(n, _MOST_QUERIES)).astype(np.int64))
    queries = index.embeddings[rows]
    true, found = index.exact(queries, k).rows, find(queries, k).rows
    same = [len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True)]
    return sum(same) / true.size, len(rows)
