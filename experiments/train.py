"""Trains an embedding, evaluates it on classes it never saw, and reports.

python -m experiments.train [NAME] [--field value ...]

The same command goes on where an interrupted run stopped.
"""

import dataclasses
import hashlib
import json
import platform
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from experiments.command import parse
from rankjax.errors import RunError, UsageError

if __name__ == "__main__":
    # --help and mistyped options end here, before imports that take seconds.
    with suppress(UsageError):
        parse(sys.argv[1:])

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from experiments.bench.output import Row, show
from experiments.config import (
    SETTINGS,
    Config,
    build_augmentation,
    build_batches,
    build_objective,
    check,
    learned,
)
from experiments.fitting import differences, fit_batch, fit_to_data
from experiments.recipes import EXPERIMENTS
from rankjax import __version__, models
from rankjax.data import Batches, Dataset, Loader, MinedBatches, Split, load
from rankjax.data.images import ChosenImages, EncodedImages, ImageRows
from rankjax.memory import empty
from rankjax.models.proxies import Proxies, WithLoss
from rankjax.parallel import (
    AXIS,
    Spread,
    axis_of,
    data_parallel,
    place_among,
    replicate,
)
from rankjax.report import ROWS, ReportInputs, write_report
from rankjax.train import (
    Checkpoints,
    Monitor,
    RunFolder,
    TrainState,
    Validation,
    create_state,
    evaluate_test,
    hosts,
    make_embed,
    make_step,
    pixels,
    read_run,
)

_MOST_PIXELS = 20_000  # images, of which raw pixels are a baseline
INPUTS, WEIGHTS = "inputs.json", "weights.json"
"""Files in a run's folder: what its images are like, and what it began with."""

