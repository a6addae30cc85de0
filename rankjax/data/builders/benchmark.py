"""One TFDS builder for all benchmarks whose archives a person has to fetch."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rankjax.data.builders import layouts
from rankjax.data.builders.archives import Archives

LAYOUTS: dict[str, layouts.Layout] = {
    "cub": layouts.cub,
    "cars": layouts.cars,
    "sop": layouts.sop,
    "in_shop": layouts.in_shop,
    "omniglot": layouts.omniglot,
    "omniglot_small": layouts.omniglot_small,
    "flowers": layouts.flowers,
    "lfw": layouts.lfw,
    "market1501": layouts.reid_of("Market-1501-v15.09.15.zip"),
    "dukemtmc": layouts.reid_of("DukeMTMC-reID.zip"),
    "inaturalist": layouts.inaturalist,
    "cifar100": layouts.cifar100,
    "mnist": layouts.mnist,
    "fashion_mnist": layouts.mnist,
    "kmnist": layouts.mnist,
}
_WITH_GALLERY = ("in_shop", "market1501", "dukemtmc")


class Benchmark(tfds.core.GeneratorBasedBuilder):
    """Labelled images of an archive, split for metric learning."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in LAYOUTS]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = "See rankjax.data.catalogue."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "camera": np.int32,
                    "file": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        archives, name = Archives(dl_manager.manual_dir), self.builder_config.name
        if name == "lfw":
            self.info.metadata["pairs"] = layouts.lfw_pairs(archives)
        splits = ["train", "test", *(["gallery"] if name in _WITH_GALLERY else [])]
        return {split: self._generate_examples(archives, split) for split in splits}

    def _generate_examples(
        self, archives: Archives, split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, example in enumerate(LAYOUTS[self.builder_config.name](archives)):
            if example.split == split:
                yield (
                    key,
                    {
                        "image": io.BytesIO(example.read()),
                        "label": example.label,
                        "group": example.group,
                        "camera": example.camera,
                        "file": example.file,
                    },
                )
