"""How files name the weights of a network, and how their images were scaled."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class Scale(NamedTuple):
    """What is taken from images in [0, 1], per channel, and what they are divided by.

    Attributes:
      mean: red, green and blue.
      std: red, green and blue.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


SCALES: Mapping[str, Scale] = {
    "imagenet": Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": Scale((0.5,) * 3, (0.5,) * 3),
    "lite": Scale((127 / 255,) * 3, (128 / 255,) * 3),
    "caffe": Scale((128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3),
    "clip": Scale(
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ),
    "keras": Scale(
        (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)
    ),
}
"""ImageNet's mean and deviation; [0, 255] to [-1, 1] as TensorFlow's networks have it;
the same by 127 and 128; the mean and deviation of CLIP's images; and Caffe's means of
BN-Inception and of Keras' ResNets, without a deviation."""

Names = str | tuple[str | None, ...]
"""The name of an array in a file, or those of the parts that make it up, one after the
other. A part without a name is zero; if none of the other parts are there, all are."""


class Layout(NamedTuple):
    """How one kind of files names the weights of one network.

    Attributes:
      rename: from our dotted name to theirs, see `Names`. Ours ends as PyTorch's do: in
        weight, bias, running_mean or running_var.
      scale: a name in `SCALES`, or None where such files differ.
      unused: a regular expression of the names of what embeddings do not need, such as
        the classifier.
      variance: what is added to running variances: the epsilon of their batch norms
        less that of ours.
      bias_of: from the name of a batch norm's running mean to that of the bias of the
        convolution before it, which is taken from the mean.
      bgr: the name of the kernel that sees blue, green and red in this order.
      transposed: whether arrays have PyTorch's order of dimensions, not ours.
      plain: a regular expression of the names that have ours all the same.
    """

    rename: Callable[[str], Names]
    scale: str | None
    unused: str
    variance: float = 0.0
    bias_of: Callable[[str], str] | None = None
    bgr: str | None = None
    transposed: bool = True
    plain: str = r"$^"


OURS = Layout(lambda name: name, None, r"$^", transposed=False)
"""Of checkpoints of our own runs."""


_FAMILIES: Mapping[str, str] = {
    "ResNet": r"layer[1-4]\.\d+\.conv1\.|conv\d_block\d+_\d_conv\.",
    "BN-Inception": r"inception_\d[a-e]_",
    "GoogLeNet": r"inception\d[a-e]\.",
    "DenseNet": r"denseblock\d+\.",
    "ConvNeXt": r"\.conv_dw\.bias|\.dwconv\.|features\.\d+\.\d+\.layer_scale",
    "MobileNet or an EfficientNet": r"conv_stem\.|features\.\d+(\.\d+)?\.block\.",
    "CLIP": r"\.resblocks\.\d+\.|\.pre_layrnorm\.|norm_pre\.",
    "SigLIP": r"attn_pool\.|head\.attention\.",
    "DINOv3": r"blocks\.\d+\.gamma_1|layer\.\d+\.attention\.q_proj\.",
    "DINOv2": r"\.ls1\.gamma|\.layer_scale1\.",
    "ViT": r"\.attn\.qkv\.|\.encoder_layer_\d+\.|\.attention\.query\.",
}


def family_of(names: Iterable[str]) -> str | None:
    """Whose weights a file seems to hold, by words that only these have."""
    text = "\n".join(f".{name}" for name in names)
    found = (family for family, word in _FAMILIES.items() if re.search(word, text))
    return next(found, None)


def replacing(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """Replaces regular expressions in a name, one after the other."""

    def rename(name: str) -> str:
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        return name

    return rename


def looking_up(modules: Mapping[str, str]) -> Callable[[str], str]:
    """Replaces all before the last dot of a name by what a table says."""

    def rename(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}"

    return rename
