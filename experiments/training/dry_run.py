"""What can go wrong in hours of training, tried in a minute."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from experiments.bench.output import Row, show
from experiments.config import SETTINGS, Config
from experiments.features import Features
from experiments.recipes import EXPERIMENTS
from experiments.trained_on import begun_with, seen_before
from experiments.training.check import check_before_data, check_weights, choose_devices
from experiments.training.choices import build_augmentation, build_batches
from experiments.training.fitting import fit_batch, settings_fitted
from experiments.training.images import load_fitted
from experiments.training.start import build_step, placement, start
from experiments.training.validation import Validation, check_evaluation
from experiments.training.weights import sentence
from rankjax.data import Dataset, Loader
from rankjax.data.images import ImageRows
from rankjax.errors import RunError, UsageError
from rankjax.parallel import axis_of, replicate
from rankjax.train import make_embed

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
    show(
        f"dry run of {name} on {config.data.dataset}", rows, dict.fromkeys(rows[0], "")
    )
    return int(failed)


class _Trial:
    """A run, attempted step by step; each method tells what it found, or raises."""

    def __init__(self, name: str, config: Config, typed: Collection[str]) -> None:
        self._name, self._config, self._typed = name, config, typed

    def settings(self) -> str:
        if self._config.devices.hosts is not None:
            raise UsageError("dry_run is of one process; leave hosts out")
        self._devices = choose_devices(self._config.devices.devices)
        count = len(self._devices)
        fitted = fit_batch(self._config, self._typed, devices=count, hosts=1)
        check_before_data(fitted, count)
        check_weights(self._config.model.weights)
        kinds = sorted({device.device_kind for device in self._devices})
        return f"{count} devices ({', '.join(kinds)})"

    def data(self) -> str:
        self._config, self._data = load_fitted(
            self._config, self._typed, len(self._devices), 1
        )
        check_evaluation(self._data)
        words = []
        for split in ("train", "validation", "test", "gallery"):
            part = getattr(self._data, split)
            if part is not None:
                part.images.read(np.array([0, len(part.labels) - 1]))
                classes = len(np.unique(part.labels))
                words.append(f"{split} {len(part.labels):,} of {classes:,} classes")
        images = self._data.train.images
        words += [images.sentence()] if isinstance(images, Features) else []
        fitted = settings_fitted(EXPERIMENTS[self._name](), self._config, self._typed)
        words += [f"settings that fit: {fitted}"] if fitted else []
        return f"{self._data.protocol}: {'; '.join(words)}"

    def batch(self) -> str:
        config = self._config
        batches = build_batches(config.batch, self._data.train, config.run.seed)
        loader = Loader(
            self._data.train,
            batches,
            augmentation=build_augmentation(config.data),
            seed=config.run.seed,
            start_step=0,
            stop_step=1,
        )
        with loader:
            ((_, self._batch),) = loader
        beside = [
            f", each with {name} {' x '.join(map(str, self._batch[key].shape[1:]))}"
            for key, name in {"others": "partners", "guide": "a guide's"}.items()
            if key in self._batch
        ]
        return (
            f"{' x '.join(map(str, self._batch['image'].shape))}"
            f"{''.join(beside)}; an epoch is {batches.epoch:.4g} steps"
        )

    def weights(self) -> str:
        self._begun = start(
            self._config,
            self._data.train,
            axis_name=axis_of(self._config.devices.wrapper),
        )
        state, loaded = self._begun.state, self._begun.loaded
        self._placed = placement(self._config, state, self._devices)
        self._state = replicate(state, self._devices, placed=self._placed)
        trained, frozen = (
            sum(x.size for x in jax.tree.leaves(part))
            for part in (state.params, state.frozen)
        )
        words = (
            f"{trained + frozen:,} parameters, {trained:,} of them "
            f"({trained / (trained + frozen):.1%}) trained; "
        )
        words += "random" if loaded is None else sentence(loaded)
        earlier = begun_with(self._config, self._data)
        seen = seen_before(earlier, self._data, self._config.data.dataset)
        return f"{words}; {seen.words}" if seen.words else words

    def memory(self) -> str:
        begun = self._begun
        step = build_step(
            self._config,
            begun.definition,
            begun.optimizer,
            self._devices,
            placed=self._placed,
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
        state = self._begun.state
        kept, moments = (
            sum(x.nbytes for x in jax.tree.leaves(part))
            for part in ((state.params, state.frozen), state.opt_state)
        )
        words = (
            f"{needs / 1e9:.2f} GB of {limit / 1e9:.2f} GB, of which parameters "
            f"{kept / 1e9:.2f} and the optimiser's state {moments / 1e9:.2f}"
        )
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
        hours = seconds * self._config.optimizer.steps / 3600
        return (
            f"loss {loss:.4g}; {seconds:.3g} s a step, {hours:.2g} hours for "
            f"{self._config.optimizer.steps:,} if the input keeps up"
        )

    def evaluation(self) -> str:
        data: Dataset = self._data
        split = Validation.of(data).split
        rows = np.arange(min(len(split.labels), _EVALUATED))
        embed = make_embed(
            self._begun.definition, devices=self._devices, batch_size=len(rows)
        )
        found = embed(self._state, ImageRows(split.images, rows=rows))
        if not np.isfinite(found).all():
            raise RunError("embeddings are not finite after a step")
        return f"{len(found)} images of {len(split.labels):,} to {found.shape[1]}"


def _limit(devices: Sequence[jax.Device]) -> float:
    """Bytes of memory of the device that has least; on CPU, of its share."""
    stats: list[Any] = [device.memory_stats() for device in devices]
    if all(stats):
        return min(each["bytes_limit"] for each in stats)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return whole / len(devices)
