"""What can be refused before anything runs: settings, weights, devices."""

import functools
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import FEATURES, SHARES, Config, Loss, Model
from experiments.training.choices import (
    build_augmentation,
    build_objective,
    build_stages,
    learned,
    look_up,
    with_options,
)
from experiments.training.fitting import without_images
from rankjax.data import BATCHES, Split
from rankjax.errors import RunError, UsageError
from rankjax.inputs import Positives, References
from rankjax.losses import LOSSES
from rankjax.models import MODELS
from rankjax.registry import Range, hyper_parameters, info_of


def check_before_data(config: Config, devices: int, hosts: int = 1) -> None:
    """Raises as `check`, but not for parts of a batch that may shrink with the data."""
    memory = config.loss.memory and max(config.loss.memory, config.batch.size())
    check(config.replace(memory=memory, microbatch=0), devices, hosts)


def check(
    config: Config, devices: int, hosts: int = 1, *, train: Split | None = None
) -> None:
    """Raises a UsageError for settings that cannot be meant, before anything runs.

    What depends on whether images have partners is seen where `train` is given.
    """
    _check_features(config)
    if not config.data.features():
        look_up("model", config.model.name, dict.fromkeys(MODELS))
    look_up("batches", config.batch.batches, BATCHES)
    _check_ranges(config)
    _check_shares(config, devices, hosts)
    _check_model(config.model)
    partners = None if train is None else train.partners
    if config.loss.symmetric and train is not None and partners is None:
        raise UsageError(
            "symmetric needs images with a positive each, which a list with the column "
            f"positive names (list:FILE.csv); data set {config.data.dataset} names none"
        )
    # Of a data set that is not loaded yet, what the settings want.
    others = int(config.loss.symmetric) if partners is None else partners.rows.shape[1]
    _check_loss(config.loss, others)
    if max(config.loss.dims, default=0) > config.model.embedding_dim:
        raise UsageError(
            f"dims must be at most embedding_dim, {config.model.embedding_dim}, "
            f"got {' '.join(map(str, config.loss.dims))}"
        )
    build_augmentation(config.data)
    build_stages(config.optimizer)
    batch, optimizer = config.batch, config.optimizer
    size, memory = batch.size(), config.loss.memory
    short_side, profile = config.data.short_side, config.run.profile
    if batch.per_class < 2 and batch.batches not in ("proxy_balanced", "random"):
        raise UsageError(
            f"per_class must be at least 2, got {batch.per_class}: "
            "with one image a class has no positives"
        )
    if short_side and short_side < min(config.data.size()):
        raise UsageError(
            f"short_side must be at least image_size, {min(config.data.size())}, or 0, "
            f"got {short_side}"
        )
    if optimizer.schedule == "staircase" and optimizer.decay_every < 1:
        raise UsageError("decay_every must be at least 1 for the staircase, got 0")
    if size % devices:
        raise UsageError(
            f"classes x per_class = {batch.classes} x {batch.per_class} must be "
            f"divisible by the number of devices, {devices}"
        )
    if batch.classes % hosts:
        raise UsageError(
            f"classes must be divisible by the number of processes, {hosts}, "
            f"got {batch.classes}"
        )
    if batch.microbatch and size // devices % batch.microbatch:
        raise UsageError(
            f"microbatch must divide the {size // devices} images of a device, got "
            f"{batch.microbatch}"
        )
    if 0 < memory < size:
        raise UsageError(
            f"memory must be at least the batch, {size}, or 0, got {memory}"
        )
    if memory and config.loss.memory_warmup >= optimizer.steps:
        raise UsageError(
            f"memory_warmup must be below steps, {optimizer.steps}, or the memory "
            f"takes no part, got {config.loss.memory_warmup}"
        )
    if profile and optimizer.steps < 10 + profile:
        raise UsageError(
            f"profile must be at most {max(optimizer.steps - 10, 0)} in "
            f"{optimizer.steps} steps, the first 10 of which compile, got {profile}"
        )


def _check_features(config: Config) -> None:
    """Raises for settings of images with features, and the other way round."""
    if config.data.features():
        for name, value in without_images().items():
            if config.flat()[name] != value:
                raise UsageError(
                    f"{name} must be {value} with features, which are computed, got "
                    f"{config.flat()[name]}; leave it out, and give experiments.embed "
                    "what it has to know"
                )
    elif config.model.name == FEATURES or "views" in config.data.augmentation:
        raise UsageError(
            "model features and augmentation views must come with --dataset "
            f"features:FILE, got {config.data.dataset}"
        )


def _check_ranges(config: Config) -> None:
    """Raises where a number is outside the range that its annotation states."""
    values = config.flat()
    for name, hint in config.hints().items():
        for note in typing.get_args(hint):
            if isinstance(note, Range) and not note.holds(np.asarray(values[name])):
                raise UsageError(f"{name} {note.refusal(values[name])}")


