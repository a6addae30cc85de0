"""The loop: steps, what is logged of them, evaluations and checkpoints."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import optax
from tqdm import tqdm

from experiments import hosts
from experiments.config import Run
from experiments.training.validation import Validation
from rankjax.data import Loader
from rankjax.train import Checkpoints, Monitor, RunFolder, TrainState


class Interrupted(Exception):
    """The run was asked to stop, and everything is saved."""


class Records(NamedTuple):
    """What a run leaves behind, which the first process keeps."""

    folder: RunFolder
    checkpoints: Checkpoints


def train(
    step: Callable[..., Any],
    state: TrainState,
    loader: Loader,
    *,
    steps: int,
    images: int,
    run: Run,
    schedule: optax.Schedule,
    embed: Any,
    validation: Validation,
    records: Records | None,
) -> TrainState:
    """All steps that are left; evaluates and saves on the way.

    Args:
      step: maps a state and a batch to the next state and metrics.
      state: the first one, or one restored.
      loader: of the batches from the state's step on.
      steps: of the whole run.
      images: in a batch of all processes.
      run: how often to evaluate and log, and what to trace.
      schedule: learning rates by step, to be logged.
      embed: maps a state and images to embeddings.
      validation: what to evaluate on.
      records: where to log and save, in the first process.

    Raises:
      RunError: see `Monitor`; or what is saved to is full.
      Interrupted: by Ctrl-C or SIGTERM, in any process.
    """
    monitor = Monitor()
    score: dict[str, str] = {}
    done = int(state.step)
    bar = tqdm(
        total=steps,
        initial=done,
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        disable=records is None,
    )
    mark = done, time.perf_counter()

    def log(rows: Sequence[dict[str, float]]) -> None:
        nonlocal mark
        logged = [row for row in rows if row["step"] % run.log_every == 0]
        if not logged or records is None:
            return
        now, newest = time.perf_counter(), int(rows[-1]["step"])
        speed = (newest - mark[0]) * images / (now - mark[1])
        mark = newest, now
        for row in logged:
            rate = float(schedule(int(row["step"]) - 1))
            records.folder.log(
                row | {"images_per_second": speed, "learning_rate": rate}
            )
        shown = {"loss": f"{logged[-1]['loss']:.3f}", "img/s": f"{speed:.0f}"}
        bar.set_postfix(shown | score, refresh=False)

    trace = _Trace(run.profile, records, done)
    with bar, trace, stop_requests() as stop_requested:
        vote = hosts.StopVote(stop_requested)
        for number, batch in loader:
            state, metrics = step(state, vote.cast(batch))
            done = number + 1
            trace.after(done, metrics)
            stop = vote.outcome(metrics)
            log(monitor.add(done, metrics))
            bar.update()
            if stop or done % run.eval_every == 0 or done == steps:
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
            if stop and done < steps:
                if records is not None:
                    records.checkpoints.wait()
                hosts.from_first("stopped", "saved")
                raise Interrupted(f"stopped at step {done}, which is saved")
    return state


class _Trace:
    """A profile of a few steps, for TensorBoard or Perfetto; see `Run.profile`."""

    def __init__(self, steps: int, records: Records | None, done: int) -> None:
        self._folder = records.folder.path / "trace" if records is not None else None
        # The first steps compile.
        self._first, self._last = done + 10, done + 10 + steps
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


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
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
