"""Files that are either whole or absent."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that a crash leaves the old content or the new, never a part.

    Args:
      path: where the file goes; its folder must exist.
      content: the whole content; text is encoded as UTF-8.

    Raises:
      OSError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    with open_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to be written bit by bit, which has its name only once it is whole.

    Args:
      path: where the file goes; its folder must exist.

    Raises:
      OSError: as `write_atomic`.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to be filled, which has its name only once it is full.

    Args:
      path: where the folder goes; its parent must exist.

    Raises:
      FileExistsError: there is something at `path`, now or when the folder is full.
      OSError: the folder cannot be made.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists")
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True
    ) as temporary:
        full = Path(temporary) / path.name
        full.mkdir()
        yield full
        try:
            os.rename(full, path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} exists") from error
            raise
