"""Prepares a data set, verifies its counts, and shows what is in it.

python -m experiments.data [NAME] [--manual-dir DIR] [--sheet FILE]

NAME is what `experiments.train --dataset` takes; without it, the catalogue is listed.
Every image is decoded once: sizes, unusual kinds and damaged files are counted and
named, and a contact sheet shows a few classes of each split: what the network gets of
each image and, where something is cut off, the whole image beside it, with that dimmed.
"""

import argparse
import io
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.bench.output import Row, show, to_write
from experiments.config import Config
from rankjax.data import CATALOGUE, Dataset, Split, load
from rankjax.data.images import (
    EncodedImages,
    ImageInfo,
    cover,
    inspect_images,
    resize,
)
from rankjax.data.splits import LISTS, some
from rankjax.errors import RunError, UsageError
from rankjax.files import write_atomic

_ROWS, _COLUMNS = 5, 8
_KINDS = ("damaged", "greyscale", "CMYK", "16-bit", "animated", "alpha")


def splits_of(data: Dataset) -> dict[str, Split]:
    """The splits that there are, by name."""
    named = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
        "gallery": data.gallery,
    }
    return {
        name: split
        for name, split in named.items()
        if split is not None and len(split.labels)
    }


def inspect(split: Split) -> list[ImageInfo]:
    """Decodes every image of a split."""
    assert isinstance(split.images, EncodedImages)
    return list(inspect_images(split.images.fetch, np.arange(len(split.images))))


def statistics(name: str, split: Split, infos: Sequence[ImageInfo]) -> Row:
    """Images, classes and sizes of a split, as minimum, median and maximum."""
    sizes = np.bincount(split.labels)
    sizes = sizes[sizes > 0]
    sound = np.array([info.size for info in infos if not info.damage]).reshape(-1, 2)
    width, height = (_spread(sound[:, axis]) for axis in (0, 1))
    return {
        "split": name,
        "images": len(split.labels),
        "classes": len(sizes),
        "per class": _spread(sizes),
        "of one image": int((sizes == 1).sum()),
        "cameras": _distinct(split.cameras),
        "super-classes": _distinct(split.super_labels),
        "width": width,
        "height": height,
    }


def kinds(name: str, infos: Sequence[ImageInfo]) -> Row:
    """How many images are damaged or of an unusual kind."""
    found = Counter(kind for info in infos for kind in info.kinds)
    found["damaged"] = sum(bool(info.damage) for info in infos)
    return {"split": name} | {kind: found[kind] for kind in _KINDS}


