"""Losses with their gradients: rankjax, plain autodiff, the bare work, and a peer.

python -m experiments.bench.losses [--json FILE] [--quick] [--large [B ...]]
    [--only NAME ...] [--peer PYTHON]

Every cell is one loss at one batch, its variants timed in turn:

    rankjax    `rankjax.objective` with default settings, jitted, and the gradient with
               respect to embeddings of any length
    plain      the same with `block=None`: jnp and autodiff on the full matrix
    limit      the bare work: two matrix products and one pass of exp on as many rows of
               unit length. Losses on a smaller matrix (n_pairs, proxy_anchor) may need
               less
    peer       pytorch-metric-learning 2.9.0 in a process of its own, on the same batch
    peer-best  a faster way to the same value, which the peer has but does not take

Before anything is timed, value and gradient are compared with the peer's on 64 rows;
at every B, plain's with rankjax's. A difference ends the run with status 1.

Printed are CPU time (all threads) and wall time, medians, the memory that one call
needs beyond what was there, what XLA says of temporaries, compile time, and ratios of
CPU times: `over_limit` to the bare work (1 is as fast), `over_peer` of the peer's time
to this one (above 1 is faster than the peer). The latter is of the least times: on a
busy machine the peer's median is many times too high. The JSON also has the spread.

`--quick` takes two minutes on two cores, the default some twenty, and about twice that
with a peer: a call of its may take 20 s and 6 GiB before its cell is given up, and one
of ours as much memory. `--repeat 3` runs everything three times, minutes apart, for
neighbours on the machine slow it down for as long: they take what shares a cache with
them, and leave the bare products as they are. `--large` adds sup_con and batch-all
triplets at 16,384 and 65,536 rows against two bare products in row blocks, some minutes
more.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import jax
import numpy as np

from experiments.bench import output, timing
from experiments.bench.cases import CASES, Case, bare, bare_blocks, make
from experiments.bench.output import Row
from experiments.bench.peer import Peer, find
from experiments.bench.timing import Layout, Rep, Shape, Unavailable

KEYS = (
    "loss",
    "variant",
    "B",
    "D",
    "K",
    "cpu_s",
    "cpu_min_s",
    "wall_s",
    "wall_min_s",
    "wall_max_s",
    "peak_mb",
    "temp_mb",
    "compile_s",
    "over_limit",
    "over_limit_wall",
    "over_peer",
    "note",
)
SHOWN = {
    "loss": "",
    "variant": "",
    "B": "d",
    "D": "d",
    "K": "d",
    "cpu_s": ".3g",
    "wall_s": ".3g",
    "peak_mb": ".0f",
    "temp_mb": ".0f",
    "compile_s": ".1f",
    "over_limit": ".2f",
    "over_limit_wall": ".2f",
    "over_peer": ".2f",
    "note": "",
}
TOLERANCE = 1e-4
CHECKED = Shape(64, 32)
PLAIN_MOST = 2048
MEMORY_MB = 6 * 1024  # the peer's limit is the same
LARGE = ("sup_con", "triplet")
LARGE_BLOCK = 256

Values = tuple[Any, Sequence[Any]]


class Mismatch(Exception):
    """Two ways to the same value did not agree, so that their times mean nothing."""


class Compiled:
    """A compiled function and its arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Compile it."""
        start = time.perf_counter()
        self._compiled = jax.jit(function).lower(*arguments).compile()
        self.compile_s = time.perf_counter() - start
        self._arguments = arguments
        memory = self._compiled.memory_analysis()
        self.temp_mb = None if memory is None else memory.temp_size_in_bytes / 2**20

    def __call__(self) -> Any:
        """The result, once it is there."""
        return jax.block_until_ready(self._compiled(*self._arguments))

    def run(self) -> Rep:
        """Times one call."""
        if self.temp_mb is not None and self.temp_mb > MEMORY_MB:
            raise Unavailable(f"needs {self.temp_mb / 1024:.0f} GiB of temporaries")
        return timing.timed(self)


def check_equal(what: str, found: Values, expected: Values) -> None:
    """Raises a Mismatch where value or gradients differ."""
    pairs = [(found[0], expected[0]), *zip(found[1], expected[1], strict=True)]
    for name, (a, b) in zip(["value", "gradient", "proxies"], pairs, strict=False):
        a, b = np.asarray(a), np.asarray(b)
        difference = np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)
        if not difference <= TOLERANCE:
            raise Mismatch(
                f"{what}: the {name} differs by {difference:.2g} of its largest entry, "
                f"above {TOLERANCE:g}; nothing was timed for this loss"
            )


def arguments_of(case: Case, shape: Shape, seed: int) -> tuple[Any, ...]:
    """What `make`'s function takes, on the device."""
    x, labels = timing.clusters(shape, seed=seed, layout=layout_of(case))
    if case.batch != "proxies":
        return jax.device_put(([x], labels, None))
    proxies = timing.proxies(shape, seed=seed)
    classes = np.arange(len(proxies), dtype=np.int32)
    return jax.device_put(([x, proxies], labels, classes))


