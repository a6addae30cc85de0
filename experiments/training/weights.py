"""Weights to start from: those of a file, or the backbone of a finished run."""

from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from experiments.runs import WEIGHTS, load_run, read_scale
from rankjax import models
from rankjax.models.weights import torch_name


def pretrain(
    embedder: models.Embedder, path: Path, *, input_scale: str, part: str
) -> models.Loaded:
    """Puts weights from a file, or from another run, into the backbone."""
    backbone = embedder.backbone
    scale = None if input_scale == "auto" else input_scale
    if path.is_dir():
        arrays, theirs = read_run(path)
        own = "imagenet" if backbone.channels == 3 else "half"
        loaded = models.use_arrays(
            backbone, arrays, source=str(path), scale=scale or theirs or own
        )
    else:
        loaded = models.load_weights(backbone, path, scale=scale, part=part or None)
    embedder.scale = models.SCALES[loaded.scale]
    return loaded


def sentence(loaded: models.Loaded) -> str:
    """What was taken from a file of weights, in one line."""
    part = f" below {loaded.part}" if loaded.part else ""
    licence = f"; their licence is the {loaded.licence}" if loaded.licence else ""
    return (
        f"{loaded.arrays:,} arrays of {loaded.file}{part} ({loaded.layout}), its other "
        f"{len(loaded.unused):,} unused; images scaled as {loaded.scale}{licence}"
    )


def read_run(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """The arrays of a run's backbone at its best step, for `use_arrays`.

    Args:
      path: the run's folder. Its averaged weights are taken if it keeps some.

    Returns:
      The arrays by the names that the backbone has for them, and the name of the scale
      of its images, if it had pretrained weights itself.

    Raises:
      RunError: the folder holds no checkpoint, or a damaged one.
    """
    run = load_run(path, which="best")
    model = nnx.merge(run.definition, *run.state.evaluated)
    embedder: Any = model.network if isinstance(model, models.WithLoss) else model
    arrays = {
        torch_name(".".join(map(str, name))): np.asarray(variable[...])
        for name, variable in nnx.to_flat_state(nnx.state(embedder.backbone))
    }
    return arrays, read_scale(path / WEIGHTS)
