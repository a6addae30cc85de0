"""Embeddings of a run's test images."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments.config import Config, build_batches
from experiments.evaluation.subjects import Pairs, Subject
from experiments.train import load_data, start
from rankjax.data.sources import ImageSource
from rankjax.errors import RunError
from rankjax.train import Checkpoints, RunFolder, make_embed


def embed_run(
    path: Path,
    *,
    checkpoint: Literal["latest", "best"],
    data_dir: Path,
    manual_dir: Path | None,
) -> Subject:
    """Embeds the test images of a run's data set with a checkpoint of it.

    Args:
      path: the run's folder, which no other process may be using.
      checkpoint: the last one saved, or the best in validation.
      data_dir, manual_dir: where the data set is, see `rankjax.data.load`.

    Raises:
      RunError: the folder holds no run, one without checkpoints, or one of other
        settings or parameters than this version has.
    """
    settings = _settings(path)
    config = _config(path, settings)
    config = dataclasses.replace(config, data_dir=data_dir, manual_dir=manual_dir)
    with RunFolder(path, settings, needs=0), Checkpoints(path / "checkpoints") as kept:
        step = kept.latest_step() if checkpoint == "latest" else kept.best_step()
        if step is None:
            raise RunError(
                f"{path} holds no checkpoint; let the run go on to its first"
            )
        data = load_data(config)
        batches = build_batches(config, data.train)
        definition, _, _, like = start(
            config, data.train, axis_name=None, batches=batches
        )
        state = kept.restore(step, like)
    embed = make_embed(definition, devices=jax.local_devices())
    splits = [split for split in (data.test, data.gallery) if split is not None]
    embeddings = np.concatenate([embed(state, split.images) for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    cameras = [split.cameras for split in splits if split.cameras is not None]
    values, codes = np.unique(labels, return_inverse=True)
    sides: dict[str, Any] = {}
    if data.gallery is not None:
        kept_rows = np.ones(len(data.gallery.labels), bool)
        if data.junk is not None:
            kept_rows = ~data.junk
        queries = len(data.test.labels)
        sides = {
            "queries": np.arange(queries),
            "gallery": queries + np.flatnonzero(kept_rows),
            "junk": int((~kept_rows).sum()),
        }
    pairs = data.pairs
    return Subject(
        path.absolute().name,
        embeddings,
        codes,
        values,
        [data.test.class_names[value] for value in values],
        data.protocol,
        **sides,
        cameras=np.concatenate(cameras) if len(cameras) == len(splits) else None,
        pairs=None if pairs is None else Pairs(pairs.indices, pairs.same, pairs.folds),
        recall_at=data.recall_at,
        read=_reader([split.images for split in splits]),
    )


def _settings(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} holds no run: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {file}: {error}") from error


def _config(path: Path, settings: dict[str, Any]) -> Config:
    unknown = settings.keys() - {field.name for field in dataclasses.fields(Config)}
    if unknown:
        raise RunError(f"{path} holds a run of another version: {min(unknown)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
    }
    return Config(**values)


def _reader(sources: list[ImageSource]) -> Any:
    """Pictures of rows, which are those of all sources one after the other."""
    starts = np.cumsum([0, *map(len, sources)])

    def read(rows: np.ndarray) -> list[np.ndarray]:
        numbers = np.searchsorted(starts, rows, "right") - 1
        return [
            sources[number].read(np.array([row - starts[number]]))[0]
            for number, row in zip(numbers, rows, strict=True)
        ]

    return read
