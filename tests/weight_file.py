"""Writes files of weights."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_safetensors(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Float32 arrays by name."""
    header, data = {}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        shape = list(array.shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
