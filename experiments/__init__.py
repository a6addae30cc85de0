"""Experiments that run on top of rankjax."""

import atexit
import io
import os
import sys
from types import TracebackType

# Names of files need not be UTF-8: a command prints them as well as it can.
if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
    sys.stdout.reconfigure(errors="backslashreplace")


def _at_home(word: str) -> str:
    """A word of the command line; shells leave the ~ of --out=~/x as it is."""
    flag, equals, value = word.partition("=")
    if not word.startswith("--"):
        flag, equals, value = "", "", word
    return f"{flag}{equals}{os.path.expanduser(value)}"


if sys.argv[0] == "-m":  # python -m experiments.NAME
    sys.argv[1:] = map(_at_home, sys.argv[1:])


def _ends_quietly(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, BrokenPipeError):
        _nobody_reads()
    else:
        sys.__excepthook__(kind, error, traceback)


@atexit.register
def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()
    except ValueError:
        pass  # it is closed


def _nobody_reads() -> None:
    """What reads our output has ended, as `head` does: what is left goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


sys.excepthook = _ends_quietly
