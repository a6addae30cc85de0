"""Exact retrieval: the metrics, the bare work, and other libraries.

python -m experiments.bench.retrieval [--json FILE] [--quick] [--peer PYTHON]

At N = 2,000, 10,000 and 60,502 (the test set of Stanford Online Products) rows of
length 128, classes of 2 to 9, timed in turn:

    recall    `rankjax.metrics.retrieval(first_only=True)`: every Recall@K, MRR
    metrics   `rankjax.metrics.retrieval`: also MAP@R, R-precision, full mAP, nDCG
    nearest   `rankjax.metrics.nearest`, ten neighbours
    limit     the products of all rows and the greatest of each row, in tiles of 512
    sklearn   `NearestNeighbors`, brute force, ten neighbours; up to N = 10,000
    faiss     `IndexFlatIP`, where it can be imported, ten neighbours
    peer      `AccuracyCalculator` of pytorch-metric-learning 2.9.0, without faiss, in a
              process of its own; up to N = 10,000

All of them find the same Recall@1, which is checked first. Printed are CPU time (all
threads) and wall time, medians, peak memory and the ratio of CPU times to the limit's.
The limit does not use that a product serves both its rows; `recall` and `metrics` do.

A last row searches among a million rows with 10,000 queries, 1 % of them: its time for
all is extrapolated, its memory is that of any number of queries.

Four minutes on two cores; `--quick` has N = 2,000 alone, in ten seconds.
"""

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import output, timing
from experiments.bench.output import Row
from experiments.bench.peer import Peer, find
from experiments.bench.timing import Rep, Shape, Unavailable
from rankjax import metrics
from rankjax.similarity import dot

NEIGHBOURS, TILE = 10, 512
FEW = 10_000  # what libraries that hold N x N at once are asked for
SHOWN = {
    "what": "",
    "N": "d",
    "D": "d",
    "cpu_s": ".3g",
    "wall_s": ".3g",
    "peak_mb": ".0f",
    "over_limit": ".2f",
    "over_limit_wall": ".2f",
    "recall_at_1": ".4f",
    "note": "",
}


@jax.jit
def bare(tiles: jax.Array) -> jax.Array:
    """The greatest product of each row, the least that a search computes."""

    def row(queries: jax.Array) -> jax.Array:
        def tile(best: jax.Array, gallery: jax.Array) -> tuple[jax.Array, None]:
            return jnp.maximum(best, jnp.max(dot(gallery, queries), 0)), None

        return jax.lax.scan(tile, jnp.full(TILE, -jnp.inf), tiles)[0]

    return jax.lax.map(row, tiles)


