"""Lists what is probably wrong in an embedding: labels, copies, outliers, classes.

python -m experiments.inspect RUN_OR_FILE [--csv suspects.csv] [--most 10]
    [--projector FOLDER] [--parquet FILE] [--split validation]

RUN_OR_FILE is a run of experiments.train, whose test images are embedded, or an .npz or
Parquet file of embeddings, as experiments.embed writes it, with all of its splits.
--split validation takes the classes instead that the run held out of training: runs
with --fold 0, 1, 2, 3 judge all but test classes by networks that have not seen them.

suspects.csv has a line for each row, the most suspect first, and is a list of images
too: write x into its column exclude, mend its column label, and train with
--dataset list:suspects.csv. Nothing is left out by itself.

FOLDER is made for TensorBoard's embedding projector. FILE is Parquet with paths,
labels, embeddings, figures of retrieval and suspicions.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rankjax.errors import RunError, UsageError


def run(options: argparse.Namespace) -> None:
    """Looks, prints and writes what was asked for.

    Raises:
      UsageError: a setting or a file that cannot be meant.
      RunError: something outside must be mended; no file is half written.
    """
    # What is typed is read before these, which take seconds.
    from experiments.evaluation.elsewhere import write_parquet, write_projector
    from experiments.evaluation.npz import read_npz
    from experiments.evaluation.runs import embed_run
    from experiments.evaluation.suspects import (
        find,
        folder_of_paths,
        tables,
        write_csv,
    )
    from experiments.evaluation.tables import show
    from rankjax.files import check_place, check_utf8

    source: Path = options.source
    for name in ("csv", "projector", "parquet"):
        path: Path | None = getattr(options, name)
        if path is not None and path.exists():  # a CSV may have a person's marks
            raise UsageError(f"{name} must be new, {path} exists")
        if path is not None:
            check_place(name, path)
    for name, least in (("most", 1), ("ratio", 1)):
        if not getattr(options, name) >= least:
            raise UsageError(
                f"{name} must be at least {least}, got {getattr(options, name)}"
            )
    if source.is_dir():
        subject = embed_run(
            source,
            checkpoint=options.checkpoint or "latest",
            data_dir=options.data_dir.expanduser(),
            manual_dir=options.manual_dir and options.manual_dir.expanduser(),
            validation=options.split == "validation",
        )
    elif source.exists():
        for name in ("split", "checkpoint"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} is of a run, and {source} is a file")
        pictures = options.projector is not None
        subject = read_npz(source, pictures=pictures, every_split=True)
    else:
        raise UsageError(f"no run folder and no file {source}")
    if options.csv is not None or options.parquet is not None:
        check_utf8([] if subject.paths is None else subject.paths.tolist())
        check_utf8(subject.class_names)
    folder = folder_of_paths(source, subject)
    try:
        found = find(subject, ratio=options.ratio, near=options.near, folder=folder)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error
    trained = 0 if subject.splits is None else int((subject.splits == "train").sum())
    if trained:
        print(
            f"{source}: {trained:,} rows are of split train. A network that was "
            "trained on them has learnt their labels by heart: wrong ones are then not "
            "found; see --split",
            file=sys.stderr,
        )
    for table in tables(subject, found, most=options.most):
        show(table)
    if options.csv is not None:
        write_csv(options.csv, subject, found, folder=folder)
        print(f"suspects: {options.csv}")
    if options.parquet is not None:
        write_parquet(options.parquet, subject, found)
        print(f"rows: {options.parquet}")
    if options.projector is not None:
        write_projector(options.projector, subject, found)
        print(f"projector: tensorboard --logdir {shlex.quote(str(options.projector))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="RUN_OR_FILE")
    parser.add_argument("--csv", type=Path, help="file for all rows and suspicions")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="for others")
    parser.add_argument("--projector", type=Path, metavar="FOLDER", help="likewise")
    parser.add_argument(
        "--most", type=int, default=10, help="rows of a kind that are printed"
    )
    parser.add_argument(
        "--ratio",
        type=float,
        default=2.0,
        help="suspect a label where its class lies so many times as far as another",
    )
    parser.add_argument(
        "--near",
        type=float,
        default=0.1,
        help="copies are nearer than this part of the usual distance of nearest rows",
    )
    parser.add_argument(
        "--checkpoint", choices=("latest", "best"), help="of a run; by default latest"
    )
    parser.add_argument(
        "--split", choices=("test", "validation"), help="of a run; by default test"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("~/.cache/rankjax"))
    parser.add_argument("--manual-dir", type=Path, help="of archives fetched by hand")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (RunError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
