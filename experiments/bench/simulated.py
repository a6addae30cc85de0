"""Processes with simulated devices, whose number is fixed when a process starts."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.bench.output import Row
from experiments.bench.peer import ROOT
from experiments.children import ends_with_us
from rankjax.errors import RunError

QUICK_TO_COMPILE = ["--xla_backend_optimization_level=0"]
"""XLA flags for what compiles for longer than it runs."""
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Other versions refuse what they do not know.
    QUICK_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")

_COUNT = re.compile(r"--xla_force_host_platform_device_count=\d+")


def environment(devices: int, *flags: str) -> dict[str, str]:
    """That of a process which has so many CPU devices, and more XLA flags."""
    others = _COUNT.sub("", os.environ.get("XLA_FLAGS", ""))
    count = f"--xla_force_host_platform_device_count={devices}"
    words = " ".join([others, count, *flags])
    # Its own remark on tracebacks would otherwise be the last words.
    quiet = {"JAX_TRACEBACK_FILTERING": "off"}
    return os.environ | {"XLA_FLAGS": words, "JAX_PLATFORMS": "cpu"} | quiet


def rows_of(
    module: str, words: Sequence[str], devices: int, *flags: str, minutes: float = 20.0
) -> list[Row]:
    """What a command writes with `--json` on so many devices.

    Args:
      module: of the command.
      words: its other arguments.
      devices: that it sees, and is told by `--devices`.
      flags: XLA flags, besides those of this process.
      minutes: that it may take.

    Raises:
      RunError: it ended with an error, or not at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", module, *words, "--devices", str(devices)]
        what = f"{module} on {devices} simulated devices"
        print(what, file=sys.stderr, flush=True)
        try:
            ended = subprocess.run(
                ends_with_us([*command, "--json", str(file)]),
                cwd=ROOT,
                env=environment(devices, *flags),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=minutes * 60,
            )
        except subprocess.TimeoutExpired:
            raise RunError(f"{what} did not end in {minutes:g} minutes") from None
        if ended.returncode:
            last = last_words(ended.stderr)
            raise RunError(f"{what} ended with status {ended.returncode}: {last}")
        rows: list[Row] = json.loads(file.read_text())
    return rows


def last_words(text: str) -> str:
    """The last line that says something, which in a traceback is the error."""
    return (text.strip().splitlines() or ["nothing said"])[-1]
