"""TFDS data sets: prepared once, whole or not at all, and read by index."""

import contextlib
import fcntl
import io
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.read_only_builder import ReadOnlyBuilder

from rankjax.data.archives import Archives, Benchmark
from rankjax.data.catalogue import Entry
from rankjax.data.splits import (
    Dataset,
    LoadOptions,
    Record,
    Row,
    VerificationPairs,
    split_rows,
)
from rankjax.errors import RunError, UsageError, unknown_name
from rankjax.files import write_atomic

# It would look for what is known of a data set on a server that TFDS no longer asks,
# and leave an empty folder among the temporary files each time.
tfds.core.DatasetInfo.initialize_from_bucket = lambda info: None


def load_benchmark(
    entry: Entry, *, data_dir: Path, manual_dir: Path | None, options: LoadOptions
) -> Dataset:
    """A data set of the catalogue, prepared on first use, its counts verified.

    What is prepared already is used, by whichever builder. Otherwise archives that are
    in `manual_dir`, or its folder of the entry's name, are read without TensorFlow;
    failing those, TFDS's own builder downloads, which needs TensorFlow.

    Raises:
      RunError: archives are missing, with their names and where they belong; they
        cannot be read; or counts are not those of the entry.
    """
    manual_dir = manual_dir or data_dir / "downloads" / "manual"
    missing_in = {
        folder: [name for name in entry.files if not Archives(folder).find(name)]
        for folder in (manual_dir / entry.name, manual_dir)
    }
    folder, missing = min(missing_in.items(), key=lambda each: len(each[1]))
    config = entry.name.replace("/", "_")
    pairs, lists = None, None
    with _alone(data_dir):
        builder = _open(f"{Benchmark.name}/{config}", entry.name, data_dir)
        may_download = missing and entry.downloads and find_spec("tensorflow")
        if entry.tfds and not builder.is_prepared():
            stock = _open(entry.tfds, entry.name, data_dir)
            builder = stock if stock.is_prepared() or may_download else builder
        if missing and _is_own(builder) and not builder.is_prepared():
            also = "; or pip install 'rankjax[tf]', with which TFDS downloads it"
            raise RunError(
                f"{entry.name} needs {', '.join(missing)} in {folder}; source: "
                f"{entry.source}{also if entry.tfds and entry.downloads else ''}"
            )
        _prepare(builder, entry.name, folder)
        rows, names = _rows(builder, entry.name, entry.super_key, entry.tfds_splits)
        if entry.protocol == "verification":
            pairs = _pairs(builder, rows)
        elif entry.protocol == "revisited":
            lists = _lists(builder)
    return split_rows(
        entry.name,
        rows,
        options,
        channels=entry.channels,
        class_names=names,
        counts=entry.counts,
        recall_at=entry.recall_at,
        pairs=pairs,
        lists=lists,
        folder=builder.data_path,
    )


def load_tfds(
    reference: str,
    *,
    name: str,
    data_dir: Path,
    options: LoadOptions,
    manual_dir: Path | None = None,
) -> Dataset:
    """The TFDS data set `reference`, prepared if need be.

    If the data set's own train and test splits have no class in common, they are kept,
    and its validation split too if that is disjoint. Otherwise they are made for
    classification: all splits are joined and the first half of the labels is for
    training, the rest for testing, as is the convention for CUB and Cars.

    Args:
      reference: NAME, NAME/CONFIG, or a folder that TFDS has prepared.
      name: what the user calls it.
      data_dir, manual_dir: as in `rankjax.data.load`.
      options: how to split and read it.

    Raises:
      UsageError: no such data set, or one without an image and an integer label.
      RunError: it cannot be prepared, or its files are damaged.
    """
    with _alone(data_dir):
        builder = _open(reference, name, data_dir)
        _prepare(builder, name, manual_dir or data_dir / "downloads" / "manual")
        rows, names = _rows(builder, name)
    image = builder.info.features[_keys(name, builder.info.features)[0]]
    channels = 1 if image.shape[-1] == 1 else 3
    return split_rows(name, rows, options, channels=channels, class_names=names)


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Alone among processes that prepare data sets in a folder."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with open(data_dir / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise RunError(f"cannot use {data_dir}: {error}") from error


