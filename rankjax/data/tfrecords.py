"""TFRecord files read by index, without TensorFlow.

A record is its length in 8 bytes, a checksum of those in 4, the content, and a checksum
of the content in 4; a file is records one after another.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_HEADER, _FOOTER = 12, 4


class TFRecords:
    """The examples of one or more splits that TFDS has prepared as TFRecord files."""

    def __init__(self, builder: Any, split: str, decoders: Any) -> None:
        """Finds where every record begins.

        Args:
          builder: of a prepared data set.
          split: one split, or several joined by +.
          decoders: as `builder.as_data_source` takes them.

        Raises:
          ValueError: a file is cut off.
        """
        splits = [builder.info.splits[name] for name in split.split("+")]
        self._files = [Path(file) for each in splits for file in each.filepaths]
        self._features, self._decoders = builder.info.features, decoders
        places = [
            (number, *place)
            for number, file in enumerate(self._files)
            for place in _places(file)
        ]
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.__getitems__([index])[0] for index in range(len(self)))

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The examples at some indices."""
        examples = []
        for index in indices:
            number, start, length = self._places[index].tolist()
            with open(self._files[number], "rb") as file:
                file.seek(start)
                record = file.read(length)
            examples.append(
                self._features.deserialize_example_np(record, decoders=self._decoders)
            )
        return examples


def _places(path: Path) -> Iterator[tuple[int, int]]:
    """Start and length of the content of every record."""
    size, position = os.path.getsize(path), 0
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            length = int.from_bytes(file.read(8), "little")
            if position + _HEADER + length + _FOOTER > size:
                raise ValueError(f"{path} is cut off")
            yield position + _HEADER, length
            position += _HEADER + length + _FOOTER
