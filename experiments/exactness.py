"""Whether devices change anything: every loss, miner and selection on many and on one.

python -m experiments.exactness [--only NAME ...] [--no-hosts] [--json FILE]

A network with batch norm over the axis and dropout embeds 32 rows whose classes are
spread over the devices, and `rankjax.train.make_step` takes the loss of the whole batch
and its gradient by all parameters: the network's, and any proxies and hyper-parameters
of the loss. So it does for rows with partners of their own, and for classes of which
each device compares with its share. One device with all rows is held against

    pmap         8 devices
    shard_map    8 devices, with its check of what is the same everywhere
    jit          8 devices, no axis: XLA spreads a program of the whole batch
    explicit     the same on a mesh whose axis is explicit, the default of jax.make_mesh
    pmap, shard_map, jit of 2 processes with 4 devices each, over gloo on 127.0.0.1

all simulated, in processes that the command starts. Everything is in float64, where
rounding is far below the tolerance and every mistake far above it. Printed are the
largest errors of value and gradient in every cell, over all devices: of the value
relative to itself, of a gradient to its parameter's largest entry, or to a thousandth
of the largest entry of all where that is more (what should be 0 is rounding).

The status is 0 if all errors are below 1e-9, else 1, and every cell above is named.
All takes 16 minutes of CPU time, which two cores share; nearly all of it is compiling.
"""

import argparse
import functools
import json
import operator
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.bench import output, simulated
from experiments.bench.output import Row
from experiments.bench.peer import ROOT
from experiments.children import ends_with_us
from experiments.exactness_cases import SUBJECTS, Way, evaluate
from rankjax.errors import RunError

TOLERANCE = 1e-9
MINUTES = 60.0
REFERENCE = "one device"
Outcome = dict[str, np.ndarray]
"""By name of a value or parameter, [device, ...]; or alone `error`, a text."""
Found = dict[tuple[str, str], Outcome]
"""By name of what is tested and of the wrapper."""

GROUPS: dict[int, tuple[Way | None, ...]] = {
    1: (None, "pmap", "shard_map", "jit", "explicit"),
    2: ("pmap", "shard_map", "jit"),
}
"""What is compiled in a group of so many processes; None is one device."""
DEVICES = 8
_BEGUN = "begun: "
Runner = Callable[[Sequence[str], int], Found]


def here(names: Sequence[str], hosts: int = 1) -> Found:
    """Evaluates in this process, which has its share of the eight devices.

    Args:
      names: in `SUBJECTS`.
      hosts: number of processes that do the same.

    Returns:
      For every wrapper of the group what this process's devices hold, or the first line
      of what went wrong.
    """
    found: Found = {}
    for number, name in enumerate(names, 1):
        print(f"{_BEGUN}{name}", flush=True)
        for wrapper in GROUPS[hosts]:
            found[name, wrapper or REFERENCE] = _attempt(name, wrapper)
        if number % 10 == 0:
            # A process may have 65,530 memory maps, and compiled programs take many.
            jax.clear_caches()
    return found


def _attempt(name: str, wrapper: Way | None) -> Outcome:
    try:
        return evaluate(name, wrapper)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return {"error": np.array(f"{type(error).__name__}: {first}")}


def elsewhere(names: Sequence[str], hosts: int = 1) -> Found:
    """The same in new processes, whose devices are simulated.

    Raises:
      RunError: one of them ends with an error, or all of them take too long.
    """
    # What needs no other process goes twice as fast in two.
    shares = [names[i::2] for i in range(min(2, len(names)))]
    shares = shares if hosts == 1 else [names] * hosts
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.npz" for number in range(len(shares))]
        port = _free_port()
        commands = []
        for number, (share, file) in enumerate(zip(shares, files, strict=True)):
            job = {"names": [*share], "hosts": hosts, "number": number, "port": port}
            words = ["--worker", json.dumps(job | {"file": str(file)})]
            commands.append([sys.executable, "-m", "experiments.exactness", *words])
        environment = simulated.environment(
            DEVICES // hosts, *simulated.QUICK_TO_COMPILE
        )
        what = "1 process" if hosts == 1 else f"{hosts} processes together"
        total = sum(map(len, shares))
        seconds = 0.5 if sys.stderr.isatty() else 30
        with tqdm(total=total, desc=what, unit="subject", mininterval=seconds) as bar:
            _run_together(commands, environment, Path(folder), bar=bar)
        parts = [_load(file) for file in files]
    return _join(parts) if hosts > 1 else functools.reduce(operator.or_, parts)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
    return port


