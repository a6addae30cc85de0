"""Vision transformers, ViT-S and ViT-B.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Caron et al., "Emerging
Properties in Self-Supervised Vision Transformers" (DINO), ICCV 2021; modules as both's
PyTorch code and timm name them. It has layer norms of its own, which
`Layers.norm_kind` leaves.
"""

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from rankjax.errors import UsageError
from rankjax.models.layers import Layers, Staged, run
from rankjax.models.names import Layout


class Attention(nnx.Module):
    """Self-attention of several heads."""

    def __init__(self, layers: Layers, width: int, heads: int) -> None:
        self.heads = heads
        self.qkv = layers.linear(width, 3 * width)
        self.proj = layers.linear(width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, tokens, width] to the same shape."""
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        mixed = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return self.proj(mixed.reshape(n, tokens, width))


class Mlp(nnx.Module):
    """Two affine maps with a GELU between them."""

    def __init__(self, layers: Layers, width: int) -> None:
        self.fc1 = layers.linear(width, 4 * width)
        self.fc2 = layers.linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, tokens, width] to the same shape."""
        return self.fc2(nnx.gelu(self.fc1(x), approximate=False))


class TransformerBlock(nnx.Module):
    """Attention and an MLP, each after a norm and around a shortcut."""

    def __init__(
        self, layers: Layers, width: int, heads: int, *, number: int, count: int
    ) -> None:
        self.norm1, self.norm2 = layers.layer_norm(width), layers.layer_norm(width)
        self.attn = Attention(layers, width, heads)
        self.mlp = Mlp(layers, width)
        self.branch1 = layers.branch(2 * number, 2 * count)
        self.branch2 = layers.branch(2 * number + 1, 2 * count)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [n, tokens, width] to the same shape."""
        x = x + self.branch1(self.attn(self.norm1(x)))
        return x + self.branch2(self.mlp(self.norm2(x)))


class ViT(Staged):
    """A class token and one token per patch through transformer blocks.

    Its last stage is [n, 1 + patches, features], the class token first.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        channels: int,
        image_size: int,
        patch: int,
        width: int,
        heads: int,
        depth: int = 12,
    ) -> None:
        """Its embeddings of positions are those of square images of one size.

        Raises:
          UsageError: patches do not divide an image.
        """
        if image_size % patch:
            raise UsageError(
                f"image_size must be a multiple of the patch, {patch}, got {image_size}"
            )
        self.channels, self.features, self.remat = channels, width, layers.remat
        self.image_size, self.dtype = image_size, layers.dtype
        self.proj = layers.conv(
            channels, width, patch, stride=patch, padding=0, bias=True
        )
        tokens = 1 + (image_size // patch) ** 2
        draw = nnx.initializers.truncated_normal(0.02)
        self.cls_token = nnx.Param(draw(layers.rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(draw(layers.rngs.params(), (1, tokens, width)))
        self.blocks = nnx.List(
            TransformerBlock(layers, width, heads, number=i, count=depth)
            for i in range(depth)
        )
        self.norm = layers.layer_norm(width)

    def stages(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Yields the tokens before and after each block, and after the last norm.

        Raises:
          ValueError: the images are of another size.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                f"images has shape {images.shape}, this network was made for "
                f"image_size={self.image_size}"
            )
        patches = self.proj(images).reshape(images.shape[0], -1, self.features)
        first = jnp.broadcast_to(
            self.cls_token[...], (images.shape[0], 1, self.features)
        )
        x = jnp.concatenate([first.astype(patches.dtype), patches], 1)
        x = x + self.pos_embed[...].astype(patches.dtype)
        yield "tokens", x
        for i, block in enumerate(self.blocks):
            x = run(block, x, remat=self.remat)
            yield f"block{i + 1}", x
        yield "norm", self.norm(x)

    def layouts(self) -> Mapping[str, Layout]:
        """timm's and DINO's names, which are the same, and torchvision's.

        timm's weights of ImageNet-21k were trained on images scaled to [-1, 1], DINO's
        on ones by ImageNet's mean; the names do not tell.
        """

        def timm(name: str) -> str:
            return f"patch_embed.{name}" if name.startswith("proj.") else name

        def torchvision(name: str) -> str:
            for ours, theirs in (
                ("blocks.", "encoder.layers.encoder_layer_"),
                ("attn.qkv.weight", "self_attention.in_proj_weight"),
                ("attn.qkv.bias", "self_attention.in_proj_bias"),
                ("attn.proj.", "self_attention.out_proj."),
                ("norm1.", "ln_1."),
                ("norm2.", "ln_2."),
                ("mlp.fc1.", "mlp.0."),
                ("mlp.fc2.", "mlp.3."),
                ("cls_token", "class_token"),
                ("pos_embed", "encoder.pos_embedding"),
            ):
                name = name.replace(ours, theirs)
            first, _, leaf = name.partition(".")
            named = {"proj": "conv_proj", "norm": "encoder.ln"}
            return f"{named[first]}.{leaf}" if first in named else name

        return {
            "timm": Layout(timm, None, r"(head|pre_logits)\."),
            "torchvision": Layout(torchvision, "imagenet", r"heads\."),
        }


def vit(
    layers: Layers, *, channels: int, image_size: int, patch: int, small: bool
) -> ViT:
    """ViT-S, 384 features, or ViT-B, 768."""
    return ViT(
        layers,
        channels=channels,
        image_size=image_size,
        patch=patch,
        width=384 if small else 768,
        heads=6 if small else 12,
    )
