"""Many small networks trained at once: one compiled program, mapped over cells."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.study import measures
from experiments.study.benches import Bench, Data, Part
from rankjax import losses, mining, similarity, terms
from rankjax.objective import Objective, objective
from rankjax.similarity import normalize

AT_ONCE = 24
"""Cells of one call of the compiled program."""

Cell = Mapping[str, float]
Params = list[tuple[jax.Array, jax.Array]]

Probe = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], dict[str, jax.Array]]
"""Of a batch's embeddings [n, dim], labels [n], groups [n] and the loss's gradient by
the embeddings [n, dim]: scalars, recorded at every evaluation."""


_NOT_OF_THE_LOSS = ("learning_rate", "l2_weight")


@dataclasses.dataclass(frozen=True, eq=False)
class Arm:
    """One way to train.

    Attributes:
      loss: a name in `rankjax.losses.LOSSES`.
      options: settings of the loss that are not numbers, such as negatives="all".
      selection: of a triplet loss, a name in `rankjax.mining.SELECTIONS`.
      miner: a name in `rankjax.mining.MINERS`.
      miner_options: its settings.
      measure: a name in `rankjax.similarity`, or the loss's own.
      reduction: a name in `rankjax.terms`.
      normalize: whether embeddings are scaled to length 1 before the loss.
      classes: in a batch.
      per_class: rows of each.
      repeats: draws the classes of a batch with replacement; the same class may then
        come several times. 'blind' gives each its own label all the same.
      optimizer: adam or sgd, with momentum 0.9.
      numbers: settings of the loss that are numbers, `learning_rate`, and `l2_weight`
        of the mean squared length. They may differ from cell to cell.
      searched: numbers to be searched for on the validation classes, from and to; on a
        log scale where both are above 0.
    """

    loss: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    selection: str | None = None
    miner: str | None = None
    miner_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measure: str | None = None
    reduction: Literal["mean", "mean_active"] = "mean"
    normalize: bool = True
    classes: int = 32
    per_class: int = 2
    repeats: Literal["never", "blind", "aware"] = "never"
    optimizer: Literal["adam", "sgd"] = "adam"
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    searched: Mapping[str, tuple[float, float]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def batch(self) -> int:
        """Rows of a batch."""
        return self.classes * self.per_class

    def objective(self) -> Objective:
        """The loss of a batch, which also tells the share of terms above zero."""
        settings = dict(self.options)
        if self.selection is not None:
            settings["selection"] = mining.SELECTIONS[self.selection]
        miner = None
        if self.miner is not None:
            miner = functools.partial(mining.MINERS[self.miner], **self.miner_options)
        return objective(
            functools.partial(losses.LOSSES[self.loss], **settings),
            mining=miner,
            similarity=getattr(similarity, self.measure) if self.measure else None,
            reduction=getattr(terms, self.reduction),
            has_aux=True,
        )


class Outcome(NamedTuple):
    """What became of cells.

    Attributes:
      curves: [cell, evaluation] by name; the first evaluation is of the untrained
        network.
      final: [cell] by name, on the test classes after the last step.
      seconds: of CPU time of one step of one cell, without compilation.
    """

    curves: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    seconds: float


def train(
    bench: Bench,
    arm: Arm,
    cells: Sequence[Cell],
    *,
    steps: int,
    every: int,
    probe: Probe | None = None,
) -> Outcome:
    """Trains a network per cell, with a constant learning rate, for a number of steps.

    Cells of the same seed and bench settings have the same data, first parameters and
    batches, whatever the arm, if it has the same classes and rows in a batch.

    Args:
      bench: where the data comes from.
      arm: what is trained.
      cells: `seed`, and what differs from the numbers of the arm and the settings of
        the bench.
      steps: a multiple of `every`.
      every: steps between evaluations on the validation classes.
      probe: looks at a batch at every evaluation.

    Raises:
      ValueError: a name in a cell is neither a number of the arm nor a setting of the
        bench, or the batch asks for more than the bench has.
    """
    if steps % every:
        raise ValueError(f"steps must be a multiple of every={every}, got {steps}")
    known = {"seed", *arm.numbers, *bench.settings}
    for name in {name for cell in cells for name in cell} - known:
        raise ValueError(f"cells set {name!r}, known are {sorted(known)}")
    program, probed = _programs(bench, arm, every, probe)
    parts, seconds = [], 0.0
    compiled = None
    for first in range(0, len(cells), AT_ONCE):
        some = list(cells[first : first + AT_ONCE])
        padded = some + some[-1:] * (AT_ONCE - len(some))
        given = _given(bench, arm, padded, steps)
        if compiled is None:
            compiled = program.lower(given).compile()
        start = time.process_time()
        snapshots, curves = jax.block_until_ready(compiled(given))
        seconds += time.process_time() - start
        curves |= _validated(snapshots, given.data.validation)
        if probe is not None:
            curves |= probed(given, snapshots)
        last = jax.tree.map(lambda x: x[:, -1], snapshots)
        parts.append((curves, _tested(last, given.data.test)))
    curves, final = jax.tree.map(
        lambda *x: np.concatenate([np.asarray(part) for part in x])[: len(cells)],
        *parts,
    )
    return Outcome(curves, final, seconds / (steps * AT_ONCE * len(parts)))


@functools.lru_cache(maxsize=1)
def _programs(bench: Bench, arm: Arm, every: int, probe: Probe | None) -> Any:
    """Trains, and probes; compiled once for an arm's search and final runs."""
    settings: Any = (bench, arm, every, probe)
    return [
        jax.jit(jax.vmap(functools.partial(f, *settings))) for f in (_train, _probe)
    ]


