"""The optimiser, and the learning rate by step and by part of the network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.config import Loss, Optimizer


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


def build_optimizer(
    optimizer: Optimizer, loss: Loss, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimiser, with other learning rates for the backbone and the proxies."""
    decay = optax.add_decayed_weights(optimizer.weight_decay)
    steps = {
        "adamw": lambda: [optax.adamw(schedule, weight_decay=optimizer.weight_decay)],
        "adam": lambda: [decay, optax.adam(schedule)],
        "rmsprop": lambda: [decay, optax.rmsprop(schedule, decay=0.99, momentum=0.9)],
        "sgd": lambda: [optax.sgd(schedule, momentum=0.9)],
    }[optimizer.name]()
    backbone = optimizer.backbone_learning_rate
    if loss.proxies_per_class:
        faster = optax.scale(loss.proxy_learning_rate)
        steps.append(optax.masked(faster, _those_of("proxies")))
    if optimizer.freeze_steps:
        rate = optax.join_schedules(
            [optax.constant_schedule(r) for r in (0.0, backbone)],
            [optimizer.freeze_steps],
        )
        later = optax.scale_by_schedule(rate)
        steps.append(optax.masked(later, _those_of("backbone")))
    elif backbone != 1:
        steps.append(optax.masked(optax.scale(backbone), _those_of("backbone")))
    return optax.chain(*steps)


def _those_of(part: str) -> Callable[[Any], Any]:
    """A mask of the parameters: True for those below a module of this name."""

    def mask(params: Any) -> Any:
        return jax.tree.map_with_path(
            lambda path, _: part in {getattr(key, "key", None) for key in path[:2]},
            params,
        )

    return mask
