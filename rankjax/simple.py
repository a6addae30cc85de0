"""One call per loss: embeddings and labels in, the mean loss out.

`rankjax.NAME_loss` is made from `rankjax.losses.NAME_loss`: the same name and the same
defaults, on the paper's similarity, jitted. Numbers are traced: changing a margin
compiles nothing, and gradients reach it. For mining, devices, blocks or another
reduction, use `rankjax.objective`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax

from rankjax.objective import Loss, Objective, objective
from rankjax.registry import hyper_parameters, is_traced


@functools.lru_cache(maxsize=256)
def _objective(
    loss: Loss, regularizers: Sequence[tuple[float, Loss]], **settings: Any
) -> Objective:
    return objective(functools.partial(loss, **settings), regularizers=regularizers)


def one_call(loss: Loss) -> Callable[..., jax.Array]:
    """The loss of embeddings and labels, from a loss on pairs.

    Besides the loss's own settings the result takes `references`, `reference_labels`,
    `valid`, `weights` and `key` as an objective does, and `regularizers` as `objective`
    does.
    """
    settings = hyper_parameters(loss)

    def compute(
        embeddings: Any,
        labels: Any,
        *,
        references: Any = None,
        valid: Any = None,
        weights: Any = None,
        key: Any = None,
        regularizers: Sequence[tuple[float, Loss]] = (),
        **given: Any,
    ) -> jax.Array:
        given = {name: p.default for name, p in settings.items()} | given
        traced = {
            name: value
            for name, value in given.items()
            if value is not None and name in settings and is_traced(loss, name)
        }
        static = {name: value for name, value in given.items() if name not in traced}
        return _objective(loss, tuple(regularizers), **static)(
            embeddings,
            labels,
            references=references,
            valid=valid,
            weights=weights,
            key=key,
            params=traced,
        )

    own = inspect.signature(compute)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    compute.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*parameters, *settings.values()], return_annotation=jax.Array
    )
    compute.__name__ = compute.__qualname__ = loss.__name__
    compute.__doc__ = f"The mean of `rankjax.losses.{compute.__name__}` over a batch."
    return compute