class _Given(NamedTuple):
    """What the program is given, with a leading axis of cells."""

    seed: jax.Array
    numbers: dict[str, jax.Array]
    data: Data
    rows: jax.Array
    labels: jax.Array


def _given(bench: Bench, arm: Arm, cells: Sequence[Cell], steps: int) -> _Given:
    @functools.cache
    def data(seed: int, settings: tuple[tuple[str, float], ...]) -> Data:
        return bench.make(seed, dict(settings))

    made, rows, labels = [], [], []
    for cell in cells:
        settings = {k: cell.get(k, v) for k, v in bench.settings.items()}
        made.append(data(int(cell["seed"]), tuple(settings.items())))
        drawn = batches(arm, made[-1], int(cell["seed"]), steps)
        rows.append(drawn[0])
        labels.append(drawn[1])
    numbers = {
        name: jnp.asarray([cell.get(name, value) for cell in cells], jnp.float32)
        for name, value in arm.numbers.items()
    }
    return _Given(
        jnp.asarray([int(cell["seed"]) for cell in cells], jnp.int32),
        numbers,
        jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *made),
        jnp.asarray(np.stack(rows)),
        jnp.asarray(np.stack(labels)),
    )


def batches(
    arm: Arm, data: Data, seed: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers and labels of every batch, both int32 [steps, batch].

    Raises:
      ValueError: the training classes are too few, or have too few rows.
    """
    classes, per_class = data.train.labels.shape
    if arm.per_class > per_class:
        raise ValueError(
            f"per_class={arm.per_class}, and classes have {per_class} rows"
        )
    rng = np.random.default_rng((seed, 1))
    if arm.repeats == "never":
        if arm.classes > classes:
            raise ValueError(f"classes={arm.classes}, and there are {classes}")
        chosen = np.argsort(rng.random((steps, classes)), -1)[:, : arm.classes]
    else:
        chosen = rng.integers(classes, size=(steps, arm.classes))
    draws = rng.random((steps, arm.classes, per_class))
    rows = np.argsort(draws, -1)[..., : arm.per_class] + chosen[..., None] * per_class
    labels = data.train.labels.reshape(-1)[rows]
    if arm.repeats == "blind":
        labels = np.broadcast_to(np.arange(arm.classes)[:, None], rows.shape)
    shape = (steps, arm.batch)
    return rows.reshape(shape).astype(np.int32), labels.reshape(shape).astype(np.int32)


def _train(
    bench: Bench, arm: Arm, every: int, probe: Probe | None, given: _Given
) -> Any:
    """Parameters at every evaluation, and the mean loss up to it."""
    learning_rate = given.numbers["learning_rate"]
    loss = _loss(arm, given.numbers)
    inputs = given.data.train.inputs.reshape(-1, bench.layers[0])
    optimizer = optax.scale_by_adam() if arm.optimizer == "adam" else optax.trace(0.9)

    def step(state: Any, batch: Any) -> Any:
        params, optimizer_state = state
        rows, labels, key = batch
        value, gradient = jax.value_and_grad(
            lambda p: loss(network(p, inputs[rows]), labels, key)
        )(params)
        update, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, params, update)
        return (params, optimizer_state), value

    def steps(state: Any, some: Any) -> Any:
        state, values = lax.scan(step, state, some)
        return state, (state[0], jnp.mean(values))

    params = first_params(jax.random.key(given.seed), bench.layers)
    planned = jax.tree.map(
        lambda x: x.reshape(-1, every, *x.shape[1:]),
        (given.rows, given.labels, _keys(given)),
    )
    _, (snapshots, means) = lax.scan(steps, (params, optimizer.init(params)), planned)
    # Nothing is known of the loss before the first step: its first mean stands there.
    means = jnp.concatenate([means[:1], means])
    snapshots = jax.tree.map(
        lambda first, others: jnp.concatenate([first[None], others]), params, snapshots
    )
    return snapshots, {"loss": means}


def _probe(
    bench: Bench, arm: Arm, every: int, probe: Probe, given: _Given, snapshots: Params
) -> dict[str, jax.Array]:
    """What the probe finds in the batch that comes at every evaluation."""
    loss = _loss(arm, given.numbers)
    inputs = given.data.train.inputs.reshape(-1, bench.layers[0])
    groups = given.data.train.groups.reshape(-1)
    keys = _keys(given)
    batches = jax.tree.map(
        lambda x: jnp.concatenate([x[::every], x[-1:]]),
        (given.rows, given.labels, keys),
    )

    def at(snapshot: tuple[Params, Any]) -> dict[str, jax.Array]:
        params, (rows, labels, key) = snapshot
        embeddings = network(params, inputs[rows])
        gradient = jax.grad(lambda e: loss(e, labels, key))(embeddings)
        embeddings = normalize(embeddings) if arm.normalize else embeddings
        return probe(embeddings, labels, groups[rows], gradient)

    return lax.map(at, (snapshots, batches))


def _loss(arm: Arm, numbers: Mapping[str, jax.Array]) -> Callable[..., Any]:
    compute = arm.objective()
    others = {k: v for k, v in numbers.items() if k not in _NOT_OF_THE_LOSS}

    def loss(outputs: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        embeddings = normalize(outputs) if arm.normalize else outputs
        value, _ = compute(embeddings, labels, key=key, params=others)
        if "l2_weight" in numbers:
            squared = jnp.sum(jnp.square(outputs), -1)
            value += numbers["l2_weight"] * jnp.mean(squared)
        return value

    return loss


def _keys(given: _Given) -> jax.Array:
    key = jax.random.key(given.seed)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(
        jnp.arange(len(given.rows))
    )


@jax.jit
@jax.vmap
def _validated(snapshots: Params, part: Part) -> dict[str, jax.Array]:
    return lax.map(
        lambda params: measures.embeddings(network(params, part.inputs)), snapshots
    )


@jax.jit
@jax.vmap
def _tested(params: Params, part: Part) -> dict[str, jax.Array]:
    return measures.test(network(params, part.inputs), part)


def first_params(key: jax.Array, layers: Sequence[int]) -> Params:
    """Kernels of variance 2 / inputs (He et al., ICCV 2015) and biases of zero."""
    keys = jax.random.split(key, len(layers) - 1)
    return [
        (jax.random.normal(k, (m, n)) * jnp.sqrt(2 / m), jnp.zeros(n))
        for k, m, n in zip(keys, layers, layers[1:], strict=False)
    ]


def network(params: Params, inputs: jax.Array) -> jax.Array:
    """[..., dim] to embeddings [..., n], of any length."""
    hidden = inputs
    for i, (kernel, bias) in enumerate(params):
        hidden = hidden @ kernel + bias
        if i < len(params) - 1:
            hidden = jax.nn.relu(hidden)
    return hidden
