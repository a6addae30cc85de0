"""Embeds any number of images with a trained network.

python -m experiments.embed NETWORK IMAGES... --out X.npz
python -m experiments.embed --model NAME --weights FILE IMAGES... --out X.npz
    [--views 4]

NETWORK is the folder of a run or of an exported network; or a backbone of
rankjax.models takes weights that others have trained. IMAGES are files, folders
(with all that is below) and patterns such as 'photos/**/*.jpg'. What an interrupted
command did is kept beside X in X.parts, and the same command goes on from there.

X.npz holds embeddings [n, dim], paths [n] and, where each image lies in a folder of a
folder that was named, labels [n] and class_names, with folders train and test also
split [n], of some data sets super [n] or lists [n, queries], and with --views what
--dataset features:X.npz of experiments.train draws from, views [n, views, dim].
experiments.evaluate and experiments.search read it.
X.parquet has the columns path, label, split, embedding and views.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from experiments import hosts
from experiments.compiled import keep_compiled
from experiments.config import Config
from experiments.images import (
    CROPS,
    Listed,
    Views,
    fit_of,
    list_dataset,
    list_images,
)
from experiments.pretrained import Pretrained
from experiments.runs import INPUTS, Which, load_network, read_config
from experiments.trained_on import check_unchanged, same_data, seen_before, trained_on
from experiments.training.weights import sentence
from rankjax.data import load
from rankjax.errors import RunError, UsageError
from rankjax.exported import Network
from rankjax.files import check_utf8, open_atomic, printable, read_json, read_npz
from rankjax.models import SCALES, Pooling
from rankjax.similarity import normalize
from rankjax.train import RunFolder, over_images
from rankjax.train.run_folder import differences

_PER_SHARD = 4  # batches
Job = dict[str, Any]


def embed_views(
    network: Network,
    views: Views,
    *,
    devices: Sequence[jax.Device],
    batch_size: int = 512,
) -> Iterator[np.ndarray]:
    """Embeddings [batch, 1 + augmented, dim] of images, batch after batch.

    The first of an image is the mean of its views'; those of augmented views follow.

    Args:
      network: if its embeddings have length 1, the means get it too.
      views: of the images.
      devices: see `over_images`.
      batch_size: views at a time, about.
    """
    each = views.per_image
    group = len(devices) * each
    most = -(-len(views) // group) * group
    size = min(max(batch_size // group, 1) * group, most)
    run = over_images(network.forward, devices=devices, batch_size=size)
    for found in run(network.variables, views):
        found = found.reshape(-1, each, found.shape[-1])
        plain, augmented = np.split(found, [each - views.augmented], 1)
        mean = plain.mean(1, keepdims=True)
        if plain.shape[1] > 1 and network.normalized:
            mean = np.asarray(normalize(jnp.asarray(mean)))
        yield np.concatenate([mean, augmented], 1)


def embed_all(
    network: Network,
    job: Job,
    listed: Listed,
    out: Path,
    *,
    skip_damaged: bool = False,
    batch_size: int = 512,
) -> int:
    """Embeds images into a file, from wherever the folder beside it says.

    Args:
      network: what embeds.
      job: the settings, which the file will tell.
      listed: the images.
      out: the file.
      skip_damaged: leave damaged images out, and name them on stderr.
      batch_size: views at a time.

    Returns:
      The number of images that were left out, as damaged.

    Raises:
      UsageError: the folder beside it is of other images or settings.
      RunError: a damaged image, or a disk that is full.
    """
    work = out.with_name(f"{out.name}.parts")
    digest = hashlib.sha256("\0".join(listed.paths).encode("utf-8", "surrogatepass"))
    job_of_list = job | {"images": digest.hexdigest()}

    def views(done: int) -> Views:
        return Views(
            listed.images[done:],
            network.inputs,
            flip=job["flip"],
            crops=job["crops"],
            augmented=job["views"],
            first=done,
            skip_damaged=skip_damaged,
            names=listed.paths[done:],
        )

    if not hosts.is_first():
        done = int(hosts.from_first("shards", ""))
        for _ in _shards(network, views(done), listed, done, batch_size):
            pass
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_begun(out, work / "config.json", job_of_list)
    with RunFolder(work, job_of_list, needs=0) as folder:
        shards = sorted(work.glob("shard-*.npz"))
        done = sum(_read(shard)["read"].item() for shard in shards)
        hosts.from_first("shards", str(done))
        for shard in _shards(network, views(done), listed, done, batch_size):
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **shard)
            folder.write(f"shard-{len(shards):08d}.npz", buffer.getvalue())
            shards.append(work / f"shard-{len(shards):08d}.npz")
        kept = np.concatenate([_read(shard)["rows"] for shard in shards])
        if not len(kept):
            raise RunError("all images are damaged")
        try:
            write = _write_parquet if out.suffix == ".parquet" else _write_npz
            write(
                out, job, listed, kept, lambda: (_read(s)["embeddings"] for s in shards)
            )
        except OSError as error:
            raise RunError(f"{out} cannot be written: {error}") from error
    shutil.rmtree(work)
    return len(listed.paths) - len(kept)


def _check_begun(out: Path, config: Path, job: Job) -> None:
    """Raises a UsageError where an earlier command has embedded something else."""
    changed = differences(config, job) if config.exists() else {}
    if "images" in changed:  # which are told by a checksum
        changed["images"] = "other images"
    if changed:
        raise UsageError(
            f"{out} was begun with {', '.join(changed.values())}; delete "
            f"{config.parent} to begin anew, or choose another --out"
        )


def _shards(
    network: Network, views: Views, listed: Listed, done: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Embeddings and row numbers of images from `done` on; `read` counts all."""
    if not len(views):
        return
    bar = tqdm(
        total=len(listed.paths),
        initial=done,
        unit="image",
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        disable=not hosts.is_first(),
    )
    parts: list[np.ndarray] = []
    first = at = done
    batches = embed_views(network, views, devices=jax.devices(), batch_size=batch_size)
    with bar:
        for found in batches:
            parts.append(found)
            at += len(found)
            bar.update(len(found))
            if len(parts) == _PER_SHARD or at == len(listed.paths):
                kept = ~_damaged(views, range(first, at), listed, done)
                yield {
                    "embeddings": np.concatenate(parts)[kept],
                    "rows": np.arange(first, at)[kept],
                    "read": np.array(at - first),
                }
                parts, first = [], at


