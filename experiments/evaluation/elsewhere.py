"""Embeddings as other programs read them: TensorBoard's projector, and Parquet."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.subjects import Subject
from experiments.evaluation.suspects import Suspects, by_row
from rankjax import metrics
from rankjax.errors import RunError, UsageError
from rankjax.files import new_folder, open_atomic, printable
from rankjax.report import sheet

_SPRITE, _SIDE = 8192, 64  # pixels: the most that the projector takes, and of a picture


def write_projector(folder: Path, subject: Subject, suspects: Suspects) -> None:
    """Files of TensorBoard's embedding projector.

    tensors.tsv, metadata.tsv, sprite.png where there are pictures, and
    projector_config.pbtxt, which names them. `tensorboard --logdir` reads the folder;
    a projector that stands alone loads the first two.

    Args:
      folder: to be made.
      subject: the rows.
      suspects: what is said of them.

    Raises:
      UsageError: the folder exists, or a sprite cannot hold as many pictures.
      RunError: it cannot be written.
    """
    assert subject.labels is not None
    said = by_row(suspects)
    paths = subject.paths
    lines = ["label\trow\tpath\tsplit\tsuspected"]
    for row, label in enumerate(subject.labels):
        cells = (
            subject.class_names[label] or "(empty)",
            str(row),
            "" if paths is None else str(paths[row]),
            "" if subject.splits is None else str(subject.splits[row]),
            "; ".join(each.kind for each in said.get(row, [])),
        )
        # Tabs and line feeds in names would part cells and rows.
        lines.append("\t".join(map(printable, cells)))
    config = [
        'tensor_name: "embeddings"',
        'tensor_path: "tensors.tsv"',
        'metadata_path: "metadata.tsv"',
    ]
    n = len(subject.embeddings)
    side = min(_SIDE, int(_SPRITE // np.ceil(np.sqrt(n))))
    if subject.read is not None and not side:
        raise UsageError(f"projector shows at most {_SPRITE**2:,} pictures, got {n:,}")
    try:
        with new_folder(folder) as new:
            if subject.read is not None:
                picture = sheet(subject.read, np.arange(n), side)
                picture.convert("RGB").save(new / "sprite.png")
                size = f"single_image_dim: {side} single_image_dim: {side}"
                config.append(f'sprite {{ image_path: "sprite.png" {size} }}')
            np.savetxt(
                new / "tensors.tsv", subject.embeddings, fmt="%.7g", delimiter="\t"
            )
            text = "\n".join(lines) + "\n"
            (new / "metadata.tsv").write_text(text, encoding="utf-8")
            inner = "".join(f"  {line}\n" for line in config)
            (new / "projector_config.pbtxt").write_text(f"embeddings {{\n{inner}}}\n")
    except FileExistsError as error:
        raise UsageError(f"projector must be a new folder, {folder} exists") from error
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error}") from error


def write_parquet(path: Path, subject: Subject, suspects: Suspects) -> None:
    """A Parquet file with a row each: path, label, split, embedding and figures.

    The figures are Recall@1 and MAP@R of the row as a query of all others, null where
    it has nothing to find, the kinds and the evidence of `experiments.inspect`, and the
    number of the row that it was compared with.

    Raises:
      UsageError: pyarrow is not installed.
      RunError: the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install pyarrow") from error
    assert subject.labels is not None
    n, dim = subject.embeddings.shape
    columns: dict[str, Any] = {}
    if subject.paths is not None:
        columns["path"] = subject.paths.tolist()
    columns["label"] = [subject.class_names[label] for label in subject.labels]
    if subject.splits is not None:
        columns["split"] = subject.splits.tolist()
    flat = pa.array(subject.embeddings.astype(np.float32).reshape(-1))
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, dim)
    figures = {name: np.full(n, np.nan) for name in ("recall_at_1", "map_at_r")}
    if np.bincount(subject.labels).max() > 1:
        search = metrics.leave_one_out(subject.embeddings, subject.labels)
        found = metrics.retrieval(search, recall_at=1)
        for name, values in figures.items():
            values[found.queries] = found.values[name]
    columns |= {k: pa.array(v, from_pandas=True) for k, v in figures.items()}
    by = by_row(suspects)
    said = [by.get(row, []) for row in range(n)]
    columns["suspected"] = [[each.kind for each in some] for some in said]
    columns["evidence"] = ["; ".join(each.evidence for each in some) for some in said]
    columns["other"] = [some[0].other if some else None for some in said]
    table = pa.table(columns)
    try:
        with open_atomic(path) as file:
            parquet.write_table(table, file)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error
