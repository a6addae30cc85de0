"""What a run was trained on: images that change later, and classes seen before."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config import Config
from experiments.features import Features
from experiments.runs import INPUTS
from rankjax.data import Dataset
from rankjax.data.splits import SPLITS, some
from rankjax.errors import UsageError
from rankjax.files import read_json

DATA = "data.json"
"""File in a run's folder: `record_of` its data set."""

Record = dict[str, Any]


class Seen(NamedTuple):
    """Classes for testing that the network was trained on before, by earlier runs.

    Attributes:
      classes: their names.
      words: which runs were trained on them, in a line; empty if none were.
    """

    classes: set[str]
    words: str


def record_of(data: Dataset, earlier: Sequence[Record] = ()) -> Record:
    """The number of images of each class by split, and checksums of their names.

    Names are those of files without folders, so that a data set may move. One checksum
    is of their order too, on which batches depend; that of a class is not.

    Args:
      data: the data set.
      earlier: see `begun_with`.
    """
    splits, names, files = {}, hashlib.sha256(), dict[str, list[str]]()
    for name in SPLITS:
        split = getattr(data, name)
        if split is None:
            continue
        classes = np.array(split.class_names, object)[split.labels].tolist()
        splits[name] = dict(Counter(classes))
        source = getattr(split.images, "files", split.images)
        if not hasattr(source, "name"):
            continue
        for row, of_class in enumerate(classes):
            file = os.path.basename(source.name(row))
            files.setdefault(of_class, []).append(file)
            # The pictures of features may be gone later.
            if not isinstance(split.images, Features):
                names.update(f"{file}\0".encode())
    return {
        "splits": splits,
        "names": names.hexdigest(),
        "classes": {name: _checksum(each) for name, each in files.items()},
        "earlier": [*earlier],
    }


def _checksum(names: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest()[:16]


def trained_on(network: Path) -> list[Record]:
    """What a network was trained on, by its run and by those that it goes back to.

    Args:
      network: a run's folder; of other networks nobody knows, and it is empty.
    """
    if not (network / DATA).is_file():
        return []
    record, settings = read_json(network / DATA), read_json(network / "config.json")
    files = record.get("classes", {})
    own = {
        "run": str(network),
        "dataset": settings["dataset"],
        "seed": settings["seed"],
        "classes": {name: files.get(name) for name in _only_trained(record)},
    }
    return [own, *record.get("earlier", [])]


def begun_with(config: Config, data: Dataset) -> list[Record]:
    """`trained_on` of the network whose weights, or features, a run begins with."""
    job = getattr(data.train.images, "job", {})
    network = job.get("network") or config.model.weights
    return trained_on(Path(network).expanduser()) if network else []


def seen_before(earlier: Sequence[Record], data: Dataset, dataset: str) -> Seen:
    """Which classes for testing a network was trained on before.

    They are those of one name in one data set, or of one name whose files have the same
    names, in a copy or in features of them.

    Args:
      earlier: what the network was trained on.
      data: what it is to be tested on.
      dataset: its name, with its place.
    """
    seen, words = set[str](), list[str]()
    now = record_of(data) if earlier else {"splits": {}}
    for record in earlier:
        same = same_data(record["dataset"], dataset)
        more = {
            name
            for name in _tested(now) & record["classes"].keys() - seen
            if same or record["classes"][name] == now["classes"].get(name, "")
        }
        if more:
            seen |= more
            words.append(
                f"{record['run']}, whose --seed is {record['seed']}, was trained on "
                f"{len(more):,} of the {len(_tested(now)):,} classes that are for "
                f"testing here: {some(sorted(more))}"
            )
    return Seen(seen, "; ".join(words))


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
    if seen := sorted(_only_trained(before) & _tested(now)):
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


def same_data(one: str, other: str) -> bool:
    """Whether two names mean one data set."""
    (kind, _, place), (other_kind, _, other_place) = (
        name.partition(":") for name in (one, other)
    )
    if not place or kind != other_kind:
        return one == other
    first, second = (Path(p).expanduser().resolve() for p in (place, other_place))
    return first == second


def _tested(record: Record) -> set[str]:
    sides = (record["splits"].get(side, ()) for side in ("test", "gallery"))
    return {name for side in sides for name in side}


def _only_trained(record: Record) -> set[str]:
    return {*record["splits"]["train"]} - _tested(record)


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
    if not parts and before["names"] != now["names"]:
        parts.append("images of other names, or in another order")
    return ", ".join(parts)


def _of_all_splits(record: Record) -> Counter[str]:
    return sum(map(Counter, record["splits"].values()), Counter[str]())


def _many(number: int, what: str, ending: str) -> str:
    return f"{number:,} {what}{ending * (number != 1)}"
