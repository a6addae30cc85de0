"""Experiments that run on top of rankjax."""

import io
import sys

# Names of files need not be UTF-8: a command prints them as well as it can.
if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
    sys.stdout.reconfigure(errors="backslashreplace")
