"""Compiled programs that this process shares with those it starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


@contextmanager
def kept_in(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the environment of processes that need not compile what is in a folder."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}

    def change(values: dict) -> None:
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    change(settings)
    try:
        yield os.environ | {k.upper(): str(v) for k, v in settings.items()}
    finally:
        change(before)
