"""TFDS data sets, found or prepared, whole or not at all."""

import contextlib
import fcntl
import io
import logging
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import tensorflow_datasets as tfds

from rankjax.errors import RunError, UsageError, unknown_name


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


def prepare(
    reference: str, name: str, data_dir: Path, manual_dir: Path | None = None
) -> tfds.core.DatasetBuilder:
    """The builder, its data set prepared, whole; the arguments are `load_tfds`'s."""
    manual_dir = manual_dir or data_dir / "downloads" / "manual"
    builder = open_builder(reference, name, data_dir)
    if builder.is_prepared() or _is_folder(reference):
        return builder
    keys(name, builder.info.features)
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
            f"could not prepare {name}: {type(error).__name__}: {first_line(error)} "
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
        raise UsageError(f"data set {name!r}: {first_line(error)}") from None


def keys(name: str, features: tfds.features.FeaturesDict) -> tuple[str, str]:
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


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
