"""Wrong labels, and a larger network to learn from, on embedded characters.

python -m experiments.study.supervision [--seeds 24] [--json FILE]

Networks of the bench `glyphs` are trained by 16 classes x 4 rows and tested on unseen
characters. First a share of the training rows has the label of another class:

    nt_xent    NT-Xent, temperature 0.1
    debiased   the debiased contrastive loss, the same temperature
    own        NT-Xent without negatives nearer than the anchor's nearest positive
    guide      the same, where the features that the network sees judge what is near

Then a narrow network, of 8 or 32 hidden units instead of 128, learns from right labels:

    labels     by SupCon
    teacher    by the similarities of a wide network alone (`similarity_distillation`)
    both       by the sum

Printed are mean Recall@1 over seeds and differences from the first of each kind, with
95 % bootstrap intervals over seeds. Settings are not searched. Two CPU minutes.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.study import measures, statistics
from experiments.study.benches import Data, glyphs
from experiments.study.lengths import drawn, fit, run
from experiments.study.training import network
from rankjax import losses, mining
from rankjax.objective import objective

NOISE = (0.0, 0.1, 0.3)
WIDTHS = (8, 32)

_nt_xent = functools.partial(losses.nt_xent_loss, temperature=0.1)
_debiased = functools.partial(losses.debiased_contrastive_loss, temperature=0.1)
_by_guide = functools.partial(mining.likely_true_negatives, by="guide")
UNDER_NOISE = {
    "nt_xent": objective(_nt_xent, block=None),
    "debiased": objective(_debiased, block=None),
    "own": objective(_nt_xent, mining=mining.likely_true_negatives, block=None),
    "guide": objective(_nt_xent, mining=_by_guide, block=None),
}
_sup_con = objective(losses.sup_con_loss, block=None)
_imitate = objective(losses.similarity_distillation_loss, block=None)


def _recall(params: Any, data: Data) -> jax.Array:
    outputs = network(params, data.test.inputs)
    return measures.test(outputs, data.test)["recall_at_1"]


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0, 0))
def _under_noise(way: str, key: Any, data: Data, rows: Any, y: Any) -> jax.Array:
    inputs = data.train.inputs.reshape(-1, glyphs().layers[0])

    def loss(params: Any, rows: Any, y: Any) -> Any:
        x = inputs[rows]
        guide = {"guide": x} if way == "guide" else {}
        return UNDER_NOISE[way](network(params, x), y, **guide)

    return _recall(fit(loss, glyphs().layers, key, rows, y), data)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0, 0))
def _students(
    width: int, key: Any, data: Data, rows: Any, y: Any
) -> dict[str, jax.Array]:
    """Recall@1 of the wide network and of narrow ones."""
    first, *_, last = glyphs().layers
    narrow = (first, width, width, last)
    inputs = data.train.inputs.reshape(-1, first)

    def by_labels(params: Any, rows: Any, y: Any) -> Any:
        return _sup_con(network(params, inputs[rows]), y)

    teacher = fit(by_labels, glyphs().layers, key, rows, y)

    def by_teacher(params: Any, rows: Any, y: Any) -> Any:
        x = inputs[rows]
        return _imitate(network(params, x), y, guide=network(teacher, x))

    ways = {
        "labels": by_labels,
        "teacher": by_teacher,
        "both": lambda *given: by_labels(*given) + by_teacher(*given),
    }
    found = {way: fit(loss, narrow, key, rows, y) for way, loss in ways.items()}
    recalls = {way: _recall(params, data) for way, params in found.items()}
    return {"wide": _recall(teacher, data), **recalls}


def measure(seeds: int) -> list[dict[str, Any]]:
    """Rows of what was trained, mean Recall@1, and how far it is from the first."""
    rows = []

    def add(kind: str, recalls: dict[str, Any], first: str) -> None:
        for way, values in recalls.items():
            found = statistics.paired(way, np.asarray(values), recalls[first])
            row: dict[str, Any] = {"kind": kind, "way": way, "seeds": seeds}
            row["recall_at_1"] = float(np.mean(values))
            rows.append(row | {"less": [found.effect, found.low, found.high]})

    for noise in NOISE:
        given = drawn(seeds, noise)
        recalls = {way: np.asarray(_under_noise(way, *given)) for way in UNDER_NOISE}
        add(f"{noise:.0%} wrong labels", recalls, "nt_xent")
    for width in WIDTHS:
        students = jax.device_get(_students(width, *drawn(seeds)))
        recalls = {way: students[way] for way in ("labels", "teacher", "both", "wide")}
        add(f"{width} hidden units", recalls, "labels")
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | trained by | Recall@1 | difference from the first |",
        "|---" * 4 + "|",
    ]
    for row in rows:
        mean, low, high = row["less"]
        lines.append(
            f"| {row['kind']} | {row['way']} | {row['recall_at_1']:.3f} | "
            f"{mean:+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run(__doc__, words, measure, table)


if __name__ == "__main__":
    sys.exit(main())
