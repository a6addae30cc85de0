"""The optimiser, and the learning rate by step and by part of the network."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.config import Loss, Optimizer
from experiments.training.choices import build_stages
from rankjax.errors import UsageError
from rankjax.models import Staged


def build_schedule(optimizer: Optimizer) -> optax.Schedule:
    """The learning rate by step."""
    warmup = min(optimizer.warmup_steps, optimizer.steps)
    if optimizer.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=optimizer.learning_rate,
            warmup_steps=warmup,
            decay_steps=optimizer.steps + 1,
        )
    after = optax.constant_schedule(optimizer.learning_rate)
    if optimizer.schedule == "staircase":
        after = optax.exponential_decay(
            optimizer.learning_rate,
            transition_steps=optimizer.decay_every,
            decay_rate=optimizer.decay_rate,
            staircase=True,
        )
    # The staircase counts steps from the very first one.
    if not warmup:
        return after
    return lambda step: after(step) * jnp.minimum(1.0, step / warmup)


Rate = Callable[[Sequence[Any], jax.Array], jax.Array | float]
"""The learning rate of a parameter by its path and the step, relative to others."""


class Parts:
    """Which parameters are trained, from which step on, and how fast.

    It all follows from how deep a parameter is below the output: 0 in the head, 1 in
    the last block of the backbone, ... Adapters are trained from the first step on.

    Args:
      optimizer: the settings.
      loss: those of the loss, for its proxies.
      backbone: the network's, with adapters if it has any.

    Raises:
      UsageError: there are fewer blocks.
    """

    def __init__(self, optimizer: Optimizer, loss: Loss, backbone: Staged) -> None:
        self._stages = build_stages(optimizer)
        self._depths, blocks = backbone.depths()
        self._decay = optimizer.layer_decay
        self._backbone = optimizer.backbone_learning_rate
        self._proxies = loss.proxy_learning_rate
        for _, last in self._stages:
            if blocks < last < math.inf:
                raise UsageError(
                    f"train_blocks must be all, none, or last:N of {blocks} blocks, "
                    f"got last:{last}"
                )

    def trained(self, path: Sequence[Any], param: Any = None) -> bool:
        """Whether the parameter at a path in the model is ever trained."""
        return self._begin(path) is not None

    def rate(self, path: Sequence[Any], step: jax.Array) -> jax.Array | float:
        """The learning rate of a trained parameter, as a multiple of the schedule's."""
        if "proxies" in path[:2]:
            return self._proxies
        depth = self._depth(path)
        rate = self._backbone * self._decay**depth if depth else 1.0
        begin = self._begin(path)
        return jnp.where(step < begin, 0.0, rate) if begin else rate

    def _depth(self, path: Sequence[Any]) -> int:
        if "backbone" not in path[:2]:
            return 0
        return self._depths[tuple(path[path.index("backbone") + 1 :])]

    def _begin(self, path: Sequence[Any]) -> int | None:
        if path[-1] in ("lora_a", "lora_b"):
            return 0
        depth = self._depth(path)
        return next((step for step, last in self._stages if depth <= last), None)


def build_optimizer(
    optimizer: Optimizer, rate: Rate, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimiser, with learning rates that are multiples of the schedule's."""
    decay = optax.add_decayed_weights(optimizer.weight_decay)
    steps = {
        "adamw": lambda: [optax.adamw(schedule, weight_decay=optimizer.weight_decay)],
        "adam": lambda: [decay, optax.adam(schedule)],
        "rmsprop": lambda: [decay, optax.rmsprop(schedule, decay=0.99, momentum=0.9)],
        "sgd": lambda: [optax.sgd(schedule, momentum=0.9)],
    }[optimizer.name]()

    def scaled(updates: Any, step: jax.Array, params: Any = None) -> Any:
        def one(keys: Any, update: jax.Array) -> jax.Array:
            path = [key.key for key in keys if hasattr(key, "key")]
            return update * rate(path, step)

        return jax.tree.map_with_path(one, updates), step + 1

    first = jnp.zeros((), jnp.int32)
    return optax.chain(
        *steps, optax.GradientTransformation(lambda params: first, scaled)
    )
