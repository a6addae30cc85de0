"""Puts weights from files into backbones, all of them or none."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rankjax.errors import RunError, UsageError
from rankjax.models.layers import Staged
from rankjax.models.names import OURS, Layout
from rankjax.models.weight_files import Arrays, read_weights

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was taken from a file.

    Attributes:
      file: its name.
      sha256: of its content.
      layout: whose names it has.
      scale: a name in `rankjax.models.SCALES`, how its images were scaled.
      arrays: the number of arrays that the backbone has now.
      unused: names of what it does not need, such as the classifier.
      resized: names of embeddings of positions that were resized.
    """

    file: str
    sha256: str
    layout: str
    scale: str
    arrays: int
    unused: tuple[str, ...]
    resized: tuple[str, ...]


def load_weights(backbone: Staged, path: Path, *, scale: str | None = None) -> Loaded:
    """Replaces the weights of a backbone by those in a file.

    Args:
      backbone: as `rankjax.models.backbone` makes it; changed in place.
      path: safetensors, a PyTorch state dict or Keras' .weights.h5, see
        `rankjax.models.weight_files`.
      scale: a name in `rankjax.models.SCALES`, for files whose names do not tell.

    Raises:
      RunError: the file is damaged, or its arrays are not those of this backbone: the
        message lists what is missing, unexpected and of another shape. The backbone is
        as before then.
      UsageError: `scale` must be said.
    """
    loaded = use_arrays(backbone, read_weights(path), source=str(path), scale=scale)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(loaded, file=path.name, sha256=digest)


def use_arrays(
    backbone: Staged, arrays: Arrays, *, source: str, scale: str | None = None
) -> Loaded:
    """As `load_weights`, of named arrays; `source` is who gave them, for messages.

    The backbone may be abstract, from `nnx.eval_shape`: it gets arrays then.
    """
    state = nnx.state(backbone, nnx.Any(nnx.Param, nnx.BatchStat))
    ours = named_arrays(state)
    kind, layout = _choose(backbone, ours, arrays)
    values, unused, resized = _match(ours, arrays, layout, source)
    scale = scale or layout.scale
    if scale is None:
        raise UsageError(
            f"{source}: files with names of {kind} differ in how images were scaled; "
            "say it with input_scale (half for most weights of timm, imagenet for DINO)"
        )
    for name, variable in ours.items():
        variable.set_value(jnp.asarray(values[name], variable.get_value().dtype))
    nnx.update(backbone, state)
    return Loaded(source, "", kind, scale, len(values), unused, resized)


def named_arrays(state: Any) -> dict[str, nnx.Variable[Any]]:
    """The variables in a backbone's state by dotted names that end as PyTorch's do."""
    found = {}
    for path, variable in nnx.to_flat_state(state):
        found[torch_name(".".join(map(str, path)))] = variable
    return found


def torch_name(name: str) -> str:
    """The name of an array of ours with PyTorch's last word."""
    module, dot, leaf = name.rpartition(".")
    return f"{module}{dot}{_LEAVES.get(leaf, leaf)}"


def _choose(
    backbone: Staged, ours: dict[str, Any], arrays: Arrays
) -> tuple[str, Layout]:
    """The layout that shares most names with a file."""
    layouts = {"rankjax": OURS} | dict(backbone.layouts())

    def shared(kind: str) -> int:
        return sum(layouts[kind].rename(name) in arrays for name in ours)

    kind = max(layouts, key=shared)
    return kind, layouts[kind]


def _match(
    ours: dict[str, Any], arrays: Arrays, layout: Layout, source: str
) -> tuple[Arrays, tuple[str, ...], tuple[str, ...]]:
    """Our arrays from theirs, and the names of what was unused and what resized."""
    left = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
    values: Arrays = {}
    missing, misshaped, resized = [], [], []
    for name, variable in ours.items():
        theirs = layout.rename(name)
        if theirs not in left:
            missing.append(theirs)
            continue
        value = left.pop(theirs)
        if layout.transposed:
            value = _transposed(value)
        if theirs == layout.bgr:
            value = value[:, :, ::-1]
        if name == "pos_embed" and value.shape != variable.shape:
            value = _resized(value, variable.shape)
            resized.append(theirs)
        if name.endswith(".running_mean") and layout.bias_of:
            bias = layout.bias_of(theirs)
            if bias in left:
                value = value - left.pop(bias)
        if name.endswith(".running_var"):
            value = value + layout.variance
        if value.shape != variable.shape:
            misshaped.append(f"{theirs} {value.shape}, not {tuple(variable.shape)}")
        elif not np.all(np.isfinite(np.asarray(value, np.float32))):
            misshaped.append(f"{theirs} with values that are not finite")
        values[name] = value
    unused = tuple(sorted(k for k in left if re.match(layout.unused, k)))
    unexpected = sorted(set(left) - set(unused))
    if missing or misshaped or unexpected:
        raise RunError(
            f"{source}: not the weights of this network: "
            + "; ".join(
                f"{len(names)} {what} ({', '.join(names[:4])}"
                + (", ..." if len(names) > 4 else "")
                + ")"
                for what, names in (
                    ("missing", missing),
                    ("of another shape", misshaped),
                    ("unexpected", unexpected),
                )
                if names
            )
            + f"; {len(values) - len(misshaped)} of {len(ours)} fit"
        )
    return values, unused, tuple(resized)


def _transposed(value: np.ndarray) -> np.ndarray:
    """PyTorch's order of dimensions to ours."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 3 and value.shape[1:] == (1, 1):
        return value.reshape(-1)
    return value.T if value.ndim == 2 else value


def _resized(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Embeddings of positions for another grid, by bicubic interpolation."""
    if value.ndim != 3 or value.shape[::2] != shape[::2]:
        return value
    old, new = (int((n - 1) ** 0.5) for n in (value.shape[1], shape[1]))
    if 1 + old * old != value.shape[1]:
        return value
    first, grid = value[:, :1], value[:, 1:].reshape(old, old, -1)
    grid = jax.image.resize(grid, (new, new, grid.shape[-1]), "bicubic")
    return np.concatenate([first, np.asarray(grid).reshape(1, new * new, -1)], 1)
