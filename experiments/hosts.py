"""Several processes that train together, usually one per host.

All run the same program. A process that cannot go on says why, and the others end with
it: an error on one host never leaves the rest waiting in a computation of all.
"""

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils

from rankjax.errors import RunError, UsageError
from rankjax.parallel import Step

AGAIN = "start all processes again to go on from the last whole checkpoint"

_LAG = 4  # steps; by then the device is done with them, and reading does not wait

_ENDED, _POLL_MS, _LAST_WORDS_MS = "rankjax/ended", 500, 2000

# The key-value store of JAX's coordinator, when there are processes to talk to.
_store: Any = None
_ending = threading.Lock()
_left = False


def join(hosts: str | None, *, timeout: int) -> None:
    """Connects this process with the others; comes before all use of devices.

    Args:
      hosts: None for one process; 'auto' on a TPU pod, under SLURM and wherever else
        JAX finds out by itself; or 'HOST:PORT,PROCESSES,ID', the address of process 0,
        the number of processes and which of them this one is.
      timeout: seconds without a sign of life after which a process counts as dead, and
        ends the others.

    Raises:
      UsageError: `hosts` is neither, or 'auto' finds nothing.
      RunError: the others cannot be reached.
    """
    global _store
    if hosts is None:
        return
    # The CPU's own collectives stay within a process; accelerators do not look at this.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where = _parse(hosts)
    try:
        jax.distributed.initialize(**where, heartbeat_timeout_seconds=timeout)
    except ValueError as error:
        raise UsageError(
            f"hosts {hosts}: {error}; where JAX does not find out by itself, say "
            "HOST:PORT,PROCESSES,ID"
        ) from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"hosts {hosts}: cannot connect: {reason}") from error
    # JAX has taken SIGTERM over, to say of it at some later step.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if jax.process_count() > 1:
        from jax._src import distributed  # nothing public has the store

        _store = distributed.global_state.client
        threading.Thread(target=_watch, args=(_store,), daemon=True).start()


def joined() -> bool:
    """Whether there are other processes."""
    return _store is not None


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return _store is None or jax.process_index() == 0


def from_first(name: str, text: str) -> str:
    """What the first process says under a name, as soon as it says it.

    Unlike a computation of all processes, waiting for it can be interrupted.

    Args:
      name: used once in a run.
      text: what to say; for all but the first it is ignored.
    """
    if _store is None:
        return text
    key = f"rankjax/said/{name}"
    if is_first():
        _store.key_value_set(key, text)
        return text
    while (said := _poll(_store, key)) is None:
        pass
    return said


def broadcast(tree: Any) -> Any:
    """The first process's values of a tree of arrays, in all processes.

    Args:
      tree: of the same shapes and dtypes everywhere.
    """
    if _store is None:
        return tree
    # As bytes: arrays are sent as sums with zeros, which would make -0.0 a 0.0.
    mine = jax.tree.map(
        lambda x: np.ascontiguousarray(x).reshape(-1).view(np.uint8),
        jax.device_get(tree),
    )
    sent = multihost_utils.broadcast_one_to_all(mine)
    return jax.tree.map(
        lambda x, bits: np.asarray(bits).view(x.dtype).reshape(x.shape), tree, sent
    )


class StopVote:
    """Whether any process was asked to stop, known to all at the same step.

    Votes travel with the step. Computations beside it would meet those of other
    processes in another order, and wait for ever.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        """`asked` tells whether this process was."""
        self._asked = asked
        self._votes: deque[jax.Array] = deque()

    @staticmethod
    def counting(step: Step, axis_name: str | None) -> Step:
        """The step over an axis, or None, which counts the votes cast in its batch."""
        if _store is None:
            return step

        def counted(state: Any, batch: Any) -> tuple[Any, Any]:
            votes = batch["stop"].sum()
            rest = {name: x for name, x in batch.items() if name != "stop"}
            state, metrics = step(state, rest)
            if axis_name is not None:
                votes = lax.psum(votes, axis_name)
            return state, metrics | {"stop": votes}

        return counted

    def cast(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch, with this process's vote."""
        if _store is None:
            return batch
        return batch | {"stop": np.full(len(batch["label"]), self._asked(), np.int32)}

    def outcome(self, metrics: dict[str, Any]) -> bool:
        """Takes the votes out of a step's metrics; returns what those of late say."""
        if _store is None:
            return self._asked()
        self._votes.append(metrics.pop("stop"))
        return len(self._votes) > _LAG and int(self._votes.popleft()) > 0


def leave() -> None:
    """Waits for all processes to get here, and parts from them."""
    global _store, _left
    if _store is None:
        return
    _left = True
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _store.key_value_set(_ENDED, "")  # another was quicker
    _store = None
    jax.distributed.shutdown()


def end(message: str, status: int) -> int:
    """Says why this process cannot go on, and takes the others with it.

    Args:
      message: a line for people; every process prints it.
      status: the exit status of all.

    Returns:
      The status if there are no others, or else not at all.
    """
    print(message, file=sys.stderr, flush=True)
    if _store is None:
        return status
    with _ending:
        said = f"{status} process {jax.process_index()}: {message}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _store.key_value_set(_ENDED, said)  # another was quicker
        _end_together(status)
    return status


def _watch(store: Any) -> None:
    """Ends this process when another one has ended."""
    while not _left:
        try:
            said = _poll(store, _ENDED)
        except jax.errors.JaxRuntimeError:
            if not _left:
                with _ending:
                    print(f"error: process 0 was lost; {AGAIN}", file=sys.stderr)
                    sys.stderr.flush()
                    os._exit(1)
            return
        if said == "":
            return
        if said is not None:
            status, _, message = said.partition(" ")
            with _ending:
                print(message, file=sys.stderr, flush=True)
                _end_together(int(status))


def _end_together(status: int) -> None:
    # Process 0 keeps the store and may go last only.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _store.wait_at_barrier(f"{_ENDED}/all", _LAST_WORDS_MS)
    if is_first():
        time.sleep(0.2)
    sys.stdout.flush()
    os._exit(status)


def _poll(store: Any, key: str) -> str | None:
    """What is stored under a key, or None after a while."""
    try:
        return store.blocking_key_value_get(key, _POLL_MS)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" in str(error):
            return None
        raise


def _parse(hosts: str) -> dict[str, Any]:
    if hosts == "auto":
        return {}
    found = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", hosts)
    if found is None or not int(found[3]) < int(found[2]):
        raise UsageError(
            "hosts must be auto, or HOST:PORT,PROCESSES,ID with ID from 0 to "
            f"PROCESSES - 1, such as 10.0.0.1:1234,2,0, got {hosts!r}"
        )
    return {
        "coordinator_address": found[1],
        "num_processes": int(found[2]),
        "process_id": int(found[3]),
    }
