"""Low-rank adapters of linear maps: few parameters to train, and none once merged."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import jax
from flax import nnx

from rankjax.errors import UsageError

M = TypeVar("M", bound=nnx.Module)

PLACES = ("qkv", "proj", "fc1", "fc2")
"""Maps of attention, and of MLPs, as transformers here call them."""


class Adapted(nnx.Module):
    """A linear map W plus a scaled product A B of low rank, of which B starts at zero.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. A begins
    as Flax has it, uniform within sqrt(6 / inputs).
    """

    def __init__(
        self, base: nnx.Linear, rank: int, *, scale: float, rngs: nnx.Rngs
    ) -> None:
        self.base, self.scale = base, scale
        self.lora = nnx.LoRA(
            base.in_features, rank, base.out_features, dtype=base.dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [..., inputs] to [..., outputs]."""
        return self.base(x) + self.scale * self.lora(x)

    def merged(self) -> nnx.Linear:
        """The base, which then computes the same alone."""
        product = self.lora.lora_a[...] @ self.lora.lora_b[...]
        self.base.kernel[...] += self.scale * product
        return self.base


def add_lora(
    model: nnx.Module,
    rank: int,
    *,
    scale: float = 1.0,
    places: Sequence[str] = (),
    rngs: nnx.Rngs,
) -> None:
    """Adapts linear maps of a network, which then computes what it did before.

    The parameters of adapters are `nnx.LoRAParam`s. Queries, keys and values of
    attention are one map.

    Args:
      model: the network, which is changed.
      rank: of the products, 1 or more.
      scale: what they are multiplied by, the paper's alpha / rank.
      places: names of the maps, as the modules that hold them have them; by default
        those of `PLACES` that there are.
      rngs: where the initial weights come from.

    Raises:
      UsageError: the network has no linear map of such a name.
    """
    maps = list(_submodules(model, nnx.Linear))
    names, kind = sorted({name for _, name, _ in maps}), type(model).__name__
    places = places or [place for place in PLACES if place in names]
    if not places or not names:
        raise UsageError(
            f"lora must be 0, got {rank}: {kind} has no linear maps, as transformers "
            "and ConvNeXt have them"
        )
    for place in places:
        if place not in names:
            raise UsageError(
                f"lora_places must be among {', '.join(names)} in this {kind}, got "
                f"{place}"
            )
    for parent, name, linear in maps:
        if name in places:
            setattr(parent, name, Adapted(linear, rank, scale=scale, rngs=rngs))


def merge_lora(model: nnx.Module) -> None:
    """Adds the adapters of a network to the maps that they adapt."""
    for parent, name, adapted in list(_submodules(model, Adapted)):
        setattr(parent, name, adapted.merged())


def _submodules(
    model: nnx.Module, kind: type[M]
) -> Iterator[tuple[nnx.Module, str, M]]:
    """Modules of a kind, with the ones that hold them and their names there."""
    for _, parent in nnx.iter_modules(model):
        for name, value in vars(parent).items():
            if isinstance(value, kind):
                yield parent, name, value
