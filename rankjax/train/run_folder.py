"""A folder that holds a run, all of it and nothing else."""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from rankjax.errors import RunError, UsageError
from rankjax.files import read_json, read_regular, write_atomic

_ROWS = "metrics.jsonl"


class RunFolder(AbstractContextManager["RunFolder"]):
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
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            names = [child.name for child in path.iterdir()]
            # Killed at its very first write, a run leaves a temporary file alone.
            ours = all(name.startswith((".lock", ".config.json.")) for name in names)
            if "config.json" not in names and not ours:
                raise UsageError(f"{path} holds other files; choose another folder")
            self._lock = _lock(path)
            try:
                free = shutil.disk_usage(path).free
                if free < needs:
                    raise RunError(
                        f"{path}: {free / 1e6:.0f} MB are free, the run needs about "
                        f"{needs / 1e6:.0f} MB"
                    )
                _claim(path, config)
            except BaseException:
                os.close(self._lock)
                raise
        self._events: RecordWriter | None = None

    def rewind(self, step: int) -> None:
        """Forgets what was logged after a step, before the run goes on from there."""
        rows = [row for row in read_history(self.path) if row["step"] <= step]
        self.write(_ROWS, "".join(json.dumps(row) + "\n" for row in rows))
        folder = self.path / "tensorboard"
        with disk_errors(self.path):
            folder.mkdir(exist_ok=True)
            # The writer of whole logs has a thread, which a full disk ends unseen.
            name = f"events.out.tfevents.{time.time_ns()}.rankjax"
            self._events = RecordWriter(str(folder / name))
            self._record(wall_time=time.time(), file_version="brain.Event:2")
            # Viewers drop what earlier files say of later steps.
            start = SessionLog(status=SessionLog.START)
            self._record(step=step + 1, session_log=start)
            self._events.flush()

    def log(self, row: Mapping[str, float]) -> None:
        """Appends a row with a `step` to metrics.jsonl and to TensorBoard's events."""
        assert self._events is not None, "rewind comes first"
        step, now = int(row["step"]), time.time()
        with disk_errors(self.path):
            with open(self.path / _ROWS, "a") as file:
                file.write(json.dumps(row) + "\n")
            for name, value in row.items():
                if name != "step":
                    self._record(step=step, wall_time=now, summary=scalar(name, value))
            self._events.flush()

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file, whole or not at all."""
        with disk_errors(self.path):
            write_atomic(self.path / name, content)

    def _record(self, **event: Any) -> None:
        assert self._events is not None
        self._events.write(Event(**event).SerializeToString())

    def close(self) -> None:
        """Frees the folder for other processes."""
        if self._events is not None:
            with suppress(OSError):  # the disk is full, which `log` has said
                self._events.close()
        os.close(self._lock)

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows that the run in a folder has logged, each with its `step`.

    Raises:
      RunError: the file is damaged. Half a line at its end is none: a killed run may
        leave one, and a run that goes on may be writing it.
    """
    file = path / _ROWS
    with disk_errors(path):
        content = read_regular(file) if file.exists() else b""
    lines = content.splitlines(keepends=True)
    try:
        rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
        if not all(isinstance(row["step"], int) for row in rows):
            raise ValueError("a step is no whole number")
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file}: damaged ({error}); mend or delete it") from error
    return rows


def _claim(path: Path, config: Mapping[str, Any]) -> None:
    file = path / "config.json"
    if not file.exists():
        write_atomic(file, json.dumps(config, indent=2) + "\n")
        return
    if changed := differences(file, config):
        raise UsageError(
            f"{path} holds a run of another config: {', '.join(changed.values())}; "
            "choose another folder"
        )


def differences(file: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """What a config.json has otherwise than a configuration, by name."""
    theirs, ours = read_json(file), json.loads(json.dumps(config))
    return {
        k: f"{k} {theirs.get(k)!r} (here {ours.get(k)!r})"
        for k in theirs | ours
        if theirs.get(k) != ours.get(k)
    }


def _lock(path: Path) -> int:
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(f"{path} is in use by another process") from None
    return handle


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises a RunError of one line where a disk is full or a folder unwritable."""
    try:
        yield
    except (OSError, ValueError) as error:
        # TensorStore has an error of its own for a full disk.
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or "No space left on device" in str(error)
        if not full and not isinstance(error, OSError):
            raise
        what = "the disk is full" if full else f"cannot be written: {error}"
        saved = "; what was saved is whole, run again to go on" * path.exists()
        raise RunError(f"{path}: {what}{saved}") from error
