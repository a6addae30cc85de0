"""Compiled programs that outlive a process."""

import os
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments.compiled import FOLDER, forget, keep_compiled


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of programs in a data folder, while JAX keeps all that it compiles."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep_compiled(tmp_path)
        jax.config.update(names[1], 0.0)
        yield tmp_path / FOLDER
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def programs(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def compiled():
    """The result of a program that nobody compiled before in this process."""
    return float(jax.jit(lambda x: jnp.sin(x) + 41.5)(0.0))


@pytest.fixture
def hits():
    """Events of JAX that it read a program."""
    found = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def test_what_was_compiled_is_read_by_the_next(folder, hits):
    assert compiled() == 41.5
    kept = programs(folder)
    assert kept
    assert not hits
    assert compiled() == 41.5
    assert len(hits) == 1
    assert programs(folder) == kept


def test_nobody_else_may_write_programs(folder):
    assert [file.stat().st_mode & 0o022 for file in folder.iterdir()] == [0]


@pytest.mark.parametrize("why", ["told not to", "JAX has another", "not writable"])
def test_nothing_is_kept_otherwise(tmp_path, monkeypatch, why):
    data = tmp_path / "data"
    if why == "JAX has another":
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "other"))
    if why == "not writable":
        data.write_text("a file, no folder")
    before = jax.config.jax_compilation_cache_dir
    keep_compiled(data, keep=why != "told not to")
    assert jax.config.jax_compilation_cache_dir == before
    assert not (data / FOLDER).exists()


def test_programs_that_were_not_read_for_longest_go_first(tmp_path):
    for number, name in enumerate(["b", "c", "a", "d"]):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (1000 + number, 5000 - number))
    forget(tmp_path, most_bytes=25)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "d"]
