"""Labelled images: data sets, class-balanced batches, augmentation, loading."""

from rankjax.data.augmentation import AUGMENTATIONS
from rankjax.data.catalogue import CATALOGUE
from rankjax.data.datasets import load
from rankjax.data.loading import Loader
from rankjax.data.sampling import class_balanced_batches
from rankjax.data.sources import ImageSource
from rankjax.data.splits import Dataset, Protocol, Split, VerificationPairs

__all__ = [
    "AUGMENTATIONS",
    "CATALOGUE",
    "Dataset",
    "ImageSource",
    "Loader",
    "Protocol",
    "Split",
    "VerificationPairs",
    "class_balanced_batches",
    "load",
]
