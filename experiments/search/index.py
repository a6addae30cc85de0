"""What is searched: embeddings from `experiments.embed` and what belongs to them."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.embed import embed_views
from experiments.images import Views
from experiments.runs import load_network
from rankjax.errors import RunError, UsageError
from rankjax.metrics import Neighbours, nearest
from rankjax.similarity import dot

Find = Callable[[np.ndarray, int], Neighbours]
"""Queries [q, dim] of length 1 and k to the nearest rows of an index."""


_KEYS = {"embeddings", "paths", "labels", "class_names"}


@dataclass(frozen=True)
class Index:
    """Embeddings of images.

    Attributes:
      file: where they came from.
      embeddings: float32 [n, dim], of length 1, since images are compared by cosine.
      paths: of the images.
      labels: the name of each one's class, or None.
      job: how `experiments.embed` made them.
    """

    file: Path
    embeddings: np.ndarray
    paths: Sequence[str]
    labels: Sequence[str] | None
    job: dict[str, Any]

    def exact(self, queries: np.ndarray, k: int) -> Neighbours:
        """The nearest rows, on as many devices as there are queries."""
        devices = jax.local_devices()[: len(queries)]
        return nearest(
            queries, k=k, gallery=self.embeddings, similarity=dot, devices=devices
        )


def read_index(file: Path) -> Index:
    """Reads what `experiments.embed` wrote.

    Raises:
      UsageError: there is no such file, or one without embeddings and paths.
      RunError: it is damaged.
    """
    if not file.is_file():
        raise UsageError(f"there is no index {file}")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in _KEYS & {*arrays.files}}
        with zipfile.ZipFile(file) as archive:
            job = json.loads(archive.comment or b"{}")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{file}: damaged, or no .npz file: {error}") from error
    for name in ("embeddings", "paths"):
        if name not in found:
            raise UsageError(
                f"{file} has no {name}; experiments.embed makes such files"
            )
    embeddings, paths = np.asarray(found["embeddings"], np.float32), found["paths"]
    if embeddings.ndim != 2 or paths.shape != embeddings.shape[:1] or not len(paths):
        raise UsageError(
            f"{file}: embeddings must be [n, dim] and paths [n], got "
            f"{embeddings.shape} and {paths.shape}"
        )
    labels = found.get("labels")
    if labels is not None and "class_names" in found:
        if not np.isin(labels, np.arange(len(found["class_names"]))).all():
            raise UsageError(f"{file}: class_names must have one for each label")
        labels = found["class_names"][labels]
    return Index(
        file,
        _of_length_1(embeddings),
        [os.path.join(file.absolute().parent, path) for path in paths.tolist()],
        None if labels is None else labels.astype(str).tolist(),
        job,
    )


class QueryEmbedder:
    """Embeds queries as the images of an index were."""

    def __init__(self, index: Index, network: Path | None = None) -> None:
        """Loads the network.

        Args:
          index: made by it.
          network: its folder, if it is not where it was.

        Raises:
          UsageError: it is not known or not there.
          RunError: it has been trained further since.
        """
        job = index.job
        if network is None and "network" not in job:
            raise UsageError(f"{index.file} does not say by what; give --network")
        folder = network or Path(job["network"])
        self._network = load_network(folder, which=job.get("checkpoint", "latest"))
        if job and self._network.step != job["step"]:
            raise RunError(
                f"{index.file} was made by {folder} at step {job['step']}, which is at "
                f"step {self._network.step} now; embed the images again"
            )
        self._options = {"flip": job.get("flip", False), "crops": job.get("crops", 1)}

    def __call__(self, images: Sequence[str | bytes]) -> np.ndarray:
        """Embeddings of length 1, float32 [n, dim], of files or their contents.

        Raises:
          RunError: a damaged image.
        """
        views = Views(images, self._network.inputs, **self._options)
        devices = jax.local_devices()[: len(images)]
        found = np.concatenate(list(embed_views(self._network, views, devices=devices)))
        return _of_length_1(found)


def answers(index: Index, found: Neighbours) -> Iterator[list[dict[str, Any]]]:
    """The neighbours of each query, as JSON has them."""
    for rows, similarities in zip(found.rows, found.similarities, strict=True):
        yield [
            {
                "row": int(row),
                "similarity": round(float(similarity), 4),
                "label": index.labels[row] if index.labels else None,
                "path": index.paths[row],
            }
            for row, similarity in zip(rows, similarities, strict=True)
            if row >= 0  # approximate indexes may find fewer
        ]


def _of_length_1(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, np.finfo(np.float32).tiny)