def _run_together(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    folder: Path,
    minutes: float = MINUTES,
    bar: tqdm | None = None,
) -> None:
    """Waits for processes that wait for each other: if one ends, all must.

    The bar shows what they say that they have begun, but for the newest of each.
    """
    logs = [folder / f"{number}.log" for number in range(len(commands))]
    processes = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("w") as file:
                process = subprocess.Popen(
                    ends_with_us(command),
                    cwd=ROOT,
                    env=environment,
                    stdout=file,
                    stderr=file,
                )
            processes.append(process)
        end = time.monotonic() + minutes * 60
        while any(process.poll() is None for process in processes):
            if time.monotonic() > end:
                raise RunError(
                    f"{len(processes)} processes did not end in {minutes:g} min"
                )
            _check_statuses(processes, logs)
            if bar is not None:
                _show_progress(bar, processes, logs)
            time.sleep(0.1)
        _check_statuses(processes, logs)
        if bar is not None:
            _show_progress(bar, processes, logs)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _show_progress(
    bar: tqdm, processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]
) -> None:
    done, doing = 0, []
    for process, log in zip(processes, logs, strict=True):
        text = log.read_text()
        begun = [x for x in text.splitlines() if x.startswith(_BEGUN)]
        done += len(begun)
        if begun and process.poll() is None:
            done -= 1
            doing.append(begun[-1].removeprefix(_BEGUN))
    bar.set_postfix_str(", ".join(dict.fromkeys(doing)), refresh=False)
    bar.update(done - bar.n)


def _check_statuses(
    processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]
) -> None:
    for number, (process, log) in enumerate(zip(processes, logs, strict=True)):
        if process.poll():
            words = simulated.last_words(log.read_text())
            raise RunError(
                f"process {number} of {len(processes)} ended with status "
                f"{process.returncode}: {words}"
            )


def _work(job: Mapping[str, Any]) -> None:
    """What a process of `elsewhere` does."""
    if job["hosts"] > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            f"127.0.0.1:{job['port']}",
            num_processes=job["hosts"],
            process_id=job["number"],
        )
    found = here(job["names"], job["hosts"])
    flat = {
        json.dumps([*key, part]): array
        for key, outcome in found.items()
        for part, array in outcome.items()
    }
    np.savez(job["file"], **flat)  # type: ignore[arg-type]


def _load(file: Path) -> Found:
    found: Found = {}
    with np.load(file) as arrays:
        for key, array in arrays.items():
            name, wrapper, part = json.loads(key)
            found.setdefault((name, wrapper), {})[part] = array
    return found


def _join(parts: Sequence[Found]) -> Found:
    """What all processes hold together; an error of one is an error."""

    def join(outcomes: Sequence[Outcome]) -> Outcome:
        wrong = [outcome for outcome in outcomes if "error" in outcome]
        if wrong:
            return wrong[0]
        return {k: np.concatenate([o[k] for o in outcomes]) for k in outcomes[0]}

    return {key: join([part[key] for part in parts]) for key in parts[0]}


