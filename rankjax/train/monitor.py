"""Reading metrics without waiting for the device, and ending runs that are lost."""

import math
from collections import deque
from typing import Any

import jax

from rankjax.errors import RunError

_LAG = 4  # steps; by then the device is done with them, and reading does not wait
_COLLAPSED_COSINE = 0.99
_COLLAPSED_LENGTH = 1e-4
_PATIENCE = 100  # steps in a row; networks start out close to collapse


class Monitor:
    """Keeps the metrics of the last few steps on the device, then checks them.

    A loss that is not finite, or embeddings that stay the same for all images, raise a
    RunError which names the step and the likely cause.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[int, Any]] = deque()
        self._collapsed = 0
        self._last: dict[str, float] = {}

    def add(self, step: int, metrics: Any) -> list[dict[str, float]]:
        """Takes the metrics of a step; returns those now read, with their `step`."""
        self._pending.append((step, metrics))
        return self._read(_LAG)

    def flush(self) -> list[dict[str, float]]:
        """Waits for all steps; returns the metrics that were not read before."""
        return self._read(0)

    def _read(self, lag: int) -> list[dict[str, float]]:
        return [self._check() for _ in range(len(self._pending) - lag)]

    def _check(self) -> dict[str, float]:
        step, on_device = self._pending.popleft()
        metrics = {name: float(x) for name, x in jax.device_get(on_device).items()}
        if not math.isfinite(metrics["loss"] + metrics["grad_norm"]):
            before = self._last.get("embedding_norm", metrics["embedding_norm"])
            cause = (
                "embeddings grew without bound: normalise them or raise l2_weight"
                if not before < 1e3
                else "a learning rate too high: lower it or warm up for longer"
            )
            raise RunError(
                f"step {step} gave loss {metrics['loss']} and gradient norm "
                f"{metrics['grad_norm']} (mean embedding length before it "
                f"{before:.3g}); the likely cause is {cause}"
            )
        same = metrics["mean_cosine"] > _COLLAPSED_COSINE
        same = same or metrics["embedding_norm"] < _COLLAPSED_LENGTH
        self._collapsed = self._collapsed + 1 if same else 0
        if self._collapsed >= _PATIENCE:
            raise RunError(
                f"embeddings collapsed by step {step}: for {_PATIENCE} steps all "
                f"images have had nearly one embedding (mean cosine "
                f"{metrics['mean_cosine']:.4f}, mean length "
                f"{metrics['embedding_norm']:.2g}, loss {metrics['loss']:.4g}); likely "
                "causes are a learning rate too high or negatives too hard: lower it, "
                "or take semi-hard negatives"
            )
        self._last = {"step": step, **metrics}
        return self._last
