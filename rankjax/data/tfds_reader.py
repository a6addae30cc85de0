"""TFDS data sets, prepared once and read without TensorFlow."""

import contextlib
import fcntl
import io
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import tensorflow_datasets as tfds

from rankjax.data import glyphs
from rankjax.data.glyph_images import class_name
from rankjax.data.sources import Fetch
from rankjax.data.splits import Choice, Counts, Dataset, Pool
from rankjax.data.tfrecords import TFRecords
from rankjax.errors import RunError, UsageError, unknown_name
from rankjax.files import write_atomic


def load_tfds(
    reference: str,
    *,
    name: str,
    data_dir: Path,
    choice: Choice,
    manual_dir: Path | None = None,
) -> Dataset:
    """The TFDS data set `reference`, prepared if need be.

    If the data set's own train and test splits have no class in common, they are kept,
    and its validation split too if that is disjoint. Otherwise they are made for
    classification: all splits are joined and the first half of the labels is for
    training, the rest for testing, as is the custom for CUB and Cars.

    Args:
      reference: NAME, NAME/CONFIG, or a folder that TFDS has prepared.
      name: what the user calls it.
      data_dir: where prepared data sets are.
      choice: how to split and read it.
      manual_dir: where archives fetched by hand are, which TFDS would download.

    Raises:
      UsageError: no such data set, or one without an image and an integer label.
      RunError: it cannot be prepared, or its files are damaged.
    """
    with using(data_dir):
        builder = prepare(reference, name, data_dir, manual_dir)
        return divided(builder, name, choice)


@contextlib.contextmanager
def using(data_dir: Path) -> Iterator[None]:
    """Alone among processes that prepare data sets in a folder."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with open(data_dir / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise RunError(f"cannot use {data_dir}: {error}") from error


def divided(
    builder: tfds.core.DatasetBuilder,
    name: str,
    choice: Choice,
    *,
    channels: int | None = None,
    super_key: str | None = None,
    counts: Counts | None = None,
) -> Dataset:
    """A prepared data set, split as `load_tfds` says.

    Args:
      builder: of the data set.
      name: what the user calls it.
      choice: how to split and read it.
      channels: of images; by default as the feature has them.
      super_key: the feature that is the super-class.
      counts: images and classes that splits must have.
    """
    image_key, label_key = _keys(name, builder.info.features)
    labels = {split: column(builder, split, label_key) for split in builder.info.splits}
    disjoint = _disjoint_splits(labels)
    used = disjoint or list(labels)
    joined = np.concatenate([labels[split] for split in used])
    feature = builder.info.features[image_key]
    pool = Pool(
        *encoded_images(builder, used, image_key),
        joined,
        _class_names(builder, used, label_key, joined),
        channels or (1 if feature.shape[-1] == 1 else 3),
        super_labels=None
        if super_key is None
        else np.concatenate([column(builder, split, super_key) for split in used]),
        counts=counts or {},
        folder=builder.data_path,
    )
    if disjoint:
        ends = np.cumsum([len(labels[split]) for split in used])
        rows = np.split(np.arange(len(joined)), ends[:-1])
        return pool.divide(name, dict(zip(used, rows, strict=True)), choice)
    halves = _halves(builder.info.features[label_key], joined)
    return pool.divide(name, halves, choice)


def _halves(feature: Any, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of the first half of the labels, and of the rest."""
    present = np.unique(labels)
    number = getattr(feature, "num_classes", None)
    middle = number // 2 if number else present[len(present) // 2]
    return {
        "train": np.flatnonzero(labels < middle),
        "test": np.flatnonzero(labels >= middle),
    }


def prepare(
    reference: str, name: str, data_dir: Path, manual_dir: Path | None = None
) -> tfds.core.DatasetBuilder:
    """The builder, its data set prepared, whole; the arguments are `load_tfds`'s."""
    manual_dir = manual_dir or data_dir / "downloads" / "manual"
    builder = open_builder(reference, name, data_dir)
    if builder.is_prepared() or _is_folder(reference):
        return builder
    _keys(name, builder.info.features)
    is_stock = type(builder).__module__.startswith("tensorflow_datasets.")
    if is_stock and not find_spec("tensorflow"):
        raise RunError(f"preparing {name} needs TensorFlow: pip install 'rankjax[tf]'")
    if is_stock:
        _check_sources(builder, name, manual_dir)
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
    except Exception as error:  # Builders raise whatever their authors liked.
        raise RunError(
            f"could not prepare {name}: {type(error).__name__}: {_first_line(error)} "
            f"(archives fetched by hand go into {manual_dir})"
        ) from error
    return builder


def _is_folder(reference: str) -> bool:
    """Whether it is a folder that TFDS has prepared, of any name."""
    return (Path(reference) / "dataset_info.json").is_file()


def _check_sources(
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


def open_builder(reference: str, name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """The builder of a data set, or of a folder that TFDS has prepared."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        if _is_folder(reference):
            return tfds.builder_from_directory(reference)
        return tfds.builder(reference, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = [
            f"tfds:{other}"
            for other in tfds.list_builders(with_community_datasets=False)
        ]
        raise unknown_name("data set", name, known) from None
    except ValueError as error:
        raise UsageError(f"data set {name!r}: {_first_line(error)}") from None


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


def column(builder: tfds.core.DatasetBuilder, split: str, key: str) -> np.ndarray:
    """One feature of all examples, a number or text, kept as a file beside them."""
    file = builder.data_path / f"{split}-{key.replace('/', '-')}.npy"
    expected = builder.info.splits[split].num_examples
    if file.exists():
        with _damage(builder):
            values = np.load(file)
    else:
        source = _raw(builder, split)
        with _damage(builder):
            # Text is bytes here, which numpy keeps without a terminating zero.
            values = np.array([example[key] for example in source])
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
    with _damage(builder):
        if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
            return TFRecords(builder, split, skip)
        return builder.as_data_source(split, decoders=skip)


def encoded_images(
    builder: tfds.core.DatasetBuilder, splits: list[str], key: str
) -> tuple[Fetch, Callable[[int], str]]:
    """Two functions of indices into joined splits: the image files, and a name."""
    source, lock = _raw(builder, "+".join(splits)), threading.Lock()

    def examples(indices: np.ndarray) -> list[dict[str, Any]]:
        with _damage(builder), lock:
            return source.__getitems__(indices.tolist())

    def fetch(indices: np.ndarray) -> list[bytes]:
        return [example[key] for example in examples(indices)]

    def name(index: int) -> str:
        (example,) = examples(np.array([index]))
        file = example.get("file", example.get("file_name", b"")) or b""
        return file.decode() or f"{index} of {builder.info.full_name}"

    return fetch, name


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
        columns = [column(builder, split, "codepoint") for split in splits]
        lowest = np.full(labels.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, labels, np.concatenate(columns))
        return [class_name(int(codepoint)) for codepoint in lowest]
    feature = builder.info.features[key]
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.names
    return [str(label) for label in range(labels.max() + 1)]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
