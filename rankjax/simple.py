"""One call per loss: embeddings and labels in, the mean loss out.

`rankjax.NAME_loss` is made from `rankjax.losses.NAME_loss`: the same name, docstring
and defaults, on the paper's similarity, jitted. Numbers are traced: changing a margin
compiles nothing, and gradients reach it. `simple.pyi` declares each function for
editors and type checkers; `python -m experiments.stub` writes it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from rankjax.losses import LOSSES
from rankjax.objective import Loss, Objective, objective
from rankjax.registry import hyper_parameters

_OF_OBJECTIVE = (
    "mining",
    "similarity",
    "reduction",
    "regularizers",
    "relevance",
    "symmetric",
)
_OF_CALL = ("references", "valid", "positive", "negative", "weights", "guide", "key")


def one_call(loss: Loss) -> Callable[..., jax.Array]:
    """Makes the loss of embeddings and labels from a loss of pairs.

    Besides the loss's own settings the result takes `mining`, `similarity`,
    `reduction`, `regularizers`, `relevance` and `symmetric` as `objective` does, and
    what the call of an objective takes: `references`, `valid`, `positive`, `negative`,
    `weights`, `guide` and `key`.
    """

    known = [*hyper_parameters(loss), *_OF_OBJECTIVE, *_OF_CALL]

    def compute(embeddings: Any, labels: Any = None, **given: Any) -> jax.Array:
        for name in given:
            if name not in known:
                raise TypeError(
                    f"{name} is not a setting here; there are {', '.join(known)}; "
                    "rankjax.objective has others, such as axis_name, block and dims"
                )
        composed = {name: given.pop(name) for name in _OF_OBJECTIVE if name in given}
        called = {name: given.pop(name) for name in _OF_CALL if name in given}
        compute = objective(functools.partial(loss, **given), **composed)
        return compute(embeddings, labels, **called)

    own = inspect.signature(compute).parameters
    others = [
        parameter
        for function, names in (
            (objective, _OF_OBJECTIVE),
            (Objective.__call__, _OF_CALL),
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if name in names
    ]
    parameters = [own["embeddings"], own["labels"], *hyper_parameters(loss).values()]
    compute.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*parameters, *others], return_annotation=jax.Array
    )
    compute.__name__ = compute.__qualname__ = loss.__name__
    compute.__doc__ = loss.__doc__
    compute.one_call = True  # type: ignore[attr-defined]
    return compute


globals().update({loss.__name__: one_call(loss) for loss in LOSSES.values()})
NAMES = [loss.__name__ for loss in LOSSES.values()]
"""The functions of this module that are made of losses."""
