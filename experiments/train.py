"""Trains an embedding, evaluates it on classes it never saw, and reports.

python -m experiments.train [NAME] [--field value ...]

The same command goes on where an interrupted run stopped.
"""

import dataclasses
import hashlib
import json
import re
import shlex
import sys
import traceback
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from experiments.training.command import command_line, parse
from rankjax.errors import RunError, UsageError

if __name__ == "__main__":
    # --help and mistyped options end here, before imports that take seconds.
    with suppress(UsageError):
        parse(sys.argv[1:])

import jax
import numpy as np

from experiments import hosts
from experiments.compiled import keep_compiled
from experiments.config import SETTINGS, Config
from experiments.features import Features
from experiments.recipes import EXPERIMENTS
from experiments.runs import INPUTS, WEIGHTS
from experiments.trained_on import (
    DATA,
    begun_with,
    check_unchanged,
    record_of,
    seen_before,
)
from experiments.training import loop
from experiments.training.check import check_weights, choose_devices
from experiments.training.choices import build_augmentation, build_batches
from experiments.training.dry_run import dry_run
from experiments.training.end import finish
from experiments.training.fitting import settings_fitted
from experiments.training.images import inputs_of, load_fitted
from experiments.training.start import build_step, placement, start
from experiments.training.validation import Validation, check_evaluation
from experiments.training.weights import sentence
from rankjax.data import Dataset, Loader
from rankjax.parallel import axis_of, place_among, replicate
from rankjax.train import Checkpoints, RunFolder, make_embed, read_history


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
      UsageError: settings that cannot be meant, the folder of another run, or images
        that have changed since it began.
      RunError: something outside must be mended; what was saved is whole.
      Interrupted: by Ctrl-C or SIGTERM.
    """
    devices = choose_devices(config.devices.devices)
    process, processes = place_among(devices)
    _check_agreed(config)
    check_weights(config.model.weights)
    config, data = load_fitted(config, typed, len(devices), processes)
    check_evaluation(data)
    seed, steps = config.run.seed, config.optimizer.steps
    batches = build_batches(config.batch, data.train, seed)
    begun = start(config, data.train, axis_name=axis_of(config.devices.wrapper))
    embed = make_embed(begun.definition, devices=devices)
    placed = placement(config, begun.state, devices)
    step = build_step(config, begun.definition, begun.optimizer, devices, placed=placed)
    path = config.run.run_dir or default_run_dir(name, config)
    earlier = begun_with(config, data)
    seen = seen_before(earlier, data, config.data.dataset)
    with ExitStack() as stack:
        records, state = None, begun.state
        if hosts.is_first():
            check_unchanged(path, data, config, exactly=True)
            size = sum(x.nbytes for x in jax.tree.leaves(state))
            folder = RunFolder(path, config.settings(), needs=5 * size + 20_000_000)
            stack.enter_context(folder)
            checkpoints = Checkpoints(
                path / "checkpoints", fall_back=config.run.fall_back
            )
            records = loop.Records(folder, stack.enter_context(checkpoints))
            latest = checkpoints.latest_step()
            if latest is not None:
                state = checkpoints.restore(latest, state)
            elif read_history(path):
                print(
                    f"{path} was trained before and has no checkpoint to go on from; "
                    "training begins anew",
                    file=sys.stderr,
                )
            folder.rewind(latest or 0)
            if begun.loaded is not None:
                text = json.dumps(dataclasses.asdict(begun.loaded), indent=2)
                folder.write(WEIGHTS, text + "\n")
                print(f"weights: {sentence(begun.loaded)}", flush=True)
            if isinstance(data.train.images, Features):
                print(data.train.images.sentence(), flush=True)
            if seen.words:
                print(seen.words, file=sys.stderr)
            _say_fitted(name, config, typed, data)
            inputs = inputs_of(data.train) | {"on_damage": config.data.on_damage}
            folder.write(INPUTS, json.dumps(inputs) + "\n")
            folder.write(DATA, json.dumps(record_of(data, earlier)) + "\n")
        state = replicate(hosts.broadcast(state), devices, placed=placed)
        loader = Loader(
            data.train,
            batches,
            augmentation=build_augmentation(config.data),
            seed=seed,
            start_step=int(state.step),
            stop_step=steps,
            host=process,
            hosts=processes,
        )
        with loader:
            state = loop.train(
                step,
                state,
                loader,
                steps=steps,
                images=config.batch.size(),
                run=config.run,
                schedule=begun.schedule,
                embed=embed,
                validation=Validation.of(data),
                records=records,
            )
        finish(
            records,
            config,
            data,
            usual=EXPERIMENTS[name](),
            batches=batches,
            embed=embed,
            seen=len(seen.classes),
            untrained=begun.state,
            trained=state,
            devices=len(devices),
            command=command_line(name, config, typed),
        )
    return path


def _say_fitted(
    name: str, config: Config, typed: Collection[str], data: Dataset
) -> None:
    """Prints in one line which settings were made to fit, if any were."""
    changed = settings_fitted(EXPERIMENTS[name](), config, typed)
    if changed:
        classes = len(np.unique(data.train.labels))
        print(
            f"settings that fit {config.loss.name} and the {len(data.train.labels):,} "
            f"training images of {classes:,} classes of {data.name}: {changed}",
            file=sys.stderr,
        )


def default_run_dir(name: str, config: Config) -> Path:
    """Where a run goes if nobody says: settings that differ never share a folder.

    It is called after the experiment, or after the data if that is another.
    """
    dataset = config.data.dataset
    if dataset != EXPERIMENTS[name]().data.dataset:
        stem = dataset
        if ":" in dataset:
            stem = Path(dataset.partition(":")[2]).resolve().stem
        name = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "run"
    settings = json.dumps(config.settings(), sort_keys=True)
    return Path("runs") / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _check_agreed(config: Config) -> None:
    """Raises a UsageError where another process was started with other settings."""
    ours = {k: str(v) for k, v in config.flat().items() if k != "hosts"}
    theirs = json.loads(hosts.from_first("settings", json.dumps(ours)))
    for name in ("run_dir", "data_dir", "manual_dir"):
        theirs[name] = ours[name]  # may be other places on other machines
    differing = [name for name in ours if theirs[name] != ours[name]]
    if differing:
        differences = ", ".join(
            f"{name} {theirs[name]} (here {ours[name]})" for name in differing
        )
        raise UsageError(f"process 0 has other settings: {differences}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        name, config, typed = parse(words)
        hosts.join(config.devices.hosts, timeout=config.devices.host_timeout)
        keep_compiled(config.data.data_dir, keep=config.devices.keep_compiled)
        if config.run.dry_run:
            return dry_run(name, config, typed)
        path = run(name, config, typed)
        hosts.from_first("finished", str(path))
    except UsageError as error:
        return hosts.end(f"error: {error}", 2)
    except RunError as error:
        return hosts.end(f"error: {error}", 1)
    except loop.Interrupted as stop:
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
