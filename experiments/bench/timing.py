"""Time and memory of one call, and the batches that all benchmarks use.

Nothing here needs JAX, so that a peer's process measures with the same code.
"""

import ctypes
import dataclasses
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

Layout = Literal["shuffled", "halves", "uneven"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """The size of a batch: B rows of length D, K of each class."""

    B: int
    D: int = 128
    K: int = 4


@dataclasses.dataclass(frozen=True)
class Rep:
    """One call: CPU time of all threads, and time on the wall."""

    cpu_s: float
    wall_s: float


class Unavailable(Exception):
    """A variant cannot run here; the message says why, for the table."""


def clusters(
    shape: Shape, *, seed: int = 0, layout: Layout = "shuffled", noise: float = 1.2
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [B, D] float32 of any length around a centre per class, and labels.

    At the default noise triplets are partly active, which a loss may take advantage of.
    The layout 'halves' repeats the classes in order, for pairs cut in two halves;
    'uneven' has 2 to 9 rows of each class instead of K, the last one cut short.
    """
    rng = np.random.default_rng(seed)
    classes = shape.B // shape.K
    labels = np.tile(np.arange(classes), shape.K)
    if layout == "uneven":
        labels = np.repeat(np.arange(shape.B), rng.integers(2, 10, shape.B))[: shape.B]
        classes = labels[-1] + 1
    if layout != "halves":
        labels = rng.permutation(labels)
    centres = rng.standard_normal((classes, shape.D))
    rows = centres[labels] + noise * rng.standard_normal((len(labels), shape.D))
    return rows.astype(np.float32), labels.astype(np.int32)


def proxies(shape: Shape, *, seed: int = 0) -> np.ndarray:
    """A row for each class, [B / K, D] float32."""
    rng = np.random.default_rng([seed, 1])
    return rng.standard_normal((shape.B // shape.K, shape.D)).astype(np.float32)


def timed(call: Callable[[], Any]) -> Rep:
    """Runs a call that returns when its result is there."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Rep(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(
    runs: Mapping[str, Callable[[], Rep]], *, reps: int, seconds: float
) -> tuple[dict[str, list[Rep]], dict[str, str]]:
    """Repeats all variants in turn, so that all of them meet the same other load.

    Args:
      runs: by variant; called once first to warm up, which does not count unless it
        alone takes longer than `seconds`.
      reps: of each variant at most.
      seconds: of each variant, after which it is not repeated.

    Returns:
      The repetitions, and why a variant has none.
    """
    found: dict[str, list[Rep]] = {name: [] for name in runs}
    failed: dict[str, str] = {}

    def run(name: str) -> Rep | None:
        try:
            return runs[name]()
        except Unavailable as error:
            failed[name] = str(error)
            return None

    for name in runs:
        first = run(name)
        if first is not None and first.wall_s > seconds:
            found[name].append(first)
    for _ in range(reps):
        for name, done in found.items():
            if name in failed or sum(rep.wall_s for rep in done) > seconds:
                continue
            rep = run(name)
            if rep is not None:
                done.append(rep)
    return {name: done for name, done in found.items() if name not in failed}, failed


def spread(reps: list[Rep]) -> dict[str, float]:
    """Median and least CPU time; median, least and greatest wall time."""
    cpus, walls = [rep.cpu_s for rep in reps], [rep.wall_s for rep in reps]
    return {
        "cpu_s": statistics.median(cpus),
        "cpu_min_s": min(cpus),
        "wall_s": statistics.median(walls),
        "wall_min_s": min(walls),
        "wall_max_s": max(walls),
    }


def peak_mb(call: Callable[[], Any]) -> float | None:
    """Memory that a call needs beyond what the process holds; None without glibc.

    What a thread's allocator had kept from earlier calls would hide what this one
    takes. It is told to keep little, and the call is made twice to make it let go.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not Path("/proc/self/clear_refs").exists():
        return None
    _keep_at_most(libc, 1 << 16, 1 << 17)
    try:
        call()
        time.sleep(0.05)  # other threads free what they used after it returns
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = status_mb("VmRSS")
        call()
        return max(status_mb("VmHWM") - before, 0.0)
    except OSError:
        return None
    finally:
        keep_memory()


def keep_memory() -> None:
    """Makes glibc keep what is freed, in this process.

    Otherwise it gives large blocks back after some calls and not after others, as the
    heap happens to lie, and fetching them again page by page takes as long as a small
    batch itself.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        _keep_at_most(libc, 1 << 25, 2**31 - 1)  # glibc takes no larger ones


def _keep_at_most(libc: ctypes.CDLL, block: int, unused: int) -> None:
    """Blocks of that many bytes are fetched from the system one by one, and that many
    unused bytes are given back."""
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    libc.mallopt(mmap_threshold, block)
    libc.mallopt(trim_threshold, unused)


def versions(*packages: str) -> dict[str, str]:
    """Those of Python and of installed packages."""
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def status_mb(name: str) -> float:
    """What Linux says of this process, such as VmHWM, the most memory it held.

    Raises:
      OSError: there is no such line.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1024
    raise OSError(f"/proc/self/status has no {name}")
