"""Processes with simulated devices, whose number is fixed when a process starts."""

import importlib.metadata
import os
import re

QUICK_TO_COMPILE = ["--xla_backend_optimization_level=0"]
"""XLA flags for what compiles for longer than it runs."""
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Other versions refuse what they do not know.
    QUICK_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")

_COUNT = re.compile(r"--xla_force_host_platform_device_count=\d+")


def environment(devices: int, *flags: str) -> dict[str, str]:
    """That of a process which has so many CPU devices, and more XLA flags."""
    others = _COUNT.sub("", os.environ.get("XLA_FLAGS", ""))
    count = f"--xla_force_host_platform_device_count={devices}"
    words = " ".join([others, count, *flags])
    # Its own remark on tracebacks would otherwise be the last words.
    quiet = {"JAX_TRACEBACK_FILTERING": "off"}
    return os.environ | {"XLA_FLAGS": words, "JAX_PLATFORMS": "cpu"} | quiet


def last_words(text: str) -> str:
    """The last line that says something, which in a traceback is the error."""
    return (text.strip().splitlines() or ["nothing said"])[-1]
