"""Errors that end a run with one line instead of a traceback."""

import difflib
from collections.abc import Sequence


class _PrintedError(Exception):
    """Its text has names of files and what they hold, which terminals must not obey."""

    def __str__(self) -> str:
        from rankjax.files import printable  # which imports this module

        return "\n".join(map(printable, super().__str__().split("\n")))


class RunError(_PrintedError, RuntimeError):
    """Something outside the code must be mended first: a file, a disk, a folder.

    The command line prints the message alone and exits with status 1.
    """


class UsageError(_PrintedError, ValueError):
    """The command was asked for something it does not have.

    The command line prints the message alone and exits with status 2.
    """


def unknown_name(kind: str, name: str, known: Sequence[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest ones that do."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if near:
        return UsageError(f"no {kind} {name!r}; did you mean {' or '.join(near)}?")
    return UsageError(f"no {kind} {name!r}; there are {', '.join(known)}")
