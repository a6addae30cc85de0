"""Exact retrieval: the search, the metrics, the bare work, and other libraries.

python -m experiments.bench.retrieval [--json FILE] [--quick] [--peer PYTHON]

At N = 2,000 and 10,000 rows of length 128, five of each class, timed in turn:

    nearest   `rankjax.metrics.nearest`, ten neighbours
    metrics   `rankjax.metrics.retrieval_metrics`, neighbours and labels
    limit     the products of all rows, block by block, and the greatest of each row
    sklearn   `NearestNeighbors`, brute force, ten neighbours
    faiss     `IndexFlatIP`, where it can be imported, ten neighbours
    peer      `AccuracyCalculator` of pytorch-metric-learning 2.9.0, without faiss, in a
              process of its own; it finds the same Recall@1, which is checked first

Printed are CPU time (all threads) and wall time, medians, peak memory and the ratio of
CPU times to the limit's. One minute on two cores; `--quick` has N = 2,000 alone, in ten
seconds.
"""

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
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

NEIGHBOURS, BLOCK, PER_CLASS = 10, 500, 5
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


@functools.partial(jax.jit, static_argnames="block")
def bare(unit: jax.Array, *, block: int) -> jax.Array:
    """The greatest product of each row, the least that a search computes."""

    def one(part: jax.Array) -> jax.Array:
        return jnp.max(dot(part, unit), 1)

    return jax.lax.map(one, unit.reshape(-1, block, unit.shape[1]))


def calls_of(rows: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The calls in this process; those that say so return Recall@1."""
    from sklearn.neighbors import NearestNeighbors

    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    device, block = jax.device_put(unit), min(BLOCK, len(rows))

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
        "nearest": lambda: metrics.nearest(rows, k=NEIGHBOURS),
        "metrics": lambda: metrics.retrieval_metrics(rows, labels)["recall_at_1"],
        "limit": lambda: bare(device, block=block).block_until_ready(),
        "sklearn": sklearn,
    }
    return calls | ({"faiss": faiss} if importlib.util.find_spec("faiss") else {})


def cell(
    shape: Shape, *, peer: Peer | None, reps: int, seconds: float, seed: int
) -> list[Row]:
    """All ways at one N.

    Raises:
      ValueError: two of them find another Recall@1.
    """
    data, labels = timing.clusters(shape, seed=seed)
    calls = calls_of(data, labels)
    runs: dict[str, Callable[[], Rep]] = {
        name: functools.partial(timing.timed, call) for name, call in calls.items()
    }
    recall: dict[str, float] = {
        name: call() for name, call in calls.items() if name not in ("nearest", "limit")
    }
    failed: dict[str, str] = {}
    if peer is not None:
        try:
            peer.setup("retrieval", shape, seed=seed, layout="shuffled")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="N = 2,000 only")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="interpreter that has the peer"
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="these only")
    parser.add_argument("--seed", type=int, default=0, help="of the rows")
    options = parser.parse_args(arguments)
    sizes = options.sizes or ([2000] if options.quick else [2000, 10000])
    reps, seconds = (3, 1.0) if options.quick or options.sizes else (9, 5.0)
    python = find(options.peer) if options.peer or not options.quick else None
    rows: list[Row] = []
    try:
        with ExitStack() as stack:
            peer = None if python is None else stack.enter_context(Peer(python))
            for size in sizes:
                rows += cell(
                    Shape(size, K=PER_CLASS),
                    peer=peer,
                    reps=reps,
                    seconds=seconds,
                    seed=options.seed,
                )
    except (ValueError, Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    output.show("Retrieval", rows, SHOWN)
    output.save(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
