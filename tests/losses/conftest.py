"""The lower floors are tested under JAX's strict promotion rules."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def pytest_collection_modifyitems(items):
    """The properties of a loss are tested one after another, before its programs go."""
    places = [i for i, item in enumerate(items) if "test_conformance" in item.nodeid]
    group = {i: items[i].get_closest_marker("xdist_group").args[0] for i in places}
    some = [items[i] for i in sorted(places, key=group.__getitem__)]
    for place, item in zip(places, some, strict=True):
        items[place] = item


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield
