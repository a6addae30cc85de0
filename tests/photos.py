"""Folders of noise."""

import numpy as np
from PIL import Image


def make_photos(folder, classes, images, *, train=None, mode="RGB", seed=0):
    """Noise, a folder per class; with `train` so many of them are for training."""
    rng = np.random.default_rng(seed)
    shape = (32, 32, 3) if mode == "RGB" else (32, 32)
    for i in range(classes):
        split = "" if train is None else "train" if i < train else "test"
        place = folder / split / f"class{i}"
        place.mkdir(parents=True)
        for j in range(images):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{j}.png")
    return folder
