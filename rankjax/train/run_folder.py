"""A folder that holds a run, all of it and nothing else."""

import errno
import fcntl
import json
import os
import struct
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from rankjax.errors import RunError, UsageError
from rankjax.files import write_atomic

_ROWS = "metrics.jsonl"


class RunFolder:
    """Configuration, metrics and results of one run; a context manager.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], *, needs: int) -> None:
        """Opens a folder for a run, a new one or one to go on with.

        Args:
          path: made when missing.
          config: what the run is, JSON-able; must be what the folder already holds.
          needs: bytes that the run will write, about.

        Raises:
          UsageError: the folder holds another run, or something that is no run.
          RunError: it cannot be written, has too little room, or is in use.
        """
        self.path = path
        for part in (path, *path.parents):
            if part.exists() and not part.is_dir():
                raise UsageError(
                    f"run_dir must be a folder, got {path}: {part} is none"
                )
        with _disk(path):
            path.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
            self._lock = _lock(path)
            try:
                _check_space(path, needs)
                _claim(path, config)
            except BaseException:
                os.close(self._lock)
                raise
        self._events: Path | None = None

    def history(self) -> list[dict[str, float]]:
        """The rows logged so far."""
        file = self.path / _ROWS
        with _disk(self.path):
            content = file.read_bytes() if file.exists() else b""
        # A killed run may leave half a line, the last one.
        lines = content.splitlines(keepends=True)
        try:
            return [json.loads(line) for line in lines if line.endswith(b"\n")]
        except ValueError as error:
            raise RunError(f"{file}: damaged ({error}); mend or delete it") from error

    def rewind(self, step: int) -> None:
        """Forgets what was logged after a step, before the run goes on from there."""
        rows = [row for row in self.history() if row["step"] <= step]
        self.write(_ROWS, "".join(json.dumps(row) + "\n" for row in rows))
        folder = self.path / "tensorboard"
        self._events = folder / f"events.out.tfevents.{time.time_ns()}.rankjax"
        with _disk(self.path):
            folder.mkdir(exist_ok=True)
        self._append(
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            # Viewers drop what earlier files say of later steps.
            Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)),
        )

    def log(self, row: Mapping[str, float]) -> None:
        """Appends a row with a `step` to metrics.jsonl and to TensorBoard's events."""
        with _disk(self.path), open(self.path / _ROWS, "a") as file:
            file.write(json.dumps(row) + "\n")
        step, now = int(row["step"]), time.time()
        self._append(
            *(
                Event(step=step, wall_time=now, summary=scalar(name, value))
                for name, value in row.items()
                if name != "step"
            )
        )

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file, whole or not at all."""
        with _disk(self.path):
            write_atomic(self.path / name, content)

    def _append(self, *events: Event) -> None:
        # tensorboardX's writer has a thread, which a full disk ends unseen.
        assert self._events is not None, "rewind comes first"
        with _disk(self.path), open(self._events, "ab") as file:
            file.write(b"".join(map(_record, events)))

    def close(self) -> None:
        """Frees the folder for other processes."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _record(event: Event) -> bytes:
    """An event in the framing of TFRecord files."""
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join(
        (
            length,
            struct.pack("<I", masked_crc32c(length)),
            data,
            struct.pack("<I", masked_crc32c(data)),
        )
    )


def _refuse_foreign(path: Path) -> None:
    names = [child.name for child in path.iterdir()]
    # Killed at its very first write, a run leaves a temporary file and no config.
    ours = (".lock", ".config.json.")
    if "config.json" not in names and not all(name.startswith(ours) for name in names):
        raise UsageError(f"{path} holds other files; choose another folder")


def _check_space(path: Path, needs: int) -> None:
    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    if free < needs:
        raise RunError(
            f"{path}: {free / 1e6:.0f} MB are free, "
            f"the run needs about {needs / 1e6:.0f} MB"
        )


def _claim(path: Path, config: Mapping[str, Any]) -> None:
    file = path / "config.json"
    if not file.exists():
        write_atomic(file, json.dumps(config, indent=2) + "\n")
        return
    try:
        theirs = json.loads(file.read_text())
    except ValueError as error:
        raise RunError(f"{file}: not JSON ({error}); mend or delete it") from error
    ours = json.loads(json.dumps(config))
    other = [k for k in {**theirs, **ours} if theirs.get(k) != ours.get(k)]
    if other:
        differences = ", ".join(
            f"{k} {theirs.get(k)!r} (here {ours.get(k)!r})" for k in other
        )
        raise UsageError(
            f"{path} holds a run of another config: {differences}; "
            "choose another folder"
        )


def _lock(path: Path) -> int:
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(f"{path} is in use by another process") from None
    return handle


@contextmanager
def _disk(path: Path) -> Any:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"cannot be written: {error}"
        raise RunError(
            f"{path}: {what}; what was saved is whole, run again to go on"
        ) from error
