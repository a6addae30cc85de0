"""Processes that end with the one that started them, however that ends."""

import os
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
