"""TFDS data sets, prepared once and read without TensorFlow."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rankjax.data import glyphs
from rankjax.data.glyph_images import class_name
from rankjax.data.pool import Choice, Counts, Pool
from rankjax.data.preparation import first_line, keys, prepare, using
from rankjax.data.records import RecordFiles
from rankjax.data.sources import Fetch
from rankjax.data.splits import Dataset
from rankjax.errors import RunError
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
    image_key, label_key = keys(name, builder.info.features)
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
        if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
            return builder.as_data_source(split, decoders=skip)
        infos = [builder.info.splits[name] for name in split.split("+")]
        return RecordFiles(
            [Path(file) for info in infos for file in info.filepaths],
            partial(builder.info.features.deserialize_example_np, decoders=skip),
        )


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
            f"{builder.data_path} cannot be read ({first_line(error)}); delete the "
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
