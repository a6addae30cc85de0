"""What the first numbers of an embedding are worth, however it was trained.

python -m experiments.study.lengths [--seeds 24] [--json FILE]

Networks of the bench `glyphs`, which see features of rendered characters, are trained
with SupCon in three ways and tested on unseen characters by the first 2, 4, ... 32
numbers of their embeddings:

    all     one network for all lengths, `objective(dims=(2, 4, 8, 16, 32))`
    whole   one network for all 32 numbers, cut shorter afterwards
    own     a network per length, whose embedding has no more numbers

Printed are mean Recall@1 and MAP@R over seeds, and by how much `all` and `whole` differ
from `own`, with 95 % bootstrap intervals over seeds. Two CPU minutes.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.bench.output import to_write
from experiments.study import measures, statistics
from experiments.study.benches import Data, glyphs
from experiments.study.training import Arm, batches, first_params, network
from rankjax import losses
from rankjax.files import write_atomic
from rankjax.objective import objective

LENGTHS = (2, 4, 8, 16, 32)
FIGURES = ("recall_at_1", "map_at_r")
STEPS, LEARNING_RATE = 600, 1e-3
ARM = Arm("sup_con", classes=16, per_class=4)
FIRST_SEED = 200


def drawn(seeds: int, noise: float = 0.0) -> tuple[Any, Data, Any, Any]:
    """Keys, data, row numbers and labels of all batches, by a leading axis of seeds.

    Args:
      seeds: how many.
      noise: share of training rows that get the label of another class.
    """
    keys, made, rows, labels = [], [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        data = glyphs().make(seed, {"noise": noise})
        batch_rows, batch_labels = batches(ARM, data, seed, STEPS)
        keys.append(jax.random.key(seed))
        made.append(data)
        rows.append(batch_rows)
        labels.append(batch_labels)
    stacked = jax.tree.map(lambda *x: np.stack(x), *made)
    return jnp.stack(keys), stacked, np.stack(rows), np.stack(labels)


def fit(
    loss: Callable[[Any, Any, Any], Any], layers: Sequence[int], key: Any, *batches: Any
) -> Any:
    """Parameters of a network after a step of Adam for each batch.

    Args:
      loss: of parameters, and of row numbers and labels of a batch.
      layers: widths, from input to embedding.
      key: of the first parameters.
      batches: row numbers and labels, [steps, rows] each.
    """
    optimizer = optax.adam(LEARNING_RATE)

    def step(state: Any, batch: Any) -> Any:
        params, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(params, *batch), moments)
        return (optax.apply_updates(params, updates), moments), None

    params = first_params(key, layers)
    return lax.scan(step, (params, optimizer.init(params)), batches)[0][0]


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, 0, 0, 0))
def _trained(
    length: int, dims: tuple[int, ...] | None, key: Any, data: Data, rows: Any, y: Any
) -> dict[int, dict[str, jax.Array]]:
    """Trains a network and tests it by each length up to its own."""
    compute = objective(losses.sup_con_loss, dims=dims, block=None)
    layers = (*glyphs().layers[:-1], length)
    inputs = data.train.inputs.reshape(-1, layers[0])
    params = fit(
        lambda p, rows, y: compute(network(p, inputs[rows]), y), layers, key, rows, y
    )
    outputs = network(params, data.test.inputs)
    found = {}
    for cut in [d for d in LENGTHS if d <= length]:
        tested = measures.test(outputs[..., :cut], data.test)
        found[cut] = {name: tested[name] for name in FIGURES}
    return found


def measure(seeds: int) -> dict[str, Any]:
    """Figures [seed] of every way and length, and the differences from `own`."""
    given = drawn(seeds)
    everything = jax.device_get(
        {
            "all": _trained(LENGTHS[-1], LENGTHS, *given),
            "whole": _trained(LENGTHS[-1], None, *given),
            "own": {d: _trained(d, None, *given)[d] for d in LENGTHS},
        }
    )
    differences = {}
    for way in ("all", "whole"):
        for length in LENGTHS:
            for figure in FIGURES:
                name = f"{figure} of {way} less own, first {length}"
                pair = (everything[w][length][figure] for w in (way, "own"))
                found = statistics.paired(name, *pair)
                differences[name] = [found.effect, found.low, found.high]
    means = {
        way: {
            str(length): {name: float(np.mean(x)) for name, x in figures.items()}
            for length, figures in of_way.items()
        }
        for way, of_way in everything.items()
    }
    return {"seeds": seeds, "means": means, "differences": differences}


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| first | figure | all | whole | own | all less own | whole less own |"]
    lines.append("|---" * 7 + "|")
    for length in map(str, LENGTHS):
        for figure in FIGURES:
            cells = [
                f"{found['means'][way][length][figure]:.3f}"
                for way in ("all", "whole", "own")
            ]
            for way in ("all", "whole"):
                name = f"{figure} of {way} less own, first {length}"
                mean, low, high = found["differences"][name]
                cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
            lines.append(f"| {length} | {figure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(
    about: str | None,
    words: Sequence[str] | None,
    measure: Callable[[int], Any],
    table: Callable[[Any], str],
) -> int:
    """The command line of a measurement over seeds, which prints its table.

    Args:
      about: the module's docstring.
      words: the arguments; None for those of the process.
      measure: of the number of seeds.
      table: of what was measured, as text.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument(
        "--json", type=to_write, help="also write the figures to this file"
    )
    given = parser.parse_args(words)
    if given.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {given.seeds}")
    found = measure(given.seeds)
    print(table(found))
    if given.json is not None:
        write_atomic(given.json, json.dumps(found, indent=1) + "\n")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run(__doc__, words, measure, table)


if __name__ == "__main__":
    sys.exit(main())