def _damaged(views: Views, rows: range, listed: Listed, done: int) -> np.ndarray:
    """Which of some rows any process found damaged; names those of this one."""
    mask: np.ndarray = np.zeros(len(rows), bool)
    for row in rows:
        if row - done in views.damaged:
            mask[row - rows.start] = True
            damage = views.damaged.pop(row - done)
            print(
                f"left out: {printable(listed.paths[row])}: {damage}", file=sys.stderr
            )
    if hosts.joined():
        mask = np.any(multihost_utils.process_allgather(mask), axis=0)
    return mask


def _read(shard: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(shard, ("embeddings", "rows", "read")).arrays
    except RunError as error:
        raise RunError(f"{error}; delete {shard.parent} to start again") from error


def _write_npz(
    out: Path, job: Job, listed: Listed, kept: np.ndarray, parts: Any
) -> None:
    """Column by column and shard by shard: never all embeddings at once."""
    width = max(len(listed.paths[row]) for row in kept)
    _, views, dim = next(iter(parts())).shape
    chunks = np.array_split(kept, -(-len(kept) // 4096))
    with open_atomic(out) as file, zipfile.ZipFile(file, "w") as archive:
        # Any reader of .npz files takes no notice of it.
        archive.comment = json.dumps(job).encode()
        plain = (part[:, 0] for part in parts())
        _column(archive, "embeddings", np.dtype("<f4"), (len(kept), dim), plain)
        if views > 1:
            shape = (len(kept), views - 1, dim)
            augmented = (part[:, 1:] for part in parts())
            _column(archive, "views", np.dtype("<f4"), shape, augmented)
        kind = np.dtype(f"<U{width}")
        paths = (np.array([listed.paths[row] for row in rows], kind) for rows in chunks)
        _column(archive, "paths", kind, (len(kept),), paths)
        if listed.classes:
            names = sorted({listed.classes[row] for row in kept})
            number = {name: label for label, name in enumerate(names)}
            labels = np.array([number[listed.classes[row]] for row in kept], np.int32)
            _column(archive, "labels", labels.dtype, labels.shape, [labels])
            array = np.array(names)
            _column(archive, "class_names", array.dtype, array.shape, [array])
        for name, each in listed.beside.items():
            array = np.array(each)[kept]
            _column(archive, name, array.dtype, array.shape, [array])


def _column(
    archive: zipfile.ZipFile,
    name: str,
    kind: np.dtype,
    shape: tuple[int, ...],
    parts: Iterable[np.ndarray],
) -> None:
    header = {"descr": kind.str, "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, kind).tobytes())


def _write_parquet(
    out: Path, job: Job, listed: Listed, kept: np.ndarray, parts: Any
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    _, views, dim = next(iter(parts())).shape
    known = {"label": listed.classes} if listed.classes else {}
    known |= listed.beside
    fields = [("path", pa.string())]
    fields += [(k, pa.array(column[:1]).type) for k, column in known.items()]
    fields.append(("embedding", pa.list_(pa.float32(), dim)))
    if views > 1:
        fields.append(("views", pa.list_(pa.float32(), (views - 1) * dim)))
    schema = pa.schema(fields, metadata={"rankjax": json.dumps(job)})
    start = 0
    with open_atomic(out) as file, parquet.ParquetWriter(file, schema) as writer:
        for part in parts():
            rows = kept[start : (start := start + len(part))]
            columns: dict[str, Any]
            columns = {"path": [listed.paths[row] for row in rows]}
            for name, column in known.items():
                columns[name] = [column[row] for row in rows]
            for name, each in (("embedding", part[:, 0]), ("views", part[:, 1:])):
                flat, width = pa.array(each.reshape(-1)), each[0].size
                if width:
                    columns[name] = pa.FixedSizeListArray.from_arrays(flat, width)
            writer.write_table(pa.table(columns, schema=schema))


def _check_out(out: Path) -> None:
    if out.suffix not in (".npz", ".parquet"):
        raise UsageError(f"out must end in .npz or .parquet, got {out}")
    if out.exists():
        raise UsageError(f"{out} exists; choose another --out")
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "Parquet needs pyarrow: pip install pyarrow, or choose .npz"
            ) from error


def _choose_network(
    options: argparse.Namespace,
) -> tuple[Network, Job, Sequence[str]]:
    """The network, what the file is to tell of it, and the places of images."""
    if options.model is not None and options.weights is None:
        raise UsageError("model and weights must be given together, or neither")
    if options.model is None:
        folder, *places = options.places or ["nothing"]
        if not places and (options.dataset is None or not options.places):
            raise UsageError(
                f"give NETWORK and IMAGES, got {folder} alone; or --model and --weights"
            )
        network = load_network(
            Path(folder), which=options.checkpoint, weights=options.weights
        )
        return network, {"network": str(Path(folder).absolute())}, places
    weights = options.weights.expanduser().absolute()
    if weights.is_dir():
        raise UsageError(f"weights must be a file, got the folder {options.weights}")
    pretrained = Pretrained(
        options.model,
        str(weights),
        options.image_size,
        options.pooling,
        options.input_scale,
        options.weights_part,
    )
    network, loaded = pretrained.load()
    if hosts.is_first():
        print(f"weights: {sentence(loaded)}", flush=True)
    made_by: Job = {
        "network": str(weights),
        "pretrained": dataclasses.asdict(pretrained),
    }
    made_by["licence"] = loaded.licence
    return network, made_by | {"sha256": loaded.sha256}, options.places


def _list(
    options: argparse.Namespace, places: Sequence[str], network: Network, job: Job
) -> Listed:
    """The images; of a data set, the job gets the seed of its splits."""
    if (options.dataset is None) != bool(places):
        raise UsageError(
            f"give IMAGES or --dataset, got {' '.join(places) or 'none'} and "
            f"{options.dataset or 'none'}"
        )
    if options.dataset is None:
        return list_images(places)
    run, config = Path(job["network"]), Config()
    made_by: Job = {}
    if (run / "config.json").is_file():
        config = read_config(run)
        made_by = read_json(run / INPUTS).get("made_by") or {}
    # Splits are those that the run has; with features, those of their file.
    job["seed"] = made_by.get("seed", 0) if made_by.get("dataset") else config.run.seed
    if options.seed is not None:
        job["seed"] = options.seed
    own = same_data(config.data.dataset, options.dataset)
    data = load(
        options.dataset,
        data_dir=options.data_dir.expanduser(),
        manual_dir=options.manual_dir and options.manual_dir.expanduser(),
        image_size=network.inputs[:2],
        fit=fit_of(network.inputs),
        seed=job["seed"],
        fold=config.data.fold if own else None,
        folds=config.data.folds,
        on_damage="keep",
    )
    now = {"dataset": options.dataset, "seed": job["seed"], "on_damage": "stop"}
    check_unchanged(run, data, config.replace(**now), exactly=False)
    seen = seen_before(trained_on(run), data, options.dataset)
    if seen.words and hosts.is_first():
        print(seen.words, file=sys.stderr)
    return list_dataset(data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "places", nargs="*", metavar="[NETWORK] IMAGES", help="NETWORK without --model"
    )
    parser.add_argument(
        "--dataset", help="instead of IMAGES, one of experiments.train, with its splits"
    )
    parser.add_argument(
        "--seed", type=int, help="of these; by default of the run, NETWORK, else 0"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("~/.cache/rankjax"))
    parser.add_argument("--manual-dir", type=Path, help="of archives fetched by hand")
    parser.add_argument(
        "--views",
        type=int,
        default=0,
        help="also embed so many random parts of each image, for a head to train on",
    )
    pretrained = parser.add_argument_group("a backbone without a run")
    pretrained.add_argument("--model", help="such as dinov2_small")
    pretrained.add_argument(
        "--weights",
        type=Path,
        help="as of experiments.train; or where those of NETWORK's backbone are now",
    )
    pretrained.add_argument("--weights-part", default="", help="likewise")
    pretrained.add_argument(
        "--input-scale", choices=("auto", *SCALES), default="auto", help="likewise"
    )
    pretrained.add_argument("--image-size", type=int, default=224)
    pretrained.add_argument("--pooling", choices=get_args(Pooling), default="default")
    parser.add_argument("--out", type=Path, required=True, help=".npz or .parquet")
    parser.add_argument(
        "--dim",
        type=int,
        metavar="N",
        help="the first N numbers of each embedding, for networks trained with --dims",
    )
    parser.add_argument("--checkpoint", choices=get_args(Which), default="latest")
    parser.add_argument(
        "--flip", action="store_true", help="the mean with the mirror image's embedding"
    )
    parser.add_argument(
        "--crops",
        type=int,
        choices=CROPS,
        default=1,
        help="5 for the mean over centre and corners",
    )
    parser.add_argument(
        "--on-damage",
        choices=("stop", "skip"),
        default="stop",
        help="at an image that cannot be decoded; skip leaves it out and names it",
    )
    parser.add_argument(
        "--batch-size", type=int, default=512, help="views embedded at a time"
    )
    parser.add_argument("--hosts", help="as of experiments.train")
    parser.add_argument("--host-timeout", type=int, default=100)
    parser.add_argument(
        "--keep-compiled",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep compiled programs in DATA_DIR/compiled for later commands",
    )
    options = parser.parse_intermixed_args(arguments)
    try:
        hosts.join(options.hosts, timeout=options.host_timeout)
        keep_compiled(options.data_dir, keep=options.keep_compiled)
        _check_out(options.out)
        if options.views < 0:
            raise UsageError(f"views must be at least 0, got {options.views}")
        if options.batch_size < 1:
            raise UsageError(f"batch-size must be at least 1, got {options.batch_size}")
        network, made_by, places = _choose_network(options)
        listed = _list(options, places, network, made_by)
        if options.out.suffix == ".parquet":
            check_utf8(listed.paths)
        job = made_by | {
            "checkpoint": options.checkpoint,
            "step": network.step,
            "crops": options.crops,
            "flip": options.flip,
            "views": options.views,
            "dataset": options.dataset or "",
        }
        if options.dim is not None:
            network = network.shortened(options.dim)
            job["dim"] = options.dim
        number = hosts.from_first("images", str(len(listed.paths)))
        if int(number) != len(listed.paths):
            raise RunError(
                f"process 0 finds {number} images, this one {len(listed.paths)}"
            )
        left_out = embed_all(
            network,
            job,
            listed,
            options.out,
            skip_damaged=options.on_damage == "skip",
            batch_size=options.batch_size,
        )
        hosts.from_first("finished", "")
    except UsageError as error:
        return hosts.end(f"error: {error}", 2)
    except RunError as error:
        return hosts.end(f"error: {error}", 1)
    except KeyboardInterrupt:
        return hosts.end("interrupted; run again to go on", 130)
    if hosts.is_first():
        done = len(listed.paths) - left_out
        print(f"{done:,} images embedded, {left_out:,} left out\n{options.out}")
    hosts.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