_SHOWN = {
    "recall_at_1": "Recall@1",
    "map_at_r": "MAP@R",
    "accuracy": "Accuracy",
    "auc": "AUC",
}
"""Figures that the command ends with."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


class Interrupted(Exception):
    """The run was asked to stop, and everything is saved."""


class _Records(NamedTuple):
    """What a run leaves behind, which the first process keeps."""

    folder: RunFolder
    checkpoints: Checkpoints


def run(name: str, config: Config, typed: Collection[str] = SETTINGS) -> Path:
    """Runs an experiment to its end, from wherever its folder says it is.

    The processes of `hosts.join` run it together.

    Args:
      name: of the experiment.
      config: its settings.
      typed: the names of those that stay as they are; the others are made to fit the
        data and the devices.

    Returns:
      The run's folder.

    Raises:
      UsageError: settings that cannot be meant, or the folder of another run.
      RunError: something outside must be mended; what was saved is whole.
      Interrupted: by Ctrl-C or SIGTERM.
    """
    devices = choose_devices(config.devices)
    process, processes = place_among(devices)
    _check_agreed(config)
    if config.weights is not None and not config.weights.expanduser().exists():
        # Which else shows after the network is made, a minute later.
        raise RunError(
            f"cannot read weights from {config.weights}: there is no such file"
        )
    config, data = load_fitted(config, typed, len(devices), processes)
    check_judged(data)
    batches = build_batches(config, data.train)
    definition, optimizer, schedule, untrained, loaded = start(
        config, data.train, axis_name=axis_of(config.wrapper), batches=batches
    )
    embed = make_embed(definition, devices=devices)
    step = make_spread_step(config, definition, optimizer, devices)
    size = sum(x.nbytes for x in jax.tree.leaves(untrained))
    path = config.run_dir or default_run_dir(name, config)
    with ExitStack() as stack:
        records, state = None, untrained
        if hosts.is_first():
            folder = RunFolder(path, config.settings(), needs=5 * size + 20_000_000)
            records = _Records(
                stack.enter_context(folder),
                stack.enter_context(
                    Checkpoints(path / "checkpoints", fall_back=config.fall_back)
                ),
            )
            latest = records.checkpoints.latest_step()
            if latest is not None:
                state = records.checkpoints.restore(latest, untrained)
            folder.rewind(latest or 0)
            if loaded is not None:
                text = json.dumps(dataclasses.asdict(loaded), indent=2)
                folder.write(WEIGHTS, text + "\n")
            _say_fitted(name, config, typed, data)
            inputs = _inputs(data.train) | {"on_damage": config.on_damage}
            folder.write(INPUTS, json.dumps(inputs) + "\n")
        state = replicate(hosts.broadcast(state), devices)
        mine = _Mining(batches, data.train, embed, devices)
        mine.resume(state)
        loader = Loader(
            data.train,
            batches,
            augmentation=build_augmentation(config),
            seed=config.seed,
            start_step=int(state.step),
            stop_step=config.steps,
            host=process,
            hosts=processes,
            refresh_every=mine.every,
        )
        with loader:
            state = _train(
                config, step, state, loader, schedule, mine, embed, data, records
            )
        command = _command(name, config, typed)
        _finish(
            command, config, data, batches, embed, untrained, state, devices, records
        )
    return path


def make_spread_step(
    config: Config,
    definition: Any,
    optimizer: optax.GradientTransformation,
    devices: Sequence[jax.Device],
) -> Spread:
    """The training step over devices."""
    axis = axis_of(config.wrapper)
    return data_parallel(
        hosts.StopVote.counting(
            make_step(
                definition,
                build_objective(config, axis),
                optimizer,
                axis_name=axis,
                microbatch=config.microbatch or None,
                memory_objective=build_objective(config, axis, regularized=False),
                memory_weight=config.memory_weight,
                memory_warmup=config.memory_warmup,
                weight_ema=config.weight_ema,
                seed=config.seed,
            ),
            axis,
        ),
        devices=devices,
        wrapper=config.wrapper,
    )


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
    check(fitted, devices, processes)
    try:
        data = load_data(config)
    except UsageError:
        if "fold" in typed or config.fold is None:
            raise
        # A recipe's fold needs more classes than a person may have.
        config = dataclasses.replace(config, fold=None)
        data = load_data(config)
    config = fit_batch(
        config, typed, devices=devices, hosts=processes, split=data.train
    )
    config = fit_to_data(config, typed, data.train)
    check(config, devices, processes)
    return config, data


def settings_fitted(name: str, config: Config, typed: Collection[str]) -> str:
    """Settings that nobody typed and the experiment does not have; empty for none."""
    asked = {name: getattr(config, name) for name in typed}
    return differences(dataclasses.replace(EXPERIMENTS[name](), **asked), config)


def _say_fitted(
    name: str, config: Config, typed: Collection[str], data: Dataset
) -> None:
    """Prints them in one line, if there are any."""
    changed = settings_fitted(name, config, typed)
    if changed:
        classes = len(np.unique(data.train.labels))
        print(
            f"settings that fit {config.loss} and the {len(data.train.labels):,} "
            f"training images of {classes:,} classes of {data.name}: {changed}",
            file=sys.stderr,
        )


def load_data(config: Config) -> Dataset:
    """The data set of a run."""
    return load(
        config.dataset,
        data_dir=config.data_dir.expanduser(),
        manual_dir=config.manual_dir and config.manual_dir.expanduser(),
        image_size=config.size(),
        short_side=config.short_side or None,
        fit=config.fit,
        alpha=config.alpha,
        seed=config.seed,
        fold=config.fold,
        folds=config.folds,
        on_damage=config.on_damage,
        check_images=config.check_images,
    )


def default_run_dir(name: str, config: Config) -> Path:
    """Where a run goes if nobody says: settings that differ never share a folder.

    It is called after the experiment, or after the data if that is another.
    """
    if config.dataset != EXPERIMENTS[name]().dataset:
        stem = Path(config.dataset.partition(":")[2] or config.dataset).resolve().stem
        if ":" not in config.dataset:
            stem = config.dataset
        name = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "run"
    settings = json.dumps(config.settings(), sort_keys=True)
    return Path("runs") / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _inputs(train: Split) -> dict[str, int | str | None]:
    """What the network's images are like."""
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