def _open(reference: str, name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """The builder of a data set, or of a folder of any name that TFDS has prepared."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        if (Path(reference) / "dataset_info.json").is_file():
            return tfds.builder_from_directory(reference)
        return tfds.builder(reference, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        every = tfds.list_builders(with_community_datasets=False)
        known = [f"tfds:{other}" for other in every]
        raise unknown_name("data set", name, known) from None
    except ValueError as error:
        raise UsageError(f"data set {name!r}: {_first_line(error)}") from None


def _prepare(builder: tfds.core.DatasetBuilder, name: str, manual_dir: Path) -> None:
    """Prepares a data set, if need be, from what it downloads or is in `manual_dir`."""
    _keys(name, builder.info.features)
    if builder.is_prepared() or isinstance(builder, ReadOnlyBuilder):
        return
    if type(builder).__module__.startswith("tensorflow_datasets."):
        if not find_spec("tensorflow"):
            raise RunError(
                f"preparing {name} needs TensorFlow: pip install 'rankjax[tf]'"
            )
        _check_hosts(builder, name, manual_dir)
    print(f"preparing {name} (once) ...", file=sys.stderr, flush=True)
    config = tfds.download.DownloadConfig(
        try_download_gcs=False,
        manual_dir=manual_dir,
        # Overwrites a folder that lacks the files that are written last.
        download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS,
    )
    try:
        # Not parquet: TFDS loses examples in it.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_config=config, file_format="array_record"
            )
    except RunError:
        raise
    except Exception as error:  # Builders raise whatever their authors liked.
        raise RunError(
            f"could not prepare {name}: {type(error).__name__}: {_first_line(error)} "
            f"(archives fetched by hand go into {manual_dir})"
        ) from error


def _check_hosts(
    builder: tfds.core.DatasetBuilder, name: str, manual_dir: Path
) -> None:
    """Raises a RunError where TFDS would ask for minutes for a host it cannot find."""
    for url, info in builder.url_infos.items():
        host = urlsplit(str(url)).hostname
        if not host or getproxies() or (manual_dir / (info.filename or "")).is_file():
            continue
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise RunError(
                f"could not prepare {name}: {host} is not found; place "
                f"{info.filename or url} in {manual_dir}"
            ) from error


def _keys(name: str, features: tfds.features.FeaturesDict) -> tuple[str, str]:
    """The features that hold the image and the label."""
    image_keys = [
        key for key, value in features.items() if isinstance(value, tfds.features.Image)
    ]
    label_keys = [
        key
        for key, value in features.items()
        if value.shape == () and np.issubdtype(value.np_dtype, np.integer)
    ]
    if not image_keys or not label_keys:
        raise UsageError(f"data set {name!r} has no image with an integer label")
    # Where there are several labels, such as a product and its kind, the finest counts.
    finest = max(label_keys, key=lambda key: getattr(features[key], "num_classes", 0))
    return (
        "image" if "image" in image_keys else image_keys[0],
        "label" if "label" in label_keys else finest,
    )


def _benchmark_rows(builder: tfds.core.DatasetBuilder) -> Iterator[Row]:
    """What our own builder has prepared."""
    keys = ("label", "camera", "group", "file")
    for split in builder.info.splits:
        read, columns = _read_split(builder, split, "image", keys)
        for i, values in enumerate(zip(*columns.values(), strict=True)):
            label, camera, *text = values
            number = "" if camera < 0 else int(camera)
            group, file = (each.decode() for each in text)
            yield Row(Record(read, i), label.decode(), split, number, group, file)


def _pairs(builder: tfds.core.DatasetBuilder, rows: Sequence[Row]) -> VerificationPairs:
    """The pairs of the metadata, as rows of the test split."""
    names = [Path(row.name).stem for row in rows if row.split == "test"]
    places = {name: place for place, name in enumerate(names)}
    pairs = builder.info.metadata["pairs"]
    lost = {name for pair in pairs for name in pair[:2]} - places.keys()
    if lost:
        raise RunError(f"{builder.data_path} lacks {min(lost)}, which is in a pair")
    indices = [[places[one], places[other]] for one, other, _, _ in pairs]
    return VerificationPairs(
        np.array(indices, np.int32),
        np.array([same for _, _, same, _ in pairs], bool),
        np.array([fold for _, _, _, fold in pairs], np.int32),
    )


def _lists(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """The lists of the metadata, as `Dataset.lists` has them."""
    queries = builder.info.metadata["lists"]
    gallery = builder.info.splits["gallery"].num_examples
    lists = np.zeros((gallery, len(queries)), np.int8)
    for query, known in enumerate(queries):
        for number, rows in enumerate(known, 1):
            lists[rows, query] = number
    return lists


def _is_own(builder: tfds.core.DatasetBuilder) -> bool:
    return builder.info.name == Benchmark.name


def _rows(
    builder: tfds.core.DatasetBuilder,
    name: str,
    super_key: str | None = None,
    splits: tuple[str, str] | None = None,
) -> tuple[list[Row], dict[int, str]]:
    """The rows of a builder, split as `load_tfds` or an entry's `tfds_splits` says, and
    the names of labels that are numbers."""
    if _is_own(builder):
        return list(_benchmark_rows(builder)), {}
    features = builder.info.features
    image_key, label_key = _keys(name, features)
    file_key = next((key for key in ("file", "file_name") if key in features), None)
    keys = [label_key, *filter(None, (super_key, file_key))]
    parts = {
        split: _read_split(builder, split, image_key, keys)
        for split in builder.info.splits
    }
    labels = {split: table[label_key] for split, (_, table) in parts.items()}
    split_of = {split: split for split in _disjoint_splits(labels)}
    if splits:
        split_of = dict(zip(splits, ("train", "test"), strict=True))
    present = np.unique(np.concatenate(list(labels.values())))
    number = getattr(features[label_key], "num_classes", None)
    middle = number // 2 if number else present[len(present) // 2]
    rows = []
    for split in split_of or parts:
        read, table = parts[split]
        for i, label in enumerate(labels[split].tolist()):
            to = split_of.get(split) or ("train" if label < middle else "test")
            file = file_key and table[file_key][i].decode()
            file = file or f"{i} of {split} of {builder.info.full_name}"
            group = table[super_key][i].item() if super_key else ""
            rows.append(Row(Record(read, i), label, to, super_class=group, name=file))
    if splits:
        known = {row.super_class for row in rows if row.split == "train"}
        rows = [
            row for row in rows if row.split == "train" or row.super_class not in known
        ]
    names = getattr(features[label_key], "names", None) or []
    return rows, dict(enumerate(names))


def _disjoint_splits(labels: dict[str, np.ndarray]) -> list[str]:
    """Splits to keep as they are, or none."""
    for splits in (["train", "validation", "test"], ["train", "test"]):
        if all(split in labels for split in splits):
            classes = np.concatenate([np.unique(labels[split]) for split in splits])
            if len(classes) == len(np.unique(classes)):
                return splits
    return []


def _read_split(
    builder: tfds.core.DatasetBuilder, split: str, image_key: str, keys: Sequence[str]
) -> tuple[Callable[[Sequence[int]], list[bytes]], dict[str, np.ndarray]]:
    """Numbers of examples -> their encoded images; and other features of all examples,
    numbers or text, kept as files beside them.

    Raises:
      RunError: they are damaged, or in TFRecord files alone, which are read from start
        to end.
    """
    folder, features, lock = builder.data_path, builder.info.features, threading.Lock()
    skip = {
        key: tfds.decode.SkipDecoding()
        for key, value in features.items()
        if isinstance(value, tfds.features.Image)
    }
    files = {key: folder / f"{split}-{key.replace('/', '-')}.npy" for key in keys}
    with _damage_named(builder):
        try:
            source = builder.as_data_source(split, decoders=skip)
        except NotImplementedError:
            raise RunError(
                f"{folder} has no files that are read by index; to add them, install "
                "tensorflow, apache-beam and mlcroissant, best in an environment of "
                "their own, and type: tfds convert_format --dataset_version_dir="
                f"{folder} --out_file_format=array_record"
            ) from None
        missing = [key for key, file in files.items() if not file.exists()]
        table = [[each[key] for key in missing] for each in (source if missing else ())]
        for column, key in enumerate(missing):
            # Text is bytes here, which NumPy keeps without a terminating zero.
            content = io.BytesIO()
            np.save(content, np.array([values[column] for values in table]))
            write_atomic(files[key], content.getvalue())
        columns = {key: np.load(file) for key, file in files.items()}
    expected = builder.info.splits[split].num_examples
    for values in columns.values():
        if len(values) != expected:
            raise RunError(
                f"{folder}: {split} has {len(values)} examples, not {expected}; delete "
                "the folder to have it made again"
            )

    def read(numbers: Sequence[int]) -> list[bytes]:
        with _damage_named(builder), lock:
            return [example[image_key] for example in source.__getitems__(numbers)]

    return read, columns


@contextlib.contextmanager
def _damage_named(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    try:
        yield
    except RunError:
        raise
    except Exception as error:  # The reader of records has no error type of its own.
        raise RunError(
            f"{builder.data_path} cannot be read ({_first_line(error)}); delete the "
            "folder to have it made again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