def _check_shares(config: Config, devices: int, hosts: int) -> None:
    """Raises where classes cannot be shared by devices."""
    if not config.loss.shard_classes:
        return
    if config.loss.proxies_per_class != 1:
        raise UsageError(
            f"shard_classes needs one proxy a class, got {config.loss.name} with "
            f"{config.loss.proxies_per_class}"
        )
    if config.devices.wrapper != "jit":
        raise UsageError(
            f"shard_classes goes with the wrapper jit, got {config.devices.wrapper}"
        )
    if hosts > 1 or SHARES % devices:
        raise UsageError(
            f"shard_classes is of one process, whose devices divide {SHARES}, got "
            f"{devices} devices of {hosts} processes"
        )


def _check_model(model: Model) -> None:
    if model.name == "convnet" and model.pooling != "default":
        raise UsageError(
            f"pooling of convnet must be default, got {model.pooling}: it has no "
            "positions left"
        )


def _check_loss(loss: Loss, others: int) -> None:
    """Traces the objective on a batch of four, where bad hyper-parameters show.

    Args:
      loss: the settings.
      others: each image's partners, a positive and negatives; 0 for none.
    """
    rows, labels = (
        functools.partial(jax.ShapeDtypeStruct, dtype=d)
        for d in (jnp.float32, jnp.int32)
    )
    given: dict[str, Any] = {"params": dict.fromkeys(learned(loss), rows(()))}
    given["key"] = jax.random.key(0)
    proxies, dim = 2 * loss.proxies_per_class, max((2, *loss.dims))
    if proxies:
        given["references"] = References(rows((proxies, dim)), labels((proxies,)))
    guide = None if loss.guide is None else rows((4, 2))
    if loss.guide is not None:
        if not loss.guide.expanduser().is_file():
            raise UsageError(f"guide: there is no file {loss.guide}")
        given["guide"] = guide
    for name, number in {"proxies": proxies, "memory": loss.memory}.items():
        if number and (others or guide is not None):
            raise UsageError(
                f"{name} and {'partners' if others else 'guide'} exclude each other: "
                "give "
                + ("a list without positive" if others else "no guide")
                + f", or a loss without {name}"
            )
    if others:
        given["references"] = Positives(rows((4, dim)), guide=guide)
    if others > 1:
        given["references"] = Positives(
            rows((4, dim)),
            rows((4, others - 1, dim)),
            guide=guide,
            negatives_guide=guide and rows((4, others - 1, 2)),
        )
    function = with_options(loss)
    info = info_of(function)
    if info is not None and info.guided and guide is None:
        raise UsageError(
            f"loss {loss.name} needs --guide FILE, what another model makes of each "
            "image, as experiments.embed writes it"
        )
    if info is not None and info.batch == "proxies" and not proxies:
        raise UsageError(
            f"loss {loss.name} compares the batch with proxies; proxies_per_class "
            "must be at least 1, got 0"
        )
    if loss.class_share < 1 and (info is None or not info.sharded):
        infos = {name: info_of(each) for name, each in LOSSES.items()}
        names = [name for name, each in infos.items() if each and each.sharded]
        raise UsageError(
            f"class_share must be 1 for loss {loss.name}, got {loss.class_share}; a "
            f"share of classes goes with {', '.join(names)}"
        )
    if loss.memory and proxies:
        raise UsageError(
            f"memory must be 0 for loss {loss.name} with proxies_per_class "
            f"{loss.proxies_per_class}: a batch is compared with one or the other"
        )
    centers = hyper_parameters(function.func).get("centers")
    if centers is not None:
        needed = function.keywords.get("centers", centers.default)
        if needed != loss.proxies_per_class:
            raise UsageError(
                f"proxies_per_class must be {needed}, the centers of loss "
                f"{loss.name}, got {loss.proxies_per_class}"
            )
    try:
        compute = build_objective(loss, axis_name=None)
        jax.eval_shape(compute, rows((4, dim)), labels((4,)), **given)
    except (TypeError, ValueError) as error:
        settings = " ".join([loss.name, *loss.loss_options])
        message = str(error).splitlines()[0]
        raise UsageError(f"loss {settings}: {message}") from error


def check_weights(weights: Path | None) -> None:
    """Raises a RunError for a file of weights that is not there.

    Which else shows after the network is made, a minute later.
    """
    if weights is not None and not weights.expanduser().exists():
        raise RunError(f"cannot read weights from {weights}: there is no such file")


def choose_devices(number: int) -> Sequence[jax.Device]:
    """So many devices, equally many of each process, those of one side by side."""
    processes, total = jax.process_count(), jax.device_count()
    if not 0 <= number <= total or number % processes:
        equally = f", equally many in {processes} processes" if processes > 1 else ""
        raise UsageError(
            f"devices must be from 1 to {total}{equally}, or 0 for all, got {number}"
        )
    each = (number or total) // processes
    return [d for i in range(processes) for d in jax.local_devices(i)[:each]]
