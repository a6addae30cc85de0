"""Files written whole or not at all, and read without trust in what they hold."""

import errno
import json
import math
import os
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from rankjax.errors import RunError, UsageError

_REORDERS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A file opened for reading.

    Raises:
      OSError: it cannot be opened or is not a regular file: reading a pipe or a device
        might never end.
    """

    # Without O_NONBLOCK opening a pipe waits for whoever writes to it.
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, os.O_RDONLY | flags)
    except ValueError as error:  # a name with a null character
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return os.fdopen(number, "rb")


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
      OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      RunError: the file cannot be read, or holds none.
    """
    try:
        found = json.loads(read_regular(path))
    except FileNotFoundError as error:
        raise RunError(f"there is no {path}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON ({error}); mend or delete it") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: not a JSON object; mend or delete it")
    return found


class Npz(NamedTuple):
    """What an .npz file holds.

    Attributes:
      arrays: those that were wanted, by name.
      others: names of the rest.
      comment: of the archive.
    """

    arrays: dict[str, np.ndarray]
    others: tuple[str, ...]
    comment: bytes


def read_npz(path: Path, wanted: Container[str]) -> Npz:
    """Reads arrays of numbers and strings; nothing in the file is executed.

    Args:
      path: of the file.
      wanted: names of the arrays to read, if they are there.

    Raises:
      RunError: it cannot be read, is damaged, or no .npz file.
      UsageError: a wanted array holds Python objects.
    """
    arrays, others = {}, []
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in wanted:
                    arrays[name] = _array(archive, entry, name)
                else:
                    others.append(name)
            return Npz(arrays, tuple(others), archive.comment)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile, its codecs and NumPy raise a dozen kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(
            f"cannot read {path}: it is damaged or no .npz file ({reason})"
        ) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        read = (
            npy.read_array_header_1_0 if version[0] < 2 else npy.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise UsageError(
                f"{name} must be numbers or strings, got Python objects; save rows "
                f"of numbers by np.stack({name}), strings by {name}.astype(str)"
            )
        # A header may ask for more memory than there is.
        if entry.file_size - file.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} is not as long as its header says")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)


def check_utf8(names: Iterable[str]) -> None:
    """Raises a UsageError for a name that CSV and Parquet cannot hold.

    Names of files need not be UTF-8.
    """
    for name in names:
        if name.encode(errors="replace").decode() != name:
            raise UsageError(
                f"{printable(name)}: names in CSV and Parquet must be UTF-8, this one "
                "is not; rename it"
            )


def printable(text: str) -> str:
    """A name as terminals and pages can show it.

    Control characters, those that reorder others, and bytes that are not UTF-8 are
    spelt as their code points.
    """
    if text.isprintable():
        return text
    return "".join(
        f"U+{ord(character):04X}"
        if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
        or unicodedata.bidirectional(character) in _REORDERS
        else character
        for character in text
    )


def below_common(paths: Iterable[str]) -> tuple[str, list[str]]:
    """The folder that all paths lie in, and what of each one follows it.

    The folder is empty where they have none in common, as absolute and relative paths.
    """
    clean = [path and os.path.normpath(path) for path in paths]
    try:
        common = os.path.commonpath({os.path.dirname(path) for path in clean})
    except ValueError:
        common = ""
    start = len(os.path.join(common, ""))
    return common, [path[start:] for path in clean]


def check_place(name: str, path: Path) -> None:
    """Raises a UsageError where a file could not be written once all work is done."""
    if path.is_dir():
        raise UsageError(f"{name} must be a file, got the folder {path}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{name} must be in a folder that exists, got {path}")


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
