"""Prepared data that the tests share."""

import pytest

from rankjax.data import Dataset, load


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def glyphs(data_dir) -> Dataset:
    return load("glyphs", data_dir=data_dir)
