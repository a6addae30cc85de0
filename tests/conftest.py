"""Eight CPU devices and a strict JAX for every test."""

import importlib.metadata
import itertools
import os
from pathlib import Path

import hypothesis
import pytest

# Examples that are the same in every run: a failure is then of the change at hand.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

_FLAGS = [
    "--xla_force_host_platform_device_count=8",
    # Most of the tests' time goes into compiling what then runs for microseconds.
    "--xla_backend_optimization_level=0",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Twice as fast again; other versions refuse what they do not know.
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Commands keep no compiled programs, in the data folder of who runs the tests least.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")


_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 20_000
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def _below_the_limit_of_memory_maps():
    """Every compiled function takes a few of the 65,530 memory maps that Linux allows a
    process; the compiler crashes for want of one."""
    yield
    if next(_tests) % 5 == 0 and _MAPS.exists():
        maps = _MAPS.read_text().count("\n")
        if maps > _MOST_MAPS:
            import jax

            jax.clear_caches()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """One process has a file's tests, and makes its fixtures once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder in which `digits` is prepared."""
    from rankjax.data import load

    folder = tmp_path_factory.mktemp("data")
    load("digits", data_dir=folder)
    return folder


def pytest_terminal_summary(terminalreporter):
    """Says how much the conformance suite checked."""
    passed, failed = (
        [r for r in terminalreporter.stats.get(x, []) if "test_conformance" in r.nodeid]
        for x in ("passed", "failed")
    )
    if checked := passed + failed:
        properties = {report.nodeid.partition("[")[0] for report in checked}
        terminalreporter.write_line(
            f"conformance: {len(checked)} checks of {len(properties)} properties, "
            f"{len(failed)} failures"
        )
