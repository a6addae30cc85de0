"""Talks to a peer library in another process, one repetition at a time."""

import dataclasses
import importlib.util
import json
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from experiments.bench.timing import Layout, Rep, Shape, Unavailable
from experiments.children import ends_with_us

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0


def find(python: str | None) -> str | None:
    """The interpreter to run the peer with: as asked, else this one, if it can."""
    if python is None and importlib.util.find_spec("pytorch_metric_learning"):
        return sys.executable
    return python


class Peer:
    """A process that computes the peer's losses, and is started again when it hangs."""

    def __init__(self, python: str, *, seconds: float = 20.0) -> None:
        """Start it.

        Args:
          python: an interpreter that can import pytorch_metric_learning.
          seconds: that an answer may take.

        Raises:
          Unavailable: it cannot.
        """
        self._python, self._seconds = python, seconds
        self._start()

    def setup(self, peer: str, shape: Shape, *, seed: int, layout: Layout) -> None:
        """Chooses what is computed, and on which batch."""
        self._ask(
            op="setup",
            peer=peer,
            shape=dataclasses.asdict(shape),
            seed=seed,
            layout=layout,
        )

    def value(self) -> tuple[float, list[np.ndarray]]:
        """The value and the gradients, of the rows and then of any proxies."""
        found = self._ask(op="value")
        return found["value"], [np.array(g, np.float32) for g in found["gradients"]]

    def run(self) -> Rep:
        """Times one call."""
        return Rep(**self._ask(op="run"))

    def peak_mb(self) -> float | None:
        """Memory of one call."""
        return self._ask(3 * self._seconds, op="peak")["peak_mb"]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            ends_with_us([self._python, "-m", "experiments.bench.peer_server"]),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._answer(START_SECONDS)
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            raise Unavailable(
                f"{self._python} cannot run pytorch-metric-learning"
            ) from error

    def _ask(self, seconds: float | None = None, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return self._answer(seconds or self._seconds)
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            self._start()
            if isinstance(error, TimeoutError):
                raise Unavailable("timeout") from error
            raise Unavailable("out of memory") from error

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise TimeoutError
        line = self._process.stdout.readline()
        if not line:
            raise BrokenPipeError
        found: dict[str, Any] = json.loads(line)
        if "unavailable" in found:
            raise Unavailable(found["unavailable"])
        if "error" in found:
            raise RuntimeError(f"the peer failed: {found['error']}")
        return found
