"""Pages of the API: which names a module has, how they are written and found.

`<!-- public MODULE -->` in a page stands for everything that users take from a module,
`<!-- public MODULE: NAME PATTERN* -->` for a part of that.
"""

import ast
import fnmatch
import functools
import importlib
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstrings import rest
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

from rankjax.terms import Reduction

PAGES = Path(__file__).parent.parent / "api"
_SIMPLE = "rankjax.simple"
MARKER = re.compile(r"^<!-- public ([\w.]+)(?:: (.*?))? -->$", re.M)


@functools.cache
def documented() -> dict[str, list[str]]:
    """The names that have an entry, by the module that they are taken from."""
    names: dict[str, list[str]] = {}
    for page in sorted(PAGES.glob("*.md")):
        for path, chosen in MARKER.findall(page.read_text()):
            names.setdefault(path, []).extend(_chosen(path, chosen))
    return names


def _chosen(path: str, patterns: str | None) -> list[str]:
    names = public(importlib.import_module(path))
    wanted = (patterns or "*").split()
    return [n for w in wanted for n in names if fnmatch.fnmatchcase(n, w)]


def public(module: types.ModuleType) -> list[str]:
    """The names that users take from a module, without those of its modules."""
    names = list(getattr(module, "__all__", vars(module)))
    found = {name: getattr(module, name) for name in names if name[0] != "_"}
    if not hasattr(module, "__all__"):
        path, own = module.__name__, _assigned(module.__name__)
        found = {
            name: value
            for name, value in found.items()
            if f"{_home(value)}.".startswith(f"{path}.") or name in own
        }
    return [name for name, x in found.items() if not isinstance(x, types.ModuleType)]


def _home(value: Any) -> str:
    return str(value.__module__) if _is_made(value) else ""


def _is_made(value: Any) -> bool:
    """Whether it is a class or a function, not a value or the alias of a type."""
    return inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value))


@functools.cache
def _assigned(path: str) -> set[str]:
    """Aliases of types in a module, and other values that a comment tells of."""
    module, source = importlib.import_module(path), ModuleAnalyzer.for_module(path)
    aliases = {
        target.id
        for line in ast.parse(source.code).body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
        and typing.get_origin(getattr(module, target.id)) is not None
    }
    return aliases | {name for scope, name in source.find_attr_docs() if not scope}


@functools.cache
def _comment(name: str, identity: int) -> list[str]:
    """What is said of a value below it, in whichever module that is."""
    for path, module in sys.modules.items():
        if path.split(".")[0] == "rankjax" and id(vars(module).get(name)) == identity:
            comments = ModuleAnalyzer.for_module(path).find_attr_docs()
            if ("", name) in comments:
                return list(comments["", name])
    return []


@functools.cache
def _names() -> dict[int, tuple[str, str]]:
    """The role and the documented name of every object, by its identity."""
    names: dict[int, tuple[str, str]] = {}
    for path, chosen in documented().items():
        module = importlib.import_module(path)
        names[id(module)] = "py:mod", path
        for name in chosen:
            value = getattr(module, name)
            # Small numbers and strings are shared by whoever has an equal one.
            if not isinstance(value, str | int | float):
                names.setdefault(id(value), ("py:obj", f"{path}.{name}"))
    return names


def _find(name: str, scope: dict[str, Any]) -> tuple[str, str] | None:
    """Role and target of a dotted name, as code in the scope would understand it."""
    first, *rest = name.split(".")
    for start in (scope, {"rankjax": importlib.import_module("rankjax")}):
        value = start.get(first)
        for part in rest:
            value = getattr(value, part, None)
        if value is not None and id(value) in _names():
            return _names()[id(value)]
    return None


def find(path: str) -> tuple[str, str] | None:
    """Role and target of what a module has under a name, if that is documented."""
    module, _, name = path.rpartition(".")
    return _find(name, vars(importlib.import_module(module)))


def _scope(what: Any) -> dict[str, Any]:
    module = what if inspect.ismodule(what) else inspect.getmodule(inspect.unwrap(what))
    package = importlib.import_module("rankjax")
    return {**vars(package), **{n: getattr(package, n) for n in dir(package)}} | (
        vars(module) if module else {}
    )


