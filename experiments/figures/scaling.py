"""Figures of what benchmarks recorded: time and memory against rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures.registry import figure, results
from experiments.figures.style import LINES, MARKERS, SERIES, TEXT, below, panels

LOSSES_COMMAND = (
    "python -m experiments.bench.losses --repeat 3 --large 65536 --peer PYTHON "
    "--json experiments/results/bench-losses.json"
)
RETRIEVAL_COMMAND = (
    "python -m experiments.bench.retrieval --peer PYTHON "
    "--json experiments/results/bench-retrieval.json"
)
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


def usual(rows: Sequence[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    """Rows of 128 dimensions and classes of four, or of two for losses of pairs."""
    settings = {"D": 128} | settings
    return [
        row
        for row in rows
        if all(row[k] == v for k, v in settings.items())
        and row["K"] == (2 if row["loss"] == "n_pairs" else 4)
    ]


@figure
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
    drawn, axes = panels(2)
    for i, (variant, name) in enumerate(VARIANTS.items()):
        ours = sorted(
            (row for row in rows if row["variant"] == variant), key=lambda row: row["B"]
        )
        for panel, key in zip(axes, ("cpu_s", "peak_mb"), strict=True):
            panel.plot(
                [row["B"] for row in ours], [row[key] for row in ours],
                ls=LINES[i], marker=MARKERS[i], color=SERIES[i], label=name,
            )  # fmt: skip
    for panel, title in zip(axes, ("CPU seconds", "Memory, MB"), strict=True):
        panel.set(title=title, xscale="log", yscale="log", xlabel="rows in the batch")
        sizes = sorted({row["B"] for row in rows})
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
    return below(drawn)


@figure
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
    drawn, (panel,) = panels(1, height=5.4)
    series = (("rankjax", 1024), ("rankjax", 4096), ("peer", 1024))
    ratio = {(row["loss"], row["variant"], row["B"]): row["over_limit"] for row in rows}
    order = sorted(
        {row["loss"] for row in rows}, key=lambda loss: -ratio[loss, *series[1]]
    )
    for i, (variant, size) in enumerate(series):
        found = {loss: ratio.get((loss, variant, size)) for loss in order}
        places = [k for k, loss in enumerate(order) if found[loss] is not None]
        name = f"rankjax, {size:,} rows" if variant == "rankjax" else VARIANTS[variant]
        panel.plot(
            [found[order[k]] for k in places], places, MARKERS[(0, 1, 3)[i]], ms=7,
            color=SERIES[i], label=name, ls="",
        )  # fmt: skip
    panel.axvline(1, color=TEXT, lw=1, ls=":")
    panel.set_yticks(range(len(order)), order)
    panel.set(xscale="log", xlabel="CPU time, times the bare work")
    return below(drawn)


@figure
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
    drawn, axes = panels(2)
    for i, (what, name) in enumerate(SEARCHES.items()):
        ours = [row for row in rows if row["what"] == what]
        for panel, key in zip(axes, ("cpu_s", "peak_mb"), strict=True):
            panel.plot(
                [row["N"] for row in ours], [row[key] for row in ours],
                ls=LINES[i], marker=MARKERS[i], color=SERIES[i], label=name,
            )  # fmt: skip
    sizes = np.unique([row["N"] for row in rows if row["what"] in SEARCHES])
    axes[0].plot(sizes, 1e-9 * sizes**2.0, color=TEXT, lw=1, ls=":")
    for panel, title in zip(axes, ("CPU seconds", "Memory, MB"), strict=True):
        panel.set(title=title, xscale="log", yscale="log", xlabel="rows")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
    return below(drawn, columns=3)
