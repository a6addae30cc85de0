"""Losses, batches and augmentations by the names and options that people type."""

import ast
import functools
import inspect
import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.config import Batch, Data, Loss, Optimizer
from rankjax import losses, mining, similarity, terms
from rankjax.errors import UsageError, unknown_name
from rankjax.objective import Objective, objective
from rankjax.parallel import AXIS
from rankjax.registry import check_settings, hyper_parameters, is_traced
from rankjax.regularizers import squared_norm

if TYPE_CHECKING:  # they import what takes seconds, which --help need not wait for
    from rankjax.data import Augmentation, Batches, Split

REDUCTIONS = {
    "mean": terms.mean,
    "mean_active": terms.mean_active,
    "mean_per_anchor": terms.mean_per_anchor,
    "class_balanced_mean": terms.class_balanced_mean,
    "total": terms.total,
}


def build_objective(
    loss: Loss, axis_name: str | None = AXIS, *, regularized: bool = True
) -> Objective:
    """The objective that settings describe, with or without its penalty.

    Raises:
      UsageError: a loss, miner, reduction or hyper-parameter that does not exist.
    """
    measure = look_up(
        "similarity", loss.similarity, {"default": None} | similarity.SIMILARITIES
    )
    if loss.mining in mining.SELECTIONS:
        raise UsageError(
            f"mining {loss.mining} is a selection of a triplet loss's negatives: "
            f"--loss-options selection={loss.mining}"
        )
    miner = look_up("miner", loss.mining, {"all": None} | mining.MINERS)
    if loss.mining_options:
        known = _defaults(miner or (lambda: None))
        settings = _options("mining_options", loss.mining, loss.mining_options, known)
        miner = functools.partial(miner, **settings)
    penalized = regularized and loss.l2_weight
    return objective(
        with_options(loss),
        mining=miner,
        similarity=measure,
        reduction=look_up("reduction", loss.reduction, REDUCTIONS),
        regularizers=[(loss.l2_weight, squared_norm)] if penalized else [],
        axis_name=axis_name,
        dims=loss.dims or None,
        symmetric=loss.symmetric,
        has_aux=True,
    )


def with_options(loss: Loss) -> functools.partial[Any]:
    """The function of a loss with its options bound."""
    function = look_up("loss", loss.name, losses.LOSSES)
    known = {key: each.default for key, each in hyper_parameters(function).items()}
    settings = _options("loss_options", loss.name, loss.loss_options, known)
    return functools.partial(function, **settings)


def learned(loss: Loss) -> dict[str, float]:
    """The hyper-parameters that are trained, and where they start.

    Raises:
      UsageError: there is no such one, it is no number, or out of its range.
    """
    function = with_options(loss)
    known = hyper_parameters(function.func)
    found = {}
    for name in loss.learn:
        look_up(f"option of {loss.name}", name, known)
        value = function.keywords.get(name, known[name].default)
        if not is_traced(function, name) or not isinstance(value, int | float):
            raise UsageError(
                f"learn: {name} of {loss.name} must be a number, got {value}"
            )
        found[name] = float(value)
    try:
        check_settings(function, found)
    except ValueError as error:
        raise UsageError(f"loss {loss.name}: {error}") from error
    return found


def build_augmentation(data: Data) -> "Augmentation":
    """The augmentation that settings describe.

    Raises:
      UsageError: a change or a setting of one that does not exist or cannot be meant.
    """
    from rankjax.data import AUGMENTATIONS, Augmentation
    from rankjax.data.augmentation import arguments

    if data.features():
        return Augmentation(data.augmentation)
    known: dict[str, Any] = {}
    for name in data.augmentation.split("+"):
        look_up("augmentation", name, AUGMENTATIONS)
        known |= arguments(name)
    given = _options(
        "augmentation_options", data.augmentation, data.augmentation_options, known
    )
    size = data.size()
    try:
        built = Augmentation(data.augmentation, given)
        # On one image, where settings out of range show.
        built([np.zeros((*size, 3), np.uint8)], np.zeros((1, built.draws)), size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return built


def build_batches(batch: Batch, split: "Split", seed: int) -> "Batches":
    """The batches that settings describe.

    Raises:
      UsageError: settings that do not exist, cannot be meant, or do not suit the split.
    """
    from rankjax.data import BATCHES, make_batches

    maker = look_up("batches", batch.batches, BATCHES)
    known = _defaults(maker)
    known.pop("per_class", None)
    options = _options("batch_options", batch.batches, batch.batch_options, known)
    try:
        return make_batches(
            batch.batches,
            split,
            classes=batch.classes,
            per_class=batch.per_class,
            seed=seed,
            options=options,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def build_stages(optimizer: Optimizer) -> list[tuple[int, float]]:
    """From which step on how many of the last blocks are trained, stage by stage.

    Raises:
      UsageError: words that are none, or stages in which a block is frozen again.
    """
    stages: list[tuple[int, float]] = []
    for word in optimizer.train_blocks:
        found = re.fullmatch(r"(?:(\d+):)?(?:(none)|(all)|last:([1-9]\d*))", word)
        if not found:
            raise UsageError(
                "train_blocks must be all, none or last:N, and then STEP:all or "
                f"STEP:last:N, got {word!r}"
            )
        step, none, everything, last = found.groups()
        count = 0 if none else math.inf if everything else int(last)
        stages.append((int(step or 0), count))
    if [step for step, _ in stages[:1]] != [0] or any(
        a[0] >= b[0] or a[1] >= b[1] for a, b in itertools.pairwise(stages)
    ):
        raise UsageError(
            "train_blocks must begin without a step, and train more at each later one, "
            f"got {' '.join(optimizer.train_blocks) or 'nothing'}"
        )
    return stages


def look_up(kind: str, name: str, known: dict[str, Any]) -> Any:
    """What has a name; a UsageError with the nearest ones where nothing has."""
    if name not in known:
        raise unknown_name(kind, name, list(known))
    return known[name]


def _defaults(function: Any) -> dict[str, Any]:
    """The settings of a function that have a default, and that."""
    return {
        key: each.default
        for key, each in inspect.signature(function).parameters.items()
        if each.default is not inspect.Parameter.empty
    }


def _options(
    field: str, owner: str, texts: Sequence[str], known: dict[str, Any]
) -> dict[str, Any]:
    """Settings from NAME=VALUE; `known` are those there are and their defaults."""
    settings = {}
    for option in texts:
        name, equals, text = option.partition("=")
        if not equals:
            raise UsageError(f"{field} must be NAME=VALUE, got {option!r}")
        look_up(f"option of {owner}", name, known)
        settings[name] = _value(name, text, known[name])
    return settings


def _value(name: str, text: str, default: Any) -> Any:
    if name == "selection":
        return look_up("selection", text, mining.SELECTIONS)
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    if isinstance(value, str) or isinstance(value, tuple) != isinstance(default, tuple):
        raise UsageError(f"{name} must be like {default}, got {text!r}")
    return value