def layout_of(case: Case) -> Layout:
    """Halves are cut, not gathered."""
    return "halves" if case.batch == "halves" else "shuffled"


def compiled(case: Case, arguments: tuple[Any, ...], **settings: Any) -> Compiled:
    """Value and gradients of a case."""
    return Compiled(jax.value_and_grad(make(case, **settings)), *arguments)


@functools.lru_cache(maxsize=4)
def limit_of(shape: Shape, *, blocks: bool = False) -> Compiled:
    """The bare work of a batch; the classes do not matter."""
    x, _ = timing.clusters(Shape(shape.B, shape.D, 1))
    unit = jax.device_put(x / np.linalg.norm(x, axis=1, keepdims=True))
    if not blocks:
        return Compiled(bare, unit)
    block = min(LARGE_BLOCK, shape.B)
    return Compiled(functools.partial(bare_blocks, block=block), unit)


def check_with_peer(name: str, case: Case, peer: Peer, seed: int) -> None:
    """Compares the values on a small batch, where the peer computes the same."""
    for variant in (case.peer, case.peer_best):
        if variant is None or case.differs:
            continue
        shape = Shape(CHECKED.B, CHECKED.D, case.per_class or CHECKED.K)
        peer.setup(variant, shape, seed=seed, layout=layout_of(case))
        ours = compiled(case, arguments_of(case, shape, seed))()
        check_equal(f"{name} and the peer's {variant}", ours, peer.value())


def cell(
    name: str,
    case: Case,
    shape: Shape,
    *,
    peers: Mapping[str, Peer],
    reps: int,
    seconds: float,
    seed: int,
) -> list[Row]:
    """All variants of a loss at one batch; `peers` has a process for each variant."""
    arguments = arguments_of(case, shape, seed)
    ours = {"rankjax": compiled(case, arguments)}
    if shape.B <= PLAIN_MOST:
        ours["plain"] = compiled(case, arguments, block=None)
        check_equal(
            f"{name} at B={shape.B}: rankjax and plain",
            ours["rankjax"](),
            ours["plain"](),
        )
    ours["limit"] = limit_of(shape)
    runs: dict[str, Callable[[], Rep]] = {k: v.run for k, v in ours.items()}
    asked = {"peer": case.peer, "peer-best": case.peer_best}
    notes: dict[str, str] = {}
    for variant, peer in peers.items():
        wanted = asked[variant]
        if wanted is not None:
            peer.setup(wanted, shape, seed=seed, layout=layout_of(case))
            runs[variant] = peer.run
            best = wanted if variant == "peer-best" else ""
            notes[variant] = case.differs or best
    found, failed = timing.interleaved(runs, reps=reps, seconds=seconds)
    rows = []
    for variant in runs:
        row: Row = dict.fromkeys(KEYS)
        row |= {"loss": name, "variant": variant, "note": notes.get(variant, "")}
        row |= {"B": shape.B, "D": shape.D, "K": shape.K}
        if variant in ours:
            row["compile_s"] = ours[variant].compile_s
            row["temp_mb"] = ours[variant].temp_mb
        if variant in failed:
            row["note"] = failed[variant]
        else:
            row |= timing.spread(found[variant])
            with suppress(Unavailable):
                row["peak_mb"] = (
                    timing.peak_mb(ours[variant])
                    if variant in ours
                    else peers[variant].peak_mb()
                )
        rows.append(row)
    return with_ratios(rows, same=not case.differs)


def with_ratios(rows: list[Row], *, same: bool) -> list[Row]:
    """Adds the ratios to a cell's rows; `same` says the peer's value is ours."""
    by_variant = {row["variant"]: row for row in rows if row["cpu_s"] is not None}
    limit, peer = by_variant.get("limit"), by_variant.get("peer")
    for row in by_variant.values():
        if limit is not None:
            row["over_limit"] = row["cpu_s"] / limit["cpu_s"]
            row["over_limit_wall"] = row["wall_s"] / limit["wall_s"]
        if peer is not None and same:
            # Its threads spin while they wait, for long where the cores are taken.
            row["over_peer"] = peer["cpu_min_s"] / row["cpu_min_s"]
    return rows


