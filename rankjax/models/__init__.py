"""Embedding networks in Flax NNX, chosen by name."""

from collections.abc import Callable

from flax import nnx

from rankjax.errors import unknown_name
from rankjax.models.convnet import ConvNet
from rankjax.models.embedder import Backbone, Embedder
from rankjax.models.layers import Dropout
from rankjax.models.proxies import Proxies, WithLoss
from rankjax.models.resnet import ResNet, resnet18, resnet50

__all__ = [
    "MODELS",
    "Backbone",
    "ConvNet",
    "Embedder",
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
    axis_name: str | None,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> Embedder:
    """Make an embedding network in train mode, with random weights.

    Args:
      name: one of `MODELS`.
      channels: 1 for greyscale, 3 for RGB.
      embedding_dim: the length of an embedding.
      normalize: whether embeddings have length 1.
      axis_name: the mapped axis over which batch norm shares its statistics in train
        mode, so that they are those of the whole batch; None on one device.
      dropout: share of the backbone's features that is dropped in train mode.
      rngs: where the initial weights come from.

    Raises:
      UsageError: there is no such network; the nearest names are in the message.
    """
    if name not in _BACKBONES:
        raise unknown_name("model", name, MODELS)
    backbone = _BACKBONES[name](channels=channels, axis_name=axis_name, rngs=rngs)
    return Embedder(
        backbone,
        embedding_dim=embedding_dim,
        normalize=normalize,
        dropout=Dropout(dropout, axis_name=axis_name) if dropout else None,
        rngs=rngs,
    )
