"""From images to embeddings: input scaling, a backbone, pooling, dropout, a head."""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rankjax.errors import UsageError
from rankjax.models.layers import Dropout, Staged
from rankjax.models.names import SCALES, Scale
from rankjax.similarity import at_least_float32, normalize

Pooling = Literal["default", "average", "max", "average_max", "gem", "class_token"]
"""Of all positions: their mean, maximum, the sum of both, the generalised mean with a
learned power, or the class token of a transformer. By default the mean, and what its
family takes for a transformer: the class token, or attention to all tokens."""


class GeM(nnx.Module):
    """The generalised mean of positions, (mean of x^p)^(1/p), with p learned.

    Radenović, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation",
    TPAMI 2019; p starts at 3, and x is at least 1e-6.
    """

    def __init__(self) -> None:
        self.p = nnx.Param(jnp.asarray(3.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, positions, features] to [n, features]."""
        p = self.p[...]
        return jnp.mean(jnp.maximum(x, 1e-6) ** p, 1) ** (1 / p)


class Embedder(nnx.Module):
    """A backbone and a head: images to embeddings.

    `train()` and `eval()` choose between batch norm's statistics of the batch and the
    running ones. The mode is part of the graph definition that `nnx.split` returns, so
    a model merged from a train-mode split must be told `eval()` again.

    Attributes:
      scale: what uint8 images are standardised by; `load_weights` says which one a
        backbone expects.
    """

    def __init__(
        self,
        backbone: Staged,
        *,
        embedding_dim: int,
        normalize: bool,
        pooling: Pooling = "default",
        dropout: Dropout | None = None,
        head_layers: Sequence[int] = (),
        head_norm: bool = False,
        grey_as_rgb: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        """Puts them together.

        Args:
          backbone: images to positions or to features.
          embedding_dim: the length of an embedding.
          normalize: whether embeddings have length 1.
          pooling: of the backbone's positions.
          dropout: of features in train mode.
          head_layers: widths of hidden layers of the head, with ReLUs.
          head_norm: normalise features before dropout and head, by a layer norm without
            parameters (Zhai, Wu, "Classification is a Strong Baseline for Deep Metric
            Learning", BMVC 2019).
          grey_as_rgb: take greyscale images, and show them to a backbone of three
            channels in each.
          rngs: where the initial weights come from.

        Raises:
          UsageError: there is no class token to pool.
        """
        if pooling == "class_token" and not backbone.has_class_token:
            raise UsageError(
                f"pooling is class_token, and this {type(backbone).__name__} has no "
                "such token; vit_*, dino* and clip_* have"
            )
        self.backbone = backbone
        self.pooling = pooling
        self.gem = GeM() if pooling == "gem" else None
        self.dropout = dropout
        self.head_norm = (
            nnx.LayerNorm(backbone.features, use_bias=False, use_scale=False, rngs=rngs)
            if head_norm
            else None
        )
        widths = (backbone.features, *head_layers)
        self.hidden = nnx.List(
            nnx.Linear(inputs, outputs, rngs=rngs)
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.head = nnx.Linear(widths[-1], embedding_dim, rngs=rngs)
        self.normalize = normalize
        self.channels = 1 if grey_as_rgb else backbone.channels
        self.scale = SCALES["imagenet" if backbone.channels == 3 else "half"]

    def __call__(self, images: jax.Array) -> jax.Array:
        """Embed a batch of images.

        Args:
          images: [n, height, width, channels]. uint8 is standardised on the device by
            `scale`: at first RGB by ImageNet's mean and deviation, anything else from
            [0, 255] to [-1, 1]. Floating point is used as it is.

        Returns:
          float32 [n, embedding_dim], of length 1 when `normalize` is set.

        Raises:
          ValueError: the shape or the dtype is not the one above.
        """
        x = self.features(images)
        if self.head_norm is not None:
            x = self.head_norm(x)
        if self.dropout is not None:
            x = self.dropout(x)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        z = self.head(x)
        if self.normalize:
            z = normalize(z)
        return z

    def features(self, images: jax.Array) -> jax.Array:
        """What the head gets, float32 [n, features], pooled from the backbone."""
        if images.ndim != 4 or images.shape[-1] != self.channels:
            raise ValueError(
                f"images has shape {images.shape}, must be "
                f"[n, height, width, {self.channels}]"
            )
        if self.channels != self.backbone.channels:
            images = jnp.repeat(images, self.backbone.channels, -1)
        x = self.backbone(_standardise(images, self.scale))
        if x.ndim > 2:
            x = self._pool(at_least_float32(x))
        return at_least_float32(self.backbone.finish(x))

    def _pool(self, x: jax.Array) -> jax.Array:
        """Map [n, h, w, features], or [n, tokens, features], to [n, features]."""
        if self.pooling == "default":
            return self.backbone.pool(x)
        if self.pooling == "class_token":
            return x[:, 0]
        x = x.reshape(x.shape[0], -1, x.shape[-1])[:, self.backbone.others :]
        if self.gem is not None:
            return self.gem(x)
        if self.pooling == "max":
            return x.max(1)
        if self.pooling == "average_max":
            return x.mean(1) + x.max(1)
        return x.mean(1)


def _standardise(images: jax.Array, scale: Scale) -> jax.Array:
    if jnp.issubdtype(images.dtype, jnp.floating):
        return jnp.asarray(images, jnp.float32)
    if images.dtype != jnp.uint8:
        raise ValueError(f"images has dtype {images.dtype}, must be uint8 or floating")
    mean, std = (
        np.asarray(x[: images.shape[-1]], np.float32) for x in (scale.mean, scale.std)
    )
    return (jnp.asarray(images, jnp.float32) / 255 - mean) / std
