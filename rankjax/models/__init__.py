"""Embedding networks in Flax NNX, chosen by name."""

from collections.abc import Callable

from rankjax.errors import unknown_name
from rankjax.models.convnet import ConvNet
from rankjax.models.embedder import Backbone, Embedder
from rankjax.models.layers import Dropout, Layers, Norm
from rankjax.models.proxies import Proxies, WithLoss
from rankjax.models.resnet import ResNet, resnet18, resnet50

__all__ = [
    "MODELS",
    "Backbone",
    "ConvNet",
    "Embedder",
    "Layers",
    "Norm",
    "Proxies",
    "ResNet",
    "WithLoss",
    "build",
]

_BACKBONES: dict[str, Callable[..., Backbone]] = {
    "convnet": ConvNet,
    "resnet18": resnet18,
    "resnet50": resnet50,
}

MODELS = tuple(_BACKBONES)
"""The names that `build` knows."""


def build(
    name: str,
    *,
    channels: int,
    embedding_dim: int,
    normalize: bool,
    layers: Layers,
    dropout: float = 0.0,
) -> Embedder:
    """Make an embedding network in train mode, with random weights.

    Args:
      name: one of `MODELS`.
      channels: 1 for greyscale, 3 for RGB.
      embedding_dim: the length of an embedding.
      normalize: whether embeddings have length 1.
      layers: what its layers have in common; with the axis name of the mapped axis the
        batch norm's statistics in train mode are those of the whole batch.
      dropout: share of the backbone's features that is dropped in train mode.

    Raises:
      UsageError: there is no such network; the nearest names are in the message.
    """
    if name not in _BACKBONES:
        raise unknown_name("model", name, MODELS)
    backbone = _BACKBONES[name](layers, channels=channels)
    return Embedder(
        backbone,
        embedding_dim=embedding_dim,
        normalize=normalize,
        dropout=Dropout(dropout, axis_name=layers.axis_name) if dropout else None,
        rngs=layers.rngs,
    )
