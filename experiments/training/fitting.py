"""Settings that nobody typed, made to fit those that somebody did, and the data."""

import dataclasses
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.config import FEATURES, Batch, Config, Loss
from experiments.training.choices import build_batches
from rankjax import losses
from rankjax.errors import UsageError
from rankjax.registry import Batch as Kind
from rankjax.registry import hyper_parameters, info_of

if TYPE_CHECKING:
    from rankjax.data import Split

# Settings that are of one loss, one augmentation, ..., and mean nothing to another.
_BELONG_TO = {
    "loss": ("loss_options", "learn", "similarity", "class_share", "shard_classes"),
    "augmentation": ("augmentation_options",),
    "batches": ("batch_options",),
    "model": (
        "weights",
        "weights_part",
        "input_scale",
        "pooling",
        "lora",
        "lora_places",
    ),
    "mining": ("mining_options",),
    "dataset": ("manual_dir", "guide", "symmetric"),
}
_PER_CLASS: dict[Kind, int] = {
    "pairs": 2,
    "views": 2,
    "classes": 4,
    "large": 4,
    "proxies": 1,
}
"""Images of a class that a loss needs at least to be what it is."""

_MOST_EPOCHS = 200
"""Of the training images. The experiments see their own data less often; beyond that
little is left to learn of a few photos."""

ANY_CLASSES = ("random", "proxy_balanced")  # batches in which a class may come once


