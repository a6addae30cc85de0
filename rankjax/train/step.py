"""One training step as a pure function of a state and a batch."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from rankjax.models.proxies import WithLoss
from rankjax.objective import Objective
from rankjax.parallel import Step
from rankjax.similarity import normalize

PyTree = Any


class TrainState(NamedTuple):
    """Everything that a run carries from step to step.

    Attributes:
      params: the network's parameters.
      rest: the network's other variables, such as running means.
      opt_state: the optimiser's state.
      step: [] int32, steps done.
    """

    params: PyTree
    rest: PyTree
    opt_state: PyTree
    step: jax.Array


def create_state(
    model: nnx.Module, optimizer: optax.GradientTransformation
) -> tuple[Any, TrainState]:
    """Splits a model into its static definition and the state to train."""
    model.train()
    definition, params, rest = _split(model)
    opt_state = optimizer.init(params)
    return definition, TrainState(params, rest, opt_state, jnp.zeros((), jnp.int32))


def make_step(
    definition: Any,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
    seed: int = 0,
) -> Step:
    """Builds `step(state, batch) -> (state, metrics)`.

    Args:
      definition: from `create_state`; of a network, or of one `WithLoss`.
      objective: built with `has_aux=True` and the same axis name.
      optimizer: an optax transformation.
      axis_name: the mapped axis over which the batch is spread, or None. The loss is
        that of the whole batch on every device, hence its gradients are averaged.
      seed: of the objective's random choices, which are other ones in each step.

    Returns:
      A pure function. The batch holds `image` [rows, ...] and `label` [rows]; metrics
      are scalars: loss, grad_norm, embedding_norm (mean length), mean_cosine (of all
      pairs in the batch), active_share, positive_similarity, negative_similarity.
    """

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        chex.assert_equal_shape_prefix((batch["image"], batch["label"]), 1)

        def loss(params: PyTree) -> Any:
            # A copy, because variables may not be changed from inside a gradient.
            model = nnx.merge(definition, params, state.rest, copy=True)
            embeddings = model(batch["image"])
            key = jax.random.fold_in(jax.random.key(seed), state.step)
            value, aux = objective(
                embeddings, batch["label"], key=key, **_beside(model)
            )
            _, _, rest = _split(model)
            return value, (rest, aux | _shape_of(embeddings, axis_name))

        (value, (rest, aux)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params
        )
        if axis_name is not None:
            grads = lax.pmean(grads, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **aux}
        return TrainState(params, rest, opt_state, state.step + 1), metrics

    return step


def _split(model: nnx.Module) -> Any:
    """The static definition, the parameters and all other variables."""
    return nnx.split(model, nnx.Param, ...)


def _beside(model: nnx.Module) -> dict[str, Any]:
    """What the objective gets besides embeddings and labels."""
    return model.for_objective() if isinstance(model, WithLoss) else {}


def _shape_of(embeddings: jax.Array, axis_name: str | None) -> dict[str, jax.Array]:
    """How long the embeddings of the whole batch are, and how much they differ."""

    def add(x: jax.Array) -> jax.Array:
        return x if axis_name is None else lax.psum(x, axis_name)

    embeddings = lax.stop_gradient(embeddings)
    rows = add(jnp.asarray(len(embeddings), embeddings.dtype))
    lengths = jnp.linalg.norm(embeddings, axis=1)
    resultant = add(normalize(embeddings).sum(0))
    return {
        "embedding_norm": add(lengths.sum()) / rows,
        "mean_cosine": (resultant @ resultant - rows) / (rows * (rows - 1)),
    }