def _train(
    config: Config,
    step: Callable[..., Any],
    state: TrainState,
    loader: Loader,
    schedule: optax.Schedule,
    mine: "_Mining",
    embed: Any,
    data: Dataset,
    records: _Records | None,
) -> TrainState:
    """All steps that are left; evaluates and saves on the way."""
    validation = Validation.of(data)
    monitor = Monitor()
    score: dict[str, str] = {}
    done = int(state.step)
    bar = tqdm(
        total=config.steps,
        initial=done,
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        disable=records is None,
    )
    mark = done, time.perf_counter()

    def log(rows: Sequence[dict[str, float]]) -> None:
        nonlocal mark
        logged = [row for row in rows if row["step"] % config.log_every == 0]
        if not logged or records is None:
            return
        now, newest = time.perf_counter(), int(rows[-1]["step"])
        images = (newest - mark[0]) * config.classes * config.per_class
        speed = images / (now - mark[1])
        mark = newest, now
        for row in logged:
            rate = float(schedule(int(row["step"]) - 1))
            records.folder.log(
                row | {"images_per_second": speed, "learning_rate": rate}
            )
        shown = {"loss": f"{logged[-1]['loss']:.3f}", "img/s": f"{speed:.0f}"}
        bar.set_postfix(shown | score, refresh=False)

    trace = _Trace(config, records, done)
    with bar, trace, _stop_requests() as stop_requested:
        vote = hosts.StopVote(stop_requested)
        for number, batch in loader:
            state, metrics = step(state, vote.cast(batch))
            done = number + 1
            trace.after(done, metrics)
            stop = vote.outcome(metrics)
            log(monitor.add(done, metrics))
            bar.update()
            state = mine.after(done, state)
            if stop or done % config.eval_every == 0 or done == config.steps:
                log(monitor.flush())  # a state that is not finite must not be saved
                embeddings = embed(state, validation.split.images)
                if records is not None:
                    figures = validation.figures(embeddings)
                    records.folder.log({"step": done} | figures)
                    recall = figures[f"{validation.name}/recall_at_1"]
                    records.checkpoints.save(
                        done, state, score=recall if validation.chooses else 1.0
                    )
                    score = {f"{validation.name} R@1": f"{recall:.3f}"}
                mark = done, time.perf_counter()
            if stop and done < config.steps:
                if records is not None:
                    records.checkpoints.wait()
                hosts.from_first("stopped", "saved")
                raise Interrupted(f"stopped at step {done}, which is saved")
    return state


class _Mining:
    """Gives `MinedBatches` new embeddings in time, and the state what they were."""

    def __init__(
        self, batches: Batches, train: Split, embed: Any, devices: Sequence[jax.Device]
    ) -> None:
        self._batches = batches if isinstance(batches, MinedBatches) else None
        self._images, self._embed, self._devices = train.images, embed, devices
        self.every = self._batches.refresh_every if self._batches else 0

    def resume(self, state: TrainState) -> None:
        """Has the batches be what they were when the state was saved."""
        if self._batches and int(state.step) >= self.every:
            self._batches.refresh(np.asarray(state.mined))

    def after(self, done: int, state: TrainState) -> TrainState:
        """Renews the embeddings, if it is time, before another batch is begun."""
        if not self._batches or done % self.every:
            return state
        chosen = ChosenImages(self._images, self._batches.examples(done))
        embeddings = self._embed(state, chosen)
        self._batches.refresh(embeddings)
        return state._replace(mined=replicate(jnp.asarray(embeddings), self._devices))


