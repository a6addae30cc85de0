"""Checkpoints of a run: the latest two and the best, restored exactly or refused."""

import errno
import json
import logging
import math
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    PolicyCheckpointInfo,
    PreservationContext,
)

from rankjax.errors import RunError

PyTree = Any

FORMAT = 1
"""Of what is stored; a checkpoint of a later one is refused."""

_DELETED = ".superseded-checkpoints"
_DAMAGED = ".damaged-checkpoints"


class Checkpoints:
    """The latest two checkpoints of a run and the best one, in one folder.

    A state is any pytree of plain arrays (NNX states and optax states are; a typed PRNG
    key is not, save its `jax.random.key_data`). Orbax restores flipped bytes without a
    word, hence a manifest with a checksum of every leaf lies beside the state. The
    state is stored as one array of bytes: Orbax reads and writes many arrays at a time,
    and after an error in one the others print tracebacks from threads of their own.

    What a killed run left half-written is never listed, and deleted by the next save.

    One process of a run uses this; the others know nothing of it.

    Args:
      folder: made when it does not exist.
      fall_back: puts latest checkpoints that are damaged aside, into a folder
        `.damaged-checkpoints`, so that the latest is one that is whole.
      read_only: changes nothing on the disk, also where a run is being trained.

    Raises:
      RunError: the folder cannot be used, or a checkpoint in it is damaged or of a
        newer version.
    """

    def __init__(
        self, folder: Path, *, fall_back: bool = False, read_only: bool = False
    ) -> None:
        logging.getLogger("absl").addFilter(_not_from_orbax)
        self._folder = folder.absolute()
        self._scores: dict[int, float] = {}
        self._saving: int | None = None
        self._read_only = read_only
        self._delete()
        options = ocp.CheckpointManagerOptions(
            create=False,
            read_only=read_only,
            preservation_policy=_LatestAndBest(self._scores),
            cleanup_tmp_directories=not read_only,
            # A rename is atomic: a run killed while deleting leaves no half checkpoint.
            todelete_subdir=_DELETED,
            # Orbax would wait for the other processes.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(),
                active_processes={jax.process_index()},
            ),
        )
        try:
            if not read_only:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as error:
            raise RunError(
                f"{self._folder}: no place for checkpoints: {error}"
            ) from error
        try:
            if fall_back:
                self._put_damaged_aside()
            for step in self._manager.all_steps():
                self._scores[step] = self._manifest(step)["score"]
        except RunError:
            self._manager.close()
            raise

    def save(self, step: int, state: PyTree, *, score: float) -> None:
        """Copy the state to the host and write it in the background.

        The state may be donated as soon as this returns; it is on the disk after
        `wait`. Once it is, older checkpoints but the one before and the best are
        deleted.

        Args:
          step: above every step saved so far.
          state: a pytree of arrays, replicated if they lie on several devices.
          score: finite; higher is better, and the later one of equals.

        Raises:
          RunError: the disk is full, now or in the save before this one.
        """
        latest = self.latest_step()
        if latest is not None and step <= latest:
            raise ValueError(
                f"step is {step}, must be above {latest}, the latest saved"
            )
        if not math.isfinite(score):
            raise ValueError(f"score is {score}, must be finite")
        self.wait()
        named = _named_leaves(state)
        leaves = {name: _bytes(leaf) for name, leaf in named.items()}
        manifest = {
            "format": FORMAT,
            "score": float(score),
            "leaves": {
                k: [_kind(named[k]), zlib.crc32(x.data)] for k, x in leaves.items()
            },
        }
        everything = {"bytes": np.concatenate(list(leaves.values()))}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(everything),
            manifest=ocp.args.JsonSave(manifest | {"checksum": _json_sum(manifest)}),
        )
        self._saving, self._scores[step] = step, float(score)
        with self._save_errors():
            self._manager.save(step, args=items)

    def latest_step(self) -> int | None:
        """Return the last step saved, or None; `wait` makes sure of the disk."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Return the step with the highest score, or None."""
        return _best(self._manager.all_steps(), self._scores)

    def restore(self, step: int, like: PyTree, *, part: bool = False) -> PyTree:
        """Read a checkpoint and verify it.

        Args:
          step: what `latest_step` or `best_step` returned.
          like: a state or its `jax.ShapeDtypeStruct`s: the result has its tree, and
            each leaf its shape, its dtype and its sharding.
          part: whether the checkpoint may hold more leaves than `like`.

        Raises:
          RunError: the checkpoint is damaged, or holds other leaves than `like`.
        """
        self.wait()
        if step not in self._manager.all_steps():
            raise ValueError(f"step is {step}, saved are {self._manager.all_steps()}")
        wanted, stored = _named_leaves(like), self._manifest(step)["leaves"]
        for name in sorted(wanted.keys() | (set() if part else stored.keys())):
            here = _kind(wanted[name]) if name in wanted else "nothing"
            there = stored[name][0] if name in stored else "nothing"
            if here != there:
                raise RunError(
                    f"{self._folder / str(step)}: holds {there} as {name}, this run "
                    f"has {here}; use the settings it was saved with or another folder"
                )
        placed = {}
        content = self._parts(step, stored)
        for name, leaf in wanted.items():
            array = content[name].copy().view(leaf.dtype).reshape(leaf.shape)
            placed[name] = jax.device_put(array, _sharding(leaf))
        return jax.tree.unflatten(
            jax.tree.structure(like), [placed[name] for name in wanted]
        )

    def wait(self) -> None:
        """Return when all that was saved is on the disk.

        Raises:
          RunError: the disk is full.
        """
        with self._save_errors():
            self._manager.wait_until_finished()
        self._delete()

    def close(self) -> None:
        """Wait, then free what Orbax holds."""
        with self._save_errors():
            self._manager.close()
        self._delete()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _delete(self) -> None:
        if self._read_only:
            return
        shutil.rmtree(self._folder / _DELETED, ignore_errors=True)

    def _put_damaged_aside(self) -> None:
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                self._parts(step, self._manifest(step)["leaves"])
                return
            except _DamagedError:
                aside = self._folder / _DAMAGED
                aside.mkdir(exist_ok=True)
                shutil.move(
                    self._folder / str(step), aside / f"{step}-{time.time_ns()}"
                )
                self._manager.reload()

    def _parts(self, step: int, stored: dict[str, Any]) -> dict[str, np.ndarray]:
        """The bytes of every leaf in the manifest, verified."""
        sizes = [_size(kind) for kind, _ in stored.values()]
        empty = {"bytes": np.empty(sum(sizes), np.uint8)}
        everything = self._read(step, "state", ocp.args.StandardRestore(empty))["bytes"]
        parts = np.split(everything, np.cumsum(sizes)[:-1])
        for (name, (_, checksum)), part in zip(stored.items(), parts, strict=True):
            if zlib.crc32(part.data) != checksum:
                raise self._damaged(step, f"the checksum of {name} is wrong")
        return dict(zip(stored, parts, strict=True))

    def _manifest(self, step: int) -> dict[str, Any]:
        manifest = self._read(step, "manifest", ocp.args.JsonRestore())
        if manifest.get("format", 0) > FORMAT:
            raise RunError(
                f"{self._folder / str(step)}: saved by a newer rankjax, in format "
                f"{manifest['format']}; this one reads up to {FORMAT}: run with that"
            )
        if _json_sum(manifest) != manifest.pop("checksum", None):
            raise self._damaged(step, "the checksum of its manifest is wrong")
        return manifest

    def _read(self, step: int, item: str, args: ocp.args.CheckpointArgs) -> Any:
        try:
            found = self._manager.restore(step, args=ocp.args.Composite(**{item: args}))
        except Exception as error:  # Orbax and TensorStore raise all kinds
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise self._damaged(step, f"{item} unreadable ({reason[:160]})") from error
        return found[item]

    def _damaged(self, step: int, what: str) -> "_DamagedError":
        others = [other for other in self._manager.all_steps() if other != step]
        remedy = (
            f"delete that folder to go on from step {max(others)}"
            if others
            else "delete it to start again"
        )
        return _DamagedError(f"{self._folder / str(step)}: damaged, {what}; {remedy}")

    @contextmanager
    def _save_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not _disk_full(error):
                raise
            raise RunError(
                f"disk full while saving step {self._saving} to {self._folder}; "
                "make room and run again to go on from the last whole checkpoint"
            ) from error