def fit_to_choices(own: Config, config: Config, typed: Collection[str]) -> Config:
    """An experiment whose loss, model or other part was replaced, made whole again.

    What belonged to the part that was replaced goes. A loss gets the batches that it
    wants, of as many images as before, and proxies if it compares with them.

    Args:
      own: the experiment's settings.
      config: the same with what was typed.
      typed: names of settings that stay as they are.
    """
    fitted = _Fitting(config, typed)
    if config.data.features():
        for name, value in without_images().items():
            fitted.put(name, value)
    elif own.data.features():
        fitted.put("model", Config().model.name)
        fitted.put("augmentation", Config().data.augmentation)
    before, now, plain = own.flat(), fitted.now.flat(), Config().flat()
    for owner, settings in _BELONG_TO.items():
        if now[owner] != before[owner]:
            for name in settings:
                fitted.put(name, plain[name])
    if fitted.now.model.weights is None:
        # Neither statistics nor features that are worth keeping.
        if fitted.now.model.norm == "frozen":
            fitted.put("norm", plain["norm"])
        for name in ("train_blocks", "lora"):
            frozen = name in typed and now[name] != plain[name]
            if frozen and not config.data.features():
                raise UsageError(
                    f"{name} keeps blocks of the backbone as they are, and without "
                    f"weights they are random; give --weights FILE, got {now[name]}"
                )
        for name in ("backbone_learning_rate", "layer_decay", "train_blocks", "lora"):
            fitted.put(name, plain[name])
    if fitted.now.model.lora:
        fitted.put("train_blocks", ("none",))
    if now["image_size"] != before["image_size"]:
        for name in ("image_width", "short_side"):
            scaled = before[name] * now["image_size"] / before["image_size"]
            fitted.put(name, round(scaled))
    _fit_to_loss(own, fitted)
    steps, warmup = fitted.now.optimizer.steps, fitted.now.optimizer.warmup_steps
    if warmup >= steps:  # the learning rate would not reach its peak
        fitted.put("warmup_steps", warmup * steps // max(own.optimizer.steps, steps))
    if fitted.now.loss.memory and fitted.now.loss.memory_warmup >= steps:
        fitted.put("memory_warmup", steps // 2)
    if fitted.now.loss.shard_classes:
        fitted.put("wrapper", "jit")
    return fitted.now


def without_images() -> dict[str, Any]:
    """The settings of images and backbones, as they are where features are given."""
    plain = Config()
    means = {
        *("dataset", "fold", "folds", "data_dir", "manual_dir"),
        *("head_norm", "head_layers", "embedding_dim", "dropout", "normalize"),
    }
    settings = {
        **{"model" if k == "name" else k: v for k, v in vars(plain.model).items()},
        **vars(plain.data),
        "backbone_learning_rate": plain.optimizer.backbone_learning_rate,
        "layer_decay": plain.optimizer.layer_decay,
        "train_blocks": plain.optimizer.train_blocks,
        "model": FEATURES,
        "augmentation": "views",
    }
    return {name: value for name, value in settings.items() if name not in means}


def fit_batch(
    config: Config,
    typed: Collection[str],
    *,
    devices: int,
    hosts: int,
    split: "Split | None" = None,
) -> Config:
    """Classes and images of each that divide over devices, and that a split has.

    The first that is possible of ever fewer classes. Where nothing is, the settings are
    as they were, for whoever uses them to refuse.
    """
    fitted, batch = _Fitting(config, typed), config.batch
    least = 1 if batch.batches in ANY_CLASSES else 2
    per_class = batch.per_class
    if split is not None:
        counts = np.bincount(split.labels)
        usable = counts[counts >= least]
        if len(usable):
            per_class = min(per_class, max(least, int(np.median(usable))))
    sizes = [batch.per_class]
    if "per_class" not in typed:
        sizes = [*range(per_class, per_class + devices)]
    numbers = [batch.classes]
    if "classes" not in typed:
        numbers = [*range(batch.classes, 1, -1)]
    for size in sizes:
        for number in numbers:
            if number % hosts or number * size % devices:
                continue
            tried = dataclasses.replace(batch, classes=number, per_class=size)
            if split is None or _can_be_made(tried, split, config.run.seed):
                fitted.put("classes", number)
                fitted.put("per_class", size)
                rows = number * size // devices
                fitted.put("microbatch", _divisor(rows, batch.microbatch))
                return fitted.now
    return config


def fit_to_data(config: Config, typed: Collection[str], train: "Split") -> Config:
    """Steps for as many images as there are, and channels as the images have them.

    With fewer steps, what is counted in steps comes earlier: warm-up, evaluations, ...
    """
    fitted = _Fitting(config, typed)
    epoch = len(train.labels) / config.batch.size()
    most = max(round(_MOST_EPOCHS * epoch), 1)
    steps, weights = config.optimizer.steps, config.model.weights
    if steps > most and "steps" not in typed:

        def fewer(value: int) -> int:
            return max(round(value * most / steps), min(value, 1))

        counted = ["steps", "eval_every", "warmup_steps", "decay_every"]
        for name in [*counted, *(["memory_warmup"] if config.loss.memory else [])]:
            fitted.put(name, fewer(config.flat()[name]))
        stages = [
            re.sub(r"^\d+(?=:)", lambda step: str(fewer(int(step[0]))), word)
            for word in config.optimizer.train_blocks
        ]
        fitted.put("train_blocks", tuple(stages))
    if config.data.features():
        return fitted.now
    grey = train.images.shape[-1] == 1
    if not grey:
        fitted.put("grey_as_rgb", False)
    elif weights is not None and not weights.is_dir():
        fitted.put("grey_as_rgb", True)  # a run's own weights are of its images
    return fitted.now


def differences(before: Config, after: Config) -> str:
    """What another config has else: 'classes 15 instead of 64'; empty for nothing."""

    def words(value: Any) -> str:
        if isinstance(value, tuple):
            return " ".join(map(str, value)) or "none"
        return "none" if value is None else str(value)

    now = after.flat()
    return ", ".join(
        f"{name} {words(now[name])} instead of {words(value)}"
        for name, value in before.flat().items()
        if now[name] != value
    )


def settings_fitted(own: Config, config: Config, typed: Collection[str]) -> str:
    """Settings that nobody typed and an experiment does not have; empty for none."""
    now = config.flat()
    return differences(own.replace(**{name: now[name] for name in typed}), config)


class _Fitting:
    """Settings that change, but for those that were typed."""

    def __init__(self, config: Config, typed: Collection[str]) -> None:
        self.now, self._typed = config, typed

    def put(self, name: str, value: Any) -> None:
        if name not in self._typed:
            self.now = self.now.replace(**{name: value})


def _fit_to_loss(own: Config, fitted: _Fitting) -> None:
    chosen, batch = fitted.now.loss, fitted.now.batch
    loss = losses.LOSSES.get(chosen.name)
    info = info_of(loss)
    if loss is None or info is None:
        return
    if info.batch == "proxies":
        fitted.put("proxies_per_class", _centers(loss, chosen))
    if chosen.name == own.loss.name:
        return
    if info.lengths:
        fitted.put("normalize", False)
    if info.batch != "proxies":
        fitted.put("proxies_per_class", 0)
        if batch.batches in ANY_CLASSES:
            fitted.put("batches", "class_balanced")
    if fitted.now.batch.batches != "n_pairs":
        fitted.put("per_class", max(batch.per_class, _PER_CLASS[info.batch]))
    per_class = fitted.now.batch.per_class
    if per_class != batch.per_class:
        fitted.put("classes", max(batch.size() // per_class, 2))


def _centers(loss: Any, chosen: Loss) -> int:
    """Proxies of a class that a loss takes together; the experiment's for others."""
    known = hyper_parameters(loss)
    if "centers" not in known:
        return max(chosen.proxies_per_class, 1)
    given = dict(option.partition("=")[::2] for option in chosen.loss_options)
    text = given.get("centers", str(known["centers"].default))
    # What is no number is refused where options are read.
    return int(text) if text.isdecimal() else 1


def _can_be_made(batch: Batch, split: "Split", seed: int) -> bool:
    try:
        build_batches(batch, split, seed)
    except UsageError:
        return False
    return True


def _divisor(rows: int, microbatch: int) -> int:
    """The largest microbatch up to this one that divides the rows; 0 for no parts."""
    if rows <= microbatch or not microbatch:
        return 0
    return max(size for size in range(1, microbatch + 1) if rows % size == 0)
