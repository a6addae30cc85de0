"""Compiled programs that outlive a process: the next one need not wait for them."""

import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

FOLDER = "compiled"
_MOST_BYTES = 2**30
_WORTH_KEEPING_S = 0.1  # of compiling


def keep_compiled(data_dir: Path, *, keep: bool = True) -> None:
    """Has JAX keep what it compiles in data_dir/compiled, and take it from there.

    Processes share the folder. Programs are another's where anything differs that they
    depend on: code, shapes, versions, flags, the accelerator and, as JAX does not look
    at it, the processor. One that cannot be read is compiled again. Those that have not
    been read for longest go once there is more than a gigabyte.

    A folder that JAX was told already, as by JAX_COMPILATION_CACHE_DIR, stays what it
    is; where none can be made, nothing is kept.

    Args:
      data_dir: of prepared data sets.
      keep: whether to do so at all.
    """
    if not keep or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = data_dir.expanduser() / FOLDER / _processor()
    try:
        # JAX runs what is in it: nobody else may write there.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        forget(folder, most_bytes=_MOST_BYTES)
    except OSError:
        return
    # A program that another process has begun to write, or removes.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation")
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING_S)
    compilation_cache.reset_cache()  # it may have been asked before it had a folder


def forget(folder: Path, *, most_bytes: int) -> None:
    """Removes the files that have not been read for longest, until the rest fits."""
    files = [(file.stat(), file) for file in folder.iterdir()]
    left = sum(status.st_size for status, _ in files)
    for status, file in sorted(files, key=lambda found: found[0].st_atime):
        if left <= most_bytes:
            return
        file.unlink(missing_ok=True)
        left -= status.st_size


def _processor() -> str:
    """A name for processors that run the same programs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    features = [x for x in lines if x.startswith(("flags", "Features"))] or lines
    digest = hashlib.sha256(features[0].encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"
