"""Backbones with weights from a file, used as they are, without a run."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from rankjax import models
from rankjax.errors import RunError, UsageError
from rankjax.exported import Inputs, Network
from rankjax.similarity import normalize


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What makes a backbone with its weights, in the words of a run's settings.

    Attributes:
      model: a name in `rankjax.models.MODELS`.
      weights: the file, absolute.
      image_size: height and width of its images.
      pooling: see `rankjax.models.Pooling`.
      input_scale: a name in `rankjax.models.SCALES`, or "auto" for that of the file.
      weights_part: see `rankjax.models.load_weights`; "" for what fits best.
    """

    model: str
    weights: str
    image_size: int = 224
    pooling: models.Pooling = "default"
    input_scale: str = "auto"
    weights_part: str = ""

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "Pretrained":
        """From JSON.

        Raises:
          TypeError: a value is missing, unknown or of another type.
        """
        made = Pretrained(**stored)
        for field in dataclasses.fields(Pretrained):
            kind = int if field.name == "image_size" else str
            if type(getattr(made, field.name)) is not kind:
                raise TypeError(f"{field.name} must be {kind.__name__}")
        return made

    def load(self) -> tuple[Network, models.Loaded]:
        """The network, whose embeddings are features of length 1, and what was read.

        Images are cropped to squares, and transparent pixels blended on white.

        Raises:
          UsageError: there is no such network, or it takes no images of this size.
          RunError: the file is not there, damaged, or of another network.
        """
        path = Path(self.weights)
        if not path.is_file():
            raise RunError(f"cannot read weights from {path}: there is no such file")
        if self.image_size < 1:
            raise UsageError(f"image-size must be at least 1, got {self.image_size}")
        backbone = nnx.eval_shape(
            lambda: models.backbone(
                self.model,
                channels=3,
                layers=models.Layers(None, nnx.Rngs(0)),
                image_size=self.image_size,
            )
        )
        loaded = models.load_weights(
            backbone,
            path,
            scale=None if self.input_scale == "auto" else self.input_scale,
            part=self.weights_part or None,
        )
        embedder = models.Embedder(
            backbone,
            embedding_dim=1,
            normalize=False,
            pooling=self.pooling,
            rngs=nnx.Rngs(0),
        )
        embedder.scale = models.SCALES[loaded.scale]
        embedder.eval()
        definition, variables = nnx.split(embedder)

        def forward(variables: Any, images: jax.Array) -> jax.Array:
            return normalize(nnx.merge(definition, variables).features(images))

        inputs = Inputs(self.image_size, self.image_size, 3, fit="crop", alpha="white")
        return Network(inputs, True, 0, forward, variables), loaded


def as_json(job: Mapping[str, Any]) -> dict[str, Any]:
    """What `experiments.embed` says of the network, as `job_of` reads it."""
    made = job.get("pretrained")
    return {**job, "pretrained": dataclasses.asdict(made)} if made else {**job}


def job_of(file: Path, comment: bytes) -> dict[str, Any]:
    """What `experiments.embed` says of the network; empty in files of others."""
    if not comment:
        return {}
    kinds = {"network": str, "checkpoint": str, "step": int, "crops": int, "flip": bool}
    try:
        job = json.loads(comment)
        if all(type(job[name]) is kind for name, kind in kinds.items()):
            if type(job.get("dim", 1)) is not int:
                raise TypeError("dim must be int")
            if "pretrained" in job:
                job["pretrained"] = Pretrained.of(job["pretrained"])
            return job
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise RunError(f"{file}: damaged, its comment is not that of experiments.embed")
