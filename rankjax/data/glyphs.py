"""The `glyphs` and `digits` data sets for TFDS: no download, no TensorFlow."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from rankjax.data import glyph_images


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """Characters as classes, drawn in the fonts that come with matplotlib."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - the name and type are TFDS's.
        tfds.core.BuilderConfig(name=name, description=level.description)
        for name, level in glyph_images.LEVELS.items()
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "lite"

    def _info(self) -> tfds.core.DatasetInfo:
        size = glyph_images.SIZE
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{type(self).__doc__} {self.builder_config.description}",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 1)),
                    "label": np.int64,
                    "font": np.int64,
                    "codepoint": np.int64,
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Any]:
        glyphs = glyph_images.render(glyph_images.LEVELS[self.builder_config.name])
        splits = glyph_images.split_classes(int(glyphs.labels[-1]) + 1)
        return {
            split: self._generate_examples(glyphs, np.isin(glyphs.labels, classes))
            for split, classes in splits.items()
        }

    def _generate_examples(
        self, glyphs: glyph_images.Glyphs, members: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, i in enumerate(np.flatnonzero(members)):
            yield (
                key,
                {
                    "image": _png(glyphs.images[i]),
                    "label": int(glyphs.labels[i]),
                    "font": int(glyphs.fonts[i]),
                    "codepoint": int(glyphs.codepoints[i]),
                },
            )


class Digits(tfds.core.GeneratorBasedBuilder):
    """The 8x8 digits of scikit-learn: 0-4 to train on, 5-9 to test on."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Any]:
        return {
            "train": self._generate_examples(range(5)),
            "test": self._generate_examples(range(5, 10)),
        }

    def _generate_examples(
        self, classes: range
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        for key, i in enumerate(np.flatnonzero(np.isin(digits.target, classes))):
            yield key, {"image": _png(images[i]), "label": int(digits.target[i])}


def _png(image: np.ndarray) -> io.BytesIO:
    # TFDS encodes arrays with TensorFlow, but takes encoded files as they are.
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    file.seek(0)
    return file
