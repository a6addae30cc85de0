"""The backbone of a finished run, to start another one from."""

import re
from pathlib import Path

import numpy as np

from rankjax.errors import RunError, UsageError
from rankjax.files import read_json
from rankjax.models import SCALES
from rankjax.models.weights import torch_name
from rankjax.train.checkpoint import Checkpoints


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
        leaves = checkpoints.read(step)
    averaged = any(name.startswith(".average") for name in leaves)
    wanted = (".average[0]", ".average[1]") if averaged else (".params", ".rest")
    found = {}
    for name, array in leaves.items():
        if not name.startswith(wanted) or "['backbone']" not in name:
            continue
        inside = name.partition("['backbone']")[2].removesuffix(".value")
        keys = re.findall(r"\['?([^]']+)'?\]", inside)
        found[torch_name(".".join(keys))] = array
    return found, read_scale(path / "weights.json")


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
