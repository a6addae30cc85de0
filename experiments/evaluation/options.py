"""The settings of an evaluation."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from rankjax.data import Protocol


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of an evaluation."""

    source: tyro.conf.Positional[Path]
    """A run folder of experiments.train, or an .npz or Parquet file of embeddings
    and labels."""
    protocol: Protocol | None = None
    """By default what the data is for: pairs are for verification, queries with cameras
    for reid, queries for query-gallery, and all else for leave-one-out."""
    recall_at: tuple[int, ...] = ()
    """The values of K; by default those that the field reports."""
    map_at: tuple[int, ...] = ()
    """Values of K for mAP@K, as Google Landmarks v2 and ILIAS report it."""
    precision_at: tuple[int, ...] = ()
    """Values of K for the precision of the first K, and for mMP@K, as UnED reports it
    for 5."""
    json: Path | None = None
    """File for all figures."""
    report: Path | None = None
    """File for a page with pictures and curves, .html."""
    compare: Path | None = None
    """Another run folder or .npz of the same rows: which is better on such classes?"""
    rerank: Literal["k-reciprocal"] | None = None
    """Also with queries and gallery re-ranked; protocols with a gallery."""
    expand: int = 0
    """Also with queries averaged with so many neighbours; protocols with a gallery."""
    compress: tuple[Literal["float16", "bfloat16", "binary"], ...] = ()
    """Also with embeddings in half precision, or as signs compared by Hamming
    distance."""
    dims: tuple[int, ...] = ()
    """Also with the first so many numbers of each embedding, as they serve where it was
    trained with --dims."""
    clustering: bool = True
    """NMI, AMI, ARI and F1 of k-means with as many clusters as classes. On two cores a
    restart takes seconds for thousands of rows, but for the 60,502 rows and 11,316
    classes of Stanford Online Products more than a minute."""
    restarts: int = 4
    """Of k-means."""
    samples: int = 5000
    """Of the bootstrap, for intervals of 95%; 0 for no intervals."""
    folds: int | None = None
    """For verification, where the data does not say which fold a pair is in; 10, or as
    many as there are pairs of the rarer kind."""
    fars: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    """False acceptance rates at which verification reports the true one."""
    firs: tuple[float, ...] = (1e-1, 1e-2, 1e-3)
    """False identification rates, where queries have no mate in the gallery."""
    seed: int = 0
    """Of k-means, the bootstrap and what the report draws."""
    checkpoint: Literal["latest", "best"] = "latest"
    """Of a run: the one its own report is about, or the best in validation, which is
    the last one where fewer than 10 classes validate."""
    data_dir: Path = Path("~/.cache/rankjax")
    """Folder of prepared data sets, for a run."""
    manual_dir: Path | None = None
    """Folder of archives fetched by hand; by default data_dir/downloads/manual."""
    keep_compiled: bool = True
    """Keep compiled programs in data_dir/compiled, where later commands find them."""