class _DamagedError(RunError):
    """A checkpoint is not what was saved."""


class _LatestAndBest:
    """Tells Orbax which checkpoints to keep."""

    def __init__(self, scores: dict[int, float]) -> None:
        self._scores = scores

    def should_preserve(
        self,
        checkpoints: Sequence[PolicyCheckpointInfo],
        *,
        context: PreservationContext,
    ) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-2:], _best(steps, self._scores)}
        return [step in kept for step in steps]


def _best(steps: Sequence[int], scores: dict[int, float]) -> int | None:
    return max(steps, key=lambda step: (scores[step], step), default=None)


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _size(kind: str) -> int:
    """Bytes of a leaf, from what `_kind` says of it."""
    dtype, _, shape = kind.rstrip("]").partition("[")
    return jnp.dtype(dtype).itemsize * math.prod(int(n) for n in shape.split(",") if n)


def _bytes(leaf: Any) -> np.ndarray:
    return np.asarray(leaf).reshape(-1).view(np.uint8)


def _json_sum(manifest: dict[str, Any]) -> int:
    names = ("format", "score", "leaves")
    signed = {name: manifest[name] for name in names if name in manifest}
    return zlib.crc32(json.dumps(signed, sort_keys=True).encode())


def _sharding(leaf: Any) -> jax.sharding.Sharding | None:
    # A state that was never placed must stay free to go where the batch is.
    return getattr(leaf, "sharding", None) if getattr(leaf, "committed", True) else None


def _disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
