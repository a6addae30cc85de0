"""The registry of losses: what is known of each besides its equation.

The decorator `register` adds a loss. Its hyper-parameters say their range in their
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


Function = TypeVar("Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossInfo:
    """Describes a loss or a regulariser, and registers it as a decorator, `register`.

    Settings of what is registered are checked at every call.

    Attributes:
      kind: see `Kind`.
      similarity: the paper's, used when the caller names none.
      paper: authors, venue and year.
      batch: see `Batch`.
      anchors: 'references' for a loss whose terms belong to references, not to rows
        of the batch: the objective then hands it the transposed pairs.
      arrays: the settings that may be arrays; other numbers are scalars.
      tuned: settings that a study found by search, as text, or ''.
      guided: whether it needs the objective's `guide`.
      lengths: whether it reads the lengths of rows, which must not be scaled to 1 then.
      sharded: whether references may be spread over devices, each with a part of every
        row; see `References.sharded`.
      graded: whether it reads `relevance`.
      signed: whether terms may be negative, so that those above zero are no measure of
        the work that is left, and `mean_active` is refused.
    """

    kind: Kind
    paper: str
    similarity: Similarity = cosine
    batch: Batch = "classes"
    anchors: Literal["batch", "references"] = "batch"
    tuned: str = ""
    guided: bool = False
    graded: bool = False
    signed: bool = False
    arrays: tuple[str, ...] = ()
    lengths: bool = False
    sharded: bool = False

    def __call__(self, function: Function) -> Function:
        """Puts this beside a function."""

        @functools.wraps(function)
        def checked(*given: Any, **settings: Any) -> Any:
            self._check(function, given)
            check_settings(checked, settings)
            return function(*given, **settings)

        checked.info = self  # type: ignore[attr-defined]
        return typing.cast(Function, checked)

    def _check(self, function: Any, given: tuple[Any, ...]) -> None:
        """Raises a TypeError where a loss is called with something else than Pairs."""
        takes, masks = "Pairs", ["positive", "negative"]
        if self.kind is Kind.FEATURES:
            takes, masks = "Features", ["valid", "paired"]
        if len(given) != 1 or not all(hasattr(given[0], mask) for mask in masks):
            name = function.__name__
            raise TypeError(
                f"{name} takes rankjax.{takes}, and settings by their names; for "
                f"embeddings write rankjax.objective({name})(embeddings, labels)"
            )
        for mask in masks:
            check_mask(f"{takes}.{mask}", getattr(given[0], mask))


register = LossInfo


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers, open at `above` and `below`, closed at the others."""

    above: float = -np.inf
    least: float = -np.inf
    below: float = np.inf
    most: float = np.inf

    def holds(self, value: np.ndarray) -> bool:
        """Says whether all values lie inside; not a number lies nowhere."""
        inside = (value > self.above) & (value >= self.least)
        return bool(np.all(inside & (value < self.below) & (value <= self.most)))

    def refusal(self, value: Any) -> str:
        """Says what a value that it does not hold must be, and what it was."""
        finite = np.isfinite(np.asarray(value)).all()
        return f"must be {self if finite else 'finite'}, got {value}"

    def __str__(self) -> str:
        """Prints 'above 0 and below 90', for messages."""
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


def info_of(loss: Any) -> LossInfo | None:
    """Returns what is known of a registered function; None of any other."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return getattr(loss, "info", None)


class Bound(functools.partial[Any]):
    """A function with settings, equal to another of the same function and settings."""

    def _key(self) -> Any:
        return self.func, self.args, frozenset(self.keywords.items())

    def __eq__(self, other: object) -> bool:
        """Compares functions and settings."""
        return isinstance(other, Bound) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hashes the function and its settings."""
        return hash(self._key())

    def __repr__(self) -> str:
        """Prints 'triplet_loss(margin=0.3)'."""
        settings = [f"{k}={name_of(v)}" for k, v in self.keywords.items()]
        return (
            f"{name_of(self.func)}({', '.join([*map(name_of, self.args), *settings])})"
        )


def bound(value: Any) -> Any:
    """Makes partial functions comparable, and lists tuples.

    A partial function of arrays stays as it is: it equals itself alone.
    """
    if isinstance(value, list):
        return tuple(map(bound, value))
    if not isinstance(value, functools.partial):
        return value
    settings = {name: bound(x) for name, x in value.keywords.items()}
    result = Bound(value.func, *map(bound, value.args), **settings)
    try:
        hash(result)
    except TypeError:
        return value
    return result


