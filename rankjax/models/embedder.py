"""From images to embeddings: input scaling, a backbone, dropout, a linear head."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from rankjax.models.layers import Dropout
from rankjax.similarity import at_least_float32, normalize

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(Protocol):
    """Maps float32 images [n, height, width, channels] to [n, features], in any
    precision."""

    channels: int
    features: int

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return one feature vector per image."""
        ...


class Embedder(nnx.Module):
    """A backbone and a linear head: images to embeddings.

    `train()` and `eval()` choose between batch norm's statistics of the batch and the
    running ones. The mode is part of the graph definition that `nnx.split` returns, so
    a model merged from a train-mode split must be told `eval()` again.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int,
        normalize: bool,
        dropout: Dropout | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.backbone = backbone
        self.dropout = dropout
        self.head = nnx.Linear(backbone.features, embedding_dim, rngs=rngs)
        self.normalize = normalize

    def __call__(self, images: jax.Array) -> jax.Array:
        """Embed a batch of images.

        Args:
          images: [n, height, width, channels]. uint8 is standardised on the device:
            RGB by ImageNet's mean and deviation, anything else from [0, 255] to
            [-1, 1]. Floating point is used as it is.

        Returns:
          float32 [n, embedding_dim], of length 1 when `normalize` is set.

        Raises:
          ValueError: the shape or the dtype is not the one above.
        """
        x = self.backbone(_standardise(images, self.backbone.channels))
        x = at_least_float32(x)
        if self.dropout is not None:
            x = self.dropout(x)
        z = self.head(x)
        if self.normalize:
            z = normalize(z)
        return z


def _standardise(images: jax.Array, channels: int) -> jax.Array:
    if images.ndim != 4 or images.shape[-1] != channels:
        raise ValueError(
            f"images has shape {images.shape}, must be [n, height, width, {channels}]"
        )
    if jnp.issubdtype(images.dtype, jnp.floating):
        return jnp.asarray(images, jnp.float32)
    if images.dtype != jnp.uint8:
        raise ValueError(f"images has dtype {images.dtype}, must be uint8 or floating")
    mean = jnp.asarray(_IMAGENET_MEAN if channels == 3 else 0.5)
    std = jnp.asarray(_IMAGENET_STD if channels == 3 else 0.5)
    return (jnp.asarray(images, jnp.float32) / 255 - mean) / std
