"""The images of a run, and settings that fit them."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from experiments import hosts
from experiments.config import Config, Data
from experiments.features import Features, guided, load_features
from experiments.pretrained import as_json
from experiments.training.check import check, check_before_data
from experiments.training.fitting import ANY_CLASSES, fit_batch, fit_to_data
from rankjax.data import Dataset, Split, load
from rankjax.data.images import EncodedImages
from rankjax.data.own import tell_left_out
from rankjax.errors import UsageError


def load_fitted(
    config: Config, typed: Collection[str], devices: int, processes: int
) -> tuple[Config, Dataset]:
    """The settings, made to fit devices and data, and the data set.

    Args:
      config: the settings.
      typed: the names of those that stay as they are.
      devices: their number.
      processes: their number.

    Raises:
      UsageError: settings that cannot be meant.
      RunError: see `rankjax.data.load`.
    """
    fitted = fit_batch(config, typed, devices=devices, hosts=processes)
    check_before_data(fitted, devices, processes)
    try:
        data = load_data(config.data, config.run.seed)
    except UsageError:
        if "fold" in typed or config.data.fold is None:
            raise
        # A recipe's fold needs more classes than a person may have.
        config = config.replace(fold=None)
        data = load_data(config.data, config.run.seed)
    counts = np.bincount(data.train.labels)
    several, alone = (
        [data.train.class_names[label] for label in np.flatnonzero(some)]
        for some in (counts > 1, counts == 1)
    )
    by_class = config.batch.batches not in ANY_CLASSES
    if by_class and len(several) == 1 and alone and "classes" not in typed:
        raise UsageError(
            f"{data.name} must have two classes of two or more images to train on in "
            f"batches {config.batch.batches}, got {several[0]}: give more images"
        )
    if config.loss.guide is not None:
        guide = config.loss.guide.expanduser()
        data = replace(data, train=guided(data.train, guide))
    config = fit_batch(
        config, typed, devices=devices, hosts=processes, split=data.train
    )
    config = fit_to_data(config, typed, data.train)
    check(config, devices, processes, train=data.train)
    if by_class and hosts.is_first():
        tell_left_out(f"the batches of {data.name}", {"classes of one image": alone})
    return config, data


def load_data(data: Data, seed: int) -> Dataset:
    """The data set of a run."""
    file = data.features()
    if file is not None:
        return _to_train_on(load_features(file, data, seed))
    loaded = load(
        data.dataset,
        data_dir=data.data_dir.expanduser(),
        manual_dir=data.manual_dir and data.manual_dir.expanduser(),
        image_size=data.size(),
        short_side=data.short_side or None,
        fit=data.fit,
        alpha=data.alpha,
        seed=seed,
        fold=data.fold,
        folds=data.folds,
        on_damage=data.on_damage,
        check_images=data.check_images,
    )
    return _to_train_on(loaded)


def _to_train_on(loaded: Dataset) -> Dataset:
    if not len(loaded.train.labels):
        raise UsageError(
            f"{loaded.name} has nothing to train on, the split train is missing; "
            f"python -m experiments.embed RUN --dataset {loaded.name} embeds it"
        )
    return loaded


def inputs_of(train: Split) -> dict[str, Any]:
    """What the network's images are like, or its features and who made them."""
    if isinstance(train.images, Features):
        height, width, channels = train.images.shape
        shape = {"height": height, "width": width, "channels": channels}
        return shape | {"made_by": as_json(train.images.job)}
    assert isinstance(train.images, EncodedImages)
    height, width, channels = train.images.shape
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "short_side": train.images.short_side,
        "fit": train.images.fit,
        "alpha": train.images.alpha,
    }
