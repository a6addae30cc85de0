"""One training step as a pure function of a state and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from rankjax.inputs import Positives
from rankjax.memory import Memory
from rankjax.models.layers import Dropout
from rankjax.models.proxies import WithLoss
from rankjax.parallel import Step
from rankjax.sampling import sampled_classes
from rankjax.similarity import normalize

PyTree = Any


class TrainState(NamedTuple):
    """Everything that a run carries from step to step.

    Attributes:
      params: the network's parameters.
      rest: the network's other variables, such as running means.
      opt_state: the optimiser's state.
      step: [] int32, steps done.
      memory: embeddings of earlier batches, or None.
      average: moving averages of `params` and `rest`, or None.
      frozen: parameters that no step changes; they have neither gradients nor a state
        of the optimiser, and are not averaged.
    """

    params: PyTree
    rest: PyTree
    opt_state: PyTree
    step: jax.Array
    memory: Memory | None = None
    average: tuple[PyTree, PyTree] | None = None
    frozen: PyTree = None

    @property
    def evaluated(self) -> tuple[PyTree, PyTree, PyTree]:
        """The parameters and other variables that evaluation uses."""
        params, rest = self.average or (self.params, self.rest)
        return params, rest, self.frozen


def create_state(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    *,
    memory: Memory | None = None,
    averaged: bool = False,
    trained: Callable[[tuple[Any, ...], Any], bool] = lambda path, param: True,
) -> tuple[Any, TrainState]:
    """Splits a model into its static definition and the state to train.

    Args:
      model: a network, or one `WithLoss`.
      optimizer: an optax transformation.
      memory: an empty `rankjax.memory.Memory`, to compare batches with earlier ones.
      averaged: keep moving averages of parameters and running statistics.
      trained: whether a parameter is, by its path in the model. Batch norm of which the
        scale is not normalises by its running statistics, and leaves them.
    """

    def is_frozen(path: tuple[Any, ...], variable: Any) -> bool:
        return isinstance(variable, nnx.Param) and not trained(path, variable)

    model.train()
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm) and is_frozen(
            (*path, "scale"), module.scale
        ):
            module.eval()
    parts: Any = nnx.split(model, is_frozen, nnx.Param, ...)
    definition, frozen, params, rest = parts
    opt_state, step = optimizer.init(params), jnp.zeros((), jnp.int32)
    # A copy, because what is donated to a step may be so once.
    average = jax.tree.map(jnp.copy, (params, rest)) if averaged else None
    state = TrainState(params, rest, opt_state, step, memory, average, frozen)
    return definition, state


def make_step(
    definition: Any,
    objective: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
    microbatch: int | None = None,
    memory_objective: Callable[..., Any] | None = None,
    memory_weight: float = 1.0,
    memory_warmup: int = 0,
    weight_ema: float = 0.999,
    class_share: float = 1.0,
    seed: int = 0,
) -> Step:
    """Builds `step(state, batch) -> (state, metrics)`.

    Args:
      definition: from `create_state`; of a network, or of one `WithLoss`.
      objective: built with `has_aux=True` and the same axis name.
      optimizer: an optax transformation.
      axis_name: the mapped axis over which the batch is spread, or None. The loss is
        that of the whole batch on every device, hence its gradients are averaged.
      microbatch: rows that a device embeds at a time, which must divide its share; None
        for all at once. Loss and gradient are still those of the whole batch (Gao,
        Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory
        Limited Setup", RepL4NLP 2021): everything is embedded without gradients, the
        loss is differentiated by the embeddings, and each microbatch is embedded again
        to carry that to the parameters. Only batch norm in train mode differs: it takes
        the statistics of each microbatch (over all devices), and its running ones move
        once, by the mean over microbatches. Freeze it, or use another norm.
      memory_objective: of the batch against the state's memory; the same one if None.
      memory_weight: of its value, which is added to that of the batch.
      memory_warmup: steps before it is; the memory fills from the first step on.
      weight_ema: decay of the state's averages, if it keeps any; at most
        (1 + step) / (10 + step), so that they forget the first weights soon.
      class_share: of the model's proxies, with which a step compares; see
        `rankjax.sampled_classes`.
      seed: of the objective's random choices, which are other ones in each step.

    Returns:
      A pure function. The batch holds `image` [rows, ...], `label` [rows], and for the
      losses that need it `guide` [rows, any]. With `others` [rows, 1 + k, ...],
      `others_valid` [rows, 1 + k] and maybe `others_guide` [rows, 1 + k, any], as of
      `rankjax.data.Loader`, rows are compared with these instead of each other, see
      `rankjax.Positives`. Metrics are scalars: loss, grad_norm,
      embedding_norm (mean length), mean_cosine (of all pairs in the batch),
      active_share, positive_similarity, negative_similarity, and memory_loss where
      there is a memory. The step raises a ValueError for rows that microbatches do not
      divide.
    """

    def network(params: PyTree, state: TrainState) -> Any:
        # A copy, because variables may not be changed from inside a gradient.
        return nnx.merge(definition, params, state.rest, state.frozen, copy=True)

    def embed(
        params: PyTree, state: TrainState, images: jax.Array, part: Any = (0, 1)
    ) -> tuple[jax.Array, PyTree]:
        """Embeddings of a part of the batch, given as its number and that of parts."""
        model = network(params, state)
        Dropout.choose_part(model, *part)
        embeddings = model(images)
        Dropout.choose_part(model, 0, 1)
        return embeddings, nnx.state(model, nnx.Not(nnx.Param))

    def loss(
        params: PyTree, embeddings: jax.Array, state: TrainState, batch: PyTree
    ) -> tuple[jax.Array, Any]:
        model, label = network(params, state), batch["label"]
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        given = _beside(model) | {k: x for k, x in batch.items() if k == "guide"}
        if "others" in batch:
            embeddings, given["references"] = _with_partners(embeddings, batch)
        if class_share < 1:
            given["references"] = sampled_classes(
                given["references"],
                label,
                share=class_share,
                key=jax.random.fold_in(key, 1),
                axis_name=axis_name,
            )
        value, aux = objective(embeddings, label, key=key, **given)
        memory = state.memory
        if memory is not None:
            memory = memory.add(embeddings, label, axis_name=axis_name)
            given = _beside(model) | {"references": memory.references(holds_batch=True)}
            compare = memory_objective or objective
            more, _ = compare(embeddings, label, key=key, **given)
            weight = jnp.where(state.step < memory_warmup, 0, memory_weight)
            value += weight.astype(more.dtype) * more
            aux = aux | {"memory_loss": more}
        return value, (memory, aux | _shape_of(embeddings, axis_name))

    def at_once(state: TrainState, batch: PyTree) -> Any:
        def of_params(params: PyTree) -> Any:
            embeddings, rest = embed(params, state, _images(batch))
            value, aux = loss(params, embeddings, state, batch)
            return value, (rest, aux)

        return jax.value_and_grad(of_params, has_aux=True)(state.params)

    def in_parts(state: TrainState, batch: PyTree, size: int) -> Any:
        images = _images(batch)
        rows = len(images)
        if rows % size:
            raise ValueError(f"microbatch is {size}, must divide the {rows} rows")
        count = rows // size
        images = images.reshape(count, size, *images.shape[1:])
        parts = images, jnp.arange(count, dtype=jnp.int32)
        embeddings, rests = lax.map(
            lambda part: embed(state.params, state, part[0], (part[1], count)),
            parts,
        )
        whole = embeddings.reshape(rows, -1)
        (value, aux), (grads, cotangents) = jax.value_and_grad(
            loss, argnums=(0, 1), has_aux=True
        )(state.params, whole, state, batch)

        def again(grads: PyTree, part: Any) -> tuple[PyTree, None]:
            images, number, cotangent = part
            place = number, count
            _, pull = jax.vjp(lambda p: embed(p, state, images, place)[0], state.params)
            return jax.tree.map(jnp.add, grads, *pull(cotangent)), None

        every = (*parts, cotangents.reshape(embeddings.shape))
        grads, _ = lax.scan(again, grads, every)
        return (value, (jax.tree.map(_mean_of_parts, rests), aux)), grads

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        chex.assert_equal_shape_prefix((batch["image"], batch["label"]), 1)
        (value, (rest, (memory, aux))), grads = (
            at_once(state, batch)
            if microbatch is None
            else in_parts(state, batch, microbatch)
        )
        if axis_name is not None:
            grads = lax.pmean(grads, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            decay = jnp.minimum(weight_ema, (1 + state.step) / (10 + state.step))
            average = jax.tree.map(
                lambda old, new: _moved(old, new, decay), average, (params, rest)
            )
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **aux}
        state = state._replace(
            params=params,
            rest=rest,
            opt_state=opt_state,
            step=state.step + 1,
            memory=memory,
            average=average,
        )
        return state, metrics

    return step


def _images(batch: PyTree) -> jax.Array:
    """All images of a batch, each beside its partners, as on any number of devices."""
    images: jax.Array = batch["image"]
    if "others" not in batch:
        return images
    joined = jnp.concatenate([images[:, None], batch["others"]], 1)
    return joined.reshape(-1, *images.shape[1:])


def _with_partners(embeddings: jax.Array, batch: PyTree) -> tuple[jax.Array, Positives]:
    """Embeddings of rows, and those of their partners, from all of them in a row."""
    valid, guide = batch["others_valid"], batch.get("others_guide")
    rows = embeddings.reshape(len(valid), -1, embeddings.shape[-1])
    given: dict[str, Any] = {"guide": None if guide is None else guide[:, 0]}
    if valid.shape[1] > 1:
        given |= {"negatives": rows[:, 2:], "negatives_valid": valid[:, 1:]}
        given["negatives_guide"] = None if guide is None else guide[:, 1:]
    return rows[:, 0], Positives(rows[:, 1], **given)


def _mean_of_parts(x: jax.Array) -> jax.Array:
    """A variable after all parts, from its values after each; counters agree."""
    return jnp.mean(x, 0) if jnp.issubdtype(x.dtype, jnp.floating) else x[0]


def _moved(old: jax.Array, new: jax.Array, decay: jax.Array) -> jax.Array:
    """A moving average, a step on; counters are not averaged."""
    if not jnp.issubdtype(new.dtype, jnp.floating):
        return new
    return (old + (1 - decay) * (new - old)).astype(old.dtype)


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
