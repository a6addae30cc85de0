"""What `experiments.exactness` evaluates, and how one device or many do it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rankjax import losses, mining, rows
from rankjax.inputs import References
from rankjax.mining import Miner
from rankjax.models.layers import Dropout, Layers
from rankjax.models.proxies import Proxies, WithLoss
from rankjax.objective import objective
from rankjax.pairs import Pairs
from rankjax.parallel import AXIS, Step, Wrapper, data_parallel
from rankjax.registry import hyper_parameters, info_of, is_traced
from rankjax.similarity import normalize
from rankjax.terms import Terms
from rankjax.train import create_state, make_step
from rankjax.train.step import TrainState

ROWS, DIM, WIDTH = 32, 8, 16
Way = Wrapper | Literal["explicit"]
"""A wrapper of a step, or plain jit over arrays on a mesh with an explicit axis."""

MANY_LABELS = (losses.multi_sup_con_loss, losses.soft_target_loss, losses.cosent_loss)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A loss, with settings bound or not, a miner, and what is learned.

    Numbers among the loss's settings are parameters with gradients where it is listed,
    and constants beside a miner or a selection: both are ways to call a loss.

    Attributes:
      loss, mining: of the objective.
      learned: hyper-parameters of the loss, and where they start.
      partners: whether each row has a positive of its own and two negatives, of which
        some are missing.
      symmetric: of the objective.
      sharded: whether each device compares with its share of the classes alone.
    """

    loss: Callable[..., Any]
    mining: Miner | None = None
    learned: Mapping[str, float] = dataclasses.field(default_factory=dict)
    partners: bool = False
    symmetric: bool = False
    sharded: bool = False


def learnable(loss: Callable[..., Any]) -> dict[str, float]:
    """The hyper-parameters of a loss that have a gradient, and their defaults."""
    return {
        name: float(parameter.default)
        for name, parameter in hyper_parameters(loss).items()
        if is_traced(loss, name)
        and isinstance(parameter.default, int | float)
        and np.isfinite(parameter.default)
    }


def soft_triplets(pairs: Pairs, *, selection: mining.Selection) -> Terms:
    """Triplets without a hinge, of negatives that a margin of 0.2 selects."""
    return rows.per_positive(
        pairs,
        lambda view: Terms.over_references(
            jax.nn.softplus(view.row - view.positive), selection(view, 0.2)
        ),
    )


