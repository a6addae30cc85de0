"""Vision transformers of the families that people fine-tune, as one network.

ViT: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. DINO: Caron et al.,
ICCV 2021. DINOv2: Oquab et al., TMLR 2024, with register tokens Darcet et al., ICLR
2024. DINOv3: Siméoni et al., 2025. CLIP: Radford et al., ICML 2021. SigLIP: Zhai et
al., ICCV 2023, and SigLIP 2: Tschannen et al., 2025. Modules are named as timm does it.
They have layer norms of their own, which `Layers.norm_kind` leaves.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rankjax.errors import UsageError
from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout
from rankjax.models.vit_names import vit_layouts

_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(nnx.gelu, approximate=False),
    "gelu_tanh": partial(nnx.gelu, approximate=True),
    "quick_gelu": lambda x: x * nnx.sigmoid(1.702 * x),
}
Turn = tuple[jax.Array, jax.Array]
"""Sines and cosines [patches, head width] by which queries and keys are rotated."""


class Attention(nnx.Module):
    """Self-attention of several heads."""

    def __init__(self, layers: Layers, width: int, heads: int) -> None:
        self.heads = heads
        self.qkv = layers.linear(width, 3 * width)
        self.proj = layers.linear(width, width)

    def __call__(self, x: jax.Array, turn: Turn | None = None) -> jax.Array:
        """Map [n, tokens, width] to the same shape; `turn` is of the last tokens."""
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k = qkv[:, :, 0], qkv[:, :, 1]
        if turn is not None:
            q, k = _rotated(q, *turn), _rotated(k, *turn)
        mixed = jax.nn.dot_product_attention(q, k, qkv[:, :, 2])
        return self.proj(mixed.reshape(n, tokens, width))


def _rotated(x: jax.Array, sine: jax.Array, cosine: jax.Array) -> jax.Array:
    """Queries or keys [n, tokens, heads, width], the patches among them rotated."""
    others, patches = jnp.split(x, [x.shape[1] - len(sine)], 1)
    first, second = jnp.split(patches, 2, -1)
    turned = jnp.concatenate([-second, first], -1)
    sine, cosine = (y[:, None].astype(x.dtype) for y in (sine, cosine))
    return jnp.concatenate([others, patches * cosine + turned * sine], 1)


def rotary_positions(grid: tuple[int, int], width: int) -> Turn:
    """Angles of patches at the centres of a grid over [-1, 1]^2, as in DINOv3.

    A quarter of a head's width has the periods 100^(4 i / width), for rows and for
    columns, and all that twice.
    """
    rows, columns = (2 * (np.arange(n) + 0.5) / n - 1 for n in grid)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    periods = 100.0 ** (np.arange(width // 4) * 4 / width)
    angles = (2 * math.pi * places[:, :, None] / periods).reshape(len(places), -1)
    angles = np.tile(angles, 2)
    return jnp.asarray(np.sin(angles), float), jnp.asarray(np.cos(angles), float)


class Mlp(nnx.Module):
    """Two affine maps with an activation between them."""

    def __init__(self, layers: Layers, width: int, activation: str) -> None:
        self.activation = activation
        self.fc1 = layers.linear(width, 4 * width)
        self.fc2 = layers.linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, tokens, width] to the same shape."""
        return self.fc2(_ACTIVATIONS[self.activation](self.fc1(x)))


