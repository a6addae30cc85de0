"""Evaluates an embedding: a run of experiments.train, or a file of any framework.

python -m experiments.evaluate RUN_OR_FILE [--protocol NAME] [--json FILE]
    [--report FILE.html]
"""

import dataclasses
import json
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy
import tyro
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from experiments.compiled import keep_compiled
from experiments.evaluation.measures import (
    check_same_rows,
    compare,
    measure,
    without_nan,
)
from experiments.evaluation.npz import read_npz
from experiments.evaluation.options import Options
from experiments.evaluation.runs import embed_run
from experiments.evaluation.subjects import Subject
from experiments.evaluation.suspects import cards, folder_of_paths
from experiments.evaluation.tables import counts, health_table, result, show, tables
from rankjax import __version__
from rankjax.errors import RunError, UsageError
from rankjax.files import check_place, write_atomic
from rankjax.report import EvaluationInputs, SearchResult, write_evaluation

_FEWEST_SAMPLES = 100


def run(options: Options, command: str) -> dict[str, Any]:
    """Evaluates, prints, and writes what was asked for.

    Args:
      options: the settings.
      command: that gives them.

    Returns:
      What the JSON file holds.

    Raises:
      UsageError: data or settings that cannot be meant.
      RunError: something outside must be mended; no file is half written.
    """
    _check(options)
    keep_compiled(options.data_dir, keep=options.keep_compiled)
    subject = read(options.source, options)
    # Before minutes of work, as it may not be there.
    other = None if options.compare is None else read(options.compare, options)
    if other is not None:
        with _blamed_on(options.compare):
            check_same_rows(subject, other, options.protocol or subject.protocol)
    with _progress() as say:
        with _blamed_on(options.source):
            found, outcome = measure(subject, options, say=say)
        theirs = None
        if other is not None and isinstance(outcome, SearchResult):
            say("comparison")
            with _blamed_on(options.compare):
                found["comparison"], theirs = compare(subject, outcome, other, options)
        suspects = {}
        if options.report is not None:
            say("suspects")
            folder = folder_of_paths(options.source, subject)
            suspects = cards(subject, folder=folder)
    versions = {
        "python": platform.python_version(),
        "rankjax": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    figures = without_nan(
        {"source": str(options.source), **found}
        | {"command": command, "versions": versions}
    )
    printed, health = tables(found), health_table(found)
    print("  ".join(f"{name}: {value}" for name, value in counts(found).items()))
    for table in [*printed, *([health] if health else [])]:
        show(table)
    if options.json is not None:
        _write(options.json, json.dumps(figures, indent=1) + "\n")
        print(f"figures: {options.json}")
    if options.report is not None:
        write_evaluation(
            options.report,
            EvaluationInputs(
                title=subject.name,
                result=result(found),
                facts=counts(found),
                tables=printed,
                health=health,
                outcome=outcome,
                shown=subject.shown(),
                embeddings=subject.embeddings,
                other=theirs,
                other_name=str(options.compare),
                suspects=suspects,
                settings=_settings(options),
                command=command,
                versions=versions,
                seed=options.seed,
            ),
        )
        print(f"report: {options.report}")
    return figures


def read(path: Path, options: Options) -> Subject:
    """A run's test images, embedded, or a file's embeddings."""
    if path.is_dir():
        return embed_run(
            path,
            checkpoint=options.checkpoint,
            data_dir=options.data_dir,
            manual_dir=options.manual_dir,
        )
    if not path.exists():
        raise UsageError(f"no run folder and no file {path}")
    return read_npz(path, pictures=options.report is not None)


def _check(options: Options) -> None:
    for name, least in (("expand", 0), ("samples", 0), ("restarts", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise UsageError(
                f"{name} must be at least {least}, got {getattr(options, name)}"
            )
    if 0 < options.samples < _FEWEST_SAMPLES:
        raise UsageError(
            f"samples must be at least {_FEWEST_SAMPLES} for intervals, or 0 for none, "
            f"got {options.samples}"
        )
    if options.report is not None and options.report.suffix not in (".html", ".htm"):
        raise UsageError(f"report must be named .html, got {options.report}")
    # What cannot be written is better known before hours of work than after.
    for name in ("json", "report"):
        file = getattr(options, name)
        if file is None:
            continue
        check_place(name, file)
        read = [other.resolve() for other in (options.source, options.compare) if other]
        if file.resolve() in read:
            raise UsageError(f"{name} must be another file than is read, got {file}")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on the terminal, while it lasts: what is computed, and for how long."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as shown:
        task = shown.add_task("")
        yield lambda what: shown.update(task, description=what)


@contextmanager
def _blamed_on(path: Path | None) -> Iterator[None]:
    """Names the file or folder in errors about what it holds."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def _settings(options: Options) -> dict[str, str]:
    return {
        field.name: str(getattr(options, field.name))
        for field in dataclasses.fields(options)
        if getattr(options, field.name) not in (None, ())
    }


def _write(path: Path, content: str) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = tyro.cli(
        Options,
        args=words,
        prog="python -m experiments.evaluate",
        description=(__doc__ or "").splitlines()[0],
    )
    try:
        run(options, shlex.join(["python", "-m", "experiments.evaluate", *words]))
    except (RunError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