def entries(path: str, patterns: str | None) -> Iterator[str]:
    """The text that a marker stands for; of a package, a section for each module."""
    module = importlib.import_module(path)
    groups: dict[str, list[str]] = {}
    for name in _chosen(path, patterns):
        home = _home(getattr(module, name)) or path
        groups.setdefault(home, []).append(name)
    if patterns is None:
        yield _block(f".. automodule:: {path}\n   :no-members:")
    for home, names in groups.items():
        if home != path and patterns is None:
            text = inspect.getdoc(importlib.import_module(home)) or ""
            yield f"## {text.partition(chr(10))[0].removesuffix('.')}"
        yield _block("\n\n".join(_directive(module, name) for name in names))


def _directive(module: types.ModuleType, name: str) -> str:
    value = getattr(module, name)
    if typing.get_origin(value) is typing.Annotated:
        number = "A whole number" if value.__origin__ is int else "A number"
        text = f"{number} {value.__metadata__[0]}."
        return f".. py:data:: {module.__name__}.{name}\n\n   {text}"
    kind = "function" if _is_made(value) else "data"
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, Exception) else "class"
    short = isinstance(value, str | int | tuple) or typing.get_origin(value)
    options = "" if short or kind != "data" else "   :no-value:"
    return f".. auto{kind}:: {module.__name__}.{name}\n{options}"


def _block(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```"


def _expand(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = MARKER.sub(lambda m: "\n\n".join(entries(m[1], m[2])), source[0])


def _docstring(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    made = _is_made(value) or inspect.ismodule(value)
    if what == "data":
        lines[:] = _comment(name.rpartition(".")[2], id(value))
    scope = _scope(value if made else importlib.import_module("rankjax"))
    lines[:] = rest(lines, lambda text: _find(text, scope))
    if what in ("data", "attribute", "property"):
        # An empty comment: napoleon takes a colon in the first line for that of a type.
        lines[:0] = ["..", ""]


class _Qualified(ast.NodeTransformer):
    """Annotations that name what is documented by its documented name."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = _find(node.id, self.scope)
        return ast.parse(found[1], mode="eval").body if found else node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        if node.annotation is not None:
            node.annotation = self.visit(node.annotation)
        return node


def _signature(
    app: Sphinx, what: str, name: str, value: Any, *_: Any
) -> tuple[str, str] | None:
    """The signature as it is written, whose annotations say ranges by their names."""
    if what == "class" and getattr(value, "_is_protocol", False):
        return "", ""
    if what not in ("function", "method"):
        return None
    if isinstance(value, Reduction):
        return "(terms)", "jax.Array"
    if inspect.unwrap(value).__module__ == _SIMPLE:
        return _one_call(value), "jax.Array"
    written = inspect.unwrap(getattr(value, "__func__", value))
    tree = ast.parse(textwrap.dedent(inspect.getsource(written))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    qualified = _Qualified(_scope(written))
    args = tree.args
    if what == "method" and args.args and args.args[0].arg in ("self", "cls"):
        args.args.pop(0)
    for arg in ast.walk(args):
        if isinstance(arg, ast.arg):
            qualified.visit_arg(arg)
    returns = "" if tree.returns is None else ast.unparse(qualified.visit(tree.returns))
    return f"({ast.unparse(args)})", returns


def _one_call(value: Any) -> str:
    """Its signature without what all of them take."""
    settings = []
    for name, setting in inspect.signature(value).parameters.items():
        if setting.kind is setting.KEYWORD_ONLY and name not in _SHARED:
            default = setting.default
            text = default.__name__ if callable(default) else repr(default)
            settings.append(f"{name}={text}")
    return f"({', '.join(['embeddings', 'labels', '*', *settings, '**shared'])})"


_SHARED = (
    "mining",
    "similarity",
    "reduction",
    "regularizers",
    "references",
    "valid",
    "positive",
    "negative",
    "weights",
    "key",
)


def _missing(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """What is named where it was defined, linked to where it is documented."""
    target = str(node.get("reftarget"))
    module, _, name = target.rpartition(".")
    if not target.startswith("rankjax.") or module not in sys.modules:
        return None
    found = _find(name, vars(sys.modules[module]))
    if found is None or found[1] == target:
        return None
    domain = env.domains["py"]
    place = domain.objects.get(found[1])
    if place is None:
        return None
    from_doc = node.get("refdoc", "index")
    return make_refnode(
        app.builder, from_doc, place.docname, place.node_id, content, found[1]
    )


def _skip(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Fields of named tuples have no docstring but a generated one."""
    if (inspect.getdoc(value) or "").startswith("Alias for field number"):
        return True
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the functions."""
    app.connect("source-read", _expand)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _missing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
