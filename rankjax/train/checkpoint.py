"""Checkpoints of a run: the latest two and the best, restored exactly or refused."""

import json
import logging
import math
import os
import shutil
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx, traverse_util

from rankjax.errors import RunError
from rankjax.files import read_json, read_regular, write_atomic
from rankjax.train.run_folder import disk_errors

PyTree = Any

FORMAT = 2
"""Of what is stored; a checkpoint of a later one is refused."""

UNFINISHED = ".unfinished-"
"""Begins the name of a checkpoint that is being written or deleted."""

_DAMAGED = ".damaged-checkpoints"


class Checkpoints(AbstractContextManager["Checkpoints"]):
    """The latest two checkpoints of a run and the best one, in one folder.

    A checkpoint is a folder that is called after its step. Its `state` is an ordinary
    Orbax checkpoint of nested dictionaries, which Orbax alone restores:

        StandardCheckpointer().restore(folder / "40" / "state")["params"]["head"]

    Orbax restores flipped bytes without a word, hence the score and a checksum of every
    file lie beside it in `manifest.json`. A checkpoint gets its name once it is whole:
    what a killed run left half-written is no checkpoint, and is deleted.

    A state is any pytree of plain arrays (NNX states and optax states are; a typed PRNG
    key is not, save its `jax.random.key_data`).

    One process of a run uses this; the others know nothing of it.

    Args:
      folder: made when it does not exist.
      fall_back: puts latest checkpoints that are damaged aside, into a folder
        `.damaged-checkpoints`, so that the latest is one that is whole.
      read_only: changes nothing on the disk, also where a run is being trained.

    Raises:
      RunError: the folder cannot be used, or a checkpoint in it is damaged or of
        another version.
    """

    def __init__(
        self, folder: Path, *, fall_back: bool = False, read_only: bool = False
    ) -> None:
        logging.getLogger("absl").addFilter(_not_from_orbax)
        self._folder = folder.absolute()
        with disk_errors(self._folder):
            if not read_only:
                self._folder.mkdir(parents=True, exist_ok=True)
                for unfinished in self._folder.glob(f"{UNFINISHED}*"):
                    shutil.rmtree(unfinished)
            if fall_back:
                self._put_damaged_aside()
            stored = self._stored()
        self._scores = {step: float(self._manifest(step)["score"]) for step in stored}
        self._writer = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None

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
        latest = max(self._scores, default=-math.inf)
        if step <= latest:
            raise ValueError(
                f"step is {step}, must be above {latest}, the latest saved"
            )
        if not math.isfinite(score):
            raise ValueError(f"score is {score}, must be finite")
        self.wait()
        # A copy also on a CPU, where the state may be donated meanwhile.
        arrays = jax.tree.map(np.array, jax.device_get(_named_leaves(state)))
        self._scores[step] = float(score)
        kept = {*sorted(self._scores)[-2:], self.best_step()}
        old = self._scores.keys() - kept
        self._scores = {k: v for k, v in self._scores.items() if k in kept}
        self._saving = self._writer.submit(
            self._write, step, arrays, self._scores[step], old
        )

    def latest_step(self) -> int | None:
        """Return the last step saved, or None; `wait` makes sure of the disk."""
        return max(self._scores, default=None)

    def best_step(self) -> int | None:
        """Return the step with the highest score, or None."""
        return max(self._scores, key=lambda s: (self._scores[s], s), default=None)

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
        wanted = _named_leaves(like)
        stored = traverse_util.flatten_dict(self.read(step))
        for name in sorted(wanted.keys() | (set() if part else stored.keys())):
            here, there = (_kind(leaves.get(name)) for leaves in (wanted, stored))
            if here != there:
                raise RunError(
                    f"{self._folder / str(step)}: holds {there} as {'/'.join(name)}, "
                    f"this run has {here}; use the settings it was saved with or "
                    "another folder"
                )
        placed = [jax.device_put(stored[k], _sharding(x)) for k, x in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(like), placed)

    def read(self, step: int) -> dict[str, Any]:
        """Return the state of a checkpoint, verified, as nested dictionaries.

        Raises:
          RunError: the checkpoint is damaged.
        """
        self.wait()
        if step not in self._scores:
            raise ValueError(f"step is {step}, saved are {sorted(self._scores)}")
        self._verify(step)
        try:
            with _checkpointer() as checkpointer:
                return checkpointer.restore(self._folder / str(step) / "state")
        except Exception as error:  # Orbax and TensorStore raise all kinds
            raise self._damaged(step, "Orbax cannot read it") from error

    def wait(self) -> None:
        """Return when all that was saved is on the disk.

        Raises:
          RunError: the disk is full.
        """
        if self._saving is None:
            return
        future, self._saving = self._saving, None
        with disk_errors(self._folder):
            future.result()

    def close(self) -> None:
        """Wait, then end the thread that writes."""
        self._writer.shutdown()
        self.wait()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _stored(self) -> list[int]:
        return sorted(int(p.name) for p in self._folder.iterdir() if p.name.isdigit())

    def _write(self, step: int, arrays: Any, score: float, old: set[int]) -> None:
        """Writes a checkpoint under another name, renames it, and deletes old ones."""
        new = self._folder / f"{UNFINISHED}{step}"
        try:
            with _checkpointer() as checkpointer:
                checkpointer.save(new / "state", traverse_util.unflatten_dict(arrays))
            files = {
                str(path.relative_to(new)): zlib.crc32(read_regular(path))
                for path in sorted(new.rglob("*"))
                if path.is_file()
            }
            manifest = {"format": FORMAT, "score": score, "files": files}
            signed = manifest | {"checksum": _checksum(manifest)}
            write_atomic(new / "manifest.json", json.dumps(signed, indent=1) + "\n")
            os.rename(new, self._folder / str(step))
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        for each in old:
            # A rename is atomic: a run killed while deleting leaves no half checkpoint.
            doomed = self._folder / f"{UNFINISHED}{each}"
            os.rename(self._folder / str(each), doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def _put_damaged_aside(self) -> None:
        """Moves checkpoints away until the last one is whole."""
        for step in reversed(self._stored()):
            try:
                return self._verify(step)
            except _DamagedError:
                aside = self._folder / _DAMAGED
                aside.mkdir(exist_ok=True)
                shutil.move(
                    self._folder / str(step), aside / f"{step}-{time.time_ns()}"
                )

    def _verify(self, step: int) -> None:
        for name, checksum in self._manifest(step)["files"].items():
            try:
                found = zlib.crc32(read_regular(self._folder / str(step) / name))
            except OSError as error:
                raise self._damaged(step, f"cannot read {name}") from error
            if found != checksum:
                raise self._damaged(step, f"the checksum of {name} is wrong")

    def _manifest(self, step: int) -> dict[str, Any]:
        folder = self._folder / str(step)
        if (folder / "manifest").is_dir():
            raise RunError(f"{folder}: saved by an older rankjax, run with that")
        try:
            manifest = read_json(folder / "manifest.json")
        except RunError as error:
            raise self._damaged(step, "its manifest cannot be read") from error
        if manifest.pop("checksum", None) != _checksum(manifest):
            raise self._damaged(step, "the checksum of its manifest is wrong")
        if manifest["format"] > FORMAT:
            raise RunError(
                f"{folder}: saved by a newer rankjax, in format {manifest['format']}; "
                f"this one reads up to {FORMAT}: run with that"
            )
        return manifest

    def _damaged(self, step: int, what: str) -> "_DamagedError":
        remedy = "delete it to start again"
        if others := {*self._stored()} - {step}:
            remedy = f"delete that folder to go on from step {max(others)}"
        return _DamagedError(f"{self._folder / str(step)}: damaged, {what}; {remedy}")


class _DamagedError(RunError):
    """A checkpoint is not what was saved."""


def _checkpointer() -> ocp.StandardCheckpointer:
    # Orbax would wait for the other processes.
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes={jax.process_index()},
            barrier_sync_key_prefix=f"process {jax.process_index()}",
        )
    )


def _named_leaves(tree: PyTree) -> dict[tuple[str, ...], Any]:
    """The leaves by the names on the way to them, such as params, head, kernel."""
    nodes = jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, node in nodes
        for leaf in jax.tree.leaves(node)
    }


def _kind(leaf: Any) -> str:
    if leaf is None:
        return "nothing"
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _sharding(leaf: Any) -> jax.sharding.Sharding | None:
    # A state that was never placed must stay free to go where the batch is.
    return getattr(leaf, "sharding", None) if getattr(leaf, "committed", True) else None


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
