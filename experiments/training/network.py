"""The network, with random weights, and its adapters."""

import jax.numpy as jnp
from flax import nnx

from experiments.config import Model
from rankjax import models


def network(
    model: Model,
    *,
    image_size: tuple[int, int],
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


def adapt(model: Model, embedder: models.Embedder, rngs: nnx.Rngs) -> None:
    """Adds the adapters that settings ask for to a network that has its weights."""
    if model.lora:
        models.add_lora(
            embedder.backbone,
            model.lora,
            scale=model.lora_scale,
            places=model.lora_places,
            rngs=rngs,
        )
