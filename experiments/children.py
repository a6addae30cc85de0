"""Processes that end with the one that started them, however that ends."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence

# prctl(PR_SET_PDEATHSIG, SIGKILL), which holds across exec; elsewhere than on Linux the
# command runs without it. A parent that ended before it is another process by now.
_BEGIN = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def ends_with_us(command: Sequence[str]) -> list[str]:
    """A command that runs another, which is killed when this process ends.

    Also by SIGKILL, after which nobody can end its children. The other command has the
    process id that `subprocess.Popen` knows.
    """
    return [sys.executable, "-S", "-c", _BEGIN, str(os.getpid()), *command]


def run_module(name: str, *words: object) -> float:
    """Runs `python -m name words`; returns the CPU seconds that it took.

    Raises:
      subprocess.CalledProcessError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", name, *map(str, words)]
    subprocess.run(ends_with_us(command), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
