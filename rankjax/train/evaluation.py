"""How well an embedding retrieves and clusters images of classes it never saw."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from rankjax import metrics
from rankjax.data import Dataset, ImageSource
from rankjax.parallel import AXIS, from_processes, place_among, replicate
from rankjax.similarity import normalize
from rankjax.train.step import TrainState

Embed = Callable[[TrainState, ImageSource], np.ndarray]


def make_embed(
    definition: Any, *, devices: Sequence[jax.Device], batch_size: int = 512
) -> Embed:
    """Builds `embed(state, images) -> float32 [n, dim]`, the network in eval mode.

    Args:
      definition: from `create_state`.
      devices: each embeds its share of a batch, and each process reads that of its own
        devices alone; all of them call `embed` together and get all embeddings.
      batch_size: images at a time, rounded up to a multiple of the devices; the last
        batch is filled up with images that are thrown away.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    rows, everywhere = (
        NamedSharding(mesh, spec) for spec in (PartitionSpec(AXIS), PartitionSpec())
    )
    batch_size = -(-batch_size // len(devices)) * len(devices)
    process, processes = place_among(devices)

    @jax.jit(out_shardings=everywhere)
    def forward(params: Any, rest: Any, images: jax.Array) -> jax.Array:
        model = nnx.merge(definition, params, rest)
        model.eval()
        return model(images)

    def embed(state: TrainState, images: ImageSource) -> np.ndarray:
        # What `pmap` returns is placed on the devices of one process only.
        variables = replicate((state.params, state.rest), devices)
        parts = []
        for start in range(0, len(images), batch_size):
            indices = np.arange(start, start + batch_size) % len(images)
            own = np.split(indices, processes)[process]
            batch = from_processes(images.read(own), rows)
            parts.append(np.asarray(forward(*variables, batch)))
        return np.concatenate(parts)[: len(images)]

    return embed


def evaluate(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    recall_at: Sequence[int] = (1, 2, 4, 8),
) -> dict[str, float]:
    """Retrieval by cosine of each row among all others, and NMI.

    NMI compares the classes with k-means clusters (k the number of classes, one run)
    of the embeddings on the unit sphere.

    Args:
      embeddings: [n, dim].
      labels: [n] integers.
      seed: of k-means.
      recall_at: values of K.

    Returns:
      Recall@K and the other figures of `rankjax.metrics.retrieval`, and `nmi`, each
      from 0 to 1.
    """
    search = metrics.leave_one_out(embeddings, labels)
    means = metrics.retrieval(search, recall_at=recall_at).means()
    clusters = metrics.kmeans(
        normalize(jnp.asarray(embeddings)),
        k=len(np.unique(labels)),
        seed=seed,
        restarts=1,
    )
    scores = metrics.clustering_scores(labels, clusters.assignment)
    return means | {"nmi": scores["nmi"]}


def evaluate_test(
    data: Dataset, test: np.ndarray, gallery: np.ndarray | None = None, *, seed: int
) -> dict[str, float]:
    """The figures of a data set's test images by its own protocol.

    Leave one out as `evaluate`, with the K that the field reports; queries against a
    gallery, with cameras for re-identification; or, for verification, accuracy, equal
    error rate and AUC by cosine.

    Args:
      data: whose labels, cameras, junk and pairs are used.
      test: embeddings of `data.test`.
      gallery: embeddings of `data.gallery`, if there is one.
      seed: of k-means.
    """
    if data.pairs is not None:
        unit = normalize(jnp.asarray(test))
        first, second = (unit[column] for column in data.pairs.indices.T)
        scores = jnp.sum(first * second, -1)
        found = metrics.verification(scores, data.pairs.same, fold=data.pairs.folds)
        return {"accuracy": found.accuracy, "eer": found.eer, "auc": found.auc}
    most = len(test) - 1 if gallery is None else len(gallery)
    if data.junk is not None:
        most -= int(data.junk.sum())
    recall_at = [k for k in data.recall_at if k <= most]
    if gallery is None or data.gallery is None:
        return evaluate(test, data.test.labels, seed=seed, recall_at=recall_at)
    cameras = {}
    if data.protocol == "reid":
        cameras = {
            "query_cameras": data.test.cameras,
            "gallery_cameras": data.gallery.cameras,
        }
    search = metrics.query_gallery(
        *(test, data.test.labels, gallery, data.gallery.labels),
        junk=data.junk,
        **cameras,
    )
    return metrics.retrieval(search, recall_at=recall_at).means()


def pixels(images: ImageSource, *, side: int = 32, batch_size: int = 512) -> np.ndarray:
    """Images as vectors, float32 [n, height * width * channels] from 0 to 1.

    The baseline that an embedding has to beat. Images higher or wider than `side` are
    shrunk to it, each pixel the mean of what it covers.
    """
    height, width = (min(side, length) for length in images.shape[:2])

    def shrink(image: np.ndarray) -> np.ndarray:
        if image.shape[:2] == (height, width):
            return image
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        small = picture.resize((width, height), Image.Resampling.BOX)
        return np.asarray(small).reshape(height, width, -1)

    rows = np.empty((len(images), height * width * images.shape[2]), np.float32)
    for start in range(0, len(images), batch_size):
        some = np.arange(start, min(start + batch_size, len(images)))
        for row, image in zip(some, images.read(some), strict=True):
            rows[row] = shrink(image).reshape(-1) / 255
    return rows
