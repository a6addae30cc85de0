"""Puts weights from files into backbones, all of them or none."""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from rankjax.errors import RunError, UsageError
from rankjax.models.layers import Staged
from rankjax.models.names import OURS, Layout, Names, family_of
from rankjax.models.weight_files import Arrays, read_weights

T = TypeVar("T")
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


# Parts of a file by which raw weights are told from others, the first ones preferred.
_PREFERRED = (
    *("state_dict", "model_state_dict", "teacher", "encoder_q", "base_encoder"),
    *("model", "module", "visual", "vision_model"),
)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was taken from a file.

    Attributes:
      file: its name.
      sha256: of its content.
      layout: whose names it has.
      part: what stands before the names of the backbone in the file, such as
        "teacher.backbone"; "" for nothing.
      scale: a name in `rankjax.models.SCALES`, how its images were scaled.
      arrays: the number of arrays that the backbone has now.
      unused: names of what it does not need, such as the classifier.
      resized: names of embeddings of positions that were resized.
      licence: of the weights of this family, if it is one of its own, else "".
    """

    file: str
    sha256: str
    layout: str
    part: str
    scale: str
    arrays: int
    unused: tuple[str, ...]
    resized: tuple[str, ...]
    licence: str


def load_weights(
    backbone: Staged, path: Path, *, scale: str | None = None, part: str | None = None
) -> Loaded:
    """Replaces the weights of a backbone by those in a file.

    Args:
      backbone: as `rankjax.models.backbone` makes it; changed in place.
      path: safetensors, a PyTorch state dict or Keras' .weights.h5, see
        `rankjax.models.weight_files`.
      scale: a name in `rankjax.models.SCALES`, for files whose names do not tell.
      part: what stands before the names of the weights in a file that has them several
        times, such as "model_ema". By default that part of the file is taken that fits
        best; of equal ones a state dict before others, and a teacher before a student.

    Raises:
      RunError: the file is damaged, or its arrays are not those of this backbone: the
        message lists what is missing, unexpected and of another shape. The backbone is
        as before then.
      UsageError: `scale` or `part` must be said.
    """
    arrays = read_weights(path)
    loaded = use_arrays(backbone, arrays, source=str(path), scale=scale, part=part)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(loaded, file=path.name, sha256=digest)


def use_arrays(
    backbone: Staged,
    arrays: Arrays,
    *,
    source: str,
    scale: str | None = None,
    part: str | None = None,
) -> Loaded:
    """As `load_weights`, of named arrays; `source` is who gave them, for messages.

    The backbone may be abstract, from `nnx.eval_shape`: it gets arrays then.
    """
    state = nnx.state(backbone, nnx.Any(nnx.Param, nnx.BatchStat))
    ours = named_arrays(state)
    layouts = {"rankjax": OURS} | dict(backbone.layouts())
    kind, part = _choose(layouts, ours, arrays, source, part)
    layout, inside = layouts[kind], _below(arrays, part)
    values, unused, resized = _match(backbone, ours, inside, layout, source)
    scale = scale or layout.scale
    if scale is None:
        raise UsageError(
            f"{source}: files with names of {kind} differ in how images were scaled; "
            "say it with input_scale (half for most weights of timm, imagenet for DINO)"
        )
    for name, variable in ours.items():
        variable.set_value(jnp.asarray(values[name], variable.get_value().dtype))
    nnx.update(backbone, state)
    prefix = f"{part}." if part else ""
    outside = {k for k in arrays if not k.startswith(prefix)}
    return Loaded(
        file=source,
        sha256="",
        layout=kind,
        part=part,
        scale=scale,
        arrays=len(values),
        unused=tuple(sorted({*(prefix + name for name in unused), *outside})),
        resized=resized,
        licence=backbone.licence,
    )


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


def _below(arrays: Mapping[str, T], part: str) -> dict[str, T]:
    """What stands below a part of the names, by the rest of the name."""
    prefix = f"{part}." if part else ""
    return {
        k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
    }


def _choose(
    layouts: Mapping[str, Layout],
    ours: Collection[str],
    arrays: Arrays,
    source: str,
    part: str | None,
) -> tuple[str, str]:
    """The layout and the part of a file that share most names with a backbone."""
    sizes: collections.Counter[str] = collections.Counter()
    for name in arrays:
        words = name.split(".")
        sizes.update(".".join(words[:i]) for i in range(len(words)))
    # A backbone is never spread over parts, and small ones cannot hold it.
    parts = [p for p, size in sizes.items() if p == "" or 4 * size > len(ours)]
    wanted = {
        kind: [_as_tuple(layout.rename(name)) for name in ours]
        for kind, layout in layouts.items()
    }

    def shared(kind: str, part: str) -> int:
        prefix = f"{part}." if part else ""
        return sum(
            all(name is None or prefix + name in arrays for name in names)
            for names in wanted[kind]
        )

    found = {(kind, p): shared(kind, p) for p in parts for kind in layouts}
    if part is not None:
        fitting = sorted({p for (_, p), count in found.items() if count and p})
        if part not in parts:
            raise UsageError(
                f"weights_part must be what stands before the names in {source}: "
                f"{', '.join(fitting[:6]) or 'there is nothing'}; got {part!r}"
            )
        found = {key: count for key, count in found.items() if key[1] == part}
    most = max(found.values())
    best = [key for key, count in found.items() if count == most]
    first = min(_rank(p) for _, p in best)
    best = [key for key in best if _rank(key[1]) == first]
    several = sorted({p for _, p in best})
    if most and len(several) > 1:
        raise UsageError(
            f"{source} has the weights several times, below {', '.join(several[:4])}: "
            "say which one with weights_part"
        )
    return best[0]


def _rank(part: str) -> tuple[float, ...]:
    """Rises from the words in `_PREFERRED` to the whole file to any other part."""
    words, last = part.split("."), len(_PREFERRED)
    if not part:
        return (last - 0.5,)
    return (*(i for i, word in enumerate(_PREFERRED) if word in words), last)


def _as_tuple(names: Names) -> tuple[str | None, ...]:
    return (names,) if isinstance(names, str) else names


def _match(
    backbone: Staged,
    ours: dict[str, nnx.Variable[Any]],
    arrays: Arrays,
    layout: Layout,
    source: str,
) -> tuple[Arrays, tuple[str, ...], tuple[str, ...]]:
    """Our arrays from theirs, and the names of what was unused and what resized."""
    left = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
    values: Arrays = {}
    missing, misshaped, not_finite, resized = [], [], [], []
    for name, variable in ours.items():
        names = _as_tuple(layout.rename(name))
        theirs = next(filter(None, names))
        absent = [n for n in names if n is not None and n not in left]
        if absent and (None not in names or len(absent) < len(names) - 1):
            missing.extend(absent)
            continue
        if absent:
            values[name] = np.zeros(variable.shape, np.float32)
            continue
        parts = [left.pop(n) if n is not None else None for n in names]
        value = _joined(parts)
        if layout.transposed and not re.search(layout.plain, theirs):
            value = _transposed(value)
        if _squeezed(value.shape) == _squeezed(variable.shape):
            value = value.reshape(variable.shape)
        elif name == "pos_embed" and value.ndim == 2:
            value = (value.T if layout.transposed else value)[None]
        if theirs == layout.bgr:
            value = value[:, :, ::-1]
        fitted = backbone.fit(name, value)
        if fitted is not value:
            resized.append(theirs)
        value = fitted
        if name.endswith(".running_mean") and layout.bias_of:
            bias = layout.bias_of(theirs)
            if bias in left:
                value = value - left.pop(bias)
        if name.endswith(".running_var"):
            value = value + layout.variance
        if value.shape != variable.shape:
            misshaped.append(f"{theirs} {value.shape}, not {tuple(variable.shape)}")
        elif not np.all(np.isfinite(np.asarray(value, np.float32))):
            not_finite.append(theirs)
        values[name] = value
    unused = tuple(sorted(k for k in left if re.match(layout.unused, k)))
    unexpected = sorted(set(left) - set(unused))
    if not_finite and not (missing or misshaped or unexpected):
        raise RunError(
            f"{source}: weights must be finite, got {len(not_finite)} arrays with "
            f"others, such as {not_finite[0]}"
        )
    if missing or misshaped or unexpected:
        family = family_of(arrays)
        like = f", they look like those of a {family}" if family else ""
        raise RunError(
            f"{source}: not the weights of this network{like}: "
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


def _joined(parts: list[np.ndarray | None]) -> np.ndarray:
    """Parts of an array one after the other; those that are None are zero."""
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]
    some = next(part for part in parts if part is not None)
    return np.concatenate([np.zeros_like(some) if p is None else p for p in parts])


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