class _Trace:
    """A profile of a few steps, for TensorBoard or Perfetto; see `Config.profile`."""

    def __init__(self, config: Config, records: _Records | None, done: int) -> None:
        self._folder = records.folder.path / "trace" if records is not None else None
        # The first steps compile.
        self._first, self._last = done + 10, done + 10 + config.profile
        self._open = False

    def after(self, done: int, metrics: Any) -> None:
        """Begins or ends after a step, of which something may not be there yet."""
        if self._folder is None or self._first == self._last:
            return
        if done == self._first:
            jax.profiler.start_trace(self._folder)
            self._open = True
        if done == self._last:
            jax.block_until_ready(metrics)
            self.__exit__()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        if self._open:
            self._open = False
            jax.profiler.stop_trace()


def _finish(
    command: str,
    config: Config,
    data: Dataset,
    batches: Batches,
    embed: Any,
    untrained: TrainState,
    state: TrainState,
    devices: Sequence[jax.Device],
    records: _Records | None,
) -> None:
    """Evaluates on the test classes and writes summary.json and report.html."""
    splits = _sides(data)
    rows: dict[str, list[np.ndarray]] = {
        who: [embed(variables, split.images) for split in splits]
        for who, variables in (("test", state), ("untrained", untrained))
    }
    if records is None:
        return
    folder = records.folder
    if sum(len(split.labels) for split in splits) <= _MOST_PIXELS:
        rows["raw_pixels"] = [pixels(split.images) for split in splits]
    summary = {
        who: evaluate_test(data, *each, seed=config.seed) for who, each in rows.items()
    }
    folder.write("summary.json", json.dumps(summary, indent=2) + "\n")
    rows_shown: list[Row] = [
        {"": title} | {shown: summary[who].get(key) for key, shown in _SHOWN.items()}
        for who, title in ROWS.items()
        if who in summary
    ]
    columns = {
        key: ".3f"
        for key in rows_shown[0]
        if any(row[key] is not None for row in rows_shown)
    }
    show(f"{data.name}, test images", rows_shown, columns)
    # Junk is in the gallery, which comes last; a report has no use for it.
    kept = np.ones(sum(len(split.labels) for split in splits), bool)
    if data.junk is not None:
        kept[-len(data.junk) :] = ~data.junk
    embeddings = {who: np.concatenate(each)[kept] for who, each in rows.items()}
    write_report(
        folder.path,
        ReportInputs(
            title=f"{data.name}, {config.loss}",
            command=command,
            config=config.settings()
            | {
                "devices": len(devices),
                "processes": jax.process_count(),
                "wrapper": config.wrapper,
                "protocol": data.protocol,
                "validation": _validation_words(data),
                "epoch": f"{batches.epoch:.4g} steps, with {batches.classes:.0%} of "
                f"the classes and {batches.images:.0%} of the images",
            },
            versions={"python": platform.python_version(), "rankjax": __version__}
            | {package: version(package) for package in _PACKAGES},
            summary=summary,
            history=folder.history(),
            images=ImageRows(*(split.images for split in splits), kept=kept),
            labels=np.concatenate([split.labels for split in splits])[kept],
            class_names=data.test.class_names,
            embeddings=embeddings.pop("test"),
            baselines=embeddings,
            seed=config.seed,
        ),
    )


def _validation_words(data: Dataset) -> str:
    found = Validation.of(data)
    classes = len(np.unique(found.split.labels))
    where = f"on {classes:,} {found.name} classes"
    return where if found.chooses else f"{where}; the last step counts as the best"


def _sides(data: Dataset) -> list[Split]:
    """The images to test on: queries and gallery, or those that are both."""
    return [data.test] if data.gallery is None else [data.test, data.gallery]


