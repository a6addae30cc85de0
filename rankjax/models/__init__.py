"""Embedding networks in Flax NNX, chosen by name."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from rankjax.errors import unknown_name
from rankjax.models.convnet import ConvNet
from rankjax.models.convnext import ConvNeXt, convnext_tiny
from rankjax.models.densenet import DenseNet, densenet169
from rankjax.models.embedder import Embedder, GeM, Pooling
from rankjax.models.inception import BNInception, GoogLeNet
from rankjax.models.layers import Dropout, Layers, Norm, Staged
from rankjax.models.lora import add_lora, merge_lora
from rankjax.models.mobile import MobileNet, efficientnet, mobilenet_v3
from rankjax.models.names import SCALES, Scale
from rankjax.models.proxies import Proxies, WithLoss
from rankjax.models.resnet import ResNet, resnet
from rankjax.models.vit import VITS, ViT
from rankjax.models.weights import Loaded, load_weights, use_arrays

__all__ = [
    "MODELS",
    "SCALES",
    "BNInception",
    "ConvNeXt",
    "ConvNet",
    "DenseNet",
    "Embedder",
    "GeM",
    "GoogLeNet",
    "Layers",
    "Loaded",
    "MobileNet",
    "Norm",
    "Pooling",
    "Proxies",
    "ResNet",
    "Scale",
    "Staged",
    "ViT",
    "WithLoss",
    "add_lora",
    "backbone",
    "build",
    "load_weights",
    "merge_lora",
    "use_arrays",
]

_BACKBONES: dict[str, Callable[..., Staged]] = {
    "convnet": ConvNet,
    **{f"resnet{n}": partial(resnet, depth=n) for n in (18, 34, 50, 101)},
    **{f"resnet{n}_v1": partial(resnet, depth=n, v1=True) for n in (50, 101)},
    "bn_inception": BNInception,
    "googlenet": GoogLeNet,
    "inception_v1": partial(GoogLeNet, same=True),
    "densenet169": densenet169,
    "mobilenet_v3_small": partial(mobilenet_v3, small=True),
    "mobilenet_v3_large": partial(mobilenet_v3, small=False),
    "efficientnet_b0": efficientnet,
    "tf_efficientnet_b0": partial(efficientnet, same=True),
    "efficientnet_lite0": partial(efficientnet, lite=True, same=True),
    "convnext_tiny": convnext_tiny,
    **VITS,
}

MODELS = tuple(_BACKBONES)
"""The names that `build` knows."""


def backbone(
    name: str,
    *,
    channels: int,
    layers: Layers,
    image_size: int | tuple[int, int] = 224,
) -> Staged:
    """Make a backbone with random weights.

    Args:
      name: one of `MODELS`.
      channels: 1 for greyscale, 3 for RGB.
      layers: what its layers have in common.
      image_size: of the images, or their height and width.

    Raises:
      UsageError: there is no such network, with the nearest names in the message; or it
        does not take images of this size.
    """
    if name not in _BACKBONES:
        raise unknown_name("model", name, MODELS)
    sized = {"image_size": image_size} if name in VITS else {}
    made = _BACKBONES[name](layers, channels=channels, **sized)
    made.check_size(*np.broadcast_to(image_size, 2).tolist())
    return made


def build(
    name: str | Staged,
    *,
    channels: int,
    embedding_dim: int,
    normalize: bool,
    layers: Layers,
    image_size: int | tuple[int, int] = 224,
    pooling: Pooling = "default",
    dropout: float = 0.0,
    head_layers: Sequence[int] = (),
    head_norm: bool = False,
    grey_as_rgb: bool = False,
) -> Embedder:
    """Make an embedding network in train mode, with random weights.

    Args:
      name: one of `MODELS`, or a backbone that has been made.
      channels: 1 for greyscale, 3 for RGB.
      embedding_dim: the length of an embedding.
      normalize: whether embeddings have length 1.
      layers: what its layers have in common; with the axis name of the mapped axis the
        batch norm's statistics in train mode are those of the whole batch.
      image_size: of the images, or their height and width.
      pooling: of the backbone's positions, see `Pooling`.
      dropout: share of the backbone's features that is dropped in train mode.
      head_layers: widths of hidden layers before the embedding.
      head_norm: layer norm, without parameters, before the head.
      grey_as_rgb: show greyscale images to a network of three channels in each, as
        pretrained weights want it; colour images have three already.

    Raises:
      UsageError: there is no such network, with the nearest names in the message; or it
        does not take images of this size.
    """
    grey_as_rgb = grey_as_rgb and channels == 1
    return Embedder(
        name
        if isinstance(name, Staged)
        else backbone(
            name,
            channels=3 if grey_as_rgb else channels,
            layers=layers,
            image_size=image_size,
        ),
        embedding_dim=embedding_dim,
        normalize=normalize,
        pooling=pooling,
        dropout=Dropout(dropout, axis_name=layers.axis_name) if dropout else None,
        head_layers=head_layers,
        head_norm=head_norm,
        grey_as_rgb=grey_as_rgb,
        rngs=layers.rngs,
    )
