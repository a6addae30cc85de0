"""Embeddings of a run's test images."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.evaluation.subjects import Pairs, Subject
from experiments.features import folder_of, names_of, pictures_of
from experiments.images import fit_of
from experiments.runs import Which, load_run
from experiments.trained_on import check_unchanged, seen_before, trained_on
from experiments.training.images import load_data
from rankjax.errors import UsageError
from rankjax.train import forward_of, over_images


def embed_run(
    path: Path,
    *,
    checkpoint: Which,
    data_dir: Path,
    manual_dir: Path | None,
    validation: bool = False,
) -> Subject:
    """Embeds the test images of a run's data set with a checkpoint of it.

    Args:
      path: the run's folder.
      checkpoint: the last one saved, or the best in validation.
      data_dir, manual_dir: where the data set is, see `rankjax.data.load`.
      validation: instead of test, the classes that were held out of training.

    Raises:
      RunError: see `load_run`.
      UsageError: none were held out; or the data set is not there, or has changed
        since, and classes that were trained on are for testing now.
    """
    run = load_run(path, which=checkpoint, images=False)
    config = run.config.replace(data_dir=data_dir, manual_dir=manual_dir)
    if not config.data.features():
        config = config.replace(fit=fit_of(run.inputs), alpha=run.inputs.alpha)
    try:
        data = load_data(config.data, config.run.seed)
    except UsageError as error:
        kind, _, place = config.data.dataset.partition(":")
        if not place or kind == "tfds" or Path(place).expanduser().exists():
            raise
        raise UsageError(
            f"{error}, on which {path} was trained; run this in the folder where it "
            f"is, or embed its images, python -m experiments.embed {path} --dataset "
            "KIND:PATH --out X.npz, and evaluate those"
        ) from error
    check_unchanged(path, data, config, exactly=False)
    if words := seen_before(trained_on(path), data, config.data.dataset).words:
        print(words, file=sys.stderr)
    if validation:
        if data.validation is None:
            raise UsageError(
                f"split must be test for {path}: it held no classes out for validation"
            )
        data = dataclasses.replace(
            data,
            test=data.validation,
            gallery=None,
            junk=None,
            pairs=None,
            protocol="leave-one-out",
        )
    embed = over_images(forward_of(run.definition), devices=jax.local_devices())
    splits = [split for split in (data.test, data.gallery) if split is not None]
    pictures = pictures_of(splits)
    total = sum(len(split.images) for split in splits)
    with tqdm(total=total, unit=" images", leave=False, disable=None) as progress:
        batches = []
        for split in splits:
            for batch in embed(run.state.evaluated, split.images):
                batches.append(batch)
                progress.update(len(batch))
    embeddings = np.concatenate(batches)
    labels = np.concatenate([split.labels for split in splits])
    cameras = [split.cameras for split in splits if split.cameras is not None]
    supers = [split.supers for split in splits if split.supers is not None]
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
    pairs, names = data.pairs, names_of(splits)
    return Subject(
        f"{data.name}, {config.loss.name}",
        embeddings,
        codes,
        values,
        [data.test.class_names[value] for value in values],
        data.protocol,
        **sides,
        cameras=np.concatenate(cameras) if len(cameras) == len(splits) else None,
        pairs=None if pairs is None else Pairs(pairs.indices, pairs.same, pairs.folds),
        recall_at=data.recall_at,
        read=None if pictures is None else pictures.read,
        paths=names,
        folder=folder_of(names),
        supers=np.concatenate(supers) if len(supers) == len(splits) else None,
    )