def start(
    config: Config,
    train: Split,
    *,
    axis_name: str | None = AXIS,
    batches: Batches | None = None,
) -> tuple[
    Any, optax.GradientTransformation, optax.Schedule, TrainState, models.Loaded | None
]:
    """The network's definition, the optimiser, its schedule, the first state, and what
    was loaded into it."""
    rngs = nnx.Rngs(config.seed)
    embedder = network(config, train.images.shape[-1], axis_name, rngs)
    loaded = _pretrain(config, embedder)
    model: nnx.Module = embedder
    if config.proxies_per_class or config.learn:
        model = WithLoss(
            model, proxies=_proxies(config, train, rngs), learned=learned(config)
        )
    schedule = _schedule(config)
    optimizer = _optimizer(config, schedule)
    others = _other_rates(config)
    if others:
        optimizer = optax.chain(optimizer, *others)
    ring = empty(config.memory, config.embedding_dim) if config.memory else None
    definition, state = create_state(
        model, optimizer, memory=ring, averaged=config.weight_ema > 0
    )
    if isinstance(batches, MinedBatches):
        shape = (len(batches.examples(0)), config.embedding_dim)
        state = state._replace(mined=jnp.zeros(shape, jnp.float32))
    return definition, optimizer, schedule, state, loaded


def _schedule(config: Config) -> optax.Schedule:
    warmup = min(config.warmup_steps, config.steps)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=config.learning_rate,
            warmup_steps=warmup,
            decay_steps=config.steps + 1,
        )
    after = optax.constant_schedule(config.learning_rate)
    if config.schedule == "staircase":
        after = optax.exponential_decay(
            config.learning_rate,
            transition_steps=config.decay_every,
            decay_rate=config.decay_rate,
            staircase=True,
        )
    # The staircase counts steps from the very first one.
    if not warmup:
        return after
    return lambda step: after(step) * jnp.minimum(1.0, step / warmup)


def _optimizer(
    config: Config, schedule: optax.Schedule
) -> optax.GradientTransformation:
    decay = optax.add_decayed_weights(config.weight_decay)
    if config.optimizer == "sgd":
        return optax.sgd(schedule, momentum=0.9)
    if config.optimizer == "adam":
        return optax.chain(decay, optax.adam(schedule))
    if config.optimizer == "rmsprop":
        return optax.chain(decay, optax.rmsprop(schedule, decay=0.99, momentum=0.9))
    return optax.adamw(schedule, weight_decay=config.weight_decay)


def _pretrain(config: Config, embedder: models.Embedder) -> models.Loaded | None:
    """Puts weights from a file, or from another run, into the backbone."""
    if config.weights is None:
        return None
    path, backbone = config.weights.expanduser(), embedder.backbone
    scale = None if config.input_scale == "auto" else config.input_scale
    if path.is_dir():
        arrays, theirs = read_run(path)
        own = "imagenet" if backbone.channels == 3 else "half"
        loaded = models.use_arrays(
            backbone, arrays, source=str(path), scale=scale or theirs or own
        )
    else:
        loaded = models.load_weights(backbone, path, scale=scale)
    embedder.scale = models.SCALES[loaded.scale]
    return loaded


def _other_rates(config: Config) -> list[optax.GradientTransformation]:
    """What makes the updates of some parameters larger or smaller than the others'."""
    found = []
    if config.proxies_per_class:
        faster = optax.scale(config.proxy_learning_rate)
        found.append(optax.masked(faster, _those_of("proxies")))
    if config.freeze_steps:
        rate = optax.join_schedules(
            [optax.constant_schedule(r) for r in (0.0, config.backbone_learning_rate)],
            [config.freeze_steps],
        )
        later = optax.scale_by_schedule(rate)
        found.append(optax.masked(later, _those_of("backbone")))
    elif config.backbone_learning_rate != 1:
        slower = optax.scale(config.backbone_learning_rate)
        found.append(optax.masked(slower, _those_of("backbone")))
    return found


def network(
    config: Config, channels: int, axis_name: str | None, rngs: nnx.Rngs
) -> models.Embedder:
    """The network, with random weights."""
    return models.build(
        config.model,
        channels=channels,
        embedding_dim=config.embedding_dim,
        normalize=config.normalize,
        image_size=config.image_size,
        pooling=config.pooling,
        dropout=config.dropout,
        head_layers=config.head_layers,
        head_norm=config.head_norm,
        grey_as_rgb=config.grey_as_rgb,
        layers=models.Layers(
            axis_name,
            rngs,
            norm_kind=config.norm,
            dtype=jnp.bfloat16 if config.precision == "bfloat16" else None,
            remat=config.remat,
            stochastic_depth=config.stochastic_depth,
        ),
    )


