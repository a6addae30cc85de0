"""Errors that end a run with one line instead of a traceback."""


class RunError(RuntimeError):
    """Something outside the code must be mended first: a file, a disk, a folder.

    The command line prints the message alone and exits with status 1.
    """


class UsageError(ValueError):
    """The command was asked for something it does not have.

    The command line prints the message alone and exits with status 2.
    """
