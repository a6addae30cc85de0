"""Trains an embedding, evaluates it on classes it never saw, and reports.

python -m experiments.train [NAME] [--field value ...]

The same command goes on where an interrupted run stopped.
"""

import dataclasses
import hashlib
import inspect
import json
import platform
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from tqdm import tqdm

from experiments.config import EXPERIMENTS, Config, build_objective, check, learned
from rankjax import __version__, models
from rankjax.data import Dataset, Loader, Split, class_balanced_batches, load
from rankjax.errors import RunError, UsageError, unknown_name
from rankjax.memory import empty
from rankjax.models.proxies import Proxies, WithLoss
from rankjax.parallel import AXIS, data_parallel, replicate
from rankjax.report import ReportInputs, write_report
from rankjax.train import (
    Checkpoints,
    Monitor,
    RunFolder,
    TrainState,
    create_state,
    evaluate,
    make_embed,
    make_step,
    pixels,
)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


class Interrupted(Exception):
    """The run was asked to stop, and everything is saved."""


def run(name: str, config: Config) -> Path:
    """Runs an experiment to its end, from wherever its folder says it is.

    Args:
      name: of the experiment, for titles.
      config: its settings.

    Returns:
      The run's folder.

    Raises:
      UsageError: settings that cannot be meant, or the folder of another run.
      RunError: something outside must be mended; what was saved is whole.
      Interrupted: by Ctrl-C or SIGTERM.
    """
    devices = _devices(config.devices)
    check(config, len(devices))
    data = load(
        config.dataset,
        data_dir=config.data_dir.expanduser(),
        image_size=config.image_size,
        seed=config.seed,
    )
    _check_judged(data)
    batches = _batches(config, data.train)
    definition, optimizer, schedule, untrained = start(config, data.train)
    embed = make_embed(definition, devices=devices)
    step = data_parallel(
        make_step(
            definition,
            build_objective(config),
            optimizer,
            axis_name=AXIS,
            microbatch=config.microbatch or None,
            memory_objective=build_objective(config, regularized=False),
            memory_weight=config.memory_weight,
            memory_warmup=config.memory_warmup,
            seed=config.seed,
        ),
        devices=devices,
        wrapper=config.wrapper,
    )
    size = sum(x.nbytes for x in jax.tree.leaves(untrained))
    path = config.run_dir or default_run_dir(name, config)
    with (
        RunFolder(path, config.settings(), needs=4 * size + 20_000_000) as folder,
        Checkpoints(path / "checkpoints") as checkpoints,
    ):
        state = replicate(untrained, devices)
        latest = checkpoints.latest_step()
        if latest is not None:
            state = checkpoints.restore(latest, state)
        folder.rewind(latest or 0)
        loader = Loader(
            data.train,
            batches,
            augmentation=config.augmentation,
            seed=config.seed,
            start_step=latest or 0,
            stop_step=config.steps,
        )
        with loader:
            state = _train(
                config, step, state, loader, schedule, embed, data, folder, checkpoints
            )
        _finish(name, config, data, embed, untrained, state, folder)
    return path


def default_run_dir(name: str, config: Config) -> Path:
    """Where a run goes if nobody says: settings that differ never share a folder."""
    settings = json.dumps(config.settings(), sort_keys=True)
    return Path("runs") / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _train(
    config: Config,
    step: Callable[..., Any],
    state: TrainState,
    loader: Loader,
    schedule: optax.Schedule,
    embed: Any,
    data: Dataset,
    folder: RunFolder,
    checkpoints: Checkpoints,
) -> TrainState:
    """All steps that are left; evaluates and saves on the way."""
    judged_on = data.train if data.validation is None else data.validation
    monitor = Monitor()
    score: dict[str, str] = {}
    done = int(state.step)
    bar = tqdm(
        total=config.steps,
        initial=done,
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
    )
    mark = done, time.perf_counter()

    def log(rows: Sequence[dict[str, float]]) -> None:
        nonlocal mark
        logged = [row for row in rows if row["step"] % config.log_every == 0]
        if not logged:
            return
        now, newest = time.perf_counter(), int(rows[-1]["step"])
        images = (newest - mark[0]) * config.classes * config.per_class
        speed = images / (now - mark[1])
        mark = newest, now
        for row in logged:
            rate = float(schedule(int(row["step"]) - 1))
            folder.log(row | {"images_per_second": speed, "learning_rate": rate})
        shown = {"loss": f"{logged[-1]['loss']:.3f}", "img/s": f"{speed:.0f}"}
        bar.set_postfix(shown | score, refresh=False)

    with bar, _stop_requests() as stop_requested:
        for number, batch in loader:
            state, metrics = step(state, batch)
            done = number + 1
            log(monitor.add(done, metrics))
            bar.update()
            stop = stop_requested()
            if stop or done % config.eval_every == 0 or done == config.steps:
                log(monitor.flush())  # a state that is not finite must not be saved
                figures = _judge(embed, state, judged_on)
                folder.log({"step": done} | figures)
                checkpoints.save(done, state, score=figures["validation/recall_at_1"])
                score = {"R@1": f"{figures['validation/recall_at_1']:.3f}"}
                mark = done, time.perf_counter()
            if stop and done < config.steps:
                checkpoints.wait()
                raise Interrupted(f"stopped at step {done}, which is saved")
    return state


def _judge(embed: Any, state: TrainState, split: Split) -> dict[str, float]:
    figures = evaluate(embed(state, split.images), split.labels, seed=0)
    return {f"validation/{name}": value for name, value in figures.items()}


