"""Networks that `experiments.export` wrote: they run without their code and flax.

JAX, NumPy and flatbuffers, which JAX's own format is made of, are all that is needed:

    network = rankjax.exported.load("artefact")
    embeddings = network(images)  # uint8 [n, height, width, channels], n any number
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from rankjax.errors import RunError, UsageError
from rankjax.files import read_json, read_regular
from rankjax.similarity import normalize

FORMAT = 1
"""Of an artefact; one of a later format is refused."""

CONTENTS, FUNCTION, WEIGHTS = "model.json", "model.jax", "weights.npz"


class Inputs(NamedTuple):
    """What a network's images are like.

    Attributes:
      height, width, channels: of an image.
      short_side: of a crop: what the short side is resized to before the centre is cut
        out; None where it is the result's.
      fit: `crop`, `squash` or `letterbox`, see `rankjax.data.images.fit_image`; None
        for `crop` to squares and `squash` to other shapes.
      alpha: what transparent pixels are blended on, see `rankjax.data.images.decode`.
    """

    height: int
    width: int
    channels: int
    short_side: int | None = None
    fit: Literal["crop", "squash", "letterbox"] | None = None
    alpha: Literal["white", "black", "drop"] = "drop"

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "Inputs":
        """From JSON.

        Raises:
          TypeError: a number is missing, unknown or none.
        """
        inputs = Inputs(**stored)
        numbers = [number for number in inputs[:4] if number is not None]
        if any(type(number) is not int for number in numbers):
            raise TypeError(f"{numbers} must be integers")
        if inputs.fit not in (None, "crop", "squash", "letterbox"):
            raise TypeError(f"fit must be crop, squash or letterbox, got {inputs.fit}")
        if inputs.alpha not in ("white", "black", "drop"):
            raise TypeError(f"alpha must be white, black or drop, got {inputs.alpha}")
        return inputs


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network; one equals itself alone, so that `jax.jit` takes it.

    Attributes:
      inputs: what its images are like.
      normalized: whether embeddings have length 1.
      step: after how many it had been trained.
      forward: pure; `forward(variables, images)` with uint8 images [n, height, width,
        channels] gives float32 [n, dim].
      variables: a pytree of its weights.
    """

    inputs: Inputs
    normalized: bool
    step: int
    forward: Callable[[Any, jax.Array], jax.Array] = field(repr=False)
    variables: Any = field(repr=False)

    @cached_property
    def _compiled(self) -> Callable[[Any, Any], jax.Array]:
        return jax.jit(self.forward)

    def __call__(self, images: Any) -> Any:
        """Embeddings, float32 [n, dim]; each new n is compiled once.

        Inside of another's `jit` they are traced, else on the host.

        Args:
          images: uint8 [n, height, width, channels].

        Raises:
          ValueError: they have another shape or dtype.
        """
        images = images if hasattr(images, "dtype") else np.asarray(images)
        shape = self.inputs[:3]
        if np.shape(images)[1:] != shape or not len(images):
            raise ValueError(
                f"images must have shape [n, {', '.join(map(str, shape))}], n 1 or "
                f"more, got {list(np.shape(images))}"
            )
        if images.dtype != np.uint8:
            raise ValueError(f"images must be uint8, got {images.dtype}")
        found = self._compiled(self.variables, images)
        return found if isinstance(found, jax.core.Tracer) else np.asarray(found)

    def shortened(self, dim: int) -> "Network":
        """The network whose embeddings are the first `dim` numbers of this one's.

        They have length 1 again if this one's have.

        Raises:
          UsageError: there are not as many.
        """
        image = jax.ShapeDtypeStruct((1, *self.inputs[:3]), np.uint8)
        longest = jax.eval_shape(self.forward, self.variables, image).shape[1]
        if not isinstance(dim, int | np.integer) or not 1 <= dim <= longest:
            raise UsageError(
                f"dim must be from 1 to {longest}, the numbers of an embedding, got "
                f"{dim!r}"
            )

        def forward(variables: Any, images: jax.Array) -> jax.Array:
            first = self.forward(variables, images)[:, :dim]
            return normalize(first) if self.normalized else first

        return replace(self, forward=forward)


def load(path: str | Path) -> Network:
    """Reads an artefact; nothing in it is executed but its XLA program.

    Args:
      path: the folder.

    Raises:
      UsageError: the folder holds no artefact.
      RunError: it is damaged, or of a newer format.
    """
    path = Path(path)
    if not (path / CONTENTS).exists():
        raise UsageError(f"{path} holds no exported network: it has no {CONTENTS}")
    contents = read_json(path / CONTENTS)
    try:
        if contents["format"] > FORMAT:
            raise RunError(
                f"{path}: exported by a newer rankjax, in format {contents['format']}; "
                f"this one reads up to {FORMAT}"
            )
        inputs = Inputs.of(contents["inputs"])
        normalized, step = bool(contents["normalized"]), int(contents["step"])
        sums = {name: contents["sha256"][name] for name in (FUNCTION, WEIGHTS)}
        blobs = {name: read_regular(path / name) for name in sums}
    except OSError as error:
        raise RunError(f"{path}: damaged, {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged, {error!r}") from error
    for name, blob in blobs.items():
        if hashlib.sha256(blob).hexdigest() != sums[name]:
            raise RunError(f"{path / name}: damaged, its checksum is wrong")
    # Importing it is slow.
    from jax import export

    try:
        function = export.deserialize(bytearray(blobs[FUNCTION]))
        with np.load(io.BytesIO(blobs[WEIGHTS])) as arrays:
            weights = dict(arrays)
        images = jax.ShapeDtypeStruct((1, *inputs[:3]), np.uint8)
        jax.eval_shape(function.call, weights, images)
    except Exception as error:  # files that are no such ones raise all kinds
        raise RunError(
            f"{path}: its files do not fit together, {error!r:.200}"
        ) from error
    return Network(inputs, normalized, step, function.call, weights)