class LayerScale(nnx.Module):
    """A learned factor per channel of a branch (Touvron et al., ICCV 2021)."""

    def __init__(self, width: int) -> None:
        self.gamma = nnx.Param(jnp.full(width, 1e-5))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [..., width] to the same shape."""
        return x * self.gamma[...].astype(x.dtype)


class TransformerBlock(nnx.Module):
    """Attention and an MLP, each after a norm and around a shortcut."""

    def __init__(
        self,
        layers: Layers,
        width: int,
        heads: int,
        *,
        number: int,
        count: int,
        activation: str,
        layer_scale: bool,
        epsilon: float,
    ) -> None:
        self.norm1, self.norm2 = (layers.layer_norm(width, epsilon) for _ in range(2))
        self.attn = Attention(layers, width, heads)
        self.mlp = Mlp(layers, width, activation)
        self.ls1, self.ls2 = (
            LayerScale(width) if layer_scale else None for _ in range(2)
        )
        self.branch1 = layers.branch(2 * number, 2 * count)
        self.branch2 = layers.branch(2 * number + 1, 2 * count)

    def __call__(self, x: jax.Array, turn: Turn | None = None) -> jax.Array:
        """Map [n, tokens, width] to the same shape."""
        y = self.attn(self.norm1(x), turn)
        x = x + self.branch1(y if self.ls1 is None else self.ls1(y))
        y = self.mlp(self.norm2(x))
        return x + self.branch2(y if self.ls2 is None else self.ls2(y))


class AttentionPool(nnx.Module):
    """A learned query that attends to all tokens, and an MLP, as in SigLIP."""

    def __init__(
        self, layers: Layers, width: int, heads: int, *, activation: str, epsilon: float
    ) -> None:
        draw = nnx.initializers.truncated_normal(0.02)
        self.heads = heads
        self.latent = nnx.Param(draw(layers.rngs.params(), (1, 1, width)))
        self.qkv = layers.linear(width, 3 * width)
        self.proj = layers.linear(width, width)
        self.norm = layers.layer_norm(width, epsilon)
        self.mlp = Mlp(layers, width, activation)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, tokens, width] to [n, width]."""
        n, tokens, width = x.shape
        latent = jnp.broadcast_to(self.latent[...], (n, 1, width)).astype(x.dtype)
        both = self.qkv(jnp.concatenate([latent, x], 1))
        both = both.reshape(n, 1 + tokens, 3, self.heads, width // self.heads)
        q, k, v = both[:, :1, 0], both[:, 1:, 1], both[:, 1:, 2]
        x = self.proj(jax.nn.dot_product_attention(q, k, v).reshape(n, 1, width))
        return (x + self.mlp(self.norm(x)))[:, 0]


class ViT(Staged):
    """Tokens of patches, and maybe of the class, through transformer blocks.

    Its last stage is [n, tokens, width]: the class token, register tokens, and then a
    token per patch.

    Attributes:
      grid: patches in height and in width.
    """

    block = r"blocks\.(\d+)|norm\.|attn_pool|projection"

    def __init__(
        self,
        layers: Layers,
        *,
        channels: int,
        image_size: int | tuple[int, int],
        patch: int,
        width: int,
        heads: int,
        depth: int,
        class_token: bool = True,
        registers: int = 0,
        positions: Literal["learned", "rotary"] = "learned",
        layer_scale: bool = False,
        activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = "gelu",
        epsilon: float = 1e-6,
        clip: bool = False,
        attention_pool: bool = False,
        projection: int | None = None,
        scale: str | None = None,
        licence: str = "",
    ) -> None:
        """Makes a network with random weights.

        Args:
          layers: what its layers have in common.
          channels: of the images.
          image_size: of the images, or their height and width.
          patch: height and width of a patch.
          width: of a token.
          heads: of attention.
          depth: number of blocks.
          class_token: whether there is one.
          registers: tokens that are nothing but memory.
          positions: "learned", which belong to one size of images, or "rotary".
          layer_scale: scale branches per channel.
          activation: of the MLPs.
          epsilon: of the layer norms.
          clip: as CLIP has it, a layer norm before the blocks and patches without bias.
          attention_pool: pool by attention, not by the class token.
          projection: a last linear map of what is pooled, to so many features.
          scale: how images are scaled, a name in `rankjax.models.SCALES`, if all
            weights of the family agree.
          licence: of the family's weights, if it is one of its own.

        Raises:
          UsageError: patches do not divide an image.
        """
        height, wide = np.broadcast_to(image_size, 2).tolist()
        if height % patch or wide % patch:
            nearest = sorted({max(1, round(n / patch)) * patch for n in (height, wide)})
            raise UsageError(
                f"image_size must be a multiple of the patch, {patch}, got "
                f"{height if height == wide else (height, wide)}; the nearest is "
                f"{' or '.join(map(str, nearest))}"
            )
        self.channels, self.features = channels, projection or width
        self.remat, self.width = layers.remat, width
        self.image_size, self.grid = (height, wide), (height // patch, wide // patch)
        self.has_class_token, self.others = class_token, class_token + registers
        self.scale, self.licence = scale, licence
        self.head_width = width // heads
        self.proj = layers.conv(
            channels, width, patch, stride=patch, padding=0, bias=not clip
        )

        def tokens(n: int) -> nnx.Param[jax.Array] | None:
            draw = nnx.initializers.truncated_normal(0.02)
            return nnx.Param(draw(layers.rngs.params(), (1, n, width))) if n else None

        self.cls_token = tokens(int(class_token))
        self.reg_token = tokens(registers)
        learned = positions == "learned"
        self.pos_embed = tokens(learned * (class_token + math.prod(self.grid)))
        self.norm_pre = layers.layer_norm(width, epsilon) if clip else None
        self.blocks = nnx.List(
            TransformerBlock(
                layers,
                width,
                heads,
                number=i,
                count=depth,
                activation=activation,
                layer_scale=layer_scale,
                epsilon=epsilon,
            )
            for i in range(depth)
        )
        self.norm = layers.layer_norm(width, epsilon)
        self.attn_pool = (
            AttentionPool(layers, width, heads, activation=activation, epsilon=epsilon)
            if attention_pool
            else None
        )
        self.projection = (
            layers.linear(width, projection, bias=False) if projection else None
        )

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the tokens before and after each block, and after the last norm.

        Raises:
          ValueError: the images are of another size.
        """
        if images.shape[1:3] != self.image_size:
            raise ValueError(
                f"images has shape {images.shape}, this network was made for "
                f"image_size={self.image_size}"
            )
        x = self.proj(images).reshape(images.shape[0], -1, self.width)

        def put_before(x: jax.Array, token: Any) -> jax.Array:
            if token is None:
                return x
            token = jnp.broadcast_to(token[...], (x.shape[0], *token.shape[1:]))
            return jnp.concatenate([token.astype(x.dtype), x], 1)

        x = put_before(x, self.cls_token)
        if self.pos_embed is not None:
            x = x + self.pos_embed[...].astype(x.dtype)
        if self.reg_token is not None:  # they have no positions
            first, x = jnp.split(x, [int(self.has_class_token)], 1)
            x = jnp.concatenate([first, put_before(x, self.reg_token)], 1)
        if self.norm_pre is not None:
            x = self.norm_pre(x)
        turn = None
        if self.pos_embed is None:
            turn = rotary_positions(self.grid, self.head_width)
        yield "tokens", x
        for i, block in enumerate(self.blocks):
            x = run(block, x, turn, remat=self.remat)
            yield f"block{i + 1}", x
        yield "norm", self.norm(x)

    def pool(self, x: jax.Array) -> jax.Array:
        """Map the last stage to [n, width] as the family does it."""
        if self.attn_pool is not None:
            return self.attn_pool(x)
        return x[:, 0] if self.has_class_token else super().pool(x)

    def finish(self, pooled: jax.Array) -> jax.Array:
        """Map what is pooled, [n, width], to features."""
        return pooled if self.projection is None else self.projection(pooled)

    def layouts(self) -> Mapping[str, Layout]:
        """How timm, the authors and transformers name its weights."""
        return vit_layouts(self.scale)

    def fit(self, name: str, value: np.ndarray) -> np.ndarray:
        """Positions of a file for this network's grid, by bicubic interpolation.

        Files of networks with registers may have none of the class token, which is
        then at zero. Those of images that are not square are for their own grid.
        """
        if name != "pos_embed" or self.pos_embed is None or value.ndim != 3:
            return value
        wanted, count = self.pos_embed.shape, value.shape[1]
        first = int(self.has_class_token)
        if value.shape == wanted or value.shape[2] != wanted[2]:
            return value
        if first and math.isqrt(count) ** 2 == count:
            value = np.concatenate([np.zeros_like(value[:, :1]), value], 1)
            count += 1
        side = math.isqrt(count - first)
        if value.shape == wanted or side**2 != count - first:
            return value
        grid = np.asarray(value[:, first:], np.float32).reshape(side, side, -1)
        resized = jax.image.resize(grid, (*self.grid, grid.shape[-1]), "bicubic")
        resized = np.asarray(resized).reshape(1, -1, grid.shape[-1])
        return np.concatenate([value[:, :first], resized.astype(value.dtype)], 1)


_SIZES: Mapping[str, dict[str, Any]] = {
    "small": {"width": 384, "heads": 6, "depth": 12},
    "base": {"width": 768, "heads": 12, "depth": 12},
    "large": {"width": 1024, "heads": 16, "depth": 24},
}
_CLIP = {"clip": True, "epsilon": 1e-5, "scale": "clip"}
_SIGLIP = {
    "class_token": False,
    "attention_pool": True,
    "activation": "gelu_tanh",
    "scale": "half",
}
_DINO = {"layer_scale": True, "scale": "imagenet"}
_DINOV3 = _DINO | {
    "registers": 4,
    "positions": "rotary",
    "epsilon": 1e-5,
    "licence": "DINOv3 License",
}
_NAMED: Mapping[str, tuple[str, int, dict[str, Any]]] = {
    **{
        f"vit_{size}_patch{patch}": (size, patch, {})
        for size, patch in (
            *(("small", 16), ("small", 32), ("base", 16), ("base", 32)),
            ("large", 16),
        )
    },
    **{f"dinov2_{size}": (size, 14, _DINO) for size in _SIZES},
    **{
        f"dinov2_{size}_registers": (size, 14, _DINO | {"registers": 4})
        for size in _SIZES
    },
    **{f"dinov3_{size}": (size, 16, _DINOV3) for size in _SIZES},
    **{
        f"siglip_{size}_patch{patch}": (size, patch, _SIGLIP)
        for size, patch in (("base", 16), ("base", 32), ("large", 16))
    },
    **{
        f"{whose}_{size}_patch{patch}": (
            size,
            patch,
            _CLIP | {"activation": activation, "projection": projection},
        )
        for whose, activation in (("clip", "quick_gelu"), ("open_clip", "gelu"))
        for size, patch, projection in (
            ("base", 32, 512),
            ("base", 16, 512),
            ("large", 14, 768),
        )
    },
}


def _vit(layers: Layers, *, name: str, **settings: Any) -> ViT:
    size, patch, options = _NAMED[name]
    return ViT(layers, patch=patch, **_SIZES[size], **options, **settings)


VITS: Mapping[str, Callable[..., ViT]] = {
    name: partial(_vit, name=name) for name in _NAMED
}
"""Vision transformers by name; each takes layers, channels and image_size."""
