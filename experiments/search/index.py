"""What is searched: embeddings from `experiments.embed` and what belongs to them."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.embed import embed_views
from experiments.evaluation.npz import numeric_embeddings, read_columns
from experiments.images import Views
from experiments.pretrained import job_of
from experiments.runs import load_network, network_of
from rankjax.errors import RunError, UsageError
from rankjax.metrics import Neighbours, nearest
from rankjax.metrics.directions import unit_rows
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
      whole: the index as the file has it, where this one was shortened.
    """

    file: Path
    embeddings: np.ndarray
    paths: Sequence[str]
    labels: Sequence[str] | None
    job: dict[str, Any]
    whole: "Index | None" = None

    def shortened(self, dim: int) -> "Index":
        """The index of the first `dim` numbers of each embedding.

        Raises:
          UsageError: there are not as many.
        """
        longest = self.embeddings.shape[1]
        if not 1 <= dim <= longest:
            raise UsageError(
                f"dim must be from 1 to {longest}, the numbers of an embedding, got "
                f"{dim}"
            )
        embeddings = unit_rows(self.embeddings[:, :dim])
        return replace(self, embeddings=embeddings, whole=self)

    def exact(self, queries: np.ndarray, k: int) -> Neighbours:
        """The nearest rows, on as many devices as there are queries."""
        devices = jax.local_devices()[: len(queries)]
        return nearest(
            queries, k=k, gallery=self.embeddings, similarity=dot, devices=devices
        )


def read_index(file: Path) -> Index:
    """Reads what `experiments.embed` wrote.

    Raises:
      UsageError: there is no such file, or its arrays are missing or do not fit.
      RunError: it is damaged.
    """
    if not file.exists():
        raise UsageError(f"there is no index {file}")
    if file.is_dir():
        raise UsageError(
            f"{file} is a folder; an index is a file: experiments.embed NETWORK IMAGES "
            "--out FILE.npz makes it"
        )
    arrays, _, comment = read_columns(file, _KEYS)
    for name in ("embeddings", "paths"):
        if name not in arrays:
            raise UsageError(
                f"{file} has no {name}; experiments.embed makes such files"
            )
    embeddings, paths = numeric_embeddings(file, arrays["embeddings"]), arrays["paths"]
    for name in ("paths", "labels"):
        shape = np.shape(arrays.get(name, paths))
        if shape != (len(embeddings),):
            raise UsageError(
                f"{file}: {name} must have shape {(len(embeddings),)}, got {shape}"
            )
    if paths.dtype.kind != "U":
        raise UsageError(f"{file}: paths must be strings, got {paths.dtype}")
    return Index(
        file,
        unit_rows(embeddings).astype(np.float32),
        [os.path.join(file.absolute().parent, path) for path in paths.tolist()],
        _labels(file, arrays),
        job_of(file, comment),
    )


def _labels(file: Path, arrays: Mapping[str, np.ndarray]) -> list[str] | None:
    """The name of each image's class."""
    if "labels" not in arrays:
        return None
    labels, names = arrays["labels"], arrays.get("class_names")
    if names is None:
        return labels.astype(str).tolist()
    if (
        labels.dtype.kind not in "iu"
        or not np.isin(labels, np.arange(names.size)).all()
    ):
        raise UsageError(f"{file}: class_names must have one for each label")
    return names.reshape(-1).astype(str)[labels].tolist()


class QueryEmbedder:
    """Embeds queries as the images of an index were."""

    def __init__(
        self,
        index: Index,
        network: Path | None = None,
        weights: Path | None = None,
    ) -> None:
        """Loads the network.

        Args:
          index: made by it.
          network: its folder, if it is not where it was.
          weights: the file of its backbone, likewise.

        Raises:
          UsageError: it is not known, or its embeddings have another dimension.
          RunError: it is not there, or has been trained further since.
        """
        job = index.job
        if network is None and "network" not in job:
            raise UsageError(
                f"{index.file} does not say by which network it was made; give "
                "--network RUN to search by images"
            )
        folder = network or Path(job["network"])
        if network is None and not job.get("pretrained") and not folder.exists():
            raise RunError(
                f"{index.file} was made by {folder}, which is not there; give "
                "--network RUN"
            )
        if job:
            if network is not None:
                job = job | {"network": str(network), "pretrained": None}
            self._network = network_of(index.file, job, weights=weights)
        else:
            self._network = load_network(folder, weights=weights)
        images = jax.ShapeDtypeStruct((1, *self._network.inputs[:3]), np.uint8)
        made = jax.eval_shape(self._network.forward, self._network.variables, images)
        longest = (index.whole or index).embeddings.shape[1]
        if made.shape[1] != longest:
            raise UsageError(
                f"{index.file} has {longest} dimensions, embeddings "
                f"of {folder} have {made.shape[1]}; give the --network that made it"
            )
        self._dim = index.embeddings.shape[1]
        self._options = {"flip": job.get("flip", False), "crops": job.get("crops", 1)}

    def __call__(self, images: Sequence[str | bytes]) -> np.ndarray:
        """Embeddings of length 1, float32 [n, dim], of files or their contents.

        Raises:
          RunError: a damaged image, or an embedding that is not finite.
        """
        views = Views(images, self._network.inputs, **self._options)
        devices = jax.local_devices()[: len(images)]
        batches = list(embed_views(self._network, views, devices=devices))
        found = np.concatenate(batches)[:, 0]
        if not np.isfinite(found).all():
            raise RunError("the network's embedding of an image is not finite")
        return unit_rows(found[:, : self._dim])


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
