"""TFRecord files read by index, without TensorFlow."""

import mmap
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankjax.errors import RunError

# A length of eight bytes and its checksum before the data, and that of the data after.
_BEFORE, _AFTER = 12, 4


class RecordFiles:
    """The examples of TFRecord files, one file after the other.

    tf.data reads such files from the start to the end, which gives no class-balanced
    batches without a shuffle buffer of the whole data set. Each record is preceded by
    its length, so one walk over the files, which touches no more than that, finds where
    all of them lie (in 16 bytes each), and then they are read by index like any other
    source. Checksums are not looked at.
    """

    def __init__(
        self, files: Sequence[Path], deserialize: Callable[[bytes], Any]
    ) -> None:
        """Finds the records.

        Args:
          files: uncompressed TFRecord files.
          deserialize: makes an example of the bytes of a record.

        Raises:
          RunError: a file whose records do not end where it does.
          OSError: a file that cannot be read.
        """
        self._deserialize = deserialize
        self._maps = [_mapped(Path(file)) for file in files]
        found = [
            _places(content, file)
            for content, file in zip(self._maps, files, strict=True)
        ]
        self._places = np.concatenate([np.empty((0, 2), np.int64), *found])
        self._ends = np.cumsum([len(each) for each in found])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        """The example of an index from 0 on."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, end = self._places[index].tolist()
        content = self._maps[np.searchsorted(self._ends, index, side="right")]
        return self._deserialize(content[start:end])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The examples of some indices."""
        return [self[index] for index in indices]


def _mapped(file: Path) -> mmap.mmap | bytes:
    with open(file, "rb") as content:
        if not file.stat().st_size:
            return b""
        return mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ)


def _places(content: mmap.mmap | bytes, file: Path) -> np.ndarray:
    """Where records start and end, int64 [n, 2]."""
    places, at, size = array("q"), 0, len(content)
    while at < size:
        start = at + _BEFORE
        end = start + int.from_bytes(content[at : at + 8], "little")
        at = end + _AFTER
        if at > size:
            raise RunError(
                f"{file} is damaged or compressed: record {len(places) // 2} goes "
                "beyond its end"
            )
        places.extend((start, end))
    return np.array(places, np.int64).reshape(-1, 2)
