"""How well an embedding retrieves and clusters images of classes it never saw."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score

from rankjax.data import ImageSource
from rankjax.metrics import retrieval_metrics
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
        variables = replicate(state.judged, devices)
        parts = []
        for start in range(0, len(images), batch_size):
            indices = np.arange(start, start + batch_size) % len(images)
            own = np.split(indices, processes)[process]
            batch = from_processes(images.read(own), rows)
            parts.append(np.asarray(forward(*variables, batch)))
        return np.concatenate(parts)[: len(images)]

    return embed


def evaluate(
    embeddings: np.ndarray, labels: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Recall@1, 2, 4, 8, MAP@R and R-precision by cosine, and NMI.

    NMI compares the classes with k-means clusters (k the number of classes, k-means++
    seeding, one run) of the embeddings on the unit sphere, by scikit-learn.

    Args:
      embeddings: [n, dim].
      labels: [n] integers.
      seed: of k-means.

    Returns:
      The figures, each from 0 to 1.
    """
    metrics = retrieval_metrics(embeddings, labels)
    unit = np.asarray(normalize(jnp.asarray(embeddings)))
    means = KMeans(len(np.unique(labels)), n_init=1, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct embeddings than clusters: the score says so by itself.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = means.fit_predict(unit)
    return metrics | {"nmi": float(normalized_mutual_info_score(labels, clusters))}


def pixels(images: ImageSource) -> np.ndarray:
    """Images as vectors, float32 [n, height * width * channels] from 0 to 1.

    The baseline that an embedding has to beat.
    """
    flat = images.read(np.arange(len(images))).reshape(len(images), -1)
    return flat.astype(np.float32) / 255
