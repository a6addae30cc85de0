"""What the glyphs looked like when results were published with them.

Run `python -m rankjax.data.glyph_table` to write the table anew, and raise the version
of `rankjax.data.glyphs.Glyphs` so that nobody reads drawings prepared before; results
from before and after can no longer be compared.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL

from rankjax.data.glyph_images import LEVELS, render, split_classes
from rankjax.files import write_atomic

TABLE = Path(__file__).with_name("glyph_table.json")


def versions() -> dict[str, str]:
    """The packages that decide what is drawn."""
    return {"matplotlib": matplotlib.__version__, "pillow": PIL.__version__}


def describe(level: str) -> dict[str, Any]:
    """Sizes and SHA-256 of a level's splits, and the difficulty of the test split.

    The hash is over the images in order. The difficulty is the Recall@1 of raw pixels
    among the test images by cosine similarity: a model should do better.
    """
    glyphs = render(LEVELS[level])
    row: dict[str, Any] = {}
    for split, classes in split_classes(int(glyphs.labels[-1]) + 1).items():
        members = np.isin(glyphs.labels, classes)
        row[split] = {
            "classes": len(classes),
            "images": int(members.sum()),
            "sha256": hashlib.sha256(glyphs.images[members].tobytes()).hexdigest(),
        }
    members = np.isin(glyphs.labels, split_classes(int(glyphs.labels[-1]) + 1)["test"])
    recall = _recall_at_1(glyphs.images[members], glyphs.labels[members])
    row["pixel_recall_at_1"] = round(recall, 3)
    return row


def _recall_at_1(images: np.ndarray, labels: np.ndarray) -> float:
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    nearest = np.empty_like(labels)
    for start in range(0, len(pixels), 1024):
        similarity = pixels[start : start + 1024] @ pixels.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        nearest[start : start + 1024] = similarity.argmax(1)
    return float(np.mean(labels[nearest] == labels))


if __name__ == "__main__":
    table = {
        "versions": versions(),
        "levels": {level: describe(level) for level in LEVELS},
    }
    write_atomic(TABLE, json.dumps(table, indent=2) + "\n")
