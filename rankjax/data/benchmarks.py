"""The entries of the catalogue: prepared, verified and split."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rankjax.data.builders.archives import Archives
from rankjax.data.catalogue import Entry
from rankjax.data.pool import Choice, Pool
from rankjax.data.preparation import open_builder, prepare, using
from rankjax.data.splits import Dataset, VerificationPairs
from rankjax.data.tfds_reader import column, divided, encoded_images
from rankjax.errors import RunError

_JUNK = b"-1"


def load_benchmark(
    entry: Entry, *, data_dir: Path, manual_dir: Path | None, choice: Choice
) -> Dataset:
    """A data set of the catalogue, prepared on first use, its counts verified.

    What is prepared already is used, by whichever builder. Otherwise archives that are
    in `manual_dir`, or its folder of the entry's name, are read without TensorFlow;
    failing those, TFDS's own builder downloads, which needs TensorFlow.

    Raises:
      RunError: archives are missing, with their names and where they belong; they
        cannot be read; or counts are not those of the entry.
    """
    folder, missing = _locate(entry, manual_dir or data_dir / "downloads" / "manual")
    with using(data_dir):
        own, stock = f"benchmark/{entry.name}", entry.tfds
        has_stock = stock is not None and _is_prepared(stock, data_dir)
        has_own = bool(entry.files) and _is_prepared(own, data_dir)
        if has_own or (entry.files and not missing and not has_stock):
            return _read(prepare(own, entry.name, data_dir, folder), entry, choice)
        can_prepare = not entry.files or (entry.downloads and find_spec("tensorflow"))
        if stock and (has_stock or can_prepare):
            builder = prepare(stock, entry.name, data_dir, folder)
            data = divided(
                builder,
                entry.name,
                choice,
                channels=entry.channels,
                super_key=entry.super_key,
                counts=entry.counts,
            )
            return dataclasses.replace(data, recall_at=entry.recall_at)
    also = ""
    if stock and entry.downloads:
        also = "; or pip install 'rankjax[tf]', with which TFDS downloads it"
    raise RunError(
        f"{entry.name} needs {', '.join(missing)} in {folder}; source: {entry.source}"
        f"{also}"
    )


def _locate(entry: Entry, manual_dir: Path) -> tuple[Path, list[str]]:
    """Where an entry's archives are or belong, and which are not there."""
    missing = {
        folder: [name for name in entry.files if not Archives(folder).find(name)]
        for folder in (manual_dir / entry.name, manual_dir)
    }
    folder = min(missing, key=lambda each: len(missing[each]))
    return folder, missing[folder]


def _is_prepared(reference: str, data_dir: Path) -> bool:
    return open_builder(reference, reference, data_dir).is_prepared()


def _read(builder: Any, entry: Entry, choice: Choice) -> Dataset:
    """What our own builder has prepared."""
    splits = list(builder.info.splits)
    sizes = [builder.info.splits[split].num_examples for split in splits]
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    parts = dict(zip(splits, rows, strict=True))

    def joined(key: str) -> np.ndarray:
        return np.concatenate([column(builder, split, key) for split in splits])

    names, labels = np.unique(joined("label"), return_inverse=True)
    groups, super_labels = np.unique(joined("group"), return_inverse=True)
    cameras = joined("camera")
    pool = Pool(
        *encoded_images(builder, splits, "image"),
        labels,
        [name.decode() for name in names],
        entry.channels,
        cameras=cameras if cameras.min() >= 0 else None,
        super_labels=super_labels if len(groups) > 1 else None,
        counts=entry.counts,
        folder=builder.data_path,
    )
    return pool.divide(
        entry.name,
        parts,
        choice,
        protocol=entry.protocol,
        recall_at=entry.recall_at,
        junk=names[labels[parts["gallery"]]] == _JUNK
        if entry.protocol == "reid"
        else None,
        pairs=_pairs(builder) if entry.protocol == "verification" else None,
    )


def _pairs(builder: Any) -> VerificationPairs:
    """The pairs of the metadata, as rows of the test split."""
    files = column(builder, "test", "file")
    rows = {Path(file.decode()).stem: row for row, file in enumerate(files)}
    pairs = builder.info.metadata["pairs"]
    lost = {name for pair in pairs for name in pair[:2]} - rows.keys()
    if lost:
        raise RunError(f"{builder.data_path} lacks {min(lost)}, which is in a pair")
    return VerificationPairs(
        np.array([[rows[one], rows[other]] for one, other, _, _ in pairs], np.int32),
        np.array([same for _, _, same, _ in pairs], bool),
        np.array([fold for _, _, _, fold in pairs], np.int32),
    )
