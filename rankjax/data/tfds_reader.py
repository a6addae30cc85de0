"""TFDS data sets, prepared once and read without TensorFlow."""

import contextlib
import fcntl
import io
import logging
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rankjax.data import glyphs
from rankjax.data.glyph_images import class_name
from rankjax.data.records import RecordFiles
from rankjax.data.sources import Fetch
from rankjax.data.splits import Dataset, Pool
from rankjax.errors import RunError, UsageError, unknown_name
from rankjax.files import write_atomic


def load_tfds(
    reference: str,
    *,
    name: str,
    data_dir: Path,
    image_size: int,
    seed: int,
    short_side: int | None = None,
) -> Dataset:
    """The TFDS data set `reference`, NAME or NAME/CONFIG, prepared if need be.

    If the data set's own train and test splits have no class in common, they are kept,
    and its validation split too if that is disjoint. Otherwise they are made for
    classification: all splits are joined and the first half of the labels is for
    training, the rest for testing, as is the custom for CUB and Cars.

    Raises:
      UsageError: no such data set, or one without an image and an integer label.
      RunError: it cannot be prepared, or its files are damaged.
    """
    try:
        with _locked(data_dir):
            builder = _prepared(reference, name, data_dir)
        return _divided(builder, name, image_size, seed, short_side)
    except OSError as error:
        raise RunError(f"cannot use {data_dir}: {error}") from error


def _divided(
    builder: tfds.core.DatasetBuilder,
    name: str,
    image_size: int,
    seed: int,
    short_side: int | None,
) -> Dataset:
    image_key, label_key = _keys(name, builder.info.features)
    labels = {
        split: _column(builder, split, label_key) for split in builder.info.splits
    }
    disjoint = _disjoint_splits(labels)
    used = disjoint or list(labels)
    joined = np.concatenate([labels[split] for split in used])
    channels = 1 if builder.info.features[image_key].shape[-1] == 1 else 3
    pool = Pool(
        _fetcher(builder, used, image_key),
        lambda index: f"{index} of {builder.data_path} ({'+'.join(used)})",
        joined,
        _class_names(builder, used, label_key, joined),
        (image_size, image_size, channels),
        short_side,
    )
    if disjoint:
        classes = {split: np.unique(labels[split]) for split in used}
        return pool.divide(
            name, classes["train"], classes.get("validation"), classes["test"], seed
        )
    present = np.unique(joined)
    number = getattr(builder.info.features[label_key], "num_classes", None)
    middle = number // 2 if number else present[len(present) // 2]
    train, test = present[present < middle], present[present >= middle]
    return pool.divide(name, train, None, test, seed)


def _prepared(reference: str, name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """The builder, its data set prepared."""
    builder = _builder(reference, name, data_dir)
    if builder.is_prepared():
        return builder
    _keys(name, builder.info.features)
    is_stock = type(builder).__module__.startswith("tensorflow_datasets.")
    if is_stock and not find_spec("tensorflow"):
        raise RunError(f"preparing {name} needs TensorFlow: pip install 'rankjax[tf]'")
    print(f"preparing {name} (once) ...", file=sys.stderr, flush=True)
    config = tfds.download.DownloadConfig(
        try_download_gcs=False,
        # Overwrites a folder that lacks the files that are written last.
        download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS,
    )
    try:
        # Not parquet: TFDS loses examples in it.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_config=config, file_format="array_record"
            )
    except Exception as error:  # Builders raise whatever their authors liked.
        raise RunError(
            f"could not prepare {name}: {type(error).__name__}: {_first_line(error)} "
            f"(archives fetched by hand go into {data_dir / 'downloads' / 'manual'})"
        ) from error
    return builder


def _builder(reference: str, name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    logging.getLogger("absl").setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        # No format, so that what somebody prepared in another one is found too.
        return tfds.builder(reference, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = [
            f"tfds:{other}"
            for other in tfds.list_builders(with_community_datasets=False)
        ]
        raise unknown_name("data set", name, known) from None
    except ValueError as error:
        raise UsageError(f"data set {name!r}: {_first_line(error)}") from None


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Alone among processes that prepare data sets in a folder."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(data_dir / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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


def _column(builder: tfds.core.DatasetBuilder, split: str, key: str) -> np.ndarray:
    """One integer feature of all examples, kept as a file beside the data set."""
    file = builder.data_path / f"{split}-{key.replace('/', '-')}.npy"
    expected = builder.info.splits[split].num_examples
    if file.exists():
        with _damage(builder):
            values = np.load(file)
    else:
        source = _raw(builder, split)
        with _damage(builder):
            values = np.array([example[key] for example in source], np.int64)
        content = io.BytesIO()
        np.save(content, values)
        write_atomic(file, content.getvalue())
    if len(values) != expected:
        raise RunError(
            f"{builder.data_path}: {split} has {len(values)} examples, not {expected}; "
            "delete the folder to have it made again"
        )
    return values


def _raw(builder: tfds.core.DatasetBuilder, split: str) -> Any:
    """The examples of a split, their images left encoded."""
    skip = {
        key: tfds.decode.SkipDecoding()
        for key, value in builder.info.features.items()
        if isinstance(value, tfds.features.Image)
    }
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        return builder.as_data_source(split, decoders=skip)
    names = split.split("+")
    return RecordFiles(
        [Path(file) for name in names for file in builder.info.splits[name].filepaths],
        lambda record: builder.info.features.deserialize_example_np(
            record, decoders=skip
        ),
    )


def _fetcher(builder: tfds.core.DatasetBuilder, splits: list[str], key: str) -> Fetch:
    source, lock = _raw(builder, "+".join(splits)), threading.Lock()

    def fetch(indices: np.ndarray) -> list[bytes]:
        with _damage(builder), lock:
            return [each[key] for each in source.__getitems__(indices.tolist())]

    return fetch


@contextlib.contextmanager
def _damage(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # The reader of records has no error type of its own.
        raise RunError(
            f"{builder.data_path} cannot be read ({_first_line(error)}); delete the "
            "folder to have it made again"
        ) from error


def _disjoint_splits(labels: dict[str, np.ndarray]) -> list[str]:
    """Splits to keep as they are, or none."""
    for splits in (["train", "validation", "test"], ["train", "test"]):
        if all(split in labels for split in splits):
            classes = np.concatenate([np.unique(labels[split]) for split in splits])
            if len(classes) == len(np.unique(classes)):
                return splits
    return []


def _class_names(
    builder: tfds.core.DatasetBuilder, splits: list[str], key: str, labels: np.ndarray
) -> list[str]:
    """The name of every label from 0 to the largest."""
    if isinstance(builder, glyphs.Glyphs):
        columns = [_column(builder, split, "codepoint") for split in splits]
        lowest = np.full(labels.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, labels, np.concatenate(columns))
        return [class_name(int(codepoint)) for codepoint in lowest]
    feature = builder.info.features[key]
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.names
    return [str(label) for label in range(labels.max() + 1)]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