def _proxies(config: Config, train: Split, rngs: nnx.Rngs) -> Proxies | None:
    if not config.proxies_per_class:
        return None
    return Proxies(
        len(train.class_names),
        config.embedding_dim,
        per_class=config.proxies_per_class,
        rngs=rngs,
    )


def _those_of(part: str) -> Callable[[Any], Any]:
    """A mask of the parameters: True for those below a module of this name."""

    def mask(params: Any) -> Any:
        return jax.tree.map_with_path(
            lambda path, _: part in {getattr(key, "key", None) for key in path[:2]},
            params,
        )

    return mask


def check_judged(data: Dataset) -> None:
    """Raises a UsageError for a data set that a run cannot be judged on."""
    tested = np.concatenate([side.labels for side in _sides(data)])
    for what, labels in (
        ("validate", Validation.of(data).split.labels),
        ("test", tested),
    ):
        if not len(labels) or np.bincount(labels).max() < 2:
            raise UsageError(
                f"{data.name} must have two images of one class to {what} on, got "
                f"{len(labels)} images of {len(np.unique(labels))} classes"
            )


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


def _check_agreed(config: Config) -> None:
    """Raises a UsageError where another process was started with other settings."""
    ours = {k: str(v) for k, v in dataclasses.asdict(config).items() if k != "hosts"}
    theirs = json.loads(hosts.from_first("settings", json.dumps(ours)))
    for name in ("run_dir", "data_dir", "manual_dir"):
        theirs[name] = ours[name]  # may be other places on other machines
    differing = [name for name in ours if theirs[name] != ours[name]]
    if differing:
        differences = ", ".join(
            f"{name} {theirs[name]} (here {ours[name]})" for name in differing
        )
        raise UsageError(f"process 0 has other settings: {differences}")


def _command(name: str, config: Config, typed: Collection[str]) -> str:
    """The command line that gives these settings."""
    default = EXPERIMENTS[name]()
    words = ["python", "-m", "experiments.train", name]
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        # Each process has its own word for where the others are.
        if field.name == "hosts" or field.name not in typed:
            continue
        if typed is SETTINGS and value == getattr(default, field.name):
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        name, config, typed = parse(words)
        hosts.join(config.hosts, timeout=config.host_timeout)
        if config.dry_run:
            # It takes from here what it tries.
            from experiments.dry_run import dry_run

            return dry_run(name, config, typed)
        path = run(name, config, typed)
        hosts.from_first("finished", str(path))
    except UsageError as error:
        return hosts.end(f"error: {error}", 2)
    except RunError as error:
        return hosts.end(f"error: {error}", 1)
    except Interrupted as stop:
        again = shlex.join(["python", "-m", "experiments.train", *words])
        print(f"{stop}; go on with: {again}", file=sys.stderr)
        hosts.leave()
        return 130
    except KeyboardInterrupt:
        return hosts.end("interrupted; the last checkpoint is whole", 130)
    except Exception as error:
        if not hosts.joined():
            raise
        return hosts.end(_explain(error), 1)
    if hosts.is_first():
        print(f"report: {path / 'report.html'}\n{path}")
    hosts.leave()
    return 0


def _explain(error: Exception) -> str:
    """One line for an error that nobody foresaw, after its traceback if need be."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, jax.errors.JaxRuntimeError):
        return (
            "error: a computation of all processes failed, likely because one of them "
            f"died ({reason}); {hosts.AGAIN}"
        )
    traceback.print_exception(error)
    return f"error: {reason}"


if __name__ == "__main__":
    sys.exit(main())
