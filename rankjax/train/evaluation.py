"""How well an embedding retrieves and clusters images of classes it never saw."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rankjax import metrics
from rankjax.data import ImageSource
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
    embeddings: np.ndarray, labels: np.ndarray, *, seed: int
) -> dict[str, float]:
    """Retrieval by cosine of each row among all others, and NMI.

    NMI compares the classes with k-means clusters (k the number of classes, one run)
    of the embeddings on the unit sphere.

    Args:
      embeddings: [n, dim].
      labels: [n] integers.
      seed: of k-means.

    Returns:
      Recall@1, 2, 4, 8 and the other figures of `rankjax.metrics.retrieval`, and `nmi`,
      each from 0 to 1.
    """
    means = metrics.retrieval(metrics.leave_one_out(embeddings, labels)).means()
    clusters = metrics.kmeans(
        normalize(jnp.asarray(embeddings)),
        k=len(np.unique(labels)),
        seed=seed,
        restarts=1,
    )
    scores = metrics.clustering_scores(labels, clusters.assignment)
    return means | {"nmi": scores["nmi"]}


def pixels(images: ImageSource) -> np.ndarray:
    """Images as vectors, float32 [n, height * width * channels] from 0 to 1.

    The baseline that an embedding has to beat.
    """
    flat = images.read(np.arange(len(images))).reshape(len(images), -1)
    return flat.astype(np.float32) / 255