def large(name: str, batch: int, seed: int) -> list[Row]:
    """One repetition of a loss at a batch whose matrix must not be stored."""
    shape = Shape(batch)
    rows = []
    for variant in ("rankjax", "limit"):
        work = (
            limit_of(shape, blocks=True)
            if variant == "limit"
            else compiled(CASES[name], arguments_of(CASES[name], shape, seed))
        )
        row: Row = dict.fromkeys(KEYS)
        row |= {"loss": name, "variant": variant, "note": "one repetition"}
        row |= {"B": shape.B, "D": shape.D, "K": shape.K}
        row |= {"compile_s": work.compile_s, "temp_mb": work.temp_mb}
        if variant == "limit":
            row["note"] = "two products in row blocks"
        try:
            row |= timing.spread([work.run()])
            row["peak_mb"] = timing.peak_mb(work)
        except Unavailable as error:
            row["note"] = str(error)
        rows.append(row)
    return with_ratios(rows, same=False)


def shapes_of(options: argparse.Namespace) -> list[Shape]:
    """The grid that the command line asks for."""
    if options.sizes:
        return [Shape(b, options.dim) for b in options.sizes]
    if options.quick:
        return [Shape(256), Shape(1024)]
    others = [Shape(1024, D=512), Shape(1024, K=2), Shape(1024, K=32)]
    return [Shape(256), Shape(1024), Shape(4096), *others]


def cells_of(
    options: argparse.Namespace, names: Sequence[str]
) -> list[tuple[str, Shape]]:
    """The losses at the batches that they are timed at."""
    cells = []
    for shape in shapes_of(options):
        for name in names:
            of_class = CASES[name].per_class
            if of_class is None:
                cells.append((name, shape))
            elif shape.K == Shape(1).K:  # the sweep over K is not for this loss
                cells.append((name, Shape(shape.B, shape.D, of_class)))
    return cells


def usual(runs: Sequence[list[Row]]) -> list[Row]:
    """Of runs of one cell that with the median ratio to the bare work, whole."""

    def ratio(rows: list[Row]) -> float:
        return next(
            (x["over_limit"] or np.inf for x in rows if x["variant"] == "rankjax"),
            np.inf,
        )

    return sorted(runs, key=ratio)[(len(runs) - 1) // 2]


def bench(options: argparse.Namespace, rows: list[Row]) -> None:
    """Runs all cells; `rows` has those that are done, whatever happens.

    Raises:
      Mismatch: values that should be equal are not.
      Unavailable: the peer that was asked for does not start.
    """
    reps, seconds = (9, 0.5) if options.quick or options.sizes else (15, 2.0)
    names = options.only or list(CASES)
    python = find(options.peer) if options.peer or not options.quick else None
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        if python is not None:
            for variant in ("peer", "peer-best"):
                peers[variant] = stack.enter_context(Peer(python))
            for name in names:
                check_with_peer(name, CASES[name], peers["peer"], options.seed)
        runs: list[list[list[Row]]] = []
        for _ in range(options.repeat):
            runs.append([])
            for name, shape in cells_of(options, names):
                print(f"{name}, {shape}", file=sys.stderr)
                runs[-1].append(
                    cell(
                        name,
                        CASES[name],
                        shape,
                        peers=peers,
                        reps=reps,
                        seconds=seconds,
                        seed=options.seed,
                    )
                )
        for same in zip(*runs, strict=True):
            rows += usual(same)
    for batch in options.large or []:
        for name in LARGE:
            print(f"{name}, B={batch}", file=sys.stderr)
            rows += large(name, batch, options.seed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=output.to_write, help="also write the rows to this file"
    )
    parser.add_argument("--quick", action="store_true", help="B = 256 and 1024 only")
    parser.add_argument(
        "--large",
        type=int,
        nargs="*",
        metavar="B",
        help="adds batches without a stored matrix, 16384 and 65536 if none is named",
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="NAME")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="interpreter that has the peer"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="B", help="these B only"
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="runs all N times, and shows each cell from the run that is its median",
    )
    parser.add_argument("--dim", type=int, default=128, help="D, with --sizes")
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    options = parser.parse_args(arguments)
    if options.repeat < 1:
        parser.error(f"--repeat must be at least 1, got {options.repeat}")
    if options.large is not None and not options.large:
        options.large = [16384, 65536]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = parse(arguments)
    timing.keep_memory()
    rows: list[Row] = []
    try:
        bench(options, rows)
    except (Mismatch, Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    output.show("Losses and their gradients", rows, SHOWN)
    output.save(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
