"""Figures of what commands recorded: time, memory, and scores of losses."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.bench.output import Row
from experiments.study.drawing import (
    LOOKS,
    MARKERS,
    SERIES,
    TEXT,
    legend,
    panels,
)
from experiments.study.registry import figure
from rankjax.errors import RunError

LOSSES_COMMAND = (
    "python -m experiments.bench.losses --repeat 3 --large 65536 --peer PYTHON "
    "--json experiments/results/bench-losses.json"
)
RETRIEVAL_COMMAND = (
    "python -m experiments.bench.retrieval --peer PYTHON "
    "--json experiments/results/bench-retrieval.json"
)
RESULTS = Path(__file__).parents[1] / "results"
VARIANTS = {
    "rankjax": "in blocks, the default",
    "plain": "the whole matrix, autodiff",
    "limit": "two products, one exp",
    "peer": "pytorch-metric-learning",
}
SEARCHES = {
    "recall": "every Recall@K",
    "metrics": "all measures",
    "sklearn": "ten neighbours, scikit-learn",
    "faiss": "ten neighbours, faiss",
    "peer": "pytorch-metric-learning",
}
LEAST_MB = 0.1  # below it the kernel's pages blur the figure


def results(file: str, command: str) -> Any:
    """The content of a JSON file of `experiments/results`.

    Args:
      file: its name.
      command: what writes it.

    Raises:
      RunError: it is not there, or cannot be read.
    """
    path = RESULTS / file
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot read {path} ({error}); make it with: {command}"
        ) from error


def usual(rows: Sequence[Row], **settings: Any) -> list[Row]:
    """Rows of 128 dimensions and classes of four, or of two for losses of pairs."""
    settings = {"D": 128} | settings
    return [
        row
        for row in rows
        if all(row[k] == v for k, v in settings.items())
        and row["K"] == (2 if row["loss"] == "n_pairs" else 4)
    ]


def costs(
    lines: Mapping[str, Sequence[Row]],
    size: str,
    xlabel: str,
) -> tuple[Figure, np.ndarray]:
    """CPU seconds and memory against a size, in two panels.

    Args:
      lines: rows by name; those without a figure are left out.
      size: key of the size.
      xlabel: of both panels.
    """
    drawn, axes = panels(2)
    for panel, key in zip(axes, ("cpu_s", "peak_mb"), strict=True):
        for (name, rows), look in zip(lines.items(), LOOKS, strict=False):
            known = sorted((r[size], r[key]) for r in rows if r[key] is not None)
            x, y = zip(*known, strict=True) if known else ((), ())
            least = LEAST_MB if key == "peak_mb" else 0
            panel.plot(x, np.maximum(y, least), label=name, **look)
        panel.set(xscale="log", yscale="log", xlabel=xlabel)
        sizes = sorted({row[size] for rows in lines.values() for row in rows})
        panel.set_xticks(sizes, [f"{n:,}" for n in sizes])
        panel.minorticks_off()
    axes[0].set_title("CPU seconds")
    axes[1].set_title("Memory, MB")
    return drawn, axes


@figure()
def batch_memory() -> Figure:
    """Time and memory of a loss and its gradient against the batch.

    SupCon, which compares all rows with all, on batches of 256 to 65,536 rows of 128,
    two CPU cores. The library's default evaluates large batches in blocks of rows. The
    other lines keep the whole matrix of similarities, whose memory grows as the square
    of the batch. (At 65,536 rows the bare products are done in row blocks, too.) Left:
    CPU seconds of one call; right: the memory that it needs beyond what was there.

    Read from experiments/results/bench-losses.json, which `python -m
    experiments.bench.losses --repeat 3 --large 65536 --peer PYTHON --json FILE` writes;
    its help says what is timed.
    """
    rows = usual(results("bench-losses.json", LOSSES_COMMAND), loss="sup_con")
    lines = {
        name: [row for row in rows if row["variant"] == variant]
        for variant, name in VARIANTS.items()
    }
    _, axes = costs(lines, "B", "rows in the batch")
    return legend(axes[0])


@figure()
def losses_over_limit() -> Figure:
    """What each loss costs beside the bare work.

    CPU time of a loss and its gradient at 1,024 and 4,096 rows of 128, over that of the
    bare work: two matrix products and one pass of exp. Those below 1 need less than the
    whole matrix. Diamonds: pytorch-metric-learning at 1,024 rows, where it computes the
    same. `new_rows` and `new_jnp` are a loss that the library has not seen before,
    written with its row statistics and with jnp alone.

    Read from experiments/results/bench-losses.json, which `python -m
    experiments.bench.losses --repeat 3 --large 65536 --peer PYTHON --json FILE` writes.
    """
    rows = usual(results("bench-losses.json", LOSSES_COMMAND))
    _, (panel,) = panels(1, height=5.4)
    ratio = {(row["loss"], row["variant"], row["B"]): row["over_limit"] for row in rows}
    names = {row["loss"] for row in rows}
    order = sorted(names, key=lambda loss: -ratio[loss, "rankjax", 4096])
    for i, (variant, size, marker, name) in enumerate(
        (
            ("rankjax", 1024, MARKERS[0], "rankjax, 1,024 rows"),
            ("rankjax", 4096, MARKERS[1], "rankjax, 4,096 rows"),
            ("peer", 1024, MARKERS[3], VARIANTS["peer"]),
        )
    ):
        found = {k: ratio.get((loss, variant, size)) for k, loss in enumerate(order)}
        known = {k: value for k, value in found.items() if value is not None}
        style: dict[str, Any] = {"color": SERIES[i], "label": name, "ls": ""}
        panel.plot([*known.values()], [*known], marker, ms=7, **style)
    panel.axvline(1, color=TEXT, lw=1, ls=":")
    panel.set_yticks(range(len(order)), order)
    panel.set(xscale="log", xlabel="CPU time, times the bare work")
    return legend(panel)


@figure()
def retrieval_scaling() -> Figure:
    """Time and memory of judging an embedding against its rows.

    Every row among all others, 2,000 to 60,502 rows of 128 (the test set of Stanford
    Online Products has as many), two CPU cores. Left: CPU seconds; dotted is the square
    of the rows. Right: the memory beyond what was there. Measures are counted in tiles
    and never rank a row's neighbours, so that they cost about what the bare products
    cost.

    Read from experiments/results/bench-retrieval.json, which `python -m
    experiments.bench.retrieval --peer PYTHON --json FILE` writes.
    """
    rows = results("bench-retrieval.json", RETRIEVAL_COMMAND)
    lines = {
        name: [row for row in rows if row["what"] == what]
        for what, name in SEARCHES.items()
    }
    _, axes = costs(lines, "N", "rows")
    sizes = np.unique([row["N"] for row in rows if row["what"] in SEARCHES])
    axes[0].plot(sizes, 1e-9 * sizes**2.0, color=TEXT, lw=1, ls=":")
    return legend(axes[0], ncols=3)