def contact_sheet(data: Dataset, sound: Mapping[str, np.ndarray]) -> bytes:
    """A PNG of a few classes of each split, a row each.

    Args:
      data: the data set.
      sound: for each split, the images that can be shown, bool [n].
    """
    rows = []
    for name, split in splits_of(data).items():
        classes = np.unique(split.labels)
        picked = np.linspace(0, len(classes) - 1, _ROWS).round().astype(int)
        rows += [(name, split, label) for label in classes[np.unique(picked)]]
    figure = Figure(figsize=(_COLUMNS, 0.9 * len(rows) + 0.5), dpi=100)
    cells = figure.subplots(len(rows), _COLUMNS, squeeze=False)
    for line, (name, split, label) in zip(cells, rows, strict=True):
        members = np.flatnonzero((split.labels == label) & sound[name])[:_COLUMNS]
        for cell in line:
            cell.set_axis_off()
        for cell, member in zip(line, members, strict=False):
            image = _with_what_is_cut(split, member)
            cell.imshow(image, cmap="gray", vmin=0, vmax=255)
        title = f"{name}: {split.class_names[label]}"
        line[0].set_title(title, loc="left", fontsize=7, pad=2, parse_math=False)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.98, 0.05, 0.3)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Names of classes may have characters that no font has.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _with_what_is_cut(split: Split, row: int) -> np.ndarray:
    """What the network gets of an image and, if it is cut, the whole beside it."""
    images = split.images
    assert isinstance(images, EncodedImages)
    height, width, channels = images.shape
    (kept,) = images.read(np.array([row]))
    if images.fit != "crop":
        return kept
    (original,) = images.originals(np.array([row]))
    whole = cover(original, height, width, images.short_side)
    shown = 255 - (255 - whole) // 4
    top, left = (np.array(whole.shape[:2]) - (height, width)) // 2
    if not top and not left:
        return kept
    shown[top : top + height, left : left + width] = kept
    beside = resize(shown, height, max(height * whole.shape[1] // whole.shape[0], 1))
    gap = np.full((height, max(width // 16, 1), channels), 255, np.uint8)
    return np.concatenate([kept, gap, beside], 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="of the data set")
    parser.add_argument("--data-dir", type=Path, default=Path("~/.cache/rankjax"))
    parser.add_argument("--manual-dir", type=Path, help="of archives fetched by hand")
    parser.add_argument("--image-size", type=int, default=96, help="on the sheet")
    parser.add_argument("--image-width", type=int, help="where images are not square")
    for name in ("fit", "alpha"):
        kinds = get_args(Config.hints()[name])
        parser.add_argument(
            f"--{name}", choices=kinds, default=kinds[0], help="as of experiments.train"
        )
    parser.add_argument("--seed", type=int, default=0, help="of splits by class")
    parser.add_argument("--sheet", type=to_write, help="by default runs/data-NAME.png")
    options = parser.parse_args(arguments)
    if options.name is None:
        _list()
        return 0
    try:
        _report(options)
    except (RunError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _report(options: argparse.Namespace) -> None:
    width = options.image_size if options.image_width is None else options.image_width
    data = load(
        options.name,
        data_dir=options.data_dir.expanduser(),
        manual_dir=options.manual_dir and options.manual_dir.expanduser(),
        image_size=(options.image_size, width),
        fit=options.fit,
        alpha=options.alpha,
        on_damage="keep",
        seed=options.seed,
    )
    splits = splits_of(data)
    infos = {name: inspect(split) for name, split in splits.items()}
    rows = [statistics(name, split, infos[name]) for name, split in splits.items()]
    verified = getattr(CATALOGUE.get(data.name), "counts", {})
    title = f"{data.name}: {data.protocol}, recall at {data.recall_at}"
    show(f"{title}{', counts verified' * bool(verified)}", rows, _forms(rows))
    unusual = [kinds(name, found) for name, found in infos.items()]
    show("damaged and unusual images", unusual, _forms(unusual))
    if data.junk is not None:
        print(f"junk in the gallery: {data.junk.sum():,}")
    if data.lists is not None:
        numbers = np.bincount(data.lists.ravel(), minlength=4)[1:]
        named = zip(LISTS, numbers, strict=True)
        print(f"lists: {', '.join(f'{name} {number:,}' for name, number in named)}")
    if data.pairs is not None:
        folds = len(np.unique(data.pairs.folds))
        print(f"pairs: {len(data.pairs.same):,} in {folds} folds")
    for name, split in splits.items():
        assert isinstance(split.images, EncodedImages)
        for info in infos[name]:
            if info.damage:
                print(f"damaged: {split.images.name(info.row)}: {info.damage}")
        for kind in _KINDS[1:]:
            found = [split.images.name(i.row) for i in infos[name] if kind in i.kinds]
            if 0 < len(found) < len(infos[name]):
                print(f"{kind}: {some(found)}")
    file_name = "".join(c if c.isalnum() else "-" for c in data.name)
    sheet = options.sheet or Path("runs") / f"data-{file_name}.png"
    sound = {
        name: np.array([not info.damage for info in found], bool)
        for name, found in infos.items()
    }
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(sheet, contact_sheet(data, sound))
    print(sheet)


def _list() -> None:
    rows: list[Row] = [
        {
            "name": entry.name,
            "protocol": entry.protocol,
            "split": entry.split,
            "licence": entry.licence,
            "files": ", ".join(entry.files) or "none",
        }
        for entry in CATALOGUE.values()
    ]
    show("data sets", rows, _forms(rows))


def _forms(rows: Sequence[Row]) -> dict[str, str]:
    return {key: "" if isinstance(v, str) else ",d" for key, v in rows[0].items()}


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return ""
    return f"{values.min():,} / {np.median(values):,.0f} / {values.max():,}"


def _distinct(column: np.ndarray | None) -> int | None:
    return None if column is None else len(np.unique(column))


if __name__ == "__main__":
    sys.exit(main())