def calls_of(rows: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The calls in this process; those that say so return Recall@1."""
    from sklearn.neighbors import NearestNeighbors

    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    filled = np.pad(unit, [(0, -len(unit) % TILE), (0, 0)])
    device = jax.device_put(filled.reshape(-1, TILE, unit.shape[1]))
    search = metrics.leave_one_out(unit, labels)

    def first_right(neighbours: np.ndarray) -> float:
        return float((labels[neighbours[:, 1]] == labels).mean())  # after itself

    def sklearn() -> float:
        search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute")
        return first_right(search.fit(unit).kneighbors(unit, return_distance=False))

    def faiss() -> float:
        index = importlib.import_module("faiss").IndexFlatIP(unit.shape[1])
        index.add(unit)
        return first_right(index.search(unit, NEIGHBOURS + 1)[1])

    calls: dict[str, Callable[[], Any]] = {
        "metrics": lambda: metrics.retrieval(search).means()["recall_at_1"],
        "recall": lambda: metrics.retrieval(search, first_only=True).means()[
            "recall_at_1"
        ],
        "limit": lambda: bare(device).block_until_ready(),
        "nearest": lambda: metrics.nearest(unit, k=NEIGHBOURS),
    }
    if len(rows) <= FEW:
        calls["sklearn"] = sklearn
    return calls | ({"faiss": faiss} if importlib.util.find_spec("faiss") else {})


def cell(
    shape: Shape, *, peer: Peer | None, reps: int, seconds: float, seed: int
) -> list[Row]:
    """All ways at one N.

    Raises:
      ValueError: two of them find another Recall@1.
    """
    data, labels = timing.clusters(shape, seed=seed, layout="uneven")
    calls = calls_of(data, labels)
    runs: dict[str, Callable[[], Rep]] = {
        name: functools.partial(timing.timed, call) for name, call in calls.items()
    }
    recall: dict[str, float] = {
        name: call() for name, call in calls.items() if name not in ("nearest", "limit")
    }
    failed: dict[str, str] = {}
    if peer is not None and shape.B <= FEW:
        try:
            peer.setup("retrieval", shape, seed=seed, layout="uneven")
            recall["peer"] = peer.value()[0]
            runs["peer"] = peer.run
        except Unavailable as error:
            failed["peer"] = str(error)
    for name, value in recall.items():
        if abs(value - recall["metrics"]) > 2 / shape.B:  # rounding may swap a pair
            raise ValueError(
                f"Recall@1 is {recall['metrics']} here and {value} by {name}"
            )
    found, late = timing.interleaved(runs, reps=reps, seconds=seconds)
    failed |= late
    limit = timing.spread(found["limit"])
    rows: list[Row] = [
        {"what": name, "N": shape.B, "D": shape.D, "note": note}
        for name, note in failed.items()
    ]
    for name, repeated in found.items():
        times = timing.spread(repeated)
        rows.append(
            {
                "what": name,
                "N": shape.B,
                "D": shape.D,
                **times,
                "peak_mb": (
                    timing.peak_mb(calls[name])
                    if name in calls
                    else peer and peer.peak_mb()
                ),
                "over_limit": times["cpu_s"] / limit["cpu_s"],
                "over_limit_wall": times["wall_s"] / limit["wall_s"],
                "recall_at_1": recall.get(name),
                "note": "",
            }
        )
    return rows


def among_a_million(*, seed: int) -> Row:
    """The time of 1 % of a million queries, times 100, and the memory of them."""
    shape = Shape(10**6)
    rows, labels = timing.clusters(shape, seed=seed, layout="uneven")
    some = slice(shape.B // 100)
    search = metrics.query_gallery(rows[some], labels[some], rows, labels)
    cell: Row = {}

    def call() -> None:
        cell["recall_at_1"] = metrics.retrieval(search).means()["recall_at_1"]

    peak = timing.peak_mb(call)
    rep = timing.timed(call)
    return cell | {
        "what": "metrics of 1,000,000 queries, extrapolated",
        "N": shape.B,
        "D": shape.D,
        "cpu_s": 100 * rep.cpu_s,
        "wall_s": 100 * rep.wall_s,
        "peak_mb": peak,
        "note": "",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=output.to_write, help="also write the rows to this file"
    )
    parser.add_argument("--quick", action="store_true", help="N = 2,000 only")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="interpreter that has the peer"
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="these only")
    parser.add_argument("--million", action="store_true", help="that row alone")
    parser.add_argument("--seed", type=int, default=0, help="of the rows")
    options = parser.parse_args(arguments)
    whole = not (options.quick or options.sizes or options.million)
    sizes = options.sizes or ([2000] if options.quick else [])
    sizes = [2000, 10000, 60502] if whole else sizes
    python = find(options.peer) if options.peer or whole else None
    rows: list[Row] = []
    try:
        with ExitStack() as stack:
            peer = None if python is None else stack.enter_context(Peer(python))
            for size in sizes:
                rows += cell(
                    Shape(size),
                    peer=peer,
                    reps=9 if whole and size <= FEW else 3,
                    seconds=5.0 if whole else 1.0,
                    seed=options.seed,
                )
            if whole or options.million:
                rows.append(among_a_million(seed=options.seed))
    except (ValueError, Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    output.show("Retrieval", rows, SHOWN)
    output.save(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
