"""The command line of `experiments.train`, read before what takes seconds to import."""

import inspect
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.config import SETTINGS, Config
from experiments.recipes import EXPERIMENTS
from experiments.training.fitting import fit_to_choices
from rankjax.errors import UsageError, unknown_name

_ELSEWHERE = {
    "--epochs": "--steps",
    "--batch-size": "--classes and --per-class, whose product it is",
    "--lr": "--learning-rate",
    "--output": "--run-dir",
    "--output-dir": "--run-dir",
    "--val": "--fold",
}
"""What other programs call some options."""


def parse(arguments: Sequence[str]) -> tuple[str, Config, frozenset[str]]:
    """Reads the command line.

    Args:
      arguments: the words after the command.

    Returns:
      The name of an experiment, its settings, fitted to those that were typed, and the
      names of these.

    Raises:
      UsageError: there is no such experiment, or an option of other programs.
      SystemExit: after --help, or with status 2 for an option that cannot be read.
    """
    words = list(arguments)
    name = words.pop(0) if words and not words[0].startswith("-") else "glyphs"
    if name not in EXPERIMENTS and (":" in name or Path(name).exists()):
        raise UsageError(
            f"no experiment {name!r}; of images or features of your own, write "
            "--dataset folder:PATH, list:FILE, reid:PATH or features:FILE"
        )
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, list(EXPERIMENTS))
    listed = "\n\n".join(
        f"{key}: {(inspect.getdoc(function) or '').splitlines()[0]}"
        for key, function in EXPERIMENTS.items()
    )
    for word in words:
        if (option := word.partition("=")[0]) in _ELSEWHERE:
            raise UsageError(f"there is no {option} here; see {_ELSEWHERE[option]}")
    default = EXPERIMENTS[name]()
    config: Any = tyro.cli(
        Config,
        default=default,
        args=words,
        prog=f"python -m experiments.train {name}",
        description=f"{inspect.getdoc(EXPERIMENTS[name])}\n\nExperiments:\n\n{listed}",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    typed = _typed(words)
    return name, fit_to_choices(default, config, typed), typed


def _typed(words: Sequence[str]) -> frozenset[str]:
    """The settings that words name: --loss, --loss=triplet, --no-normalize."""
    flags = {
        word[2:].partition("=")[0].replace("-", "_")
        for word in words
        if word.startswith("--")
    }
    flags |= {flag.removeprefix("no_") for flag in flags}
    return frozenset(flags & SETTINGS)


def command_line(name: str, config: Config, typed: Collection[str]) -> str:
    """The command that gives these settings."""
    default = EXPERIMENTS[name]().flat()
    words = ["python", "-m", "experiments.train", name]
    for key, value in config.flat().items():
        # Each process has its own word for where the others are.
        if key == "hosts" or key not in typed:
            continue
        if typed is SETTINGS and value == default[key]:
            continue
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}")
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
    return shlex.join(words)
