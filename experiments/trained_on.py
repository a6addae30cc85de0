"""What a run was trained on: images that change later are noticed."""

import hashlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import Config
from experiments.features import Features, names_of
from experiments.runs import INPUTS
from rankjax.data import Dataset
from rankjax.data.splits import SPLITS, some
from rankjax.errors import UsageError
from rankjax.files import read_json

DATA = "data.json"
"""File in a run's folder: `record_of` its data set."""

Record = dict[str, Any]


def record_of(data: Dataset) -> Record:
    """The number of images of each class by split, and a checksum of their names.

    Names are those of files without folders, so that a data set may move. The checksum
    is of their order too, on which batches depend.
    """
    splits, names = {}, hashlib.sha256()
    for name in SPLITS:
        split = getattr(data, name)
        if split is None:
            continue
        classes = np.array(split.class_names, object)[split.labels]
        splits[name] = dict(Counter(classes.tolist()))
        paths = names_of([split])
        # The pictures of features may be gone later.
        if paths is not None and not isinstance(split.images, Features):
            for path in paths.tolist():
                names.update(f"{os.path.basename(path)}\0".encode())
    return {"splits": splits, "names": names.hexdigest()}


def check_unchanged(
    path: Path, data: Dataset, config: Config, *, exactly: bool
) -> None:
    """Compares a data set with that which a run was trained on, if it is the same one.

    A run of an older version has no record of it, and nothing is compared.

    Args:
      path: the run's folder.
      data: what its data set is now.
      config: the settings that it was loaded with.
      exactly: refuse all that changed; else say it on stderr, unless classes that were
        trained on are for testing now.

    Raises:
      UsageError: it has changed so that the run's figures would not be its own.
    """
    if not (path / DATA).is_file():
        return
    theirs, ours = read_json(path / "config.json"), config.settings()
    if not same_data(theirs["dataset"], ours["dataset"]) or any(
        theirs.get(name) != ours[name] for name in ("seed", "fold", "folds")
    ):
        return
    before, now = read_json(path / DATA), record_of(data)
    changes = _changes(before, now)
    if seen := _seen(before, now):
        raise UsageError(
            f"{path} was trained on {some(seen)}, of which {data.name} has images for "
            f"testing now; since then it has {changes}: choose another folder to train "
            "in, or evaluate by the images as they were"
        )
    skips = read_json(path / INPUTS).get("on_damage") != config.data.on_damage
    if changes and exactly and not skips:
        raise UsageError(
            f"{path} was trained on other images, since when {data.name} has "
            f"{changes}; choose another folder"
        )
    if changes and not skips:
        print(f"since {path} was trained, {data.name} has {changes}", file=sys.stderr)


def tell_of_seen(weights: Path, data: Dataset, config: Config) -> None:
    """Says on stderr which classes for testing a run's weights were trained on."""
    if not (weights / DATA).is_file():
        return
    dataset = read_json(weights / "config.json")["dataset"]
    seen = _seen(read_json(weights / DATA), record_of(data))
    if seen and same_data(dataset, config.data.dataset):
        print(
            f"weights: {weights} was trained on {len(seen):,} of the classes that are "
            f"for testing here: {some(seen)}; --seed says which are",
            file=sys.stderr,
        )


def same_data(one: str, other: str) -> bool:
    """Whether two names mean one data set."""
    (kind, _, place), (other_kind, _, other_place) = (
        name.partition(":") for name in (one, other)
    )
    if not place or kind != other_kind:
        return one == other
    first, second = (Path(p).expanduser().resolve() for p in (place, other_place))
    return first == second


def _seen(before: Record, now: Record) -> list[str]:
    """Classes that were trained on, not tested on, and are for testing now."""
    then, tested = (
        {
            name
            for side in ("test", "gallery")
            for name in record["splits"].get(side, ())
        }
        for record in (before, now)
    )
    return sorted(({*before["splits"]["train"]} - then) & tested)


def _changes(before: Record, now: Record) -> str:
    """What a data set has otherwise, by its records; empty for nothing."""
    then, new = (_of_all_splits(record) for record in (before, now))
    parts = [
        f"{_many(len(more.keys() - fewer), 'class', 'es')} and "
        f"{_many((more - fewer).total(), 'image', 's')} {word}"
        for word, more, fewer in (("more", new, then), ("fewer", then, new))
        if more - fewer
    ]
    if not parts and before["splits"] != now["splits"]:
        parts.append("other classes in its splits")
    if not parts and before != now:
        parts.append("images of other names, or in another order")
    return ", ".join(parts)


def _of_all_splits(record: Record) -> Counter[str]:
    return sum(map(Counter, record["splits"].values()), Counter[str]())


def _many(number: int, what: str, ending: str) -> str:
    return f"{number:,} {what}{ending * (number != 1)}"
