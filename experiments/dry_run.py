"""What can go wrong in hours of training, tried in a minute."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from experiments.bench.output import Row, show
from experiments.config import (
    SETTINGS,
    Config,
    build_augmentation,
    build_batches,
    check,
)
from experiments.fitting import fit_batch
from experiments.train import (
    check_judged,
    choose_devices,
    load_fitted,
    make_spread_step,
    settings_fitted,
    start,
)
from rankjax.data import Dataset, Loader
from rankjax.data.images import ChosenImages
from rankjax.errors import RunError, UsageError
from rankjax.parallel import axis_of, replicate
from rankjax.train import Validation, make_embed

_EVALUATED = 256


def dry_run(name: str, config: Config, typed: Collection[str] = SETTINGS) -> int:
    """Tries everything that a run does, once, and prints a table of it.

    Data, weights, the memory that the compiled step takes of each device, a step, and
    embeddings. Nothing is written but prepared data.

    Args:
      name: of the experiment.
      config: its settings.
      typed: the names of those that stay as they are.

    Returns:
      The exit status: 0 if all is well, 1 if the run would fail.
    """
    trial = _Trial(name, config, typed)
    checks: dict[str, Callable[[], str]] = {
        "settings": trial.settings,
        "data": trial.data,
        "batch": trial.batch,
        "weights": trial.weights,
        "memory per device": trial.memory,
        "step": trial.steps,
        "evaluation": trial.evaluation,
    }
    rows: list[Row] = []
    failed = False
    for what, attempt in checks.items():
        found, result = "", "not reached"
        if not failed:
            began = time.perf_counter()
            try:
                found, result = attempt(), "ok"
            except (RunError, UsageError, ValueError) as error:
                found, result, failed = str(error), "failed", True
            except jax.errors.JaxRuntimeError as error:  # such as: out of memory
                found, result, failed = str(error).splitlines()[0], "failed", True
            found += f" ({time.perf_counter() - began:.1f} s)"
        rows.append({"check": what, "result": result, "found": found})
    show(f"dry run of {name}", rows, dict.fromkeys(rows[0], ""))
    return int(failed)


class _Trial:
    """A run, attempted step by step; each method tells what it found, or raises."""

    def __init__(self, name: str, config: Config, typed: Collection[str]) -> None:
        self._name, self._config, self._typed = name, config, typed

    def settings(self) -> str:
        if self._config.hosts is not None:
            raise UsageError("dry_run is of one process; leave hosts out")
        self._devices = choose_devices(self._config.devices)
        count = len(self._devices)
        check(fit_batch(self._config, self._typed, devices=count, hosts=1), count)
        kinds = sorted({device.device_kind for device in self._devices})
        return f"{count} devices ({', '.join(kinds)})"

    def data(self) -> str:
        self._config, self._data = load_fitted(
            self._config, self._typed, len(self._devices), 1
        )
        check_judged(self._data)
        words = []
        for split in ("train", "validation", "test", "gallery"):
            part = getattr(self._data, split)
            if part is not None:
                part.images.read(np.array([0, len(part.labels) - 1]))
                classes = len(np.unique(part.labels))
                words.append(f"{split} {len(part.labels):,} of {classes:,} classes")
        fitted = settings_fitted(self._name, self._config, self._typed)
        words += [f"settings that fit: {fitted}"] if fitted else []
        return f"{self._data.protocol}: {'; '.join(words)}"

    def batch(self) -> str:
        self._batches = build_batches(self._config, self._data.train)
        loader = Loader(
            self._data.train,
            self._batches,
            augmentation=build_augmentation(self._config),
            seed=self._config.seed,
            start_step=0,
            stop_step=1,
        )
        with loader:
            ((_, self._batch),) = loader
        return (
            f"{' x '.join(map(str, self._batch['image'].shape))}; an epoch is "
            f"{self._batches.epoch:.4g} steps"
        )

    def weights(self) -> str:
        self._definition, self._optimizer, _, state, loaded = start(
            self._config,
            self._data.train,
            axis_name=axis_of(self._config.wrapper),
            batches=self._batches,
        )
        self._state = replicate(state, self._devices)
        count = sum(x.size for x in jax.tree.leaves(state.params))
        if loaded is None:
            return f"random, {count:,} parameters"
        return (
            f"{count:,} parameters; {loaded.arrays:,} arrays of {loaded.file} "
            f"({loaded.layout}), its other {len(loaded.unused)} unused; images scaled "
            f"as {loaded.scale}"
        )

    def memory(self) -> str:
        step = make_spread_step(
            self._config, self._definition, self._optimizer, self._devices
        )
        self._step, analysis = step.compile(self._state, self._batch)
        if analysis is None:
            return "compiled; this platform does not tell"
        needs = (
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            - analysis.alias_size_in_bytes
            + analysis.temp_size_in_bytes
            + analysis.generated_code_size_in_bytes
        )
        limit = _limit(self._devices)
        words = f"{needs / 1e9:.2f} GB of {limit / 1e9:.2f} GB"
        if needs > limit:
            raise RunError(
                f"{words}: choose fewer classes, microbatch, remat or bfloat16"
            )
        return words

    def steps(self) -> str:
        seconds = 0.0
        for _ in range(2):
            began = time.perf_counter()
            self._state, metrics = self._step(self._state, self._batch)
            loss = float(metrics["loss"])
            seconds = time.perf_counter() - began
        if not np.isfinite(loss):
            raise RunError(f"the loss is {loss} after a step")
        hours = seconds * self._config.steps / 3600
        return (
            f"loss {loss:.4g}; {seconds:.3g} s a step, {hours:.2g} hours for "
            f"{self._config.steps:,} if the input keeps up"
        )

    def evaluation(self) -> str:
        data: Dataset = self._data
        judged = Validation.of(data).split
        rows = np.arange(min(len(judged.labels), _EVALUATED))
        embed = make_embed(
            self._definition, devices=self._devices, batch_size=len(rows)
        )
        found = embed(self._state, ChosenImages(judged.images, rows))
        if not np.isfinite(found).all():
            raise RunError("embeddings are not finite after a step")
        return f"{len(found)} images of {len(judged.labels):,} to {found.shape[1]}"


def _limit(devices: Sequence[jax.Device]) -> float:
    """Bytes of memory of the device that has least; on CPU, of its share."""
    stats: list[Any] = [device.memory_stats() for device in devices]
    if all(stats):
        return min(each["bytes_limit"] for each in stats)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return whole / len(devices)