def compare(found: Outcome, expected: Outcome) -> Row:
    """Errors of an outcome, `value_error` and `gradient_error`, and a `note`.

    Both are NaN, and the note says why, where there is nothing to compare: an error, or
    a reference that is not finite or has no gradient.
    """
    nothing: Row = {"value_error": np.nan, "gradient_error": np.nan}
    for which, outcome in (("", found), (f"{REFERENCE}: ", expected)):
        if "error" in outcome:
            return nothing | {"note": which + str(outcome["error"])}
    sizes = {part: np.abs(array).max() for part, array in expected.items()}
    value = sizes.pop("value")
    largest = max(sizes.values())
    if not (0 < value < np.inf and 0 < largest < np.inf):
        note = f"{REFERENCE}: value {value:g}, largest entry of gradients {largest:g}"
        return nothing | {"note": note}

    def off(part: str) -> Any:
        return np.abs(found[part] - expected[part]).max()

    gradients = [off(k) / max(size, 1e-3 * largest) for k, size in sizes.items()]
    return {
        "value_error": float(off("value") / value),
        "gradient_error": float(np.max(gradients)),
        "note": "",
    }


def cells(names: Sequence[str], groups: Mapping[int, Found]) -> list[Row]:
    """A row for every name, wrapper and number of processes."""
    return [
        {"name": name, "wrapper": wrapper, "hosts": hosts, "devices": DEVICES}
        | compare(found[name, wrapper], groups[1][name, REFERENCE])
        for name in names
        for hosts, found in groups.items()
        for wrapper in GROUPS[hosts]
        if wrapper is not None
    ]


def report(rows: Sequence[Row], tolerance: float = TOLERANCE) -> int:
    """Prints the table, the worst cell, and each that fails; returns the status."""
    table: dict[str, Row] = {}
    for row in rows:
        text = f"{row['value_error']:.0e} / {row['gradient_error']:.0e}"
        shown = table.setdefault(row["name"], {"": row["name"]})
        shown[_column(row)] = text if _is_exact(row, tolerance) else f"{text} WRONG"
    columns = dict.fromkeys(key for shown in table.values() for key in shown)
    title = "Largest relative errors of value / gradient against one device"
    output.show(title, [*table.values()], dict.fromkeys(columns, ""))
    wrong = [row for row in rows if not _is_exact(row, tolerance)]
    for row in wrong:
        figures = f"value off by {row['value_error']:.1e}"
        figures += f", gradient by {row['gradient_error']:.1e}"
        print(
            f"error: {row['name']}, {_column(row)}: {row['note'] or figures}",
            file=sys.stderr,
        )
    worst = [
        f"{key.partition('_')[0]} {row[key]:.1e} ({row['name']}, {_column(row)})"
        for key in ("value_error", "gradient_error")
        for row in [max(rows, key=functools.partial(_badness, key=key))]
    ]
    print(
        f"{len(rows) - len(wrong)} of {len(rows)} cells below {tolerance:g}; "
        f"worst {', '.join(worst)}"
    )
    return 1 if wrong else 0


def _column(row: Row) -> str:
    each = row["devices"] // row["hosts"]
    where = f"{each}" if row["hosts"] == 1 else f"{row['hosts']} x {each}"
    return f"{row['wrapper']} on {where}"


def _is_exact(row: Row, tolerance: float) -> bool:
    return row["value_error"] < tolerance and row["gradient_error"] < tolerance


def _badness(row: Row, key: str) -> float:
    return np.inf if np.isnan(row[key]) else row[key]


def main(arguments: Sequence[str] | None = None, run: Runner = elsewhere) -> int:
    """Runs the command line; returns the exit status.

    Args:
      arguments: by default the process's.
      run: evaluates names in a group of so many processes.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*SUBJECTS], metavar="NAME")
    parser.add_argument(
        "--json", type=output.to_write, help="also write the cells to this file"
    )
    parser.add_argument(
        "--no-hosts", action="store_true", help="leave the two processes out"
    )
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker is not None:
        _work(options.worker)
        return 0
    names = options.only or [*SUBJECTS]
    begun = time.monotonic()
    try:
        groups = {
            hosts: run(names, hosts) for hosts in ((1,) if options.no_hosts else (1, 2))
        }
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    rows = cells(names, groups)
    status = report(rows)
    print(f"{(time.monotonic() - begun) / 60:.1f} min")
    output.save(options.json, rows)
    return status


if __name__ == "__main__":
    sys.exit(main())
