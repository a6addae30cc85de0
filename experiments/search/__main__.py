"""Finds the images that are most like others.

python -m experiments.search INDEX.npz QUERY... [--k 10] [--backend faiss] [--json]
python -m experiments.search INDEX.npz --serve [--port 8000]

INDEX.npz is from experiments.embed; QUERY are image files, folders and patterns. Other
backends than exact keep their index beside it and are compared with exact search.
--serve shows a web page on which to drop an image, or click at one.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.images import list_images
from experiments.search.approximate import BACKENDS, open_backend, recall
from experiments.search.index import Index, QueryEmbedder, answers, read_index
from experiments.search.server import make_server
from rankjax.errors import RunError, UsageError
from rankjax.files import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("index", type=Path, metavar="INDEX.npz")
    parser.add_argument("queries", nargs="*", metavar="QUERY")
    parser.add_argument(
        "--k", type=int, help="neighbours of each query; by default 10, or all images"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=-1.0,
        metavar="COSINE",
        help="leave out what is less similar; a query may then have nothing like it",
    )
    parser.add_argument(
        "--dim", type=int, metavar="N", help="by the first N numbers of embeddings"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="exact")
    parser.add_argument("--network", type=Path, help="if it is not where it was")
    parser.add_argument("--weights", type=Path, help="of its backbone, likewise")
    parser.add_argument("--json", action="store_true", help="a line for each query")
    parser.add_argument("--serve", action="store_true", help="a web page")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0 for any")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that browsers may call this machine by, beside localhost",
    )
    options = parser.parse_intermixed_args(arguments)
    try:
        _search(options)
    except (RunError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _search(options: argparse.Namespace) -> None:
    index = read_index(options.index)
    if options.dim is not None:
        index = index.shortened(options.dim)
    n = len(index.paths)
    if options.k is None:
        options.k = min(10, n)
    if not 1 <= options.k <= n:
        raise UsageError(f"k must be from 1 to {n}, the images, got {options.k}")
    if not -1 <= options.threshold <= 1:
        raise UsageError(f"threshold must be from -1 to 1, got {options.threshold:g}")
    if not options.serve and not options.queries and options.backend == "exact":
        raise UsageError("give a QUERY, or --serve for a web page")
    find = open_backend(options.backend, index)
    if options.backend != "exact":
        share, queries = recall(find, index, options.k)
        print(
            f"recall@{options.k} of {options.backend} against exact search: "
            f"{share:.4f} ({queries:,} rows of the index as queries)",
            file=sys.stderr,
        )
    if not (options.queries or options.serve):
        return
    embed = QueryEmbedder(index, options.network, options.weights)
    some = index.paths[:1000]  # of more it would take longer than the search
    gone = [path for path in some if not os.path.exists(path)]
    if gone:
        print(
            f"{printable(str(index.file))}: of the first {len(some):,} paths "
            f"{len(gone):,} are not there, such as {printable(gone[0])}",
            file=sys.stderr,
        )
    if options.queries:
        paths = list_images(options.queries).paths
        found = answers(index, find(embed(paths), options.k))
        for path, neighbours in zip(paths, found, strict=True):
            like = [x for x in neighbours if x["similarity"] >= options.threshold]
            if options.json:
                print(json.dumps({"query": path, "neighbours": like}))
            else:
                _show(index, path, like)
                if not like:
                    print(f"      nothing like it: all below {options.threshold:g}")
    if options.serve:
        server = make_server(
            index,
            find,
            embed,
            k=options.k,
            least=options.threshold,
            host=options.host,
            port=options.port,
            allowed=options.allow_host,
        )
        with server:
            print(f"http://{options.host}:{server.server_port}/", flush=True)
            server.serve_forever()


def _show(index: Index, path: str, neighbours: Sequence[dict]) -> None:
    print(printable(path))
    for rank, each in enumerate(neighbours, start=1):
        label = "" if index.labels is None else f"  {printable(each['label'])}"
        found = printable(each["path"])
        print(f"{rank:4d}  {each['similarity']:.4f}{label}  {found}")


if __name__ == "__main__":
    sys.exit(main())
