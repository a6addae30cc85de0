"""The command line of `experiments.train`, read before what takes seconds to import."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import tyro

from experiments.config import GROUPS, SETTINGS, Config
from experiments.fitting import fit_to_choices
from experiments.recipes import EXPERIMENTS
from rankjax.errors import unknown_name

_Grouped = dataclasses.make_dataclass(
    "_Grouped", [(group.__name__.lower(), group) for group in GROUPS], frozen=True
)


def parse(arguments: Sequence[str]) -> tuple[str, Config, frozenset[str]]:
    """Reads the command line.

    Args:
      arguments: the words after the command.

    Returns:
      The name of an experiment, its settings, fitted to those that were typed, and the
      names of these.

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
    default = EXPERIMENTS[name]()
    found: Any = tyro.cli(
        _Grouped,
        default=_Grouped(*(group(**_part(default, group)) for group in GROUPS)),
        args=words,
        prog=f"python -m experiments.train {name}",
        description=f"{inspect.getdoc(EXPERIMENTS[name])}\n\nExperiments:\n\n{listed}",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    settings: dict[str, Any] = {}
    for group in GROUPS:
        settings |= _part(getattr(found, group.__name__.lower()), group)
    typed = _typed(words)
    return name, fit_to_choices(default, Config(**settings), typed), typed


def _part(settings: Any, group: type[Any]) -> dict[str, Any]:
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(group)}


def _typed(words: Sequence[str]) -> frozenset[str]:
    """The settings that words name: --loss, --loss=triplet, --no-normalize."""
    flags = {
        word[2:].partition("=")[0].replace("-", "_")
        for word in words
        if word.startswith("--")
    }
    flags |= {flag.removeprefix("no_") for flag in flags}
    return frozenset(flags & SETTINGS)
