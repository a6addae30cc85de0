"""How well an embedding retrieves and clusters images of classes it never saw."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rankjax import metrics
from rankjax.data import Dataset, ImageSource
from rankjax.data.images import Readable, resize
from rankjax.metrics.directions import cosines, unit_rows
from rankjax.models.proxies import is_of_proxies
from rankjax.parallel import AXIS, from_processes, place_among, replicate
from rankjax.train.step import TrainState

Embed = Callable[[TrainState, Readable], np.ndarray]
Forward = Callable[[Any, jax.Array], jax.Array]


def forward_of(definition: Any) -> Forward:
    """`forward(state.evaluated, images)`, the network in eval mode.

    Args:
      definition: from `create_state`.
    """

    def forward(variables: Any, images: jax.Array) -> jax.Array:
        model = nnx.merge(definition, *variables)
        model.eval()
        return model(images)

    return forward


def make_embed(
    definition: Any, *, devices: Sequence[jax.Device], batch_size: int = 512
) -> Embed:
    """Builds `embed(state, images) -> float32 [n, dim]`, the network in eval mode.

    Args:
      definition: from `create_state`.
      devices, batch_size: as of `over_images`.
    """
    run = over_images(forward_of(definition), devices=devices, batch_size=batch_size)

    def embed(state: TrainState, images: Readable) -> np.ndarray:
        # No image needs class rows, which may be too many for one device.
        variables = jax.tree.map_with_path(
            lambda path, x: x[:0] if is_of_proxies(path) else x, state.evaluated
        )
        return np.concatenate(list(run(variables, images)))

    return embed


def over_images(
    forward: Forward, *, devices: Sequence[jax.Device], batch_size: int = 512
) -> Callable[[Any, Readable], Iterator[np.ndarray]]:
    """Builds `run(variables, images)`, which gives [batch, dim] for batch after batch.

    While a batch is computed, threads read the next one.

    Args:
      forward: pure; maps variables and images [rows, ...] to [rows, dim].
      devices: each computes its share of a batch, and each process reads that of its
        own devices alone; all of them call `run` together and get all rows.
      batch_size: images at a time, rounded up to a multiple of the devices; the last
        batch is filled up with images that are thrown away.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    rows, everywhere = (
        NamedSharding(mesh, spec) for spec in (PartitionSpec(AXIS), PartitionSpec())
    )
    batch_size = -(-batch_size // len(devices)) * len(devices)
    process, processes = place_among(devices)
    compiled = jax.jit(forward, out_shardings=everywhere)
    workers = os.cpu_count() or 1

    def run(variables: Any, images: Readable) -> Iterator[np.ndarray]:
        # What `pmap` returns is placed on the devices of one process only.
        placed = replicate(variables, devices)
        computing: jax.Array | None = None
        with ThreadPoolExecutor(workers) as threads:

            def begin(start: int) -> list[Future[np.ndarray]]:
                indices = np.arange(start, start + batch_size) % len(images)
                own = np.split(indices, processes)[process]
                shares = np.array_split(own, min(workers, len(own)))
                return [threads.submit(images.read, share) for share in shares]

            reading = begin(0)
            for after in range(batch_size, len(images) + batch_size, batch_size):
                read, reading = reading, begin(after) if after < len(images) else []
                batch = np.concatenate([share.result() for share in read])
                before = computing
                computing = compiled(placed, from_processes(batch, rows))
                if before is not None:  # done by now: nothing waits for it
                    yield np.asarray(before)
        if computing is not None:
            yield np.asarray(computing)[: (len(images) - 1) % batch_size + 1]

    return run


def evaluate(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    clusters: bool = True,
) -> dict[str, float]:
    """Retrieval by cosine of each row among all others, and NMI.

    NMI compares the classes with k-means clusters (k the number of classes, one run)
    of the embeddings on the unit sphere.

    Args:
      embeddings: [n, dim].
      labels: [n] integers.
      seed: of k-means.
      recall_at: values of K; those above the number of other rows are left out.
      clusters: compute NMI, for which k-means takes longer than all else where rows are
        long, as pixels are.

    Returns:
      Recall@K and the other figures of `rankjax.metrics.retrieval`, and `nmi`, each
      from 0 to 1.
    """
    search = metrics.leave_one_out(embeddings, labels)
    recall_at = [k for k in recall_at if k <= search.most]
    means = metrics.retrieval(search, recall_at=recall_at).means()
    if not clusters:
        return means
    k = len(np.unique(labels))
    found = metrics.kmeans(unit_rows(embeddings), k=k, seed=seed, restarts=1)
    scores = metrics.clustering_scores(labels, found.assignment)
    return means | {"nmi": scores["nmi"]}


def evaluate_test(
    data: Dataset,
    test: np.ndarray,
    gallery: np.ndarray | None = None,
    *,
    seed: int,
    clusters: bool = True,
) -> dict[str, float]:
    """The figures of a data set's test images by its own protocol.

    Leave one out as `evaluate`, with the K that the field reports; queries against a
    gallery, with cameras for re-identification; or, for verification, accuracy, equal
    error rate and AUC by cosine.

    Args:
      data: whose labels, cameras, junk and pairs are used.
      test: embeddings of `data.test`.
      gallery: embeddings of `data.gallery`, if there is one.
      seed, clusters: of `evaluate`.
    """
    if data.pairs is not None:
        scores = cosines(test, data.pairs.indices)
        found = metrics.verification(scores, data.pairs.same, fold=data.pairs.folds)
        return {"accuracy": found.accuracy, "eer": found.eer, "auc": found.auc}
    if gallery is None or data.gallery is None:
        labels, at = data.test.labels, data.recall_at
        return evaluate(test, labels, seed=seed, recall_at=at, clusters=clusters)
    search = metrics.search_of(
        data.protocol,
        metrics.Side(test, data.test.labels, data.test.cameras),
        metrics.Side(gallery, data.gallery.labels, data.gallery.cameras),
        junk=data.junk,
    )
    recall_at = [k for k in data.recall_at if k <= search.most]
    return metrics.retrieval(search, recall_at=recall_at).means()


def pixels(images: ImageSource) -> np.ndarray:
    """Images as vectors, float32 [n, height * width * channels] from 0 to 1.

    The baseline that an embedding has to beat. Images are made 32 pixels high or wide
    if they are larger ("80 Million Tiny Images", Torralba et al., TPAMI 2008): those of
    a whole data set must fit into memory.
    """
    return thumbnails(images, 32).reshape(len(images), -1).astype(np.float32) / 255


def thumbnails(images: ImageSource, side: int) -> np.ndarray:
    """Images, shrunk to at most `side` pixels each way, uint8 [n, height, width, c]."""
    shape = np.array(images.shape[:2])
    shrunk = np.ceil(shape * min(1.0, side / shape.max()))
    height, width = shrunk.astype(int).tolist()
    made = np.empty((len(images), height, width, images.shape[2]), np.uint8)
    for rows in np.array_split(np.arange(len(images)), len(images) // 256 + 1):
        for row, image in zip(rows, images.read(rows), strict=True):
            made[row] = resize(image, height, width)
    return made
