"""The files in zip and tar archives and in folders, one after another."""

import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rankjax.data.decoding import SUFFIXES

_PACKED = re.compile(r"\.(zip|tgz|tar\.gz|tar)$")

Read = Callable[[], bytes]


class Archives:
    """The archives that a person put into a folder, packed or unpacked."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """`folder` holds the archives."""
        self._folder = Path(folder)

    def find(self, name: str) -> Path | None:
        """A file of this name, or a folder of this name without its suffix."""
        candidates = (self._folder / name, self._folder / _PACKED.sub("", name))
        return next((path for path in candidates if path.exists()), None)

    def members(self, name: str) -> Iterator[tuple[str, Read]]:
        """Path and content of every file in an archive, which is read once through.

        Contents must be read before the next one is asked for.

        Raises:
          FileNotFoundError: there is no such archive.
          ValueError: it is neither a folder nor zip nor tar.
        """
        path = self.find(name)
        if path is None:
            raise FileNotFoundError(f"there is no {self._folder / name}")
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            for file in files:
                yield file.relative_to(self._folder).as_posix(), file.read_bytes
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield info.filename, partial(archive.read, info)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path, "r|*") as archive:
                for entry in archive:
                    content = archive.extractfile(entry)
                    if content is not None and entry.isfile():
                        yield entry.name, content.read
        else:
            raise ValueError(f"{path} is neither zip nor tar; it may be cut off")

    def images(self, name: str) -> Iterator[tuple[str, Read]]:
        """The members that are images by their suffix."""
        for file, read in self.members(name):
            hidden = file.rpartition("/")[2].startswith(".")
            if file.lower().endswith(SUFFIXES) and not hidden:
                yield file, read

    def read(self, name: str, member: str = "") -> bytes:
        """A file of the folder, or the member of an archive whose path ends so.

        Raises:
          FileNotFoundError: there is no such file.
        """
        if not member:
            return (self._folder / name).read_bytes()
        for file, read in self.members(name):
            if f"/{file}".endswith(f"/{member}"):
                return read()
        raise FileNotFoundError(f"{self._folder / name} holds no {member}")

    def lines(self, name: str, member: str = "") -> list[list[str]]:
        """The words of each line of a text file that is not empty."""
        text = self.read(name, member).decode("utf-8-sig")
        return [line.split() for line in text.splitlines() if line.strip()]