def _finish(
    name: str,
    config: Config,
    data: Dataset,
    embed: Any,
    untrained: TrainState,
    state: TrainState,
    folder: RunFolder,
) -> None:
    """Evaluates on the test classes and writes summary.json and report.html."""
    images, labels = data.test.images, data.test.labels
    embeddings = {
        "test": embed(state, images),
        "raw_pixels": pixels(images),
        "untrained": embed(untrained, images),
    }
    summary = {
        who: evaluate(what, labels, seed=config.seed)
        for who, what in embeddings.items()
    }
    folder.write("summary.json", json.dumps(summary, indent=2) + "\n")
    write_report(
        folder.path,
        ReportInputs(
            title=name,
            command=_command(name, config),
            config=config.settings(),
            versions={"python": platform.python_version(), "rankjax": __version__}
            | {package: version(package) for package in _PACKAGES},
            summary=summary,
            history=folder.history(),
            images=images.read(np.arange(len(images))),
            labels=labels,
            class_names=data.test.class_names,
            embeddings=embeddings.pop("test"),
            baselines=embeddings,
            seed=config.seed,
        ),
    )


def start(
    config: Config, train: Split, *, axis_name: str | None = AXIS
) -> tuple[Any, optax.GradientTransformation, optax.Schedule, TrainState]:
    """The network's definition, the optimiser, its schedule and the first state."""
    rngs = nnx.Rngs(config.seed)
    model: nnx.Module = models.build(
        config.model,
        channels=train.images.read(np.arange(1)).shape[-1],
        embedding_dim=config.embedding_dim,
        normalize=config.normalize,
        dropout=config.dropout,
        layers=models.Layers(
            axis_name,
            rngs,
            norm_kind=config.norm,
            dtype=jnp.bfloat16 if config.precision == "bfloat16" else None,
            remat=config.remat,
        ),
    )
    if config.proxies_per_class or config.learn:
        model = WithLoss(
            model, proxies=_proxies(config, train, rngs), learned=learned(config)
        )
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(config.warmup_steps, config.steps),
        decay_steps=config.steps + 1,
    )
    if config.optimizer == "sgd":
        optimizer = optax.sgd(schedule, momentum=0.9)
    else:
        optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)
    if config.proxies_per_class:
        faster = optax.scale(config.proxy_learning_rate)
        optimizer = optax.chain(optimizer, optax.masked(faster, _are_proxies))
    ring = empty(config.memory, config.embedding_dim) if config.memory else None
    definition, state = create_state(model, optimizer, memory=ring)
    return definition, optimizer, schedule, state


def _proxies(config: Config, train: Split, rngs: nnx.Rngs) -> Proxies | None:
    if not config.proxies_per_class:
        return None
    return Proxies(
        len(train.class_names),
        config.embedding_dim,
        per_class=config.proxies_per_class,
        rngs=rngs,
    )


def _are_proxies(params: Any) -> Any:
    """A mask of the parameters: True for those of the proxies."""
    return jax.tree.map_with_path(
        lambda path, _: getattr(path[0], "key", None) == "proxies", params
    )


def _check_judged(data: Dataset) -> None:
    judged_on = data.train if data.validation is None else data.validation
    for split in (judged_on, data.test):
        if len(split.labels) < 9 or np.bincount(split.labels).max() < 2:
            raise UsageError(
                f"{data.name} must have 9 images or more, two of them of one class, "
                f"to validate and to test on, got {len(split.labels)}"
            )


def _batches(config: Config, train: Split) -> Callable[[int], np.ndarray]:
    try:
        return class_balanced_batches(
            train.labels,
            classes=config.classes,
            per_class=config.per_class,
            seed=config.seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _devices(number: int) -> Sequence[jax.Device]:
    devices = jax.devices()
    if not 0 <= number <= len(devices):
        raise UsageError(
            f"devices must be from 1 to {len(devices)}, or 0 for all, got {number}"
        )
    return devices[:number] if number else devices


def _command(name: str, config: Config) -> str:
    """The command line that gives these settings."""
    default = EXPERIMENTS[name]()
    words = ["python", "-m", "experiments.train", name]
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value == getattr(default, field.name):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}")
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
    return shlex.join(words)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a question; a second one is as usual."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse(arguments: Sequence[str]) -> tuple[str, Config]:
    """The name of an experiment and its settings, from the command line.

    Raises:
      UsageError: there is no such experiment.
      SystemExit: after --help, or with status 2 for an option that cannot be read.
    """
    words = list(arguments)
    name = words.pop(0) if words and not words[0].startswith("-") else "glyphs"
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, list(EXPERIMENTS))
    listed = "\n\n".join(
        f"{key}: {(inspect.getdoc(function) or '').splitlines()[0]}"
        for key, function in EXPERIMENTS.items()
    )
    config = tyro.cli(
        Config,
        default=EXPERIMENTS[name](),
        args=words,
        prog=f"python -m experiments.train {name}",
        description=f"{inspect.getdoc(EXPERIMENTS[name])}\n\nExperiments:\n\n{listed}",
    )
    return name, config


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        path = run(*parse(words))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        again = shlex.join(["python", "-m", "experiments.train", *words])
        print(f"{stop}; go on with: {again}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted; the last checkpoint is whole", file=sys.stderr)
        return 130
    print(f"report: {path / 'report.html'}\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
