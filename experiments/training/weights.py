"""Weights to start from: those of a file, or the backbone of a finished run."""

from pathlib import Path

import numpy as np
from flax import traverse_util

from rankjax import models
from rankjax.errors import RunError, UsageError
from rankjax.files import read_json
from rankjax.models import SCALES
from rankjax.models.weights import torch_name
from rankjax.train import Checkpoints


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
      UsageError: the folder holds no checkpoint.
      RunError: the checkpoint is damaged.
    """
    folder = path / "checkpoints"
    if not folder.is_dir():
        raise UsageError(f"{path} is no folder of a run: it has no checkpoints")
    with Checkpoints(folder, read_only=True) as checkpoints:
        step = checkpoints.best_step()
        if step is None:
            raise UsageError(f"{path} is a run without a checkpoint so far")
        state = checkpoints.read(step)
    averages = state.get("average")
    variables = averages.values() if averages else (state["params"], state["rest"])
    found: dict[str, np.ndarray] = {}
    for part in variables:
        backbone = part.get("network", part).get("backbone", {})
        found |= traverse_util.flatten_dict(backbone, sep=".")
    if not found:
        raise UsageError(
            f"{path} trained a head on features and has no backbone; give the file of "
            "its backbone's weights"
        )
    arrays = {torch_name(name): array for name, array in found.items()}
    return arrays, read_scale(path / "weights.json")


def read_scale(file: Path) -> str | None:
    """How images of pretrained weights were scaled; None where there is no file.

    Raises:
      RunError: the file is damaged.
    """
    if not file.exists():
        return None
    scale = read_json(file).get("scale")
    if scale not in SCALES:
        raise RunError(f"{file}: damaged, its scale is {scale!r}; mend or delete it")
    return scale
