"""Writes `rankjax/simple.pyi`, which declares the one-call form of every loss.

python -m experiments.stub [--check]

With `--check` nothing is written; the status is 1 where the file is out of date.
"""

import argparse
import inspect
import json
import sys
import textwrap
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax

from rankjax import losses, selections
from rankjax.registry import hyper_parameters, type_hints

FILE = Path(__file__).parent.parent / "rankjax" / "simple.pyi"
HEAD = '''"""One call per loss, declared. Written by `python -m experiments.stub`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, Unpack

import jax

from rankjax.inputs import Positives, References
from rankjax.mining import Miner, Selection, all_negatives
from rankjax.objective import Loss
from rankjax.pairs import Relevance
from rankjax.registry import Number
from rankjax.similarity import Similarity
from rankjax.terms import Reduction

NAMES: list[str]

class Options(TypedDict, total=False):
    """What every one-call form takes besides the settings of its loss."""

    mining: Miner | None
    similarity: Similarity | None
    reduction: Reduction
    regularizers: Sequence[tuple[Any, Loss]]
    relevance: Relevance | None
    symmetric: bool
    references: References | Positives | None
    valid: Any
    positive: Any
    negative: Any
    weights: Any
    guide: Any
    key: jax.Array | None

def one_call(loss: Loss) -> Callable[..., jax.Array]: ...
'''


def spelled(hint: Any) -> str:
    """Spells the type of a setting."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return spelled(arguments[0])
    if hint == selections.Selection:
        return "Selection"
    if origin is Literal:
        return f"Literal[{', '.join(map(json.dumps, arguments))}]"
    if origin in (typing.Union, types.UnionType):
        if set(arguments) >= {float, jax.Array}:
            rest = [a for a in arguments if a not in (float, jax.Array)]
            return " | ".join(["Number", *map(spelled, rest)])
        return " | ".join(map(spelled, arguments))
    if origin is tuple:
        return f"tuple[{spelled(arguments[0])}, ...]"
    return "None" if hint is types.NoneType else hint.__name__


def declared(loss: Any) -> str:
    """Declares the one-call form of a loss."""
    hints = type_hints(inspect.unwrap(loss))
    known = hyper_parameters(loss)
    settings = "    *,\n" if known else ""
    for name, parameter in known.items():
        default = parameter.default
        text = default.__name__ if callable(default) else repr(default)
        if isinstance(default, str):
            text = json.dumps(default)
        elif default == float("inf"):
            text = 'float("inf")'
        given = "" if default is parameter.empty else f" = {text}"
        settings += f"    {name}: {spelled(hints[name])}{given},\n"
    summary = textwrap.indent(
        f'"""{inspect.cleandoc(loss.__doc__).splitlines()[0]}"""', "    "
    )
    return (
        f"def {loss.__name__}(\n    embeddings: Any,\n    labels: Any = None,\n"
        f"{settings}    **options: Unpack[Options],\n) -> jax.Array:\n{summary}\n"
    )


def text() -> str:
    """The whole file."""
    functions = "\n".join(declared(loss) for loss in losses.LOSSES.values())
    return f"{HEAD}{functions}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    if not parser.parse_args(arguments).check:
        FILE.write_text(text())
        return 0
    same = FILE.exists() and FILE.read_text() == text()
    if not same:
        print(f"{FILE} is out of date: run python -m experiments.stub", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