def split_numbers(loss: Any) -> tuple[Any, tuple[tuple[str, Any], ...]]:
    """Splits what is bound to a loss into what shapes it and what may be traced."""
    if not isinstance(loss, functools.partial):
        return loss, ()
    registered = info_of(loss) is not None
    numbers = {
        name: value
        for name, value in loss.keywords.items()
        if (
            value is not None and is_traced(loss, name)
            if registered
            else isinstance(value, jax.Array | np.ndarray)
        )
    }
    shaping = {
        # What shapes the computation is compared, as arrays cannot be.
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in loss.keywords.items()
        if name not in numbers
    }
    rest = functools.partial(loss.func, *loss.args, **shaping)
    return bound(rest) if shaping or loss.args else loss.func, tuple(numbers.items())


def name_of(value: Any) -> str:
    """Prints a function by its name, all else as it is."""
    if isinstance(value, functools.partial) or not callable(value):
        return repr(value)
    return getattr(value, "__name__", repr(value))


def default_similarity(loss: Any) -> Similarity:
    """Returns the similarity of a registered function, else the cosine."""
    info = info_of(loss)
    return cosine if info is None else info.similarity


def hyper_parameters(loss: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Lists the keyword-only parameters of a loss that are not bound yet."""
    bound = loss.keywords if isinstance(loss, functools.partial) else {}
    return {
        name: parameter
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in bound
    }


def is_traced(loss: Callable[..., Any], name: str) -> bool:
    """Says whether a hyper-parameter may be an array, and so have a gradient."""
    return jax.Array in _members(_hints(loss)[name])


def check_mask(name: str, mask: Any) -> None:
    """Raises a TypeError that names what is no array of bool."""
    if not hasattr(mask, "dtype"):
        raise TypeError(f"{name} must be a bool mask, got {type(mask).__name__}")
    if mask.dtype != bool:
        whole = np.issubdtype(mask.dtype, np.integer)
        hint = f"; of 0 and 1 take {name}.astype(bool)" if whole else ""
        raise TypeError(f"{name} must be a bool mask, got {mask.dtype}{hint}")


_NUMBERS = (int, float, np.number, np.ndarray, jax.Array)


def check_settings(loss: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raises where a setting is unknown, or known to be outside what is allowed.

    Raises:
      TypeError: the loss has no such setting, or takes something else for it.
      ValueError: a number out of range, an array for a number, or an option that does
        not exist. Traced numbers have no value yet and pass.
    """
    hints, info = _hints(loss), info_of(loss)
    for name, value in settings.items():
        if name not in hints:
            known = ", ".join(sorted(set(hints) - {"return"})) or "none"
            raise TypeError(f"{name} is not a setting here; there are {known}")
        if typing.get_origin(hints[name]) is Callable and not callable(value):
            raise TypeError(
                f"{name} must be a function, such as rankjax.mining.all_negatives, "
                f"got {value!r}"
            )
        members = _members(hints[name])
        if jax.Array in members and not (value is None and type(None) in members):
            many = info is None or name in info.arrays
            if not isinstance(value, (*_NUMBERS, list) if many else _NUMBERS):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not many and np.ndim(value):
                raise ValueError(
                    f"{name} must be one number, got an array {np.shape(value)}"
                )
        if jax.Array not in members:
            _check_whole(name, value, members)
        for member in (hints[name], *members):
            if typing.get_origin(member) is Literal:
                _check_option(name, value, typing.get_args(member))
            for note in getattr(member, "__metadata__", ()):
                _check_range(name, value, note)


def _check_whole(name: str, value: Any, members: list[Any]) -> None:
    """Raises a TypeError where one or several whole numbers are something else."""
    several = tuple[int, ...] in members
    if value is None or not (several or int in members):
        return
    numbers = value if several and np.ndim(value) == 1 else [value]
    whole = all(isinstance(number, int | np.integer) for number in numbers)
    if not whole or np.ndim(value) != several:
        what = "a tuple of whole numbers" if several else "a whole number"
        known = not isinstance(value, jax.core.Tracer)
        raise TypeError(
            f"{name} must be {what}, known before anything is computed, got "
            f"{repr(value) if known else 'a traced one'}"
        )


def _check_option(name: str, value: Any, options: tuple[Any, ...]) -> None:
    if value not in options:
        listed_options = " or ".join(map(repr, options))
        raise ValueError(f"{name} must be {listed_options}, got {value!r}")


def _check_range(name: str, value: Any, allowed: Range) -> None:
    parts = jax.tree.leaves(value)  # of a list, or one
    if value is None or any(isinstance(part, jax.core.Tracer) for part in parts):
        return
    if not allowed.holds(np.asarray(value)):
        raise ValueError(f"{name} {allowed.refusal(value)}")


def _hints(loss: Any) -> dict[str, Any]:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return type_hints(inspect.unwrap(loss))


@functools.cache
def type_hints(function: Any) -> dict[str, Any]:
    """Returns the annotations of a function's hyper-parameters."""
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
