"""Eight CPU devices and a strict JAX for every test."""

import os

_EIGHT = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_EIGHT}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
