"""What is known of a loss besides its equation, and what its settings may be.

A loss is put on record by a decorator. Its hyper-parameters say their range in their
annotation, so that no loss checks its own settings and every message reads alike.
"""

import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import jax
import numpy as np

from rankjax.similarity import Similarity, cosine


class Kind(enum.Enum):
    """How a loss looks at the batch, the simplest way that carries it."""

    ROW = "row"
    """Statistics of the anchor's row."""
    PER_POSITIVE = "per positive"
    """The anchor's row, seen from each positive."""
    POSITIVE_ROWS = "positives' rows"
    """The anchor's row and the positive's, for each positive."""
    PLAIN = "plain"
    """Any function of the pairs."""
    FEATURES = "features"
    """The embeddings themselves, not their similarities."""


Batch = Literal["classes", "pairs", "large", "proxies", "views"]
"""What a loss wants to be fed: `classes` is P classes of K rows; `pairs` many classes
of two; `large` P x K with as many rows as fit; `proxies` any rows, with references that
hold learned vectors per class; `views` two views of each image, labelled alike."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of a loss.

    Attributes:
      kind: see `Kind`.
      similarity: the paper's, used when the caller names none.
      paper: authors, venue and year.
      batch: see `Batch`.
      anchors: 'references' for a loss whose terms belong to references, not to rows
        of the batch: the objective then hands it the transposed pairs.
      tuned: settings that a study found by search, as text, or ''.
    """

    kind: Kind
    similarity: Similarity
    paper: str
    batch: Batch = "classes"
    anchors: Literal["batch", "references"] = "batch"
    tuned: str = ""


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers, open at `above` and `below`, closed at the others."""

    above: float = -np.inf
    least: float = -np.inf
    below: float = np.inf
    most: float = np.inf

    def holds(self, value: np.ndarray) -> bool:
        """Whether all values lie inside; not a number lies nowhere."""
        inside = (value > self.above) & (value >= self.least)
        return bool(np.all(inside & (value < self.below) & (value <= self.most)))

    def __str__(self) -> str:
        """For messages: 'above 0 and below 90'."""
        words = {
            "above": self.above,
            "at least": self.least,
            "below": self.below,
            "at most": self.most,
        }
        return " and ".join(f"{k} {v:g}" for k, v in words.items() if np.isfinite(v))


Number = float | jax.Array
"""A setting that is traced: it may change without compiling again, has a gradient."""
Positive = Annotated[Number, Range(above=0)]
NonNegative = Annotated[Number, Range(least=0)]
Share = Annotated[Number, Range(least=0, most=1)]
Degrees = Annotated[Number, Range(above=0, below=90)]
Count = Annotated[int, Range(least=1)]
"""A whole number that shapes the computation, hence static."""

Function = TypeVar("Function", bound=Callable[..., Any])


def listed(
    *,
    kind: Kind,
    paper: str,
    similarity: Similarity = cosine,
    batch: Batch = "classes",
    anchors: Literal["batch", "references"] = "batch",
    tuned: str = "",
) -> Callable[[Function], Function]:
    """Puts a loss or a regulariser on record; its settings are checked when called."""
    entry = Entry(kind, similarity, paper, batch, anchors, tuned)

    def put(function: Function) -> Function:
        @functools.wraps(function)
        def checked(data: Any, **settings: Any) -> Any:
            check_settings(function, settings)
            return function(data, **settings)

        checked.entry = entry  # type: ignore[attr-defined]
        return typing.cast(Function, checked)

    return put


def entry_of(loss: Any) -> Entry | None:
    """The entry of a listed function, with settings bound or not; else None."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return getattr(loss, "entry", None)


def default_similarity(loss: Any) -> Similarity:
    """The similarity of a listed function, else the cosine."""
    entry = entry_of(loss)
    return cosine if entry is None else entry.similarity


def hyper_parameters(loss: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a loss that are not bound yet."""
    bound = loss.keywords if isinstance(loss, functools.partial) else {}
    return {
        name: parameter
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in bound
    }


def is_traced(loss: Callable[..., Any], name: str) -> bool:
    """Whether a hyper-parameter may be an array, and so have a gradient."""
    return jax.Array in _members(_hints(loss)[name])


def check_settings(loss: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raises where a setting is unknown, or known to be outside what is allowed.

    Raises:
      TypeError: the loss has no such setting.
      ValueError: a number out of range, or an option that does not exist. Traced
        numbers have no value yet and pass.
    """
    hints = _hints(loss)
    for name, value in settings.items():
        if name not in hints:
            known = ", ".join(sorted(set(hints) - {"return"})) or "none"
            raise TypeError(f"{name} is not a setting here; there are {known}")
        for member in (hints[name], *_members(hints[name])):
            if typing.get_origin(member) is Literal:
                _check_option(name, value, typing.get_args(member))
            for note in getattr(member, "__metadata__", ()):
                _check_range(name, value, note)


def _check_option(name: str, value: Any, options: tuple[Any, ...]) -> None:
    if value not in options:
        listed_options = " or ".join(map(repr, options))
        raise ValueError(f"{name} must be {listed_options}, got {value!r}")


def _check_range(name: str, value: Any, allowed: Range) -> None:
    if value is None or isinstance(value, jax.core.Tracer):
        return
    if not allowed.holds(np.asarray(value)):
        raise ValueError(f"{name} must be {allowed}, got {value}")


def _hints(loss: Any) -> dict[str, Any]:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return _type_hints(inspect.unwrap(loss))


@functools.cache
def _type_hints(function: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    settings = inspect.signature(function).parameters.values()
    names = [p.name for p in settings if p.kind is p.KEYWORD_ONLY]
    return {name: hints.get(name, Any) for name in names}


def _members(hint: Any) -> list[Any]:
    """The alternatives of a union, through annotations."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _members(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [m for a in arguments for m in (a, *_members(a))]
    return [hint]
