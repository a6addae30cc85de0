"""Eight CPU devices and a strict JAX for every test."""

import os

_FLAGS = (
    "--xla_force_host_platform_device_count=8",
    # Most of the tests' time goes into compiling what then runs for microseconds.
    "--xla_backend_optimization_level=0",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_terminal_summary(terminalreporter):
    """Says how much the conformance suite checked."""
    results = {
        outcome: [r for r in reports if "test_conformance.py" in str(r.nodeid)]
        for outcome, reports in terminalreporter.stats.items()
        if outcome in ("passed", "failed", "skipped")
    }
    checked = results.get("passed", []) + results.get("failed", [])
    properties = {r.nodeid.partition("[")[0] for r in checked}
    if checked:
        excused = len(results.get("skipped", []))
        terminalreporter.write_line(
            f"conformance: {len(checked)} checks of {len(properties)} properties, "
            f"{len(results.get('failed', []))} failures; {excused} do not apply or are "
            "excused by name"
        )
