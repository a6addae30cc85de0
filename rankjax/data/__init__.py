"""Labelled images: data sets, class-balanced batches, augmentation, loading."""

from rankjax.data.augmentation import AUGMENTATIONS, Augmentation
from rankjax.data.catalogue import CATALOGUE
from rankjax.data.datasets import load
from rankjax.data.images import ImageSource
from rankjax.data.loader import Loader
from rankjax.data.samplers import (
    BATCHES,
    Batches,
    class_balanced_batches,
    make_batches,
)
from rankjax.data.splits import Dataset, Partners, Protocol, Split, VerificationPairs

__all__ = [
    "AUGMENTATIONS",
    "BATCHES",
    "CATALOGUE",
    "Augmentation",
    "Batches",
    "Dataset",
    "ImageSource",
    "Loader",
    "Partners",
    "Protocol",
    "Split",
    "VerificationPairs",
    "class_balanced_batches",
    "load",
    "make_batches",
]
