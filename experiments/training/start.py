"""What a run begins with: network, optimiser, first state, and its step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from experiments import hosts
from experiments.config import SHARES, Config
from experiments.training.choices import build_objective, learned
from experiments.training.network import adapt, network
from experiments.training.optimizer import Parts, build_optimizer, build_schedule
from experiments.training.weights import pretrain
from rankjax import models
from rankjax.data import Split
from rankjax.memory import empty
from rankjax.models.proxies import Proxies, WithLoss, is_of_proxies
from rankjax.parallel import AXIS, Spread, axis_of, data_parallel, shardings
from rankjax.train import TrainState, create_state, make_step


class Start(NamedTuple):
    """What a run begins with.

    Attributes:
      definition: of the network, static.
      optimizer: an optax transformation.
      schedule: learning rates by step.
      state: the first one.
      loaded: what was read from a file of weights, or None.
    """

    definition: Any
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    state: TrainState
    loaded: models.Loaded | None


def start(config: Config, train: Split, *, axis_name: str | None = AXIS) -> Start:
    """Builds the network and the optimiser for images to train on."""
    loss, dim = config.loss, config.model.embedding_dim
    rngs = nnx.Rngs(config.run.seed)
    embedder = _drawn(
        lambda rngs: network(
            config.model,
            image_size=config.data.size(),
            channels=train.images.shape[-1],
            axis_name=axis_name,
            rngs=rngs,
        ),
        rngs,
    )
    loaded = None
    if config.model.weights is not None:
        path = config.model.weights.expanduser()
        loaded = pretrain(
            embedder,
            path,
            input_scale=config.model.input_scale,
            part=config.model.weights_part,
        )
    adapt(config.model, embedder, rngs)
    parts = Parts(config.optimizer, loss, embedder.backbone)
    model: nnx.Module = embedder
    if loss.proxies_per_class or loss.learn:
        proxies = None
        if loss.proxies_per_class:
            classes, each = len(train.class_names), loss.proxies_per_class
            together = SHARES if loss.shard_classes else 1
            proxies = Proxies(
                classes, dim, per_class=each, multiple_of=together, rngs=rngs
            )
        model = WithLoss(model, proxies=proxies, learned=learned(loss))
    schedule = build_schedule(config.optimizer)
    optimizer = build_optimizer(config.optimizer, parts.rate, schedule)
    definition, state = create_state(
        model,
        optimizer,
        memory=empty(loss.memory, dim) if loss.memory else None,
        averaged=config.optimizer.weight_ema > 0,
        trained=parts.trained,
    )
    # On the host, as the copies on devices are those that are trained.
    return Start(definition, optimizer, schedule, jax.device_get(state), loaded)


def _drawn(
    build: Callable[[nnx.Rngs], models.Embedder], rngs: nnx.Rngs
) -> models.Embedder:
    """`build(rngs)` as one program, which is not optimised as it runs once.

    Otherwise each shape of weights has programs of its own, which take seconds.
    """
    source, drawn_from = nnx.split(rngs)
    built: list[Any] = []

    def draw(drawn_from: Any) -> Any:
        inner = nnx.merge(source, drawn_from)
        definition, variables = nnx.split(build(inner))
        built.append(definition)
        return variables, nnx.state(inner)

    quick = {"xla_backend_optimization_level": 0}
    variables, after = jax.jit(draw, compiler_options=quick)(drawn_from)
    nnx.update(rngs, after)
    return nnx.merge(built[0], variables)


def placement(config: Config, state: TrainState, devices: Sequence[jax.Device]) -> Any:
    """Where each part of the state lies, see `rankjax.parallel.shardings`."""
    if not config.loss.shard_classes:
        return shardings(state, devices)
    return shardings(state, devices, is_of_proxies)


def build_step(
    config: Config,
    definition: Any,
    optimizer: optax.GradientTransformation,
    devices: Sequence[jax.Device],
    *,
    placed: Any = None,
) -> Spread:
    """The training step over devices, with the state where `placement` has it."""
    wrapper = config.devices.wrapper
    axis = axis_of(wrapper)
    return data_parallel(
        hosts.StopVote.counting(
            make_step(
                definition,
                build_objective(config.loss, axis),
                optimizer,
                axis_name=axis,
                microbatch=config.batch.microbatch or None,
                memory_objective=build_objective(config.loss, axis, regularized=False),
                memory_weight=config.loss.memory_weight,
                memory_warmup=config.loss.memory_warmup,
                weight_ema=config.optimizer.weight_ema,
                class_share=config.loss.class_share,
                seed=config.run.seed,
            ),
            axis,
        ),
        devices=devices,
        wrapper=wrapper,
        placed=placed,
    )
