"""The network, with random weights or pretrained ones."""

from pathlib import Path

import jax.numpy as jnp
from flax import nnx

from experiments.config import Model
from rankjax import models
from rankjax.train import read_run


def network(
    model: Model,
    *,
    image_size: int,
    channels: int,
    axis_name: str | None,
    rngs: nnx.Rngs,
) -> models.Embedder:
    """The network, with random weights."""
    return models.build(
        model.name,
        channels=channels,
        embedding_dim=model.embedding_dim,
        normalize=model.normalize,
        image_size=image_size,
        pooling=model.pooling,
        dropout=model.dropout,
        head_layers=model.head_layers,
        head_norm=model.head_norm,
        grey_as_rgb=model.grey_as_rgb,
        layers=models.Layers(
            axis_name,
            rngs,
            norm_kind=model.norm,
            dtype=jnp.bfloat16 if model.precision == "bfloat16" else None,
            remat=model.remat,
            stochastic_depth=model.stochastic_depth,
        ),
    )


def pretrain(embedder: models.Embedder, path: Path, input_scale: str) -> models.Loaded:
    """Puts weights from a file, or from another run, into the backbone."""
    backbone = embedder.backbone
    scale = None if input_scale == "auto" else input_scale
    if path.is_dir():
        arrays, theirs = read_run(path)
        own = "imagenet" if backbone.channels == 3 else "half"
        loaded = models.use_arrays(
            backbone, arrays, source=str(path), scale=scale or theirs or own
        )
    else:
        loaded = models.load_weights(backbone, path, scale=scale)
    embedder.scale = models.SCALES[loaded.scale]
    return loaded
