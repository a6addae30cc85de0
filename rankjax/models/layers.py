"""The layers that backbones are made of."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rankjax.blocks import sum_unvarying
from rankjax.errors import UsageError
from rankjax.models.names import Layout
from rankjax.similarity import at_least_float32

_HE_FAN_OUT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
_HE_FAN_IN = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")

Norm = Literal["batch", "frozen", "group"]
"""Batch norm; batch norm that always uses its running statistics, for weights that were
trained elsewhere; or group norm, which looks at one image alone."""


@dataclasses.dataclass(frozen=True)
class Layers:
    """What all layers of a network have in common.

    Attributes:
      axis_name: the mapped axis over which batch norm shares its statistics, or None.
      rngs: where the initial weights come from.
      norm_kind: see `Norm`.
      dtype: of the computation, None for that of the parameters; these, batch norm's
        statistics and embeddings are not of half precision whatever it is.
      remat: compute activations again in the backward pass instead of keeping them,
        stage by stage, for a second forward pass.
      stochastic_depth: share of the rows for which the last residual branch is left
        out in train mode; it rises linearly over the branches (Huang, Sun, Liu, Sedra,
        Weinberger, "Deep Networks with Stochastic Depth", ECCV 2016).
    """

    axis_name: str | None
    rngs: nnx.Rngs
    norm_kind: Norm = "batch"
    dtype: Any = None
    remat: bool = False
    stochastic_depth: float = 0.0

    def conv(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: int | str | None = None,
        bias: bool = False,
    ) -> nnx.Conv:
        """A square convolution, padded alike on all sides if nothing else is said.

        "SAME" pads a strided convolution on one side only, as TensorFlow does, and
        shifts the image by half a pixel against networks trained elsewhere.
        """
        return nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides=stride,
            padding=size // 2 if padding is None else padding,
            feature_group_count=groups,
            use_bias=bias,
            # Of one group: the slopes of a depthwise kernel reach one channel each.
            kernel_init=_HE_FAN_OUT if groups == 1 else _HE_FAN_IN,
            dtype=self.dtype,
            conv_general_dilated=_convolve,
            rngs=self.rngs,
        )

    def norm(self, features: int, *, epsilon: float = 1e-5) -> nnx.Module:
        """A norm of channels; running statistics move by a tenth per step."""
        if self.norm_kind == "group":
            groups = math.gcd(features, 32)
            return nnx.GroupNorm(features, groups, dtype=self.dtype, rngs=self.rngs)
        kind = FrozenBatchNorm if self.norm_kind == "frozen" else nnx.BatchNorm
        return kind(
            features,
            momentum=0.9,
            epsilon=epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
            rngs=self.rngs,
        )

    def layer_norm(self, features: int, epsilon: float = 1e-6) -> nnx.LayerNorm:
        """A norm of each position, whatever `norm_kind` is."""
        return nnx.LayerNorm(
            features, epsilon=epsilon, dtype=self.dtype, rngs=self.rngs
        )

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nnx.Linear:
        """An affine map of the last dimension."""
        return nnx.Linear(
            inputs,
            outputs,
            use_bias=bias,
            kernel_init=nnx.initializers.truncated_normal(0.02),
            dtype=self.dtype,
            rngs=self.rngs,
        )

    def branch(self, number: int, count: int) -> Callable[[jax.Array], jax.Array]:
        """What a residual branch, one of `count`, passes through before it is added."""
        if not self.stochastic_depth:
            return _unchanged
        rate = self.stochastic_depth * (number + 1) / count
        return Dropout(rate, axis_name=self.axis_name, seed=number + 1, whole_rows=True)


def _unchanged(x: jax.Array) -> jax.Array:
    return x


def _convolve(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]] | str,
    **settings: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` of [n, h, w, c], fast in loops on a CPU too.

    In the body of a loop XLA's CPU compiler takes fifty times as long for a convolution
    whose dimensions are in any other order (github.com/jax-ml/jax/issues/12868), and
    the gradient by a kernel is one. So that one is written in this order, its arrays
    transposed before and after.
    """
    if jax.default_backend() != "cpu":
        return lax.conv_general_dilated(images, kernel, strides, padding, **settings)
    if isinstance(padding, str):
        sizes = images.shape[1:3], kernel.shape[:2]
        padding = lax.padtype_to_pads(*sizes, strides, padding)
    groups = settings["feature_group_count"]
    if groups == images.shape[-1] == kernel.shape[-1] > 1:
        return _depthwise(images, kernel, strides, padding)
    if groups > 1:
        return lax.conv_general_dilated(images, kernel, strides, padding, **settings)

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, strides, padding, **settings)

    def backward(
        given: tuple[jax.Array, jax.Array], g: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        images, kernel = given
        (of_images,) = jax.vjp(lambda x: convolve(x, kernel), images)[1](g)
        # The images are a batch of channels here, and the slopes a kernel.
        sides = [
            (
                low,
                kernel.shape[i]
                + (g.shape[1 + i] - 1) * step
                - images.shape[1 + i]
                - low,
            )
            for i, ((low, _), step) in enumerate(zip(padding, strides, strict=True))
        ]
        of_kernel = lax.conv_general_dilated(
            images.transpose(3, 1, 2, 0),
            g.transpose(1, 2, 0, 3),
            (1, 1),
            sides,
            **(settings | {"rhs_dilation": tuple(strides)}),
        )
        of_kernel = of_kernel.transpose(1, 2, 0, 3).astype(kernel.dtype)
        return of_images, sum_unvarying(of_kernel, kernel)

    fast = jax.custom_vjp(convolve)
    fast.defvjp(
        lambda images, kernel: (convolve(images, kernel), (images, kernel)), backward
    )
    return fast(images, kernel)


def _depthwise(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """A convolution of each channel alone, as a sum of shifted images.

    XLA's own takes ten to forty times as long on a CPU, and its gradients too.
    """
    offsets = list(np.ndindex(*kernel.shape[:2]))

    def shifted(images: jax.Array) -> list[jax.Array]:
        x = jnp.pad(images, ((0, 0), *padding, (0, 0)))
        last = [
            (x.shape[1 + i] - kernel.shape[i]) // strides[i] * strides[i] + 1
            for i in range(2)
        ]
        return [
            x[:, i : i + last[0] : strides[0], j : j + last[1] : strides[1]]
            for i, j in offsets
        ]

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        parts = zip(shifted(images), offsets, strict=True)
        total = sum(at_least_float32(x) * kernel[i, j, 0] for x, (i, j) in parts)
        return jnp.asarray(total, images.dtype)

    def backward(
        given: tuple[jax.Array, jax.Array], g: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        images, kernel = given
        (of_images,) = jax.vjp(lambda x: convolve(x, kernel), images)[1](g)
        channels = g.shape[-1]
        ones = jnp.ones(g.size // channels)
        # Products with ones: XLA's reductions over leading dimensions are slow.
        slopes = [
            ones @ at_least_float32(x * g).reshape(-1, channels)
            for x in shifted(images)
        ]
        of_kernel = jnp.stack(slopes).reshape(kernel.shape).astype(kernel.dtype)
        return of_images, sum_unvarying(of_kernel, kernel)

    fast = jax.custom_vjp(convolve)
    fast.defvjp(
        lambda images, kernel: (convolve(images, kernel), (images, kernel)), backward
    )
    return fast(images, kernel)


class FrozenBatchNorm(nnx.BatchNorm):
    """Batch norm that always uses its running statistics, and leaves them as they are.

    Its scale and offset are trained.
    """

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises [..., features], whatever the mode."""
        return super().__call__(x, use_running_average=True, mask=mask)


class Staged(nnx.Module):
    """A backbone that says what it has after each of its stages.

    Attributes:
      channels: of the images.
      features: the length of what `finish` returns.
      has_class_token: whether the last stage is [n, tokens, features] and its first
        token is of the class.
      others: the number of tokens before those of positions.
      licence: of the weights of its family, if that is one of its own.
      block: a pattern that parameters' names begin with, in a block, whose number is a
        group of it, or after the blocks; by default there are none.
    """

    channels: int
    features: int
    block: str = "(?!)()"
    has_class_token: bool = False
    others: int = 0
    licence: str = ""

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the name and the output of each stage, for float32 images
        [n, height, width, channels]; the last one is [n, h, w, features]."""
        raise NotImplementedError

    def takes(self, side: int) -> bool:
        """Whether images may be so many pixels high, or wide."""
        return True

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return the output of the last stage.

        Raises:
          UsageError: it takes no images of this size; the message has the nearest one
            that it takes.
        """
        self.check_size(*images.shape[1:3])
        for _, x in self.stages(images):  # noqa: B007
            pass
        return x

    def check_size(self, height: int, width: int) -> None:
        """Raises the UsageError of a size of images that it does not take."""
        sides = {side for side in (height, width) if not self.takes(side)}
        if sides:
            near = {
                min(
                    filter(self.takes, range(1, 2 * side + 64)),
                    key=lambda n: abs(n - side),
                )
                for side in sides
            }
            raise UsageError(
                f"image_size must be one that {type(self).__name__} takes, got "
                f"{height if height == width else (height, width)}; the nearest is "
                f"{' or '.join(map(str, sorted(near)))}"
            )

    def layouts(self) -> Mapping[str, Layout]:
        """How files name its weights, by kind of file."""
        raise NotImplementedError

    def pool(self, x: jax.Array) -> jax.Array:
        """Map the last stage to [n, features] if no other pooling is asked for."""
        return x.reshape(x.shape[0], -1, x.shape[-1]).mean(1)

    def finish(self, pooled: jax.Array) -> jax.Array:
        """Map what is pooled, [n, features], to features."""
        return pooled

    def depths(self) -> tuple[dict[tuple[Any, ...], int], int]:
        """How deep parameters are below the output, by path, and the number of blocks.

        It is 1 in the last block and after it, 2 in the block before, and so on; what
        comes before the first block is one deeper still, as timm has it.
        """
        paths = [path for path, _ in nnx.to_flat_state(nnx.state(self, nnx.Param))]
        found = [re.match(self.block, ".".join(map(str, path))) for path in paths]
        names = {match[1] for match in found if match and match[1]}
        order = sorted(names, key=lambda name: (len(name), name))
        depth = {name: len(order) - i for i, name in enumerate(order)} | {None: 1}
        depths = {
            path: depth[match[1]] if match else len(order) + 1
            for path, match in zip(paths, found, strict=True)
        }
        return depths, len(order)

    def fit(self, name: str, value: np.ndarray) -> np.ndarray:
        """An array of a file as this network wants it, by our name."""
        return value


def run(
    stage: Callable[..., jax.Array], x: jax.Array, *more: Any, remat: bool
) -> jax.Array:
    """A stage of a network, computed again in the backward pass where asked."""
    if remat:
        return nnx.remat(lambda stage, *given: stage(*given))(stage, x, *more)
    return stage(x, *more)


class Dropout(nnx.Module):
    """Dropout whose draw belongs to the rows of the whole batch, not to a device.

    `nnx.Dropout` inside a mapped axis either repeats one mask on every device or needs
    a key per device; both differ from the same batch on one device. Here a row's mask
    depends on the seed, the number of calls so far and the row's number, so that
    devices change nothing. Nothing is dropped after `eval()`.
    """

    def __init__(
        self,
        rate: float,
        *,
        axis_name: str | None,
        seed: int = 0,
        whole_rows: bool = False,
    ) -> None:
        """Starts counting calls.

        Args:
          rate: share of the entries set to 0, in [0, 1); the others grow by
            1 / (1 - rate).
          axis_name: the mapped axis over which the rows are spread, or None.
          seed: of the masks; layers of one network need different ones.
          whole_rows: drop all entries of a row or none, as stochastic depth does.

        Raises:
          ValueError: the rate is out of its range.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate}")
        self.rate, self.axis_name, self.seed = rate, axis_name, seed
        self.whole_rows = whole_rows
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.part = nnx.Variable(jnp.array([0, 1], jnp.int32))
        self.deterministic = False  # what `train()` and `eval()` set

    @classmethod
    def choose_part(cls, model: nnx.Module, number: Any, count: Any) -> None:
        """Tells a model's layers that the rows are one of `count` parts of those of
        this device."""
        for _, layer in nnx.iter_modules(model):
            if isinstance(layer, cls):
                layer.part[...] = jnp.stack(
                    [jnp.asarray(x, jnp.int32) for x in (number, count)]
                )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Drops entries of [n, ...]."""
        if self.deterministic or not self.rate:
            return x
        key = jax.random.fold_in(jax.random.key(self.seed), self.calls[...])
        self.calls[...] += 1
        device = 0 if self.axis_name is None else lax.axis_index(self.axis_name)
        number, count = self.part[...]
        first = (device * count + number) * len(x)
        shape = (1,) * (x.ndim - 1) if self.whole_rows else x.shape[1:]
        kept = jax.vmap(
            lambda row: jax.random.bernoulli(
                jax.random.fold_in(key, row), 1 - self.rate, shape
            )
        )(first + jnp.arange(len(x)))
        return jnp.where(kept, x / (1 - self.rate), 0)
