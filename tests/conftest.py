"""Eight CPU devices and a strict JAX for every test."""

import os

_FLAGS = (
    "--xla_force_host_platform_device_count=8",
    # Most of the tests' time goes into compiling what then runs for microseconds.
    "--xla_backend_optimization_level=0",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