def _subjects() -> dict[str, Subject]:
    """Everything by its name; miners, partners and sharded classes as `mining.NAME`,
    ..."""
    settings: dict[str, dict[str, Any]] = {
        "thresholds": {"positive_below": 0.9, "negative_above": -0.5},
        "top_k": {"positives": 2, "negatives": 5},
        "random_pairs": {"positives": 2, "negatives": 5},
        "hierarchical": {"super_class": np.arange(ROWS // 4) // 4},
    }
    found = {
        name: Subject(loss, learned=learnable(loss))
        for name, loss in losses.LOSSES.items()
    }
    for name, miner in mining.MINERS.items():
        # Smooth, so that every pair that is wrongly chosen is seen in the value.
        chosen = functools.partial(miner, **settings.get(name, {}))
        found[f"mining.{name}"] = Subject(losses.binomial_deviance_loss, chosen)
    for name, selection in mining.SELECTIONS.items():
        # The hinge makes 0 of what `easy` selects.
        loss = soft_triplets if name == "easy" else losses.triplet_loss
        loss = functools.partial(loss, selection=selection)
        found[f"mining.{name}"] = Subject(loss)
    by_guide = functools.partial(mining.likely_true_negatives, by="guide")
    found |= {
        "partners.nt_xent": Subject(losses.nt_xent_loss, partners=True),
        "partners.symmetric": Subject(
            losses.sup_con_loss, partners=True, symmetric=True
        ),
        "partners.guided": Subject(losses.margin_mse_loss, by_guide, partners=True),
    }
    for name in ("arc_face", "ada_face", "elastic_face"):
        found[f"sharded.{name}"] = Subject(losses.LOSSES[name], sharded=True)
    return found


SUBJECTS = _subjects()


class ShareOfProxies(Proxies):
    """Proxies of which each device compares with its share alone, if there is an axis.

    All of them are in the state of every device, which other cases are held against.
    """

    def __init__(self, axis_name: str | None, *sizes: int, **given: Any) -> None:
        """Draws the rows, whose number the devices divide."""
        super().__init__(*sizes, **given)
        self.axis_name = axis_name

    def references(self) -> References:
        """Takes this device's share."""
        if self.axis_name is None:
            return super().references()
        size = len(self.labels) // lax.axis_size(self.axis_name)
        own = size * lax.axis_index(self.axis_name) + jnp.arange(size)
        labels = jnp.asarray(self.labels)
        return References(self.embeddings[...][own], labels[own], sharded=True)


class Network(nnx.Module):
    """Two dense layers, with what mixes rows or draws at random in between."""

    def __init__(self, axis_name: str | None) -> None:
        """Draws the weights, the same ones every time."""
        rngs = nnx.Rngs(0)
        # A bias in front of batch norm has no gradient but rounding.
        self.first = nnx.Linear(DIM, WIDTH, use_bias=False, rngs=rngs)
        self.norm = Layers(axis_name, rngs).norm(WIDTH)
        self.dropout = Dropout(0.25, axis_name=axis_name)
        self.last = nnx.Linear(WIDTH, DIM, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Embeds rows [n, DIM], in float64 if they are."""
        hidden = nnx.relu(self.norm(self.first(x)))
        return normalize(self.last(self.dropout(hidden)))


def evaluate(name: str, wrapper: Way | None) -> dict[str, np.ndarray]:
    """The loss of the whole batch and its gradients, in float64.

    Args:
      name: in `SUBJECTS`.
      wrapper: over all devices of all processes; None for one device.

    Returns:
      `value` [device] and, by their paths, gradients [device, ...]: what each device of
      this process holds.
    """
    subject = SUBJECTS[name]
    with jax.enable_x64(True):
        axis = AXIS if wrapper in ("pmap", "shard_map") else None
        step, state = _pieces(subject, axis)
        run, batch = _spread(step, wrapper, make_batch(subject))
        state, metrics = run(state, batch)
        found = {"value": _on_devices(metrics["loss"])}
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
            found[jax.tree_util.keystr(path)] = _on_devices(leaf)
    return found


def make_batch(subject: Subject) -> dict[str, np.ndarray]:
    """Rows [n, DIM] of classes in random order, and labels as the loss wants them."""
    info = info_of(subject.loss)
    pairs = info is not None and info.batch in ("pairs", "views")
    rng, size = np.random.default_rng(0), 2 if pairs else 4
    label = rng.permutation(np.repeat(np.arange(ROWS // size, dtype=np.int32), size))
    centres = rng.normal(size=(ROWS // size, DIM))
    rows = centres[label] + rng.normal(size=(ROWS, DIM))
    if subject.loss in MANY_LABELS:
        also = (label + 1 + np.arange(ROWS) % 2) % (ROWS // size)
        classes = np.eye(ROWS // size, dtype=bool)
        label = classes[label] | classes[also]
    guided = info is not None and info.guided
    guide = {"guide": rng.normal(size=(ROWS, DIM))} if guided else {}
    if subject.partners:
        near = rows[:, None] + rng.normal(size=(ROWS, 1, DIM))
        guide["others"] = np.concatenate([near, rng.normal(size=(ROWS, 2, DIM))], 1)
        guide["others_valid"] = np.arange(ROWS * 3).reshape(ROWS, 3) % 7 != 2
        guide["others_valid"][:, 0] = True
        if guided:
            guide["others_guide"] = rng.normal(size=(ROWS, 3, DIM))
    return {"image": rows, "label": label, **guide}


def _pieces(subject: Subject, axis_name: str | None) -> tuple[Step, TrainState]:
    """A step whose state after it has the gradient, and the state before."""
    proxies, info = None, info_of(subject.loss)
    if info is not None and info.batch == "proxies":
        centers = hyper_parameters(subject.loss).get("centers")
        make = functools.partial(ShareOfProxies, axis_name)
        proxies = (make if subject.sharded else Proxies)(
            ROWS // 4,
            DIM,
            per_class=1 if centers is None else centers.default,
            rngs=nnx.Rngs(1),
        )
    model = WithLoss(Network(axis_name), proxies=proxies, learned=subject.learned)
    optimizer = _gradient_keeper()
    definition, state = create_state(model, optimizer)
    compute = objective(
        subject.loss,
        mining=subject.mining,
        axis_name=axis_name,
        symmetric=subject.symmetric,
        has_aux=True,
    )
    step = make_step(definition, compute, optimizer, axis_name=axis_name)
    return step, jax.tree.map(_in_float64, jax.device_get(state))


def _gradient_keeper() -> optax.GradientTransformation:
    """Leaves parameters as they are; its state is the gradient that it was given."""

    def zeros(tree: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, tree)

    return optax.GradientTransformation(
        zeros, lambda grads, state, params=None: (zeros(grads), grads)
    )


def _in_float64(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x


def _spread(step: Step, wrapper: Way | None, batch: Any) -> tuple[Step, Any]:
    """The step over all devices, and of the batch what this process has of it."""
    if wrapper is None:
        return jax.jit(step), batch
    if wrapper == "explicit":
        mesh = jax.make_mesh((jax.device_count(),), (AXIS,), (AxisType.Explicit,))
        whole, shared = (NamedSharding(mesh, x) for x in (P(), P(AXIS)))
        run = jax.jit(step)
        return lambda state, batch: run(jax.device_put(state, whole), batch), (
            jax.device_put(batch, shared)
        )
    own = ROWS // jax.process_count()
    first = own * jax.process_index()
    share = jax.tree.map(lambda x: x[first : first + own], batch)
    return data_parallel(step, devices=jax.devices(), wrapper=wrapper), share


def _on_devices(x: jax.Array) -> np.ndarray:
    """What each device holds, [device, ...], or the whole where it is in parts."""
    if x.sharding.is_fully_replicated:
        return np.stack([np.asarray(shard.data) for shard in x.addressable_shards])
    return np.asarray(x)[None]
